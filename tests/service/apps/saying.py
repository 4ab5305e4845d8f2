"""An app that logs during each request: by itself, and in a thread; `/fails` raises."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger("shop")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    log.warning("here")
    await asyncio.to_thread(log.warning, "in a thread")
    log.warning("an id of its own", extra={"trace_id": "mine"})
    if scope["path"] == "/fails":
        raise ValueError("no")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


log.warning("imported")

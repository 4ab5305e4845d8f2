"""An app whose every call can be counted: `/17` answers what it has got, `/hold` waits until it is let go.

Each call is a line in the journal (`TILL_JOURNAL`), so that nothing is answered twice or by nobody.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

JOURNAL = os.open(os.environ["TILL_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
HEADERS = [(b"content-type", b"text/plain")]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    name = scope["path"].removeprefix("/")
    os.write(JOURNAL, f"{scope['method']} {name}\n".encode())
    if name == "hold":
        gate = Path(scope["query_string"].decode())
        while not gate.exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"%b %d" % (name.encode(), len(body))})

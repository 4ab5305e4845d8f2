"""An app that tells what it was called with, as JSON; an ASGI 2 one, which has to be said."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any


def app(scope: dict[str, Any], *more: Any) -> Callable[[Any, Any], Awaitable[None]]:
    assert not more, "called as ASGI 3"

    async def instance(_receive: Any, send: Any) -> None:
        told = {name: scope.get(name) for name in ("type", "scheme", "client", "root_path", "path")}
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = json.dumps({**told, "host": headers["host"]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return instance

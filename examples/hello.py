"""A plain ASGI app without dependencies: a text, an echo of JSON, a stream.

    verser2-guest dev examples.hello:app

Paths: `/` greets, `/echo` gives JSON back with what the app saw of the request, `/stream` sends a
line every half second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

STREAM_LINES = 5
STREAM_PAUSE_SECONDS = 0.5


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(f"This app does not speak {scope['type']}")
    path = scope["path"]
    if path == "/":
        await answer(send, 200, b"text/plain; charset=utf-8", b"Hello from behind the Host!\n")
    elif path == "/echo":
        await echo(scope, receive, send)
    elif path == "/stream":
        await stream(send)
    else:
        await answer(send, 404, b"text/plain; charset=utf-8", b"Try /, /echo or /stream.\n")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    try:
        value = json.loads(body) if body else None
    except ValueError:
        await answer(send, 400, b"text/plain; charset=utf-8", b"The body is not JSON.\n")
        return
    seen = {"method": scope["method"], "query": scope["query_string"].decode(), "json": value}
    await answer(send, 200, b"application/json", json.dumps(seen).encode() + b"\n")


async def stream(send: Send) -> None:
    await send(start(200, b"text/plain; charset=utf-8"))
    for number in range(1, STREAM_LINES + 1):
        await send({"type": "http.response.body", "body": b"line %d\n" % number, "more_body": True})
        await asyncio.sleep(STREAM_PAUSE_SECONDS)
    await send({"type": "http.response.body"})


async def read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def answer(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    await send(start(status, content_type, (b"content-length", b"%d" % len(body))))
    await send({"type": "http.response.body", "body": body})


def start(status: int, content_type: bytes, *headers: tuple[bytes, bytes]) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), *headers],
    }

"""The app of tests and benchmarks: the paths of the Node Guest's app, as plain ASGI.

`/plain`, `/echo`, `/sink`, `/big?MIB`, `/slow?MS`, `/sse?N`, `/cookies`, `/headers`, `/boom` (fails before
it answers) and `/cut` (fails half-way; `/cut?unsized` declares no length). WebSockets echo on any path.
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

PLAIN = b"Hello, World!"
BLOCK = b"x" * 65_536
BLOCKS_PER_MIB = 16
CUT_LENGTH = 200_000
SSE_PAUSE_SECONDS = 0.02
CUT_PAUSE_SECONDS = 0.05

PLAIN_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(PLAIN))],
}
PLAIN_BODY = {"type": "http.response.body", "body": PLAIN}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await echo_messages(receive, send)
        return
    handler = HANDLERS.get(scope["path"])
    if handler is None:
        await text(send, b"Not Found", status=404)
    else:
        await handler(scope, receive, send)


async def echo_messages(receive: Receive, send: Send) -> None:
    """A WebSocket that sends back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def plain(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(PLAIN_START)
    await send(PLAIN_BODY)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    content_type = dict(scope["headers"]).get(b"content-type", b"application/octet-stream")
    await start(send, [(b"content-type", content_type)])
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def sink(_scope: Scope, receive: Receive, send: Send) -> None:
    count, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    await text(send, b"%d" % count)


async def big(scope: Scope, _receive: Receive, send: Send) -> None:
    blocks = number_in(scope, 1) * BLOCKS_PER_MIB
    length = b"%d" % (blocks * len(BLOCK))
    await start(send, [(b"content-type", b"application/octet-stream"), (b"content-length", length)])
    for left in range(blocks - 1, -1, -1):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": left > 0})


async def slow(scope: Scope, _receive: Receive, send: Send) -> None:
    await asyncio.sleep(number_in(scope, 1_000) / 1000)
    await text(send, b"slow")


async def sse(scope: Scope, _receive: Receive, send: Send) -> None:
    await start(send, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")])
    for count in range(1, number_in(scope, 3) + 1):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % count, "more_body": True})
        await asyncio.sleep(SSE_PAUSE_SECONDS)
    await send({"type": "http.response.body"})


async def cookies(_scope: Scope, _receive: Receive, send: Send) -> None:
    await text(send, b"cookies", (b"set-cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2; Path=/"))


async def headers(scope: Scope, _receive: Receive, send: Send) -> None:
    await start(send, [(b"content-type", b"application/json")])
    seen = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def boom(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("boom")


async def cut(scope: Scope, _receive: Receive, send: Send) -> None:
    unsized = scope["query_string"] == b"unsized"
    await start(send, [] if unsized else [(b"content-length", b"%d" % CUT_LENGTH)])
    for _ in range(2):
        await send({"type": "http.response.body", "body": BLOCK[: CUT_LENGTH // 4], "more_body": True})
    await asyncio.sleep(CUT_PAUSE_SECONDS)  # let them leave before the reset
    raise RuntimeError("cut")


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def text(send: Send, body: bytes, *more: tuple[bytes, bytes], status: int = 200) -> None:
    await start(
        send, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), *more], status
    )
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, fields: list[tuple[bytes, bytes]], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})


def number_in(scope: Scope, otherwise: int) -> int:
    """The number in the query, as `/big?4` has it."""
    query = scope["query_string"]
    return (int(query) if query.isdigit() else 0) or otherwise


HANDLERS: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    "/plain": plain,
    "/echo": echo,
    "/sink": sink,
    "/big": big,
    "/slow": slow,
    "/sse": sse,
    "/cookies": cookies,
    "/headers": headers,
    "/boom": boom,
    "/cut": cut,
}

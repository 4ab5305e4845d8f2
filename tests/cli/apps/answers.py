"""An app whose answers are awkward: redirects, encodings, JSON, failures that pass, forms, slow bodies.

`/json`, `/encoded?gzip,deflate` (as the query says), `/torn` (gzip that ends too early), `/binary`, `/text`
(without a last line end), `/status?503`, `/flaky?NAME:2:503` (so many failures by that name, then an answer),
`/go?308:URL` (a redirect), `/loop`, `/say` (what was asked for), `/form` (the fields of a multipart form),
`/drip?BYTES` (slowly), `/gulp` (reads slowly). WebSockets: `/echo`, `/refuse`, `/end?CODE:REASON`, `/greet`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections import Counter
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import unquote

TEXT = b"a line, and another one\n" * 100
GULP_BYTES_PER_SECOND = 4_000_000
FAILURES: Counter[str] = Counter()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    query = unquote(scope["query_string"].decode())
    if scope["type"] == "websocket":
        await WEBSOCKETS[scope["path"]](query, scope, receive, send)
    else:
        await HANDLERS[scope["path"]](query, scope, receive, send)


async def answer(send: Any, body: bytes, status: int = 200, **fields: str) -> None:
    headers = {"content-type": "text/plain", "content-length": str(len(body))}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def as_json(_query: str, _scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b'{"name":"caf\xc3\xa9","list":[1,2.50],"none":null}', content_type="application/json")


async def encoded(query: str, _scope: Any, _receive: Any, send: Any) -> None:
    body = TEXT
    for name in filter(None, query.split(",")):
        body = {"gzip": gzip.compress, "deflate": zlib.compress}.get(name, bytes)(body)
    await answer(send, body, content_encoding=query)


async def torn(_query: str, _scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, gzip.compress(TEXT)[:-10], content_encoding="gzip")


async def binary(_query: str, _scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, bytes(range(256)), content_type="application/octet-stream")


async def text(_query: str, _scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"no line end")


async def status(query: str, _scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"so it is\n", int(query))


async def flaky(query: str, scope: Any, receive: Any, send: Any) -> None:
    name, times, code = query.split(":")
    body = await body_of(receive)
    FAILURES[name] += 1
    if FAILURES[name] <= int(times):
        await answer(send, b"not yet\n", int(code), retry_after="0")
    else:
        await answer(send, f"{scope['method']} {FAILURES[name]} ".encode() + body)


async def go(query: str, _scope: Any, _receive: Any, send: Any) -> None:
    code, _, location = query.partition(":")
    await answer(send, b"elsewhere\n", int(code), location=location)


async def loop(_query: str, _scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"", 302, location="/loop")


async def say(query: str, scope: Any, receive: Any, send: Any) -> None:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    body = (await body_of(receive)).decode("utf-8", "replace")
    said = {"method": scope["method"], "query": query, "headers": dict(headers), "body": body}
    await answer(send, json.dumps(said).encode(), content_type="application/json")


async def form(_query: str, scope: Any, receive: Any, send: Any) -> None:
    head = dict(scope["headers"])
    body = await body_of(receive)
    raw = b"content-type: " + head[b"content-type"] + b"\r\n\r\n" + body
    fields = []
    for part in BytesParser(policy=HTTP).parsebytes(raw).iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields.append(
            {
                "name": part.get_param("name", header="content-disposition"),
                "file": part.get_filename(),
                "type": part.get("content-type"),
                "size": len(content),
                "text": content.decode("latin-1") if len(content) < 100 else "",
            }
        )
    said = {"declared": head.get(b"content-length", b"").decode(), "got": len(body), "fields": fields}
    await answer(send, json.dumps(said).encode(), content_type="application/json")


async def drip(query: str, _scope: Any, _receive: Any, send: Any) -> None:
    """`/drip?N`: N bytes in fifteen pieces, over about a second and a half."""
    piece = bytes(int(query) // 15)
    head = [(b"content-length", b"%d" % (len(piece) * 15))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for left in range(14, -1, -1):
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


async def gulp(_query: str, _scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        piece = message.get("body", b"")
        size, more = size + len(piece), message.get("more_body", False)
        await asyncio.sleep(len(piece) / GULP_BYTES_PER_SECOND)
    await answer(send, b"%d" % size)


async def echo(_query: str, scope: Any, receive: Any, send: Any) -> None:
    await receive()
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def refuse(_query: str, _scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def end(query: str, _scope: Any, receive: Any, send: Any) -> None:
    code, _, reason = query.partition(":")
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "bye"})
    await send({"type": "websocket.close", "code": int(code), "reason": reason})


async def greet(query: str, _scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    for number in range(int(query or 1)):
        await send({"type": "websocket.send", "text": f"hello {number}"})
    await send({"type": "websocket.send", "bytes": b"\x00\x01\xff"})
    while (await receive())["type"] == "websocket.receive":
        pass


HANDLERS = {
    "/json": as_json,
    "/encoded": encoded,
    "/torn": torn,
    "/binary": binary,
    "/text": text,
    "/status": status,
    "/flaky": flaky,
    "/go": go,
    "/loop": loop,
    "/say": say,
    "/form": form,
    "/drip": drip,
    "/gulp": gulp,
}
WEBSOCKETS = {"/echo": echo, "/refuse": refuse, "/end": end, "/greet": greet}

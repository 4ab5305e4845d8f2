"""The app of these tests: a Starlette app, as users write them, that also tells what it went through."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

BLOCK = b"x" * 65_536


class Diary:
    """What the app saw. Written in the loop of the app, read by tests once it is there."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.over: list[str] = []  # paths of requests that the app is done with, also by failing
        self.active = 0  # requests that the app is not done with
        self.received = 0
        self.sent = 0
        self.go_on = asyncio.Event()

    def turn_page(self) -> None:
        """Forgets what was, for the next test."""
        assert self.active == 0
        self.events.clear()
        self.over.clear()
        self.received = self.sent = 0
        self.go_on.clear()


def make_app(diary: Diary | None = None) -> Any:
    """An ASGI app; `diary` learns what happens in it."""
    diary = diary or Diary()
    starlette = make_starlette(diary)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await starlette(scope, receive, send)
            return
        diary.active += 1
        try:
            await starlette(scope, receive, send)
        finally:
            diary.active -= 1
            diary.over.append(scope["path"])

    return app


def make_starlette(diary: Diary) -> Starlette:

    async def hello(request: Request) -> Response:
        return PlainTextResponse(f"Hello, {request.query_params.get('name', 'World')}!")

    async def echo(request: Request) -> Response:
        """Answers piece by piece, as they come."""

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in request.stream():
                    diary.received += len(piece)
                    yield piece
                diary.events.append("echoed all")
            except ClientDisconnect:
                return

        return StreamingResponse(pieces(), media_type=request.headers.get("content-type"))

    async def describe(request: Request) -> Response:
        body = await request.body()
        return JSONResponse(
            {
                "method": request.method,
                "path": request.scope["raw_path"].decode(),
                "query": request.url.query,
                "headers": dict(request.headers),
                "cookies": request.cookies,
                "bytes": len(body),
                "text": body[:1_000].decode("utf-8", "replace"),
            }
        )

    async def count(request: Request) -> Response:
        async for piece in request.stream():
            diary.received += len(piece)
        return PlainTextResponse(str(diary.received))

    async def big(request: Request) -> Response:
        blocks = int(request.query_params["blocks"])

        async def body() -> AsyncIterator[bytes]:
            for _ in range(blocks):
                yield BLOCK
                diary.sent += len(BLOCK)

        headers = {"content-length": str(blocks * len(BLOCK))} if "sized" in request.query_params else None
        return StreamingResponse(body(), headers=headers)

    async def lines(request: Request) -> Response:
        """Two lines, and the rest once the test says so."""

        async def body() -> AsyncIterator[str]:
            yield "first\n"
            yield "second\r\n"
            await diary.go_on.wait()
            yield "thïrd"

        return StreamingResponse(body(), media_type="text/plain")

    async def wait(request: Request) -> Response:
        """Answers once the test says so, or notes that nobody waits any more."""
        diary.events.append("waiting")
        gone = asyncio.ensure_future(_disconnected(request))
        go_on = asyncio.ensure_future(diary.go_on.wait())
        await asyncio.wait((gone, go_on), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            diary.events.append("disconnected")
        for task in (gone, go_on):
            task.cancel()
        await asyncio.wait((gone, go_on))
        return PlainTextResponse("waited")

    async def ignore(request: Request) -> Response:
        """Reads nothing of the body, until the test says so."""
        diary.events.append("ignoring")
        await diary.go_on.wait()
        return PlainTextResponse("ignored")

    async def refuse(request: Request) -> Response:
        """Answers before it has read anything."""
        return PlainTextResponse("too much", status_code=413)

    async def redirect(request: Request) -> Response:
        status = int(request.query_params.get("status", "302"))
        return RedirectResponse(request.query_params.get("to", "/redirect"), status_code=status)

    async def login(request: Request) -> Response:
        response = PlainTextResponse("logged in")
        response.set_cookie("session", "s3cret", expires=1_000)
        response.set_cookie("theme", "dark", path="/")
        return response

    async def repeated(request: Request) -> Response:
        response = PlainTextResponse("repeated")
        response.headers.append("x-tag", "one")
        response.headers.append("x-tag", "two, three")
        return response

    async def zipped(request: Request) -> Response:
        return Response(gzip.compress(b"unzipped " * 1_000), headers={"content-encoding": "gzip"})

    async def status(request: Request) -> Response:
        return Response(status_code=int(request.path_params["status"]))

    async def fail(request: Request) -> Response:
        raise RuntimeError("the app failed")

    async def cut(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield BLOCK
            raise RuntimeError("the app failed half-way")

        return StreamingResponse(body(), headers={"content-length": str(10 * len(BLOCK))})

    async def talk(socket: WebSocket) -> None:
        """Says back what is said, until it is told to go."""
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        while (message := await socket.receive())["type"] == "websocket.receive":
            if message.get("text") == "go":
                await socket.close(4_001, "as you said")
                return
            await socket.send({"type": "websocket.send", **{k: message.get(k) for k in ("text", "bytes")}})
        diary.events.append(f"talked: {message['code']}")

    async def shut(socket: WebSocket) -> None:
        await socket.close()

    everything = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/", hello),
            Route("/echo", echo, methods=everything),
            Route("/describe/{rest:path}", describe, methods=everything),
            Route("/count", count, methods=["POST"]),
            Route("/big", big),
            Route("/lines", lines),
            Route("/wait", wait, methods=everything),
            Route("/ignore", ignore, methods=["POST"]),
            Route("/refuse", refuse, methods=["POST"]),
            Route("/redirect", redirect, methods=everything),
            Route("/login", login),
            Route("/repeated", repeated),
            Route("/zipped", zipped),
            Route("/status/{status}", status),
            Route("/fail", fail),
            Route("/cut", cut),
            WebSocketRoute("/talk", talk),
            WebSocketRoute("/shut", shut),
        ]
    )


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

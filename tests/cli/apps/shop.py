"""An app as people write them, for the tests of `dev`: FastAPI, a redirect, documentation, a WebSocket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

VERSION = "one"

app = FastAPI()


@app.get("/")
async def version() -> PlainTextResponse:
    return PlainTextResponse(VERSION)


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


@app.get("/things/")
async def things(request: Request) -> dict[str, str]:
    client = request.client.host if request.client else ""
    return {"url": str(request.url), "client": client}


@app.get("/slow")
async def slow() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        yield "begun\n"
        await asyncio.sleep(0.2)
        yield "done\n"

    return StreamingResponse(lines())


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        while True:
            yield "more\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(lines())


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{VERSION}: {text}")

"""Apps for the tests of the command line."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

number = 42


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/block":  # an app that holds up the loop
        print("blocking", flush=True)
        time.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"small"})


def make_app() -> Callable[..., Awaitable[None]]:
    return app


async def no_database(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def says_goodbye(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("goodbye", flush=True)
        await send({"type": "lifespan.shutdown.complete"})


async def slow_start(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        print("starting", flush=True)
        await receive_for_ever()


async def receive_for_ever() -> None:
    import asyncio

    await asyncio.Event().wait()

"""An HTTP exchange in memory, for tests of the cycle without a network.

The request body is fed piece by piece, the response is kept, and a test can hold writes back, end the
exchange as a client that leaves does, or look at what the app has done so far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

from verser2_guest_python.asgi.exceptions import ClientDisconnected
from verser2_guest_python.asgi.http import HttpCycle
from verser2_guest_python.asgi.scopes import http_scope
from verser2_guest_python.asgi.types import ASGIApp, Headers


class MemoryExchange:
    """A request whose body is `pieces`; unless `complete`, more can be fed."""

    def __init__(self, *pieces: bytes, complete: bool = True) -> None:
        self.disconnected = False
        self.at_end = False
        self.status: int | None = None
        self.headers: Headers = []
        self.pieces: list[bytes] = []
        self.ended = False
        self.was_cut = False
        self._body = deque(pieces)
        self._complete = complete
        self._reading = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # --- What a test does -----------------------------------------------------------------

    def feed(self, piece: bytes, *, complete: bool = False) -> None:
        """A further piece of the request body."""
        self._body.append(piece)
        self._complete = complete
        self._news.set()

    def disconnect(self) -> None:
        """The client leaves."""
        self.disconnected = True
        self._news.set()
        self._room.set()

    def hold_writes(self) -> None:
        """From now on a write waits, until `let_write` or the end."""
        self._room.clear()

    def let_write(self) -> None:
        self._room.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def values(self, name: bytes) -> list[bytes]:
        """The values of a response header."""
        return [value for key, value in self.headers if key.lower() == name]

    # --- What the cycle does --------------------------------------------------------------

    async def read(self) -> bytes:
        assert not self._reading, "two readers at a time"
        self._reading = True
        try:
            while True:
                if self.disconnected:
                    raise ClientDisconnected("gone")
                if self._body or self._complete:
                    piece = self._body.popleft() if self._body else b""
                    self.at_end = self._complete and not self._body
                    return piece
                self._news.clear()
                await self._news.wait()
        finally:
            self._reading = False

    async def wait_disconnected(self) -> None:
        while not (self.disconnected or self.ended or self.was_cut):
            self._news.clear()
            await self._news.wait()

    def start(self, status: int, headers: Headers, body: bytes, more: bool) -> Awaitable[None] | None:
        assert self.status is None, "a response starts once"
        self.status, self.headers = status, list(headers)
        return self._write(body, more)

    def send(self, body: bytes, more: bool) -> Awaitable[None] | None:
        assert self.status is not None, "a body comes behind its head"
        return self._write(body, more)

    def cut(self) -> None:
        assert not self.ended, "what is complete is not cut"
        self.was_cut = True
        self._news.set()

    def _write(self, body: bytes, more: bool) -> Awaitable[None] | None:
        assert not self.ended, "nothing comes behind the last piece"
        if self.disconnected:
            raise ClientDisconnected("gone")
        if self._room.is_set():
            self._put(body, more)
            return None
        return self._write_later(body, more)

    async def _write_later(self, body: bytes, more: bool) -> None:
        await self._room.wait()
        if self.disconnected:
            raise ClientDisconnected("gone")
        self._put(body, more)

    def _put(self, body: bytes, more: bool) -> None:
        self.pieces.append(body)
        self.ended = not more
        self._news.set()


def cycle_of(app: ASGIApp, exchange: MemoryExchange, method: str = "GET", **scope: Any) -> HttpCycle:
    """A cycle that is about to call `app`."""
    headers = [(b"host", b"a.local.test")]
    return HttpCycle(app, http_scope(method=method, target="/", headers=headers, **scope), exchange)


async def run(
    app: ASGIApp, exchange: MemoryExchange | None = None, method: str = "GET"
) -> tuple[HttpCycle, MemoryExchange]:
    """Runs an app for one request to its end."""
    exchange = exchange if exchange is not None else MemoryExchange()
    cycle = cycle_of(app, exchange, method)
    await cycle.run()
    return cycle, exchange

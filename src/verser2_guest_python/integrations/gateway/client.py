"""The client of a request while it is served: its body as it comes, and whether it is still there.

Apart from the cycle because ASGI tells both by the same `receive`, and they are needed in two places: the
body where it is sent on, the news that the client has left wherever the cycle happens to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from verser2_guest_python.asgi.types import Receive
from verser2_guest_python.http2.deadline import Deadline, within
from verser2_guest_python.peer.tasks import wait_over

from .limits import GatewayLimits
from .refusal import ClientGone, Refusal, body_too_large, body_too_slow

WHOLE_BODY_BYTES: Final = 65_536
"""A body of up to so many bytes that is there at once goes whole, so that another Guest may get it too."""
WHOLE_BODY_SECONDS: Final = 0.05
_LOOK_AFTER_SECONDS: Final = 0.05
"""A client that sends no body is looked after from then on: most answers are there sooner."""
_MAX_WAITING_BYTES: Final = 262_144
"""So much of a body is taken from the server ahead of the app, so that a client that leaves is noticed."""


class Clock:
    """The time that an app has for its answer: it stands still while the client is waited for."""

    def __init__(self, limit: Deadline, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()

    def pause(self) -> None:
        self._set(None)

    def restart(self) -> None:
        self._set(self._loop.time() + self._seconds)

    def _set(self, when: float | None) -> None:
        limit = self._limit
        if limit.when() is not None or when is not None:
            with suppress(RuntimeError):  # the head of the answer is there, or the time is up
                limit.reschedule(when)


class Client:
    """One request's client. Inside `async with`, its leaving ends the block with `ClientGone`.

    Attributes:
        received: Bytes of the body so far.
        complete: Whether all of the body has come.
        gone: Whether the client has left.
    """

    def __init__(self, receive: Receive, limits: GatewayLimits, *, has_body: bool) -> None:
        self.received = 0
        self.complete = not has_body
        self.gone = False
        self._receive = receive
        self._limits = limits
        self._owner = asyncio.current_task()
        self._cancelling = 0
        self._cancelled = False
        self._served = False
        self._pump: asyncio.Task[None] | None = None
        self._starting: asyncio.TimerHandle | None = None
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._refusal: Refusal | None = None
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        if self._owner is not None:
            self._cancelling = self._owner.cancelling()
        if self.complete:  # only to learn that it has left; a body is asked for when there is an app for it
            loop = asyncio.get_running_loop()
            self._starting = loop.call_later(_LOOK_AFTER_SECONDS, self.start)
        return self

    def start(self) -> None:
        """Begins to receive; a client that expects `100 Continue` is told so by this."""
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run(), name="verser-gateway-client")

    def served(self) -> None:
        """The answer is on its way whole: from now on it does not matter whether the client is there."""
        self._served = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._served = True
        if self._starting is not None:
            self._starting.cancel()
        pump, self._pump = self._pump, None
        if pump is None:
            return
        pump.cancel()
        if self._cancelled and self._owner is not None:
            ours = self._owner.uncancel() <= self._cancelling
            if not isinstance(error, asyncio.CancelledError):
                try:  # the block was over before it heard of it; up to Python 3.12 it would hear later
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if not ours:
                        raise
            await _end(pump)
            if ours and (error is None or isinstance(error, asyncio.CancelledError)):
                raise ClientGone from error
        else:
            await _end(pump)

    # --- Receiving ------------------------------------------------------------------------

    async def _run(self) -> None:
        ended = False
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self._leave()
                return
            if ended:
                return  # no server says more than that the client has left
            chunk = message.get("body", b"")
            self.complete = ended = not message.get("more_body", False)
            self.received += len(chunk)
            if self.received > self._limits.max_body_bytes:
                self._refusal = body_too_large(self._limits.max_body_bytes)
                self._wake()
                return
            if chunk:
                self._chunks.append(chunk)
                self._waiting_bytes += len(chunk)
            self._wake()
            while self._waiting_bytes > _MAX_WAITING_BYTES:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def _leave(self) -> None:
        self.gone = True
        self._wake()
        if not self._served and self._owner is not None:
            self._cancelled = True
            self._owner.cancel()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    # --- The body -------------------------------------------------------------------------

    async def whole(self) -> bytes | None:
        """The whole body, if it is short and there at once; else None, and `pieces` gives it."""
        try:
            async with within(WHOLE_BODY_SECONDS):
                while not self.complete:
                    if self._waiting_bytes > WHOLE_BODY_BYTES or self._refusal is not None or self.gone:
                        return None
                    await self._wait()
        except TimeoutError:
            return None
        return self._take() if self._waiting_bytes <= WHOLE_BODY_BYTES else None

    async def pieces(self, clock: Clock) -> AsyncGenerator[bytes, None]:
        """The body as it comes; `clock` stands still while the client is waited for.

        Raises a `Refusal` for a body that is too long or too slow, `ClientGone` for one that ends half-way.
        """
        seconds = self._limits.read_timeout
        while True:
            if self._waiting_bytes:
                clock.restart()
                yield self._take()
            elif self._refusal is not None:
                raise self._refusal
            elif self.complete:
                clock.restart()
                return
            elif self.gone:
                raise ClientGone
            else:
                clock.pause()
                try:
                    async with within(seconds):
                        await self._wait()
                except TimeoutError:
                    raise body_too_slow(seconds) from None

    def _take(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._waiting_bytes = 0
        if self._room is not None and not self._room.done():
            with suppress(asyncio.InvalidStateError):
                self._room.set_result(None)
        return data


async def _end(pump: asyncio.Task[None]) -> None:
    await wait_over([pump])
    if not pump.cancelled():
        pump.result()

"""How long a client waits: the four timeouts of httpx2 and httpx, kept while a request goes on.

Apart because the Broker has one limit for everything up to the head, and a client has one for each
thing that can take long: a session (`connect`), room for the request (`pool`), a piece of the body to
leave (`write`), the next bytes of the answer (`read`). Only one of them runs at a time on either way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from verser2_guest_python.http2.deadline import LateCall

from .client_errors import ClientTimeout

CONNECT: Final = "connect"
POOL: Final = "pool"
WRITE: Final = "write"
READ: Final = "read"

_COMPLAINTS: Final = MappingProxyType(
    {
        CONNECT: "There was no session with the Host within {:g} s.",
        POOL: "There was no room for the request within {:g} s.",
        WRITE: "A piece of the request body did not leave within {:g} s: the app does not read it.",
        READ: "The app did not send anything within {:g} s.",
    }
)

T = TypeVar("T")


class Patience:
    """The timeouts of one request. Everything here is called in the loop.

    Args:
        timeouts: Seconds by name, as in the `timeout` extension of a request; None sets no limit.
        connected: Whether there is a session now.
    """

    def __init__(self, timeouts: Mapping[str, float | None], connected: Callable[[], bool]) -> None:
        self._timeouts = timeouts
        self._connected = connected
        self._until: dict[str, float] = {}
        self._limit: asyncio.Timeout | None = None  # of what is awaited now
        self._timer: LateCall | None = None
        self._late: str | None = None
        self._next = READ  # what runs once there is a session

    def seconds(self, phase: str) -> float | None:
        """What the client has said for it."""
        return self._timeouts.get(phase)

    async def head(self, waiting: Awaitable[T], *, streams: bool) -> T:
        """Awaits the head of the answer; `streams` says that the body calls `sending` and `sent`."""
        self._next = POOL if streams else READ
        self._begin(self._next if self._connected() else CONNECT)
        try:
            return await self._hold(waiting)
        finally:
            self.opened()

    async def chunk(self, waiting: Awaitable[T]) -> T:
        """Awaits the next bytes of the answer."""
        self._begin(READ)
        return await self._hold(waiting)

    # --- What the body says on its way ------------------------------------------------------

    def opened(self) -> None:
        """The request is under way, and its body is asked for."""
        self._end(CONNECT)
        self._end(POOL)

    def sending(self) -> None:
        """A piece is about to leave."""
        self._begin(WRITE)

    def left(self) -> None:
        """It has left."""
        self._end(WRITE)

    def sent(self) -> None:
        """All of the body has left: from now on the answer is waited for."""
        if self._limit is not None:
            self._begin(READ)

    # --- The clock --------------------------------------------------------------------------

    def _begin(self, phase: str) -> None:
        seconds = self.seconds(phase)
        if seconds is not None:
            self._until[phase] = asyncio.get_running_loop().time() + seconds
            self._arm()

    def _end(self, phase: str) -> None:
        if self._until.pop(phase, None) is not None:
            self._arm()

    def _arm(self) -> None:
        """One timer, for whatever is due first; none while nobody waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._limit is not None and self._until and self._late is None:
            loop = asyncio.get_running_loop()
            self._timer = LateCall(loop, min(self._until.values()), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        phase = min(self._until, key=self._until.__getitem__)
        if phase == CONNECT and self._connected():  # in the meantime: it is something else that takes long
            self._end(CONNECT)
            self._begin(self._next)
        elif self._limit is not None:
            self._late = phase
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _hold(self, waiting: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(None) as self._limit:
                self._arm()
                return await waiting
        except TimeoutError as error:
            if self._late is None:
                raise  # somebody else's
            seconds = self._timeouts[self._late] or 0.0
            raise ClientTimeout(_COMPLAINTS[self._late].format(seconds), self._late) from error
        finally:
            self._limit = None
            self._until.pop(READ, None)
            self._arm()

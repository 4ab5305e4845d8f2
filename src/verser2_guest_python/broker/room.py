"""Room for requests on one session: how many are under way, who waits, and what holds up a close.

Apart because a Host may allow few streams at a time (protocol.md §12.6): a request then waits for
another one's end, first come, first served, instead of failing.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

from verser2_guest_python.broker.pulse import Pulse


class Room:
    """Counts the requests of one session.

    Attributes:
        in_flight: Requests and WebSockets that have a stream.
        awaited: What a close waits for: heads and bodies that somebody awaits, and uploads. An answer that
            nobody reads is in flight, and not awaited.
        answered_at: When the last head came, as the loop counts: its body may be about to be read.
    """

    __slots__ = ("_changed", "_waiters", "answered_at", "awaited", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.awaited = 0
        self.answered_at = -math.inf
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._changed = Pulse()

    @property
    def crowded(self) -> bool:
        """Whether somebody waits already: who comes later waits behind them."""
        return bool(self._waiters)

    @property
    def waiting(self) -> int:
        """How many do."""
        return len(self._waiters)

    def take(self) -> None:
        self.in_flight += 1

    def give_back(self) -> None:
        self.in_flight -= 1
        self.wake()
        if not self.in_flight:
            self._changed.fire()

    def hold(self) -> None:
        """Somebody awaits something of a request."""
        self.awaited += 1

    def let_go(self) -> None:
        """They do not any more."""
        self.awaited -= 1
        if not self.awaited:
            self._changed.fire()

    def wake(self) -> None:
        """Lets the first who waits try (again)."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """The session is over, or has room for more: whoever waits finds that out, in their order."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._changed.fire()

    async def wait(self) -> None:
        """Until another request has ended, and everyone who came earlier has been served."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiters.remove(waiter)
            if not waiter.cancelled():
                self.wake()  # this turn is somebody else's now
            raise
        self._waiters.remove(waiter)

    async def wait_change(self) -> None:
        """Until nothing is in flight, or nothing is awaited, or the session is over: look which."""
        await self._changed.wait()

"""A pulse: wakes everyone who waits for something to change.

Apart because several things in a Broker wait for a change that they then look at themselves: a
route that appears, room for one more stream, the end of the last request.
"""

from __future__ import annotations

import asyncio


class Pulse:
    """Waiters for the next change. Who wakes up looks again: it may be the change of somebody else."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        """Something has changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Until the next change."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

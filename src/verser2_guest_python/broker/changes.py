"""Route changes as an asynchronous iterator: what `VerserBroker.routes` returns.

Apart from listeners because here the consumer asks, so that something has to wait for it, within
a limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from verser2_guest_python.broker.listeners import MAX_WAITING_CHANGES, RouteChange
from verser2_guest_python.broker.pulse import Pulse


class RouteChanges(AsyncIterator[RouteChange]):
    """The changes of the route table, in order; made by `VerserBroker.routes`.

    They begin at the call, and end with the Broker, or when this is closed. Up to 1,000 changes wait for a
    slow consumer; then the oldest are dropped, and `dropped` counts them: `get_routes` tells what is true
    now.

    Example::

        async with broker.routes() as changes:
            async for change in changes:
                print(change.type, change.domain, change.target_id)
    """

    def __init__(self) -> None:
        self.dropped: int = 0
        self._waiting: deque[RouteChange] = deque()
        self._news = Pulse()
        self._ended = False

    def __repr__(self) -> str:
        return f"<RouteChanges, {len(self._waiting)} waiting{', ended' if self._ended else ''}>"

    @property
    def ended(self) -> bool:
        """Whether no change will be added any more."""
        return self._ended

    def _put(self, change: RouteChange) -> None:
        if self._ended:
            return
        if len(self._waiting) >= MAX_WAITING_CHANGES:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(change)
        self._news.fire()

    def _end(self) -> None:
        """The Broker is closed: what waits is still delivered."""
        self._ended = True
        self._news.fire()

    async def __anext__(self) -> RouteChange:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            await self._news.wait()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Ends it from this side."""
        self._waiting.clear()
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

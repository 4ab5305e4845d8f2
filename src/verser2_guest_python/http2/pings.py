"""PINGs of ours: round trips that somebody waits for, and signs of life that nobody does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .deadline import within
from .errors import ConnectionLost

if TYPE_CHECKING:
    from .session import Session

_NOBODY_WAITS = bytes(8)


class Pings:
    """Those of one session. `last_rtt` is the round trip of the last one in seconds, or None."""

    def __init__(self, session: Session) -> None:
        self.last_rtt: float | None = None
        self._session = session
        self._waiting: dict[bytes, tuple[float, asyncio.Future[float]]] = {}
        self._count = 0

    def send(self) -> None:
        """Sends one that nobody waits for."""
        if self._session.lost is None:
            self._session.engine.ping(_NOBODY_WAITS)
            self._session.wrote()

    async def round_trip(self, timeout: float) -> float:
        """Sends one and waits for its answer: see `Session.ping`."""
        session = self._session
        if session.lost is not None:
            raise session.lost.with_traceback(None)
        self._count += 1
        opaque = self._count.to_bytes(8, "big")
        future: asyncio.Future[float] = session.loop.create_future()
        self._waiting[opaque] = (time.perf_counter(), future)  # uvloop's clock ticks in milliseconds
        session.engine.ping(opaque)
        session.wrote()
        try:
            async with within(timeout):
                return await future
        finally:
            self._waiting.pop(opaque, None)

    def answered(self, opaque: bytes) -> None:
        """The answer to one came."""
        started, future = self._waiting.get(opaque, (0.0, None))
        if future is not None and not future.done():
            self.last_rtt = time.perf_counter() - started
            future.set_result(self.last_rtt)

    def fail(self, error: ConnectionLost) -> None:
        """The session is over."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

"""How late the event loop runs its timers: what blocks it shows as lag.

Apart from `measures.py`, which only holds numbers: this one needs a loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

LAG_INTERVAL_SECONDS: Final = 0.5


class LoopLag:
    """Tells `listener`, twice a second, how many seconds late a timer ran; until `stop`."""

    def __init__(self, listener: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._planned = 0.0
        self._plan()

    def _plan(self) -> None:
        self._planned = self._loop.time() + LAG_INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._planned, self._tick)

    def _tick(self) -> None:
        self._listener(max(0.0, self._loop.time() - self._planned))
        self._plan()

    def stop(self) -> None:
        """Asks no more."""
        self._timer.cancel()

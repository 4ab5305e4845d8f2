"""A clock that a test sets forward, so that long waits are over at once and short ones cannot be missed.

Apart from `waiting.py` because nothing is waited for here. The limits of a test may be as long as in real
life: no machine is so slow that it reaches them, and the test reaches them by a word.
"""

from __future__ import annotations

import asyncio

import pytest

TURNS = 20  # of the loop, in which what is due does what it does at once (`deadline.py` lets nine pass)


class Clock:
    """The clock of the running loop, asyncio's own; it is as before with the next loop."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.BaseEventLoop):
            pytest.skip("the clock of this loop cannot be set")
        self._real = loop.time
        self._ahead = 0.0
        loop.time = self._now  # type: ignore[method-assign]

    def _now(self) -> float:
        return self._real() + self._ahead

    async def forward(self, seconds: float) -> None:
        """Sets it forward by so much; returns when what was due by then has begun."""
        self._ahead += seconds
        for _ in range(TURNS):
            await asyncio.sleep(0)

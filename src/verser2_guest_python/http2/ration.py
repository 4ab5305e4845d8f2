"""A ration: a burst, and then so many a second, of RST_STREAM frames (protocol.md §12.10) or anything else.

Apart from the session because a peer ends the whole session when the ration is exceeded, so the
arithmetic deserves tests of its own.
"""

from __future__ import annotations


class Ration:
    """A token bucket; times are seconds of any steady clock."""

    __slots__ = ("_most", "_per_second", "_tokens", "_updated")

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._most = max(1.0, float(burst))
        self._per_second = per_second
        self._tokens = float(burst)
        self._updated = now

    def take(self, now: float, count: int = 1) -> bool:
        """Whether so many more may pass now; if so, they are counted."""
        self._refill(now)
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def wait_seconds(self, now: float) -> float:
        """How long until the next one may leave."""
        self._refill(now)
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def _refill(self, now: float) -> None:
        elapsed = max(0.0, now - self._updated)
        self._updated = max(self._updated, now)
        self._tokens = min(self._most, self._tokens + elapsed * self._per_second)

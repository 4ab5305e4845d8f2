"""How many leases should be idle: a small rule, apart from everything that opens them.

- At rest `minimum` leases are idle. Each that turns active is replaced at once.
- When the last idle lease turns active, demand has outrun the pool: `BURST` idle leases from now on.
- After a minute in which at most n leases were active at a time, n idle ones are enough (never less
  than the minimum). The pool then shrinks by not replacing leases that turn active; an idle lease
  is never given up, because a request may be on its way to it (protocol.md §12.10).
- Idle and running together never exceed `limit`: what is beyond waits at the Host.
"""

from __future__ import annotations

from collections.abc import Callable

BURST = 256
WINDOW_SECONDS = 60.0


class Calls:
    """App calls that run, on all sessions of a Guest together.

    A call that was cancelled, or whose session is lost, counts until the app has returned.
    """

    __slots__ = ("on_finished", "running")

    def __init__(self) -> None:
        self.running = 0
        self.on_finished: Callable[[], None] | None = None  # the newest session, which may open leases then

    def finished(self) -> None:
        """An app call is over."""
        self.running -= 1
        if self.on_finished is not None:
            self.on_finished()


class LeaseDemand:
    """Counts the leases of one session; times are seconds of any steady clock."""

    __slots__ = ("_calls", "_limit", "_minimum", "_peak", "_window_end", "idle", "target")

    def __init__(self, minimum: int, limit: int, calls: Calls, now: float) -> None:
        self._minimum = min(minimum, limit)
        self._limit = limit
        self._calls = calls
        self.target = self._minimum
        self.idle = 0
        self._peak = 0
        self._window_end = now + WINDOW_SECONDS

    def turned_active(self, now: float) -> None:
        """A request took an idle lease."""
        calls = self._calls
        self.idle -= 1
        calls.running += 1
        if calls.running > self._peak:
            self._peak = calls.running
        if now >= self._window_end:
            self._window_end = now + WINDOW_SECONDS
            self.target = max(self._minimum, min(BURST, self._peak))
            self._peak = calls.running
        if self.idle <= 0:
            self.target = max(self._minimum, BURST)

    def missing(self) -> int:
        """How many leases to open now."""
        return max(0, min(self.target, self._limit - self._calls.running) - self.idle)

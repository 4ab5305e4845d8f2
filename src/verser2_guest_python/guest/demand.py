"""How many leases should be idle: a small rule, apart from everything that opens them.

- At rest `minimum` leases are idle. Each that turns active is replaced at once.
- When the last lease that the Host had in hand turns active, demand has outrun the pool: `BURST` idle
  leases from now on. A replacement that the Host has not answered yet is not in its hand.
- After a minute in which at most n leases were active at a time, the minimum is enough if n is less
  than that, else n and the minimum, so that n requests at once do not use the pool up. It then shrinks
  by not replacing leases that turn active; an idle lease is never given up, because a request may be
  on its way to it (protocol.md §12.10).
- Idle and running together never exceed `limit`, on all sessions of a Guest together: what is beyond
  waits at the Host. Sessions share what is free, so that none takes all of it.
"""

from __future__ import annotations

from collections.abc import Callable

BURST = 256
WINDOW_SECONDS = 60.0


class Calls:
    """App calls that run, and leases that wait for one, on all sessions of a Guest together.

    A call that was cancelled, or whose session is lost, counts until the app has returned.

    Attributes:
        running: App calls that run.
        idle: Leases that wait for a request.
        fills: One for each session that opens leases, the oldest first; called when one may be missing.
        websockets: WebSockets that are open.
        websocket_fills: The same as `fills` for WebSocket leases.
        messages_received: Messages of all WebSockets that an app was given …
        messages_sent: … and that it has sent.
    """

    __slots__ = (
        "fills",
        "idle",
        "messages_received",
        "messages_sent",
        "running",
        "websocket_fills",
        "websockets",
    )

    def __init__(self) -> None:
        self.running = 0
        self.idle = 0
        self.fills: tuple[Callable[[], None], ...] = ()
        self.websockets = 0
        self.websocket_fills: tuple[Callable[[], None], ...] = ()
        self.messages_received = 0
        self.messages_sent = 0

    def join(self, fill: Callable[[], None]) -> None:
        """A session opens leases from now on."""
        self.fills = (*self.fills, fill)

    def leave(self, fill: Callable[[], None]) -> None:
        """It opens no more: others may take its share."""
        if fill in self.fills:
            self.fills = tuple(one for one in self.fills if one != fill)
            self.refill()

    def finished(self) -> None:
        """An app call is over."""
        self.running -= 1
        self.refill()

    def refill(self) -> None:
        """Lets every session open what it misses."""
        for fill in self.fills:
            fill()

    def websocket_finished(self) -> None:
        """A WebSocket is over: each session may miss a lease."""
        self.websockets -= 1
        for fill in self.websocket_fills:
            fill()


class LeaseDemand:
    """Counts the leases of one session; times are seconds of any steady clock.

    Attributes:
        target: How many leases should be idle now.
        idle: Leases that wait for a request, also those that the Host has not answered yet.
    """

    __slots__ = ("_calls", "_limit", "_minimum", "_peak", "_window_end", "idle", "target")

    def __init__(self, minimum: int, limit: int, calls: Calls, now: float) -> None:
        self._minimum = min(minimum, limit)
        self._limit = limit
        self._calls = calls
        self.target = self._minimum
        self.idle = 0
        self._peak = 0
        self._window_end = now + WINDOW_SECONDS

    def opened(self) -> None:
        """A lease was opened."""
        self.idle += 1
        self._calls.idle += 1

    def lost(self, count: int = 1) -> None:
        """So many idle leases are gone."""
        self.idle -= count
        self._calls.idle -= count

    def turned_active(self, now: float, others: bool) -> None:
        """A request took an idle lease; `others` tells whether the Host has further ones in hand."""
        calls = self._calls
        self.idle -= 1
        calls.idle -= 1
        calls.running += 1
        if calls.running > self._peak:
            self._peak = calls.running
        if now >= self._window_end:
            if now >= self._window_end + WINDOW_SECONDS:
                self._peak = calls.running  # nothing came for the whole last minute
            self._window_end = now + WINDOW_SECONDS
            enough = self._peak + self._minimum if self._peak >= self._minimum else self._minimum
            self.target = max(self._minimum, min(BURST, enough))
            self._peak = calls.running
        if not others:
            self.target = max(self._minimum, BURST)

    def missing(self) -> int:
        """How many leases to open now."""
        calls = self._calls
        wanted = self.target if len(calls.fills) < 2 else min(self.target, self.share)
        return max(0, min(wanted - self.idle, self._limit - calls.running - calls.idle))

    @property
    def share(self) -> int:
        """How many leases this session may have idle, so that something is left for the others."""
        calls = self._calls
        return max(1, (self._limit - calls.running) // max(1, len(calls.fills)))

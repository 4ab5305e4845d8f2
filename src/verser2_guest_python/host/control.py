"""A Broker's control stream: route lines as they happen, and never more than the Broker can take.

Apart because a Broker may read slowly: what it has not taken yet is kept as events, and becomes one
lifecycle line and one routes line (the table as it is by then) when there is room again. So a table
that changes a thousand times costs a slow Broker one line, and the Host no memory to speak of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.http2 import Http2Error, Stream
from verser2_guest_python.wire.routes import LifecycleEvent, encode_lifecycle


class ControlStream:
    """Writes lines to one Broker.

    Args:
        stream: The Broker's registration stream, answered with 200.
        tasks: Owns the coroutine that waits while the Broker does not read.
        routes_line: Gives the routes line for this Broker, as it is now.
        max_events: How many events may wait.
        on_overflow: Called once when more would have to wait.
    """

    __slots__ = (
        "_max_events",
        "_on_overflow",
        "_routes_line",
        "_stale",
        "_stream",
        "_tasks",
        "_waiting",
        "_writing",
    )

    def __init__(
        self,
        stream: Stream,
        tasks: Tasks,
        routes_line: Callable[[], bytes],
        *,
        max_events: int,
        on_overflow: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._tasks = tasks
        self._routes_line = routes_line
        self._max_events = max_events
        self._on_overflow = on_overflow
        self._waiting: list[LifecycleEvent] = []
        self._stale = False
        self._writing = False

    def start(self, first_line: bytes) -> None:
        """Sends the first line; the Broker says nothing more on this stream."""
        self._stream.discard()
        self._write(first_line)

    def announce(self, events: Sequence[LifecycleEvent], lines: bytes | None = None) -> None:
        """Tells of a change: its events first, then the table (protocol.md §10).

        `lines` are both, if they are encoded already.
        """
        if self._stream.error is not None:
            return
        if not self._writing:
            self._write(lines if lines is not None else encode_lifecycle(events) + self._routes_line())
            return
        self._waiting.extend(events)
        if len(self._waiting) > self._max_events:
            self._waiting.clear()
            self._on_overflow()

    def refresh(self) -> None:
        """The Broker's table has changed for a reason that is no event: a table without events is sent."""
        if self._stream.error is not None:
            return
        if self._writing:
            self._stale = True
        else:
            self._write(self._routes_line())

    def _write(self, lines: bytes) -> None:
        try:
            if self._stream.write_now(lines):
                return
        except Http2Error:
            return  # the stream is gone; the session's end is told elsewhere
        self._writing = True
        self._tasks.spawn(self._write_waiting(lines), "verser host: control stream")

    async def _write_waiting(self, lines: bytes) -> None:
        try:
            while lines:
                await self._stream.write(lines)
                events, self._waiting = self._waiting, []
                stale, self._stale = self._stale, False
                lines = encode_lifecycle(events) if events else b""
                if events or stale:
                    lines += self._routes_line()
        except Http2Error:
            self._waiting.clear()
        self._writing = False

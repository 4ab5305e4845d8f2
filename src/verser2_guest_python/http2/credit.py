"""Flow-control credit for what the peer sends (protocol.md §12.4).

Stream credit follows consumption: a slow reader slows its own sender. Connection credit follows
receipt while little is unread, and consumption above that, so that neither a few slow readers nor a
peer that floods can stop, or fill, everybody else's session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .errors import ErrorCode
from .options import MIB
from .stream import Stream

if TYPE_CHECKING:
    from .session import Session

_STALL_CHECKS = 4  # looks at stalled readers within `stalled_read_seconds`


class Credit:
    """Counts what is unread in a session, and gives credit back.

    Attributes:
        unread: Bytes of all streams that nobody has read yet.
    """

    def __init__(self, session: Session) -> None:
        options = session.options
        self.unread = 0
        self._session = session
        self._limit = options.max_unread_bytes
        self._due = 0  # connection credit that is not sent yet
        self._withheld = 0  # connection credit held back while too much is unread
        self._step = min(options.connection_window_bytes // 4, MIB)
        self._stream_step = max(1, options.stream_window_bytes // 4)
        self._stall_seconds = options.stalled_read_seconds
        self._withheld_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def received(self, size: int) -> None:
        """DATA of a live stream came in."""
        self.unread += size
        if self.unread <= self._limit:
            self._give(size)
        else:
            if not self._withheld:
                self._withheld_since = self._session.loop.time()
            self._withheld += size
            if self._timer is None:
                self._plan()

    def dropped(self, size: int) -> None:
        """DATA came in that no stream wants any more."""
        self._give(size)

    def consumed(self, stream: Stream, size: int) -> None:
        """Bytes of a stream were taken, or dropped for good."""
        stream.unread -= size
        self.unread -= size
        session = self._session
        if self._withheld:
            stream.last_read = session.loop.time()
            released = self._withheld if self.unread <= self._limit else min(self._withheld, size)
            self._withheld -= released
            self._give(released)
        if not stream.ended and (stream.error is None or stream.reset_pending):
            stream.credit += size
            if stream.credit >= self._stream_step and session.lost is None:
                session.engine.credit_stream(stream, stream.credit)
                stream.credit = 0
                session.wrote()

    def _give(self, size: int) -> None:
        self._due += size
        if self._due >= self._step and self._session.lost is None:
            self._session.engine.credit_connection(self._due)
            self._due = 0
            self._session.wrote()

    # --- Above the limit, a stream that nobody reads is reset -----------------------------

    def _plan(self) -> None:
        self._timer = self._session.loop.call_later(self._stall_seconds / _STALL_CHECKS, self._reset_stalled)

    def _reset_stalled(self) -> None:
        self._timer = None
        if not self._withheld or self._session.lost is not None:
            return
        now = self._session.loop.time()
        limit = now - self._stall_seconds
        for stream in self._streams():
            if not stream.unread or not stream.last_read:
                stream.last_read = now  # its time begins with its first bytes, not before
            elif max(stream.last_read, self._withheld_since) <= limit:
                stream.reset(ErrorCode.CANCEL)
                self._session.notices.tell(stream)
        self._plan()

    def _streams(self) -> list[Stream]:
        """Open streams, and those that are over but for what is unread."""
        engine = self._session.engine
        return [one for one in (*engine.live.values(), *engine.lingering.values()) if isinstance(one, Stream)]

    def stop(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()

"""Resets of streams, within the ration that peers allow (protocol.md §12.10)."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from .ration import Ration

if TYPE_CHECKING:
    from .session import Session
    from .stream import Stream


class Resets:
    """Sends RST_STREAM now, or later when the ration is used up.

    Until then the stream counts as reset here: what arrives is credited and dropped. One that has
    ended meanwhile needs no reset any more.
    """

    def __init__(self, session: Session) -> None:
        options = session.options
        self._session = session
        self._ration = Ration(options.reset_burst, options.resets_per_second, session.loop.time())
        self._late: deque[tuple[Stream, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def reset(self, stream: Stream, code: int) -> None:
        """Resets a live stream."""
        if not self._late and self._ration.take(self._session.loop.time()):
            self._session.engine.reset(stream, code)
            self._session.wrote()
        else:
            stream.await_reset()
            self._late.append((stream, code))
            self._plan()

    def _plan(self) -> None:
        if self._timer is None and self._late:
            delay = self._ration.wait_seconds(self._session.loop.time())
            self._timer = self._session.loop.call_later(delay, self._send_late)

    def _send_late(self) -> None:
        self._timer = None
        while self._late:
            stream, code = self._late[0]
            if stream.id in self._session.engine.live:
                if not self._ration.take(self._session.loop.time()):
                    break
                self._session.engine.reset(stream, code)
                self._session.wrote()
            self._late.popleft()
        self._plan()

    def stop(self) -> None:
        """The session is over."""
        self._late.clear()
        if self._timer is not None:
            self._timer.cancel()

"""Signals of a daemon: the first SIGINT or SIGTERM asks for a drain, the second ends it at once.

Apart because handlers run between two instructions of whatever the process is doing: they only take
note and wake the loop. `signal.signal` and not the loop's own handlers, so that an app that keeps
the loop busy cannot keep the process alive.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

from verser2_guest_python.service.process.exit_codes import exit_code_of_signal

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_HURRY_SECONDS: Final = 2.0
_HANG_UP: Final = getattr(signal, "SIGHUP", 0)


class StopSignals:
    """Counts the signals to stop.

    `on_first` and `on_second` are called in the event loop with the reason: `SIGTERM received`. When the
    loop does not come to it within 2 s of the second, or a third arrives, the process ends there and then,
    after `last_words`, which must not take long.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_first: Callable[[str], None],
        on_second: Callable[[str], None],
        signals: Sequence[signal.Signals] = STOP_SIGNALS,
        *,
        last_words: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._calls = (on_first, on_second)
        self._numbers = tuple(signals)
        self._last_words = last_words
        self.received: list[int] = []

    def exit_code(self) -> int | None:
        """What the process ends with after a second signal; None before."""
        return exit_code_of_signal(self.received[1]) if len(self.received) > 1 else None

    def install(self) -> None:
        """Handles the signals from now to the end of the process, so that a late one changes no exit code."""
        for number in self._numbers:
            signal.signal(number, self._handle)

    def hang_up(self) -> None:
        """Counts a terminal that is gone as the first signal, if none has come yet; called in the loop."""
        if not self.received:
            self.received.append(_HANG_UP)
            self._calls[0]("the terminal was closed")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number == _HANG_UP:
            return  # a terminal that is closed often says so twice
        self.received.append(number)
        count = len(self.received)
        if count > len(self._calls):
            self._end(exit_code_of_signal(number))
        if count == len(self._calls):
            self._end_anyway(exit_code_of_signal(number))
        with suppress(RuntimeError):  # the loop has been closed: the process is at its end already
            reason = f"{signal.Signals(number).name} received"
            self._loop.call_soon_threadsafe(self._calls[count - 1], reason)

    def _end_anyway(self, code: int) -> None:
        timer = threading.Timer(_HURRY_SECONDS, self._end, (code,))
        timer.daemon = True
        timer.start()

    def _end(self, code: int) -> None:
        try:
            self._last_words()
        finally:
            os._exit(code)

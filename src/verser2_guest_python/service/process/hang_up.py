"""SIGHUP: a terminal that was closed, or somebody who asks for a reload.

Apart from `signals.py` because one number means two things, and the process has to find out which: to a
program in a terminal it says that nobody is there any more, and to a daemon what a manager wants of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from verser2_guest_python.service.process.signals import StopSignals

_LOOK_AGAIN_SECONDS: Final = 1.0
"""Some terminals and shells send the signal first and close the terminal then."""


class HangUp:
    """What this process does at SIGHUP: `reload`, or a drain once its terminal is gone.

    Made at the start. Without a controlling terminal, and where SIGHUP was ignored (`nohup`), it is always a
    reload.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, signals: StopSignals) -> None:
        self._loop = loop
        self._signals = signals
        self._has_terminal = False
        if sys.platform != "win32":
            self._has_terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _terminal_there()

    def install(self, reload: Callable[[], None]) -> None:
        """Handles the signal from now on."""
        if sys.platform != "win32":
            self._loop.add_signal_handler(signal.SIGHUP, self._received, reload)

    def _received(self, reload: Callable[[], None]) -> None:
        if self._signals.received:
            return  # it stops already; a hang-up often comes twice
        if not self._ends():
            reload()
            if self._has_terminal:
                self._loop.call_later(_LOOK_AGAIN_SECONDS, self._ends)

    def _ends(self) -> bool:
        """Drains if the terminal is gone; whether it is."""
        if not self._has_terminal or _terminal_there():
            return False
        self._signals.hang_up()
        return True


def _terminal_there() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # ENXIO
        return False
    return True

"""The terminal is given back as it was found: an app that was at a prompt may have been ended there.

Apart because it is for whoever shares the terminal with processes that may be killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def terminal_kept() -> Iterator[None]:
    """Restores the settings of the terminal on standard input, if that is one, behind the block."""
    restore = _restoring()
    try:
        yield
    finally:
        with suppress(OSError):
            restore()


def _restoring() -> Callable[[], None]:
    try:
        import termios
    except ImportError:  # Windows
        return lambda: None
    try:
        descriptor = sys.stdin.fileno()
        settings = termios.tcgetattr(descriptor)
    except (termios.error, OSError, ValueError, AttributeError):  # no terminal, or closed
        return lambda: None

    def restore() -> None:
        if os.tcgetpgrp(descriptor) != os.getpgrp():
            return  # in the background, where this would stop us
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)

    return restore

"""One line of log: the clock, the look on a terminal, the stream that it goes to.

Apart from `logs.py` because access lines are made here without structlog, once a request, and must
cost little.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from verser2_guest_python.service.text import safe, shown

_RESET: Final = "\x1b[0m"
DIM: Final = "2"
BOLD: Final = "1"
RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
BLUE: Final = "34"
MAGENTA: Final = "35"
CYAN: Final = "36"
LEVEL_WIDTH: Final = 7
EVENT_WIDTH: Final = 14


class Clock:
    """UTC with milliseconds as `2025-01-31T12:00:00.123Z`; all but the milliseconds is made once a second."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = -1
        self._prefix = ""

    def stamp(self) -> str:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"


class LineSink:
    """Where lines go. A stream that can no longer be written to costs lines, never the process."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self.dropped = 0

    def write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, or never there (`2>&-`)
            self.dropped += 1

    @property
    def is_terminal(self) -> bool:
        try:
            return self._stream.isatty()
        except (ValueError, AttributeError):
            return False


class Paint:
    """Colours, or none."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}{_RESET}" if self.colour and codes else text


def wants_colour(*, is_terminal: bool) -> bool:
    """Colours on a terminal, unless the user said otherwise (no-color.org, `TERM=dumb`)."""
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def level_colours(level: str) -> tuple[str, ...]:
    """How a level looks; those that are worse than a warning all look alike."""
    return {"debug": (DIM,), "info": (GREEN,), "warning": (YELLOW,)}.get(level, (BOLD, RED))


def line_start(paint: Paint, stamp: str, who: str) -> str:
    """What every line on a terminal begins with: the time of day, and who speaks if that is not clear."""
    time_of_day = paint(stamp[11:], DIM)
    return f"{time_of_day} {paint(who, MAGENTA)}" if who else time_of_day


def console_line(
    paint: Paint, stamp: str, level: str, event: str, fields: dict[str, object], *, who: str = ""
) -> str:
    """`12:00:00.123Z info    registered     guest_id=guest-a`: time of day only, columns that line up.

    `who` comes after the time, where several processes share a terminal.
    """
    head = f"{line_start(paint, stamp, who)} {paint(level.ljust(LEVEL_WIDTH), *level_colours(level))} "
    tail = " ".join(f"{paint(safe(name) + '=', DIM)}{shown(value)}" for name, value in fields.items())
    text = safe(event)
    return head + (f"{paint(text.ljust(EVENT_WIDTH), BOLD)} {tail}" if tail else paint(text, BOLD))

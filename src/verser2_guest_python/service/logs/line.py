"""One line of log: the clock, and the look in each of the three forms: for eyes, as JSON, as logfmt.

Apart from `setup.py` because access lines are made here without structlog, once a request, and must
cost little.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from verser2_guest_python.service.output.text import indented, safe, shown

Form = Literal["console", "json", "logfmt"]

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
_TERMINAL: Final = 2  # the log goes to stderr


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


class Paint:
    """Colours, or none."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}{_RESET}" if self.colour and codes else text


def wants_colour(*, is_terminal: bool) -> bool:
    """Colours on a terminal, unless the user said otherwise (no-color.org, `TERM=dumb`)."""
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def column(text: str, widest: int, others: int) -> str:
    """`text`, with blanks up to `widest`, or fewer where a terminal has no room for that beside `others`."""
    try:
        columns = os.get_terminal_size(_TERMINAL).columns
    except OSError:  # no terminal
        return text.ljust(widest)
    return text.ljust(max(0, min(widest, columns - others)))


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


def json_line(stamp: str, level: str, event: str, fields: Mapping[str, Any], trace: str) -> str:
    """One JSON object: `time`, `level`, `event`, then the fields, then `exception`."""
    line: dict[str, Any] = {"time": stamp, "level": level, "event": event, **fields}
    if trace:
        line["exception"] = trace
    try:
        return json.dumps(line, default=str, separators=(",", ":"), allow_nan=False)
    except ValueError:  # a number that JSON cannot say, or a circle
        plain = {name: value if _is_plain(value) else str(value) for name, value in line.items()}
        return json.dumps(plain, separators=(",", ":"))


def _is_plain(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, float) else value is None or isinstance(value, str | int)


def logfmt_line(stamp: str, level: str, event: str, fields: Mapping[str, Any], trace: str) -> str:
    """`time=… level=info event=registered guest_id=guest-a`: the same fields, in one line."""
    parts = [f"time={stamp} level={level} event={logfmt_value(event)}"]
    parts += [
        f"{_NOT_IN_A_NAME.sub('_', name) or '_'}={logfmt_value(value)}" for name, value in fields.items()
    ]
    if trace:
        parts.append(f"exception={logfmt_value(trace)}")
    return " ".join(parts)


_NOT_IN_A_NAME: Final = re.compile(r"[^\w.-]", re.ASCII)
_BARE: Final = re.compile(r"""[^\s"=\\]+""")


def logfmt_value(value: object) -> str:
    """A value behind its name: in quotes, as JSON has them, where its end could not be seen otherwise."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple | set | frozenset):
        value = ",".join(str(entry) for entry in value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if _BARE.fullmatch(text) and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def console_block(
    paint: Paint, stamp: str, level: str, event: str, fields: dict[str, object], trace: str, *, who: str = ""
) -> str:
    """A line for eyes, and below it what a traceback says, set off."""
    line = console_line(paint, stamp, level, event, fields, who=who)
    return f"{line}\n{indented(trace)}" if trace else line

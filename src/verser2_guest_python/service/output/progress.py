"""The progress of a long transfer, on a terminal: one line on stderr that is drawn again and again.

Apart because it must never hold up what it reports on: it is drawn by a timer, only while the terminal
has room, and not at all for what is over in a second.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections import deque
from contextlib import suppress
from typing import Final, Self

from verser2_guest_python.service.output.colour import can_redraw
from verser2_guest_python.service.output.text import size

SHOWN_AFTER_SECONDS: Final = 1.0
_DRAWN_EVERY_SECONDS: Final = 0.2
_RATE_WINDOW_SECONDS: Final = 5.0
_WIDEST_BAR: Final = 40
_NARROWEST_BAR: Final = 8
_ERASE_LINE: Final = "\r\x1b[K"


def progress_line(
    label: str,
    done: int,
    total: int | None,
    rate: float,
    seconds: float,
    *,
    width: int = 80,
    blocks: str = "█░",
    unit: str = "",
) -> str:
    """The line: what is done, of how much, how fast, and the time left (without a total, the time so far).

    `rate` is per second; with a `unit` (as in `120 requests`) things are counted, without one they are bytes.
    """

    def amount(count: float) -> str:
        return f"{count:,.0f}" if unit else size(int(count))

    speed = f"{amount(rate)}{f' {unit}' if unit else ''}/s"
    if total is None:
        return f"{label}  {amount(done)}{f' {unit}' if unit else ''}  {speed}  {clock(seconds)}"[: width - 1]
    share = min(1.0, done / total) if total else 1.0
    left = f"{clock((total - done) / rate)} left" if rate >= 1 and done < total else clock(seconds)
    percent = f"{int(share * 100):3d}%"
    numbers = f"{amount(done)} of {amount(total)}{f' {unit}' if unit else ''}  {speed}  {left}"
    room = min(_WIDEST_BAR, width - len(label) - len(percent) - len(numbers) - 8)
    if room < _NARROWEST_BAR:
        return f"{label} {percent}  {numbers}"[: width - 1]
    filled = round(share * room)
    return f"{label} {percent} {blocks[0] * filled}{blocks[1] * (room - filled)}  {numbers}"


def clock(seconds: float) -> str:
    """A time as `4 s`, `2:05` or `1:02:05`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


class Progress:
    """Counts what has been done, and shows it from the second second on. `unit` as in `progress_line`.

    Example::

        with Progress("download", total=length) as progress:
            async for chunk in chunks:
                progress.add(len(chunk))
    """

    def __init__(
        self, label: str, total: int | None = None, *, descriptor: int = 2, on: bool = True, unit: str = ""
    ) -> None:
        self.done = 0
        self.total = total
        self._label = label
        self._unit = unit
        self._descriptor = descriptor
        self._on = on and can_redraw(descriptor, os.environ)
        self._blocks = "█░" if _shows_blocks() else "#-"
        self._samples: deque[tuple[float, int]] = deque()
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._visible = False

    def add(self, count: int) -> None:
        """So much more has been done."""
        self.done += count

    def __enter__(self) -> Self:
        if self._on:
            loop = asyncio.get_running_loop()
            self._started = loop.time()
            self._samples.append((self._started, 0))
            self._timer = loop.call_later(SHOWN_AFTER_SECONDS, self._tick, loop)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Shows it no more; the last line of what was long enough to be shown stays."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if self._visible:
            self._visible = False
            seconds = max(asyncio.get_running_loop().time() - self._started, 1e-9)
            self._draw(self.done / seconds, seconds, "\n")

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        samples = self._samples
        samples.append((now, self.done))
        while now - samples[0][0] > _RATE_WINDOW_SECONDS:
            samples.popleft()
        then, before = samples[0]
        self._draw((self.done - before) / max(now - then, 1e-9), now - self._started, "")
        self._visible = True
        self._timer = loop.call_later(_DRAWN_EVERY_SECONDS, self._tick, loop)

    def _draw(self, rate: float, seconds: float, end: str) -> None:
        if not _has_room(self._descriptor):
            return
        width = _width(self._descriptor)
        line = progress_line(
            self._label,
            self.done,
            self.total,
            rate,
            seconds,
            width=width,
            blocks=self._blocks,
            unit=self._unit,
        )
        with suppress(OSError):  # the terminal has gone: what is transferred may go on
            os.write(self._descriptor, f"{_ERASE_LINE}{line}{end}".encode())


def _has_room(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poll.poll(0))


def _width(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def _shows_blocks() -> bool:
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    try:
        "█░".encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True

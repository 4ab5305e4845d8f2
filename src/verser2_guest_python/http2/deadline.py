"""Limits of time that let go first what is here already.

Apart from asyncio's because those do not: when a loop was held up for longer than a limit, by an app that
blocks it or by a slow machine, the timer runs before the sockets are read (uvloop), or before the task that
waits has heard of what was read. Then an answer that came in time is thrown away, and a session that lives is
given up. Here a timer that is due waits for a few turns of the loop, in which the sockets are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

_TURNS: Final = 8
"""One in which sockets are read, and some for what that wakes, one after the other."""


class LateCall:
    """A call at a time of the loop, and after what has arrived by then."""

    __slots__ = ("_call", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float, call: Callable[[], object]) -> None:
        self._loop = loop
        self._call = call
        self._handle: asyncio.Handle = loop.call_at(when, self._due, _TURNS)

    def _due(self, turns: int) -> None:
        if turns:
            self._handle = self._loop.call_soon(self._due, turns - 1)
        else:
            self._call()

    def cancel(self) -> None:
        """It is not wanted any more; does nothing to one that has been made."""
        self._handle.cancel()


class Deadline:
    """An `asyncio.Timeout` of that kind: `async with` it, and what takes longer raises TimeoutError.

    It does as that does, and does not use it: one inside of the other would take twice the time, and every
    request has a few.
    """

    __slots__ = ("_cancelling", "_expired", "_late", "_loop", "_over", "_task", "_when")

    def __init__(self, when: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._when = when
        self._late: LateCall | None = None
        self._task: asyncio.Task[Any] | None = None  # that has begun it
        self._cancelling = 0  # times that the task was being cancelled before
        self._expired = False
        self._over = False

    def when(self) -> float | None:
        """The time of the loop at which it is over; None for never."""
        return self._when

    def expired(self) -> bool:
        """Whether it was over before what it was for."""
        return self._expired

    def reschedule(self, when: float | None) -> None:
        """Another time. Raises RuntimeError once it is over, and before it has begun."""
        if self._task is None or self._expired or self._over:
            raise RuntimeError("this limit of time is over, or has not begun")
        if self._late is not None:
            self._late.cancel()
        self._when = when
        self._late = None if when is None else LateCall(self._loop, when, self._give_up)

    def _give_up(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None or self._task is not None:
            raise RuntimeError("a limit of time is for one task, and for once")
        self._task = task
        self._cancelling = task.cancelling()
        if self._when is not None:
            self._late = LateCall(self._loop, self._when, self._give_up)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        if self._late is not None:
            self._late.cancel()
        if self._expired and self._task is not None:
            ours = self._task.uncancel() <= self._cancelling
            if ours and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error


def within(seconds: float | None) -> Deadline:
    """So many seconds from now; None sets no limit."""
    return Deadline(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def call_within(loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], object]) -> LateCall:
    """A call so many seconds from now."""
    return LateCall(loop, loop.time() + seconds, call)

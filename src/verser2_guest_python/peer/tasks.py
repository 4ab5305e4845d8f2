"""Waiting for tasks to be over, and not leaving before that: whoever ends a task awaits it.

Apart because a caller may be cancelled while it waits, once or several times. That is no reason to leave
tasks behind; it is one to be quicker.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine
from typing import Any


async def wait_over(
    tasks: Collection[asyncio.Task[Any]],
    hurry: Callable[[], object] | None = None,
    *,
    seconds: float = math.inf,
) -> None:
    """Until all of them are over, or `seconds` are; a cancellation calls `hurry`, and is raised then."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    cancelled: asyncio.CancelledError | None = None
    while (running := [task for task in tasks if not task.done()]) and (left := until - clock()) > 0:
        try:
            await asyncio.wait(running, timeout=None if left == math.inf else left)
        except asyncio.CancelledError as error:
            cancelled = error
            if hurry is not None:
                hurry()
    if cancelled is not None:
        raise cancelled


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them, once, so that each can clean up; returns when all of them are over."""
    for task in tasks:
        task.cancel()
    await wait_over(tasks)


class Closing:
    """An end that any number of callers wait for; it begins when this is made.

    The last of them who is cancelled has it hurry, and sees it to its end; cancelled again, cancels it.

    Args:
        work: What there is to do.
        hurry: Makes that quick.
    """

    def __init__(self, work: Coroutine[Any, Any, None], hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._callers = 0
        self._task = asyncio.get_running_loop().create_task(work)

    async def join(self) -> None:
        """Until it has come; raises what it raises."""
        self._callers += 1
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            if self._callers == 1:
                self._hurry()
                await wait_over([self._task], self._task.cancel)
            raise
        finally:
            self._callers -= 1
        if not self._task.cancelled():  # by another caller, who was cancelled more than once: it is over
            self._task.result()

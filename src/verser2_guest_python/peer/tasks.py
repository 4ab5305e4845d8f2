"""Waiting for tasks to be over, and not leaving before that: whoever ends a task awaits it.

Apart because a caller may be cancelled while it waits, once or several times. That is no reason to leave
tasks behind; it is one to be quicker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any


async def wait_over(tasks: Collection[asyncio.Task[Any]], hurry: Callable[[], None] | None = None) -> None:
    """Until all of them are over. A cancellation calls `hurry`, and is raised once they are."""
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
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

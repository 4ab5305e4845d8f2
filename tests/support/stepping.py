"""A coroutine that is cancelled at an await of one's choice: at the first, the second, … to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Stepped(Awaitable[T]):
    """Awaits a coroutine, and cancels the awaiting task when that waits for the n-th time, for each n given.

    Attributes:
        waits: How often it has waited. Where that is fewer than asked for, nothing was cancelled.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], *cancelled: int) -> None:
        self.waits = 0
        self._coroutine = coroutine
        self._cancelled: Collection[int] = frozenset(cancelled)

    def __await__(self) -> Generator[Any, None, T]:
        steps = self._coroutine.__await__()
        failure: BaseException | None = None
        while True:
            try:
                waited = next(steps) if failure is None else steps.throw(failure)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self.waits += 1
            if self.waits in self._cancelled:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            failure = None
            try:
                yield waited
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                failure = error


async def step(coroutine: Coroutine[Any, Any, Any], *cancelled: int) -> bool:
    """Runs it in a task of its own, cancelled there; whether it came to the first of these awaits."""
    stepped = Stepped(coroutine, *cancelled)

    async def run() -> None:
        await stepped

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return stepped.waits >= min(cancelled, default=0)

"""Listeners for route changes: plain functions are called, asynchronous ones run in tasks.

Apart from the table because a listener is somebody else's code: it may fail or take its time, and
neither may keep the table from following the Host.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from verser2_guest_python.peer.tasks import end_tasks
from verser2_guest_python.wire.routes import LifecycleEvent

RouteChange: TypeAlias = LifecycleEvent
"""One change of a route: `type` (`added`, `removed`, `changed`, `degraded`), `target_id`, `domain`,
and, where the Host said them, `reason` and `generation` (protocol.md §10)."""

RouteListener: TypeAlias = Callable[[RouteChange], Awaitable[object] | None]
"""What `VerserBroker.on_route_change` takes: a function, or an asynchronous one."""

MAX_WAITING_CHANGES = 1_000

_LOGGER = logging.getLogger("verser2_guest_python.broker")


class _Subscription:
    """One listener, and the changes that an asynchronous one has not come to yet, in order."""

    __slots__ = ("listener", "task", "waiting")

    def __init__(self, listener: RouteListener) -> None:
        self.listener = listener
        self.waiting: deque[Awaitable[object]] = deque()
        self.task: asyncio.Task[None] | None = None


class RouteListeners:
    """All listeners of a Broker; owns the tasks in which asynchronous ones run."""

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, listener: RouteListener) -> Callable[[], None]:
        """From now on `listener` is called with each change; returns what ends that."""
        subscription = _Subscription(listener)
        self._subscriptions.append(subscription)

        def unsubscribe() -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

        return unsubscribe

    def publish(self, changes: Iterable[RouteChange]) -> None:
        """Tells every listener, in the order of the changes; a failure is logged and ends nothing."""
        for change in changes:
            for subscription in tuple(self._subscriptions):
                self._tell(subscription, change)

    def _tell(self, subscription: _Subscription, change: RouteChange) -> None:
        try:
            result = subscription.listener(change)
        except Exception:
            _LOGGER.exception("A route listener failed on %s of %s", change.type, change.domain)
            return
        if not inspect.isawaitable(result):
            return
        if len(subscription.waiting) >= MAX_WAITING_CHANGES:
            _drop(subscription.waiting.popleft())
            _LOGGER.warning(
                "A route listener is too slow: the oldest of %d changes is dropped", MAX_WAITING_CHANGES
            )
        subscription.waiting.append(result)
        if subscription.task is None:
            subscription.task = asyncio.create_task(self._work(subscription), name="verser2-route-listener")
            self._tasks.add(subscription.task)

    async def _work(self, subscription: _Subscription) -> None:
        try:
            while subscription.waiting:
                await self._run(subscription.waiting.popleft())
        finally:
            task, subscription.task = subscription.task, None
            if task is not None:
                self._tasks.discard(task)

    async def _run(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Exception:
            _LOGGER.exception("A route listener failed")

    async def close(self) -> None:
        """Ends the tasks of asynchronous listeners; what they have not come to is dropped."""
        for subscription in self._subscriptions:
            while subscription.waiting:
                _drop(subscription.waiting.popleft())
        current = asyncio.current_task()
        await end_tasks([task for task in self._tasks if task is not current])


def _drop(awaitable: Awaitable[object]) -> None:
    """Gives a coroutine up that was never begun, without a warning about it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()

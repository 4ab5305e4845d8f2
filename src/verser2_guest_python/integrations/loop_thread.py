"""An event loop in a thread of its own, for programs that have none, or have one that must not be shared.

Apart from the doors that stand on it because threads are its only subject: handing a coroutine over,
waiting for it without getting stuck (also when the loop ends first, or Ctrl-C comes), and an end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast

from verser2_guest_python.errors import DisconnectedTargetError, VerserUsageError

LAST_SECONDS: Final = 5.0
"""How long each last thing may take: the farewell, tasks that were cancelled, a call after Ctrl-C."""

# A Ctrl-C that comes just before a wait does not end it, and on Windows none does: it is noticed between two.
_WAIT_SECONDS: Final = 0.5

_LOGGER = logging.getLogger("verser2_guest_python.integrations")

T = TypeVar("T")
Farewell: TypeAlias = Callable[[], Awaitable[object]]
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
Errand: TypeAlias = Callable[[], None]
"""Something that the loop asks of the thread that waits."""


class ErrandSource(Protocol):
    """What a coroutine may need from the thread that waits for it. Both are called in the loop."""

    def attach(self, send: Callable[[Errand], None]) -> None:
        """From now on a thread waits, and does what it is sent."""

    def detach(self, send: Callable[[Errand], None]) -> None:
        """It does not any more."""


class LoopThread:
    """A running event loop in a thread; started by making it, ended by `close`.

    A program that forgets `close` still ends in good order: when the interpreter exits the thread is
    ended first, and when this object is collected it is asked to end.

    Args:
        name: What the thread is called, and what errors call it.
        loop_factory: Makes the loop, in the thread; asyncio's own by default.
        farewell: Awaited in the loop before whatever still runs there is cancelled, for at most 5 s.
    """

    def __init__(
        self,
        name: str,
        *,
        loop_factory: LoopFactory | None = None,
        farewell: Farewell | None = None,
    ) -> None:
        self._state = _State(name, loop_factory or asyncio.new_event_loop, farewell)
        self._state.start()
        atexit.register(self._state.end)
        self._forgotten = weakref.finalize(self, _forget, self._state)
        self._forgotten.atexit = False

    @property
    def alive(self) -> bool:
        """Whether coroutines can be run. A forked child has no threads, so there it is False."""
        return self._state.thread.is_alive() and not self._state.stopping

    @property
    def inside(self) -> bool:
        """Whether the caller is in this thread, and so must not wait for it."""
        return threading.current_thread() is self._state.thread

    def run(
        self,
        coroutine: Coroutine[Any, Any, T],
        errands: ErrandSource | None = None,
        settled: Callable[[], bool] | None = None,
    ) -> T:
        """Runs a coroutine in the loop, in a copy of the caller's context, and returns what it returns.

        Any number of threads may call this at a time. Interrupted (Ctrl-C), the coroutine is cancelled
        and awaited before the interrupt goes on. `settled` is asked once the loop is closed: whether the
        coroutine needs none any more, as it waits for nothing. It is then run here, in the caller's thread.

        Raises:
            VerserUsageError: the loop is closed, or the caller is in its thread and would wait forever.
            DisconnectedTargetError: the loop ended before the coroutine.
        """
        state = self._state
        if self.inside:
            coroutine.close()
            raise VerserUsageError(
                f"This was called in the thread of {state.name!r} itself, which must not wait: call it in "
                "another thread, or use the asynchronous methods there."
            )
        job = _Job(coroutine, errands)
        try:
            if state.accept(job):
                return job.wait()
            if settled is not None and settled():
                state.thread.join(LAST_SECONDS)  # whatever it still does there, it does alone
                return run_here(coroutine)
        except BaseException:  # an interrupt may come anywhere in here
            if state.knows(job):
                job.give_up()
            raise
        finally:
            state.forget(job)
            if not job.started:
                coroutine.close()
        raise VerserUsageError(f"{state.name!r} is closed: its thread has ended.")

    def close(self, farewell: Farewell | None = None, seconds: float = LAST_SECONDS) -> None:
        """Says farewell, cancels what still runs, and joins the thread. Safe to call more than once.

        `farewell`, for at most `seconds`, takes the place of the one that was given at first. Other threads
        may go on until it is over; then what they call is refused.
        """
        if self.inside:
            raise VerserUsageError(f"The thread of {self._state.name!r} cannot end itself from within.")
        self._forgotten.detach()
        atexit.unregister(self._state.end)
        if farewell is not None:
            self._state.farewell = farewell, seconds
        self._state.end()


def run_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing, without a loop.

    Raises:
        DisconnectedTargetError: it does wait, for something that the loop would have brought.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    coroutine.close()
    raise DisconnectedTargetError("What this waits for cannot come any more: the loop is closed.")


def _forget(state: _State) -> None:
    """Nobody holds the `LoopThread` any more. This may run anywhere, so it must not wait."""
    atexit.unregister(state.end)
    state.request_stop()


class _State:
    """What the thread knows. It must not hold the `LoopThread`, so that one can be collected."""

    def __init__(self, name: str, loop_factory: LoopFactory, farewell: Farewell | None) -> None:
        self.name = name
        self.stopping = False  # it was asked to end …
        self._closed = False  # … and now takes nothing more
        self.thread = threading.Thread(target=self._main, args=(loop_factory,), name=name, daemon=True)
        self.farewell = farewell, LAST_SECONDS
        self._lock = threading.Lock()
        self._jobs: set[_Job[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._started: SimpleQueue[BaseException | None] = SimpleQueue()

    # --- In other threads -------------------------------------------------------------------

    def start(self) -> None:
        self.thread.start()
        if (error := self._started.get()) is not None:
            raise error

    def accept(self, job: _Job[Any]) -> bool:
        """Hands a job to the loop. What is accepted is done, or abandoned when the loop ends."""
        with self._lock:
            if self._closed or self._loop is None or not self.thread.is_alive():
                return False
            self._jobs.add(job)
            self._loop.call_soon_threadsafe(job.start, self._loop)
            return True

    def knows(self, job: _Job[Any]) -> bool:
        with self._lock:
            return job in self._jobs

    def forget(self, job: _Job[Any]) -> None:
        with self._lock:
            self._jobs.discard(job)

    def request_stop(self) -> None:
        with self._lock:
            if self.stopping:
                return
            self.stopping = True
            if self._loop is not None and self.thread.is_alive():
                self._loop.call_soon_threadsafe(self._stop.set)

    def end(self) -> None:
        """Asks the thread to end, and waits until it has."""
        self.request_stop()
        seconds = self.farewell[1] + 3 * LAST_SECONDS  # each of the last things has its own limit
        self.thread.join(seconds)
        if self.thread.is_alive():
            self._refuse()
            _LOGGER.warning(
                "%s did not end within %g s: something that was called in its loop blocks it. Its thread "
                "ends with the process.",
                self.name,
                seconds,
            )

    def _refuse(self) -> None:
        with self._lock:
            self.stopping = self._closed = True

    # --- In the thread ----------------------------------------------------------------------

    def _main(self, loop_factory: LoopFactory) -> None:
        try:
            loop = loop_factory()
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            self._started.put(error)
            return
        self._loop = loop
        self._started.put(None)
        try:
            loop.run_until_complete(self._live())
        finally:
            self._refuse()
            with self._lock:
                self._loop = None
                left = list(self._jobs)
            loop.close()
            for job in left:
                job.abandon(self.name)

    async def _live(self) -> None:
        await self._stop.wait()
        await self._say_farewell()
        self._refuse()
        await asyncio.sleep(0)  # what was accepted just before becomes a task …
        await asyncio.sleep(0)  # … and begins: if it waits for nothing, it is done by that
        current = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.get_running_loop().shutdown_asyncgens()

    async def _say_farewell(self) -> None:
        farewell, seconds = self.farewell
        if farewell is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await farewell()
        except Exception as error:  # noqa: BLE001 - the thread must end all the same
            _LOGGER.warning("The last words of %s failed: %r", self.name, error)


class _Job(Generic[T]):
    """A coroutine that one thread has given to the loop, and waits for."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], errands: ErrandSource | None) -> None:
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._errands = errands
        self._inbox: SimpleQueue[Errand | None] = SimpleQueue()  # None: it is over
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self._abandoned: str | None = None

    # --- In the loop ------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task = loop.create_task(self._coroutine, context=self._context)
        self._task.add_done_callback(self._on_done)
        if self._errands is not None:
            self._errands.attach(self._inbox.put)
        if self._cancelled:
            self._task.cancel()

    def _on_done(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # whoever waits may have left: then nobody will ask for it
        if self._errands is not None:
            self._errands.detach(self._inbox.put)
        self._inbox.put(None)

    def abandon(self, name: str) -> None:
        """The loop is over, and this with it."""
        self._abandoned = name
        self._inbox.put(None)

    # --- In the thread that waits -----------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether the coroutine is a task, and so is ended by the loop."""
        return self._task is not None

    def wait(self) -> T:
        while (errand := self._next()) is not None:
            errand()
        task = self._task
        if task is None or not task.done() or task.cancelled():
            name = f" of {self._abandoned!r}" if self._abandoned else ""
            raise DisconnectedTargetError(f"The loop{name} was closed while this call was under way.")
        return task.result()

    def _next(self) -> Errand | None:
        while True:
            try:
                return self._inbox.get(timeout=_WAIT_SECONDS)
            except Empty:
                continue

    def give_up(self) -> None:
        """Cancels the coroutine and waits for its end; what it still asks for is not done any more."""
        self._cancelled = True
        loop, task = self._loop, self._task
        if self._abandoned is not None or (task is not None and task.done()):
            return
        if loop is not None and task is not None:
            with suppress(RuntimeError):  # the loop is closed: it is over
                loop.call_soon_threadsafe(task.cancel)
        with suppress(Empty):
            while self._inbox.get(timeout=LAST_SECONDS) is not None:
                pass

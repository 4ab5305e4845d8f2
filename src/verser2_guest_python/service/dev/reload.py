"""The app of `dev` in a process of its own, and another one each time when its source changes.

    waiting ─load─→ loading ─serve─→ serving ─(change)─→ ends, while the next one loads already
       ^                 └─(the app fails)─→ its error is shown, until a change

The next process always waits (`child.py`), so that a reload costs what the app's own import takes.
Two apps never serve at a time: the next one starts once the last one has ended, for both may want the
same port or the same lock. Apart from `supervisor.py`, whose workers hand over without a gap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

from verser2_guest_python.service.dev.child import LOAD, SERVE, STOP, WARM, Place
from verser2_guest_python.service.dev.page import FailurePage
from verser2_guest_python.service.dev.stack import GUEST_ID
from verser2_guest_python.service.logs.setup import Logs
from verser2_guest_python.service.output.text import indented
from verser2_guest_python.service.process.exit_codes import ExitCode, WorkerFailedError
from verser2_guest_python.service.process.reload import SourceFilter, changes
from verser2_guest_python.service.process.worker_process import WorkerProcess

RELOAD_DRAIN_SECONDS: Final = 1.0
"""For requests under way when the source changes; those that take longer are cut off."""
_KILL_AFTER_SECONDS: Final = 2.0
"""How much longer than its drain a process may take to end."""
_SETTLED_SECONDS: Final = 5.0
"""An app that crashes after this time is started again at once; before, only after a change."""
_QUIET_MILLISECONDS: Final = 20
"""Without a further change, before a change counts: editors write a file in several steps."""
_NAMED_FILES: Final = 3


class ReloadingApp:
    """Keeps the app running; `command` starts one process of it. Whoever has called `prepare` calls `run`."""

    def __init__(self, command: Sequence[str], source: SourceFilter, logs: Logs) -> None:
        self._command = tuple(command)
        self._source = source
        self._logs = logs
        self._place: Place
        self._page: FailurePage
        self._on_settled: Callable[[], None] | None = None
        self._all: set[WorkerProcess] = set()
        self._current: WorkerProcess | None = None
        self._spare: WorkerProcess | None = None
        self._changed = asyncio.Event()
        self._changed_at = 0.0
        self._stopping = asyncio.Event()
        self._drain_seconds = 0.0
        self._frameworks: tuple[str, ...] = ()

    async def run(self, place: Place, page: FailurePage, on_settled: Callable[[], None]) -> None:
        """Serves until `stop`. `on_settled` is called once the first process serves, or has failed.

        Raises `WorkerFailedError` when the first process ends for a reason that is not the app's own: what
        was asked for is written wrongly.
        """
        self._place, self._page, self._on_settled = place, page, on_settled
        watching = asyncio.create_task(self._watch(), name="dev: changes")
        try:
            while not self._stopping.is_set():
                await self._unless_broken(watching, self._serve_once())
            await self._end_all(self._drain_seconds)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await self.aclose()
            await page.hide()

    def stop(self, seconds: float) -> None:
        """Ends the app; requests under way get so much time. `run` returns then."""
        self._drain_seconds = seconds
        self._stopping.set()

    async def aclose(self) -> None:
        """Ends all processes that there still are, without a goodbye."""
        for process in self._all:
            process.kill()
        await self._end_all(0.0)

    # --- The source -----------------------------------------------------------------------

    async def _watch(self) -> None:
        async for paths in changes(self._source, quiet_milliseconds=_QUIET_MILLISECONDS):
            self._changed_at = time.monotonic()
            self._logs.events.info("reloading", files=_named(paths))
            self._changed.set()

    async def _unless_broken(self, watching: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
        """Does `work`, but raises what the watcher raises."""
        task = asyncio.create_task(work, name="dev: app")
        try:
            await asyncio.wait((task, watching), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                watching.result()
            await task
        finally:
            task.cancel()
            await asyncio.wait((task,))

    # --- One app --------------------------------------------------------------------------

    async def _serve_once(self) -> None:
        """One process from its order to load until there is a reason for another one."""
        reloads = self._changed.is_set()
        self._changed.clear()
        old, self._current = self._current, await self._take_spare()
        app = self._current
        app.tell(LOAD + b" " + self._place.encode())
        await asyncio.gather(self._page.hide(), *([self._end(old, RELOAD_DRAIN_SECONDS)] if old else ()))
        if not self._stopping.is_set():
            app.tell(SERVE)
        ready = await self._outcome(app.wait_ready())
        if ready is None:
            return
        if ready:
            served_at = time.monotonic()
            self._frameworks = app.imported
            if reloads:
                self._logs.events.info("reloaded", seconds=round(served_at - self._changed_at, 2))
            self._settled()
            await self.prepare()
            if await self._outcome(_ended(app)) is None:
                return
            if time.monotonic() - served_at >= _SETTLED_SECONDS:
                code = await self._bury(app)
                self._logs.events.error(
                    "app ended", exit_code=code, reason="it crashed, and is started again"
                )
                return
        await self._fail(app)
        await self.prepare()
        await self._outcome(asyncio.Event().wait())

    async def _fail(self, app: WorkerProcess) -> None:
        """Shows why an app ended, here and to whoever asks for a page. Raises `WorkerFailedError`."""
        code = await self._bury(app)
        sentence = app.failure or f"The process of the app ended by itself, with exit code {code}."
        if self._on_settled is not None and code != ExitCode.FAILED and app.failure:
            raise WorkerFailedError(sentence, code)
        self._settled()
        on_console = self._logs.form == "console"
        details = {"details": app.details} if app.details and not on_console else {}
        self._logs.events.error("app failed", reason=sentence, **details)
        if app.details and on_console:
            self._logs.sink.write(indented(app.details))
        self._logs.events.warning("waiting for a change of the source")
        await self._page.show(sentence, app.details)

    def _settled(self) -> None:
        if self._on_settled is not None:
            call, self._on_settled = self._on_settled, None
            call()

    async def _outcome(self, event: Coroutine[Any, Any, bool]) -> bool | None:
        """What `event` comes to; None when the source changes first, or `stop` is called."""
        task = asyncio.create_task(event)
        reasons = [asyncio.create_task(reason.wait()) for reason in (self._changed, self._stopping)]
        try:
            await asyncio.wait((task, *reasons), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, *reasons):
                one.cancel()
            await asyncio.wait((task, *reasons))

    # --- Processes ------------------------------------------------------------------------

    async def _spawn(self) -> WorkerProcess:
        taken = {process.peer_id for process in self._all}
        names = (GUEST_ID if number == 1 else f"{GUEST_ID}~{number}" for number in count(1))
        peer_id = next(name for name in names if name not in taken)
        # Standard input is shared, so that a breakpoint of the app can be talked to
        process = await WorkerProcess.spawn(1, peer_id, self._command, stdin=None)
        self._all.add(process)
        return process

    async def prepare(self) -> None:
        """Has the next process ready."""
        if self._spare is None:
            try:
                self._spare = await self._spawn()
                self._spare.tell(WARM + b" " + " ".join(self._frameworks).encode())
            except OSError as error:  # no memory, no processes left: that may pass
                self._logs.events.warning("the next process was not started", reason=str(error))

    async def _take_spare(self) -> WorkerProcess:
        spare, self._spare = self._spare, None
        if spare is not None and not spare.ended:
            return spare
        if spare is not None:
            await self._bury(spare)
        return await self._spawn()

    async def _end(self, process: WorkerProcess, seconds: float) -> None:
        """Ends a process in good order; kills it when that takes too long."""
        process.tell(STOP + b" %g" % seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + _KILL_AFTER_SECONDS):
                await process.wait_ended()
        process.kill()
        await self._bury(process)

    async def _bury(self, process: WorkerProcess) -> int:
        """The exit code of a process that has ended, or is about to."""
        code = await process.wait()
        self._all.discard(process)
        if self._current is process:
            self._current = None
        return code

    async def _end_all(self, seconds: float) -> None:
        self._spare = None
        await asyncio.gather(*(self._end(process, seconds) for process in tuple(self._all)))


async def _ended(process: WorkerProcess) -> bool:
    await process.wait_ended()
    return True


def _named(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_NAMED_FILES])
    more = len(paths) - _NAMED_FILES
    return f"{names} and {more} more" if more > 0 else names

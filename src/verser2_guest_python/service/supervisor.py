"""Several workers that serve the same domains: started, watched, replaced one by one, drained together.

    SIGTERM, SIGINT   drain all; a second one ends them now
    SIGHUP            replace all, one after the other, each only when its successor is registered
    SIGTTIN, SIGTTOU  one worker more, one fewer

Worker k registers as `GUEST_ID-k`; its successor as `GUEST_ID-k~2`, the next one by the plain id again.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from verser2_guest_python.service.exit_codes import ExitCode
from verser2_guest_python.service.orphans import reap_orphans
from verser2_guest_python.service.signals import StopSignals
from verser2_guest_python.service.worker_process import WorkerProcess, WorkerState

_SUCCESSOR_SUFFIX: Final = "~2"
_EARLY_DEATH_SECONDS: Final = 10.0
"""A worker that lives shorter than this is started again with a growing delay."""
_MAX_RESTART_DELAY_SECONDS: Final = 30.0
_KILL_AFTER_SECONDS: Final = 5.0
"""How much longer than its drain a worker may take to end."""
_REAP_AGAIN_SECONDS: Final = 0.5
_FINAL_CODES: Final = frozenset(
    {ExitCode.FAILED, ExitCode.USAGE, ExitCode.TRUST, ExitCode.ALPN, ExitCode.REFUSED, ExitCode.CONFIGURATION}
)
"""What a first worker ends with when no other could do better."""


class EventLog(Protocol):
    """Where lines go: `Logs.events`."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Supervisor:
    """Keeps `count` workers running. `command` starts one; ids and sockets come by the environment."""

    def __init__(
        self, command: Sequence[str], guest_id: str, count: int, *, drain_seconds: float, log: EventLog
    ) -> None:
        self._command = tuple(command)
        self._guest_id = guest_id
        self._count = count
        self._drain_seconds = drain_seconds
        self._log = log
        self._current: dict[int, WorkerProcess] = {}
        self._all: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delays: dict[int, float] = {}
        self._rolling = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._was_ready = False
        self._exit_code: int = ExitCode.DONE

    @property
    def workers(self) -> dict[int, WorkerProcess]:
        """The workers by slot, without those that are being replaced or drained."""
        return dict(self._current)

    async def run(self) -> int:
        """Runs until told to stop, or until it is clear that no worker can ever serve; the exit code."""
        loop = asyncio.get_running_loop()
        signals = StopSignals(loop, self._drain, self._hurry)
        signals.install()
        for number, call in (
            (signal.SIGHUP, self.replace_all),
            (signal.SIGTTIN, self.add_one),
            (signal.SIGTTOU, self.remove_one),
        ):
            loop.add_signal_handler(number, self._start_unless_stopping, call)
        if os.getpid() == 1:
            loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for slot in range(1, self._count + 1):
            await self._begin(slot, self._plain_id(slot))
        await self._stopping.wait()
        await self._end_all()
        return signals.exit_code() or self._exit_code

    def _reap(self) -> None:
        """As the first process of a container. One of our own hides the orphans behind it for a moment."""
        if not reap_orphans({worker.pid for worker in self._all}):
            asyncio.get_running_loop().call_later(_REAP_AGAIN_SECONDS, self._reap)

    def _start(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs something in a task of its own, which the supervisor awaits at its end."""
        task = asyncio.get_running_loop().create_task(call())
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _start_unless_stopping(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._stopping.is_set():
            self._start(call)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("supervisor failed", reason=f"{type(error).__name__}: {error}")
            self._exit_code = ExitCode.FAILED
            self._stopping.set()

    def stop(self) -> None:
        """Drains all workers; `run` returns then."""
        self._stopping.set()

    # --- One worker -----------------------------------------------------------------------

    def _plain_id(self, slot: int) -> str:
        return f"{self._guest_id}-{slot}"

    async def _begin(self, slot: int, peer_id: str) -> WorkerProcess:
        worker = await WorkerProcess.spawn(slot, peer_id, self._command)
        self._all.add(worker)
        self._current.setdefault(slot, worker)
        self._log.info("worker started", guest_id=peer_id, worker_pid=worker.pid)
        self._start(lambda: self._watch(worker))
        self._start(lambda: self._recycle(worker))
        if self._stopping.is_set():
            worker.stop()
        return worker

    async def _watch(self, worker: WorkerProcess) -> None:
        """Until the worker has ended; starts it again when nobody had asked for that."""
        if await worker.wait_ready():
            self._was_ready = True
            self._delays.pop(worker.slot, None)
        code = await worker.wait()
        self._all.discard(worker)
        worker.worn_out.set()  # wakes `_recycle`, which sees that it is gone
        if self._current.get(worker.slot) is not worker:
            self._log.info("worker ended", guest_id=worker.peer_id, exit_code=code)
            return
        del self._current[worker.slot]
        if self._stopping.is_set():
            self._log.info("worker ended", guest_id=worker.peer_id, exit_code=code)
            return
        self._log.error("worker died", guest_id=worker.peer_id, exit_code=code)
        if not self._was_ready and code in _FINAL_CODES:
            self._exit_code = code
            self._stopping.set()
            return
        await self._restart(worker)

    async def _restart(self, dead: WorkerProcess) -> None:
        slot = dead.slot
        if dead.age_seconds < _EARLY_DEATH_SECONDS:
            delay = self._delays.get(slot, 0.0)
            self._delays[slot] = min(max(1.0, delay * 2), _MAX_RESTART_DELAY_SECONDS)
            if delay:
                try:
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
                except TimeoutError:
                    pass
        if not self._stopping.is_set() and slot <= self._count and slot not in self._current:
            await self._begin(slot, self._plain_id(slot))

    async def _recycle(self, worker: WorkerProcess) -> None:
        """Replaces a worker that has served its share of requests."""
        await worker.worn_out.wait()
        if worker.state is not WorkerState.GONE and self._current.get(worker.slot) is worker:
            async with self._rolling:
                await self._replace(worker.slot)

    async def _replace(self, slot: int) -> bool:
        """Starts a successor and, once it is registered, drains the worker; False if it does not come up."""
        old = self._current.get(slot)
        if old is None or self._stopping.is_set():
            return False
        plain = self._plain_id(slot)
        new = await self._begin(slot, plain if old.peer_id != plain else plain + _SUCCESSOR_SUFFIX)
        if not await new.wait_ready():
            self._log.error(
                "worker not replaced", guest_id=old.peer_id, reason="its successor did not register"
            )
            return False
        if self._current.get(slot) in (old, None):
            self._current[slot] = new
        self._start(lambda: self._retire(old))
        return True

    async def _retire(self, worker: WorkerProcess) -> None:
        worker.stop()
        try:
            async with asyncio.timeout(self._drain_seconds + _KILL_AFTER_SECONDS):
                while worker in self._all and worker.state is not WorkerState.GONE:
                    await worker.wait()
        except TimeoutError:
            self._log.warning(
                "worker killed", guest_id=worker.peer_id, reason="it did not end after its drain"
            )
            worker.kill()

    # --- All of them ----------------------------------------------------------------------

    async def replace_all(self) -> None:
        """One by one, the next only when the successor of the one before is registered."""
        async with self._rolling:
            for slot in sorted(self._current):
                if not await self._replace(slot):
                    return

    async def add_one(self) -> None:
        """One worker more."""
        self._count += 1
        await self._begin(self._count, self._plain_id(self._count))

    async def remove_one(self) -> None:
        """One worker fewer, the last one; the first one stays."""
        if self._count > 1:
            worker = self._current.pop(self._count, None)
            self._count -= 1
            if worker is not None:
                await self._retire(worker)

    def _drain(self, name: str) -> None:
        self._log.info("draining", reason=f"{name} received", workers=len(self._all))
        self._stopping.set()

    def _hurry(self, _name: str) -> None:
        for worker in self._all:
            worker.stop()

    async def _end_all(self) -> None:
        for worker in list(self._all):
            worker.stop()
        deadline = self._drain_seconds + _KILL_AFTER_SECONDS
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline)
        for worker in list(self._all):
            self._log.warning(
                "worker killed", guest_id=worker.peer_id, reason="it did not end after its drain"
            )
            worker.kill()
        while self._tasks:
            await asyncio.wait(self._tasks)

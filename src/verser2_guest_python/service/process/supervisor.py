"""Several workers that serve the same domains: started, watched, replaced one by one, drained together.

    SIGTERM, SIGINT   drain all; a second one ends them now
    SIGHUP            replace all, one after the other, each only when its successor is registered;
                      drain all where it says that the terminal was closed
    SIGTTIN, SIGTTOU  one worker more, one fewer

Each worker has a slot. Worker k registers as `GUEST_ID-k` (one alone as `GUEST_ID`), its successor with
`~2` behind it, the next one by the plain id again. Whoever registers last has the slot, all others in it
drain.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import count
from typing import Any, Final, Protocol

from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.process.hang_up import HangUp
from verser2_guest_python.service.process.orphans import reap_orphans
from verser2_guest_python.service.process.signals import StopSignals
from verser2_guest_python.service.process.worker_process import WorkerProcess, WorkerState

_EARLY_DEATH_SECONDS: Final = 10.0
"""A worker that lives shorter than this is started again with a growing delay."""
_FIRST_RESTART_DELAY_SECONDS: Final = 1.0
_MAX_RESTART_DELAY_SECONDS: Final = 30.0
_KILL_AFTER_SECONDS: Final = 5.0
"""How much longer than its drain a worker may take to end."""
_HURRY_SECONDS: Final = 1.0
"""For workers to end after the second signal; less than `StopSignals` leaves us."""
_REAP_AGAIN_SECONDS: Final = 0.5
_FINAL_CODES: Final = frozenset(
    {
        ExitCode.FAILED,
        ExitCode.USAGE,
        ExitCode.UNREACHABLE,  # only with --exit-on-connect-failure
        ExitCode.TIMEOUT,
        ExitCode.TRUST,
        ExitCode.ALPN,
        ExitCode.REFUSED,
        ExitCode.CONFIGURATION,
    }
)
"""What a first worker ends with when no other could do better."""
_APP_CODES: Final = frozenset({ExitCode.FAILED, ExitCode.CONFIGURATION})
"""What a worker ends with whose app does not start: it may, after a change."""


class EventLog(Protocol):
    """Where lines go: `Logs.events`."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Supervisor:
    """Keeps `size` workers running. `command` starts one; ids and sockets come by the environment.

    With `patient`, a worker whose app does not start is started again by `reload`, and by nothing else:
    somebody is working on the app.

    Attributes:
        on_worker_started, on_worker_ended: called with each worker that was started, or has ended.
        on_settled: called whenever a worker has registered, or has failed to at first.
        on_reload: called with True when `reload_in_turn` begins, with False at its end.
        on_stopping: called when a signal asks for the end.
        failure: why `run` came to an end without being told to, in one sentence; else "".
    """

    def __init__(
        self,
        command: Sequence[str],
        guest_id: str,
        size: int,
        *,
        drain_seconds: float,
        log: EventLog,
        patient: bool = False,
        last_words: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = tuple(command)
        self._guest_id = guest_id
        self._size = size
        self._began_alone = size == 1
        self._drain_seconds = drain_seconds
        self._log = log
        self._patient = patient
        self._last_words = last_words
        self._current: dict[int, WorkerProcess] = {}
        self._all: set[WorkerProcess] = set()
        self._spawning = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._delays: dict[int, float] = {}
        self._rolling = asyncio.Lock()
        self._roll_waits = False
        self._stopping = asyncio.Event()
        self._was_ready = False
        self._exit_code: int = ExitCode.DONE
        self.failure = ""
        self.on_worker_started: Callable[[WorkerProcess], None] = _ignore
        self.on_worker_ended: Callable[[WorkerProcess], None] = _ignore
        self.on_settled: Callable[[], None] = _nothing
        self.on_reload: Callable[[bool], None] = _ignore
        self.on_stopping: Callable[[], None] = _nothing

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    @property
    def all_workers(self) -> tuple[WorkerProcess, ...]:
        """All that have not ended, also those that are being replaced or drained."""
        return tuple(self._all)

    @property
    def workers(self) -> dict[int, WorkerProcess]:
        """The workers by slot, without those that are being replaced or drained."""
        return dict(self._current)

    async def run(self) -> int:
        """Runs until told to stop, or until it is clear that no worker can ever serve; the exit code."""
        loop = asyncio.get_running_loop()
        signals = StopSignals(loop, self._drain, self._hurry, last_words=self._last_words)
        signals.install()
        HangUp(loop, signals).install(self.reload_in_turn)
        for number, call in (
            (signal.SIGTTIN, self.add_one),
            (signal.SIGTTOU, self.remove_one),
        ):
            loop.add_signal_handler(number, self._start_unless_stopping, call)
        if os.getpid() == 1:
            loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for slot in range(1, self._size + 1):
            if not self._stopping.is_set():
                await self._begin(slot)
        await self._stopping.wait()
        await self._end_all()
        return signals.exit_code() or self._exit_code

    def stop(self) -> None:
        """Drains all workers; `run` returns then."""
        self._stopping.set()

    def _reap(self) -> None:
        """As the first process of a container. One of our own hides the orphans behind it for a moment."""
        if self._spawning or not reap_orphans({worker.pid for worker in self._all}):
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

    # --- One worker -----------------------------------------------------------------------

    async def _begin(self, slot: int) -> WorkerProcess:
        peer_id = self._free_id(slot)
        self._spawning += 1
        try:
            worker = await WorkerProcess.spawn(slot, peer_id, self._command)
            self._all.add(worker)
            worker.on_settled = self.on_settled
            self.on_worker_started(worker)
        finally:
            self._spawning -= 1
        if slot <= self._size:
            self._current.setdefault(slot, worker)
        self._log.info("worker started", guest_id=peer_id, worker_pid=worker.pid)
        self._start(lambda: self._watch(worker))
        self._start(lambda: self._recycle(worker))
        if self._stopping.is_set():
            self._retire(worker)
        return worker

    def _free_id(self, slot: int) -> str:
        """The first of `ID-k`, `ID-k~2`, `ID-k~3`, … that no worker of this slot may be registered as."""
        plain = self._guest_id if self._began_alone and slot == 1 else f"{self._guest_id}-{slot}"
        taken = {peer_id for worker in self._all if worker.slot == slot for peer_id in worker.peer_ids}
        candidates = (plain if number == 1 else f"{plain}~{number}" for number in count(1))
        return next(peer_id for peer_id in candidates if peer_id not in taken)

    async def _watch(self, worker: WorkerProcess) -> None:
        """Until the worker has ended; starts it again when nobody had asked for that."""
        if await worker.wait_ready():
            self._was_ready = True
        code = await worker.wait()
        self._all.discard(worker)
        self.on_worker_ended(worker)
        worker.worn_out.set()  # wakes `_recycle`, which sees that it is gone
        is_current = self._current.get(worker.slot) is worker
        if is_current:
            del self._current[worker.slot]
        if not is_current or self._stopping.is_set():
            self._log.info("worker ended", guest_id=worker.peer_id, exit_code=code)
            return
        reason = {"reason": worker.failure} if worker.failure else {}
        waits = self._patient and code in _APP_CODES
        if code in _FINAL_CODES and not self._was_ready and not waits:
            self._exit_code, self.failure = code, worker.failure
            self._stopping.set()
            return
        self._log.error("worker died", guest_id=worker.peer_id, exit_code=code, **reason)
        if waits:
            self._log.warning("waiting for a change of the source", guest_id=worker.peer_id)
        else:
            await self._restart(worker)

    async def _restart(self, dead: WorkerProcess) -> None:
        """Starts the slot anew: at once, and with a growing delay if it dies early again and again."""
        slot = dead.slot
        delay = 0.0
        if dead.age_seconds < _EARLY_DEATH_SECONDS:
            delay = self._delays.get(slot, 0.0)
        self._delays[slot] = min(max(_FIRST_RESTART_DELAY_SECONDS, delay * 2), _MAX_RESTART_DELAY_SECONDS)
        while not await self._stops_within(delay) and slot <= self._size and slot not in self._current:
            try:
                await self._begin(slot)
                return
            except OSError as error:  # no memory, no processes left: that may pass
                self._log.error("worker not started", reason=str(error))
                delay = self._delays[slot] = _MAX_RESTART_DELAY_SECONDS

    async def _stops_within(self, seconds: float) -> bool:
        """Waits so long, or until the supervisor stops; whether it does."""
        if seconds:
            await _within(seconds, self._stopping.wait())
        return self._stopping.is_set()

    async def _recycle(self, worker: WorkerProcess) -> None:
        """Replaces a worker that has served its share of requests."""
        await worker.worn_out.wait()
        while worker.state is not WorkerState.GONE and self._current.get(worker.slot) is worker:
            async with self._rolling:
                if self._current.get(worker.slot) is not worker or await self._replace(worker.slot):
                    return
            if await self._stops_within(_MAX_RESTART_DELAY_SECONDS):
                return

    async def _replace(self, slot: int) -> bool:
        """Starts a successor and, once it is registered, drains whoever had the slot; False if it fails."""
        if self._stopping.is_set():
            return False
        new = await self._begin(slot)
        if not await new.wait_ready():
            if slot in self._current and not new.was_stopped:
                reason = new.failure or "the new one ended before it was registered"
                self._log.error("worker not replaced", guest_id=self._current[slot].peer_id, reason=reason)
            return False
        if slot <= self._size:
            self._current[slot] = new
        for worker in [one for one in self._all if one.slot == slot and self._current.get(slot) is not one]:
            self._retire(worker)
        return True

    def _retire(self, worker: WorkerProcess) -> None:
        """Drains a worker that has no slot any more; kills it when that takes too long."""
        if worker.state not in (WorkerState.STOPPING, WorkerState.GONE):
            worker.stop()
            self._start(lambda: self._kill_late(worker))

    async def _kill_late(self, worker: WorkerProcess) -> None:
        if not await _within(self._drain_seconds + _KILL_AFTER_SECONDS, worker.wait_ended()):
            self._kill(worker)

    def _kill(self, worker: WorkerProcess) -> None:
        self._log.warning("worker killed", guest_id=worker.peer_id, reason="it did not end after its drain")
        worker.kill()

    # --- All of them ----------------------------------------------------------------------

    async def replace_all(self) -> None:
        """One by one, the next only when the successor of the one before is registered.

        A call during another one replaces all once more, after it; further calls do nothing more.
        """
        if self._roll_waits:
            return
        self._roll_waits = True
        async with self._rolling:
            self._roll_waits = False
            for slot in range(1, self._size + 1):
                if slot <= self._size and not await self._replace(slot):
                    return

    def reload_in_turn(self) -> None:
        """SIGHUP: replaces all, one by one."""
        self._start_unless_stopping(self._reload_in_turn)

    async def _reload_in_turn(self) -> None:
        self.on_reload(True)
        await self.replace_all()
        self.on_reload(False)

    def reload(self) -> None:
        """Replaces all; successors of an earlier call that are not registered yet are given up."""
        for worker in self._all:
            if worker.state is WorkerState.STARTING and self._current.get(worker.slot) is not worker:
                self._retire(worker)
        self._start_unless_stopping(self.replace_all)

    async def add_one(self) -> None:
        """One worker more."""
        self._size += 1
        await self._begin(self._size)

    async def remove_one(self) -> None:
        """One worker fewer, the last one; the first one stays."""
        if self._size > 1:
            slot, self._size = self._size, self._size - 1
            self._current.pop(slot, None)
            for worker in [one for one in self._all if one.slot == slot]:
                self._retire(worker)

    def _drain(self, reason: str) -> None:
        self._log.info("draining", reason=reason, workers=len(self._all))
        self._stopping.set()
        self.on_stopping()

    def _hurry(self, _reason: str) -> None:
        for worker in self._all:
            worker.stop()
        asyncio.get_running_loop().call_later(_HURRY_SECONDS, self._kill_all)

    def _kill_all(self) -> None:
        for worker in self._all:
            worker.kill()

    async def _end_all(self) -> None:
        for worker in self._all:
            self._retire(worker)
        while self._tasks:
            await asyncio.wait(self._tasks)


def _ignore(_what: object) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """Nobody wants to know."""


async def _within(seconds: float, event: Awaitable[object]) -> bool:
    """Whether something came to pass in this time."""
    try:
        async with asyncio.timeout(seconds):
            await event
    except TimeoutError:
        return False
    return True

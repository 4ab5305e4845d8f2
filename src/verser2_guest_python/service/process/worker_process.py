"""One worker as its supervisor sees it: a process of its own, and a socket between the two.

The worker says `registered ID`, `trying` (its first attempt has failed), `worn-out`, `imported NAMES`,
`details JSON` and `failed SENTENCE` on the socket, a line each, and `report JSON` when it is asked to
`report`; what else it is told there is the business of who started it. That it ends tells either side that
the other is gone. Workers are spawned, never forked: they share nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final

WORKER_ID_VARIABLE: Final = "VERSER_WORKER_ID"
WORKER_SOCKET_VARIABLE: Final = "VERSER_WORKER_SOCKET"
WORKER_REPORTS_VARIABLE: Final = "VERSER_WORKER_REPORTS"

REGISTERED: Final = b"registered"
TRYING: Final = b"trying"
WORN_OUT: Final = b"worn-out"
FAILED: Final = b"failed"
REPORT: Final = b"report"
_MAX_LINE_BYTES: Final = 1 << 20
DETAILS: Final = b"details"
IMPORTED: Final = b"imported"
_LAST_WORDS_SECONDS: Final = 1.0
"""For what a worker said before it ended to arrive; a child of its own may keep the socket open for ever."""

BLOCKED_AT_START: Final = frozenset({signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)})
"""What a terminal sends to all its processes: kept from a worker until it can ignore them itself.

Windows has no SIGHUP, and no workers; this module has to load there all the same.
"""


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "registered at the Host"
    STOPPING = "told to drain"
    GONE = "ended"


class WorkerProcess:
    """A worker that was started; `spawn` makes one.

    Attributes:
        slot: which of the workers it is, from 1.
        peer_id: the id that it registers as.
        peer_ids: all the ids that it may be registered as: a handover of its own takes another.
        failure: why it failed, as it told itself; "" if it did not.
        details: what it said of that beside the sentence: the app's traceback.
        imported: modules that its app has imported and that its successor may import beforehand.
        was_stopped: it was told to drain, so that its end is no surprise.
        report: what it told of itself last: `metrics` and `status`; empty before.
        on_settled: called when it has registered, or has failed to at first.
        worn_out: set when it has served `limit_max_requests`, and wants to be replaced.
    """

    def __init__(
        self, slot: int, peer_id: str, process: asyncio.subprocess.Process, sock: socket.socket
    ) -> None:
        self.slot = slot
        self.peer_id = peer_id
        self.peer_ids = {peer_id}
        self.failure = ""
        self.details = ""
        self.imported: tuple[str, ...] = ()
        self.was_stopped = False
        self.report: dict[str, Any] = {}
        self.state = WorkerState.STARTING
        self.started_at = time.monotonic()
        self.worn_out = asyncio.Event()
        self.on_settled: Callable[[], None] = _nothing
        self._process = process
        self._socket = sock
        self._ready = asyncio.Event()
        self._reported = asyncio.Event()
        self._report_asked = False
        self._listening = asyncio.get_running_loop().create_task(
            self._listen(), name=f"worker {peer_id}: socket"
        )

    @classmethod
    async def spawn(
        cls, slot: int, peer_id: str, command: Sequence[str], *, stdin: int | None = subprocess.DEVNULL
    ) -> WorkerProcess:
        """Starts a worker; it has the environment of this process, and its own id. `stdin` None is ours."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            environment = {
                **os.environ,
                WORKER_ID_VARIABLE: peer_id,
                WORKER_SOCKET_VARIABLE: str(theirs.fileno()),
            }
            signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_AT_START)  # inherited
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, pass_fds=(theirs.fileno(),), stdin=stdin
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
            theirs.close()
        return cls(slot, peer_id, process, ours)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended; `wait` says how."""
        return self._process.returncode is not None

    @property
    def age_seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self.started_at

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = b""
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._socket, 4_096):
                *lines, waiting = (waiting + data).split(b"\n")
                for line in lines:
                    self._hear(line)
                if len(waiting) > _MAX_LINE_BYTES:
                    waiting = b""  # no report is that long

    def _hear(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        text = rest.decode("utf-8", "replace")
        if word == REGISTERED:
            self.peer_ids.add(text or self.peer_id)
            if self.state is WorkerState.STARTING:
                self.state = WorkerState.READY
            self._ready.set()
            self.on_settled()
        elif word == TRYING:
            self.on_settled()
        elif word == WORN_OUT:
            self.worn_out.set()
        elif word == FAILED:
            self.failure = text
        elif word == IMPORTED:
            self.imported = tuple(text.split())
        elif word == DETAILS:
            with suppress(ValueError):
                self.details = str(json.loads(text))
        elif word == REPORT:
            self._report_asked = False
            with suppress(ValueError):
                self.report = json.loads(rest)
            self._reported.set()

    async def ask_report(self, seconds: float) -> bool:
        """Asks for a new `report`; False when none comes in time, as from a worker whose loop is blocked."""
        self._reported.clear()
        if not self._report_asked:  # one that is blocked finds one question when it looks up, not a hundred
            try:
                self._socket.send(REPORT + b"\n")
            except OSError:
                return False
            self._report_asked = True
        try:
            async with asyncio.timeout(seconds):
                await self._reported.wait()
        except TimeoutError:
            return False
        return True

    async def wait_ready(self) -> bool:
        """Until it has registered, or has ended: whether it is ready, and was not told to stop meanwhile."""
        ready = asyncio.ensure_future(self._ready.wait())
        gone = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((ready, gone), return_when=asyncio.FIRST_COMPLETED)
            return self.state is WorkerState.READY
        finally:
            ready.cancel()
            gone.cancel()

    def tell(self, line: bytes) -> None:
        """Says a short line to it; one that is gone, or hears nothing, is told nothing."""
        with suppress(OSError):
            self._socket.send(line + b"\n")

    def stop(self) -> None:
        """Tells it to drain; told twice, it ends at once."""
        self.was_stopped = True
        if self.state is not WorkerState.GONE:
            self.state = WorkerState.STOPPING
            self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without a goodbye."""
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def wait_ended(self) -> None:
        """Until the process has ended; for whoever does not own it."""
        await self._process.wait()

    async def wait(self) -> int:
        """Until it has ended: its exit code, 128 and the number of the signal that ended it."""
        code = await self._process.wait()
        self.state = WorkerState.GONE
        await asyncio.wait((self._listening,), timeout=_LAST_WORDS_SECONDS)
        self._listening.cancel()
        await asyncio.wait((self._listening,))
        self._socket.close()
        return code if code >= 0 else 128 - code


def _nothing() -> None:
    """Nobody wants to know."""

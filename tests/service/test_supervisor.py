"""The supervisor with real processes: small scripts that behave like workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from verser2_guest_python.service.process.supervisor import Supervisor
from verser2_guest_python.service.process.worker_process import WorkerState

SCRIPT = """
import os, signal, socket, sys, time, pathlib
log = pathlib.Path(sys.argv[1])
behaviour = sys.argv[2]
me = os.environ["VERSER_WORKER_ID"]
def say(text):
    with log.open("a") as file:
        file.write(f"{me} {text}\\n")
sock = socket.socket(fileno=int(os.environ["VERSER_WORKER_SOCKET"]))
signal.signal(signal.SIGINT, signal.SIG_IGN)
def stop(*_):
    say("drained")
    if behaviour == "leaves-a-child" and os.fork() == 0:
        while not log.with_name("go").exists():
            time.sleep(0.01)
    os._exit(0)
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, lambda *_: say("ignored"))
else:
    signal.signal(signal.SIGTERM, stop)
if behaviour == "broken" or (behaviour == "second-broken" and me.endswith("~2")):
    sock.send(b"failed the app is broken\\n")
    sys.exit(78)
if behaviour == "second-hangs" and me.endswith("~2"):
    say("hangs")
    while not log.with_name("go").exists():
        time.sleep(0.01)
say(f"registered {os.getpid()}")
ids = [me, me + "~2"] if behaviour == "moves" else [me]
sock.send("".join(f"registered {one}\\n" for one in ids).encode())
if behaviour == "worn" and log.read_text().count("registered") == 1:
    sock.send(b"worn-out\\n")
while data := sock.recv(64):
    if b"report" in data:
        sock.send(b'report {"metrics": {"requests_total": [[["GET", "2xx"], 5]]}}\\n')
say("orphaned")
"""


class Lines:
    """An event log that can be waited for."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))
        self._news.set()

    warning = error = info

    async def wait(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        while len(found := [fields for name, fields in self.lines if name == event]) < count:
            self._news.clear()
            await self._news.wait()
        return found


class Stage:
    """A supervisor that runs, what its workers wrote, and its exit code."""

    def __init__(
        self, directory: Path, behaviour: str, count: int, drain_seconds: float, patient: bool
    ) -> None:
        script = directory / "worker.py"
        script.write_text(SCRIPT)
        self.journal = directory / "journal"
        self.journal.touch()
        self.log = Lines()
        self.supervisor = Supervisor(
            (sys.executable, "-I", str(script), str(self.journal), behaviour),
            "guest",
            count,
            drain_seconds=drain_seconds,
            log=self.log,
            patient=patient,
        )
        self.running = asyncio.ensure_future(self.supervisor.run())

    async def said(self, line: str, count: int = 1) -> list[str]:
        """The journal once it holds `count` lines that begin like this."""
        while True:
            lines = self.journal.read_text().splitlines()
            if sum(one.startswith(line) for one in lines) >= count:
                return lines
            await asyncio.sleep(0.01)

    async def ready(self, *ids: str) -> None:
        """Until these workers, and no others, are registered."""
        while True:
            workers = self.supervisor.workers.values()
            if {one.peer_id for one in workers if one.state is WorkerState.READY} == set(ids):
                return
            await asyncio.sleep(0.01)

    async def stop(self) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return await self.running


@asynccontextmanager
async def stage(
    directory: Path,
    behaviour: str = "good",
    count: int = 2,
    drain_seconds: float = 30.0,
    *,
    patient: bool = False,
) -> AsyncIterator[Stage]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    running = Stage(directory, behaviour, count, drain_seconds, patient)
    try:
        yield running
    finally:
        if not running.running.done():
            running.supervisor.stop()
            await running.running
        for number, handler in before.items():
            signal.signal(number, handler)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            loop.remove_signal_handler(number)


async def test_workers_register_by_number_and_drain_together(tmp_path: Path) -> None:
    async with stage(tmp_path, count=3) as running:
        await running.ready("guest-1", "guest-2", "guest-3")
        assert await running.stop() == 0
        lines = running.journal.read_text().splitlines()
    assert sorted(line for line in lines if line.endswith("drained")) == [
        "guest-1 drained",
        "guest-2 drained",
        "guest-3 drained",
    ]


async def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as running:
        await running.ready("guest-1", "guest-2")
        first = running.supervisor.workers[1].pid
        os.kill(first, signal.SIGKILL)
        (died,) = await running.log.wait("worker died")
        assert died["exit_code"] == 128 + signal.SIGKILL
        await running.said("guest-1 registered", 2)
        await running.ready("guest-1", "guest-2")
        assert running.supervisor.workers[1].pid != first
        assert await running.stop() == 0


async def test_hangup_replaces_one_by_one_and_names_alternate(tmp_path: Path) -> None:
    async with stage(tmp_path) as running:
        await running.ready("guest-1", "guest-2")
        os.kill(os.getpid(), signal.SIGHUP)
        await running.ready("guest-1~2", "guest-2~2")
        lines = await running.said("guest-2 drained")
        order = [line.split(" ")[0] + " " + line.split(" ")[1] for line in lines]
        assert order.index("guest-1~2 registered") < order.index("guest-1 drained")
        assert order.index("guest-1~2 registered") < order.index("guest-2~2 registered")
        await running.log.wait("worker ended", 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await running.ready("guest-1", "guest-2")
        assert await running.stop() == 0


async def test_a_successor_that_does_not_come_up_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async with stage(tmp_path, "second-broken") as running:
        await running.ready("guest-1", "guest-2")
        os.kill(os.getpid(), signal.SIGHUP)
        await running.log.wait("worker not replaced")
        await running.ready("guest-1", "guest-2")
        assert "drained" not in running.journal.read_text()
        assert await running.stop() == 0


async def test_one_more_and_one_fewer(tmp_path: Path) -> None:
    async with stage(tmp_path, count=1) as running:
        await running.ready("guest")
        os.kill(os.getpid(), signal.SIGTTIN)
        await running.ready("guest", "guest-2")
        os.kill(os.getpid(), signal.SIGTTOU)
        await running.said("guest-2 drained")
        await running.ready("guest")
        os.kill(os.getpid(), signal.SIGTTOU)  # the last one stays
        assert await running.stop() == 0


async def test_a_worker_that_has_served_enough_is_replaced(tmp_path: Path) -> None:
    async with stage(tmp_path, "worn", count=1) as running:
        await running.said("guest drained")
        await running.ready("guest~2")
        assert await running.stop() == 0


async def test_what_can_never_work_ends_with_its_code_and_its_reason(tmp_path: Path) -> None:
    async with stage(tmp_path, "broken") as running:
        assert await running.running == 78
        assert running.supervisor.failure == "the app is broken"


async def test_who_registers_last_has_the_slot(tmp_path: Path) -> None:
    """The old one dies while its successor is on its way, and another is started in its place."""
    async with stage(tmp_path, "second-hangs", count=1) as running:
        await running.ready("guest")
        os.kill(os.getpid(), signal.SIGHUP)
        await running.said("guest~2 hangs")
        os.kill(running.supervisor.workers[1].pid, signal.SIGKILL)
        await running.said("guest registered", 2)
        await running.ready("guest")
        (tmp_path / "go").touch()
        await running.ready("guest~2")
        await running.said("guest drained")
        assert await running.stop() == 0


async def test_a_slot_that_is_taken_away_while_its_successor_is_on_its_way(tmp_path: Path) -> None:
    async with stage(tmp_path, "second-hangs", count=1) as running:
        await running.ready("guest")
        await running.supervisor.add_one()
        await running.ready("guest", "guest-2")
        (tmp_path / "go").touch()
        os.kill(os.getpid(), signal.SIGHUP)
        await running.said("guest~2 registered")
        (tmp_path / "go").unlink()
        await running.said("guest-2~2 hangs")
        os.kill(os.getpid(), signal.SIGTTOU)
        await running.log.wait("worker ended", 3)  # guest, guest-2, guest-2~2
        await running.ready("guest~2")
        assert await running.stop() == 0


async def test_a_successor_takes_no_id_that_a_handover_has_taken(tmp_path: Path) -> None:
    async with stage(tmp_path, "moves", count=1) as running:
        await running.ready("guest")
        os.kill(os.getpid(), signal.SIGHUP)
        await running.ready("guest~3")
        await running.log.wait("worker ended")
        os.kill(os.getpid(), signal.SIGHUP)
        await running.said("guest~3 drained")
        await running.ready("guest")
        assert await running.stop() == 0


async def test_who_works_on_the_app_is_waited_for(tmp_path: Path) -> None:
    async with stage(tmp_path, "broken", count=1, patient=True) as running:
        (died,) = await running.log.wait("worker died")
        assert died["reason"] == "the app is broken"
        await running.log.wait("waiting for a change of the source")
        running.supervisor.reload()
        await running.log.wait("worker died", 2)
        assert await running.stop() == 0


async def test_a_worker_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("verser2_guest_python.service.process.supervisor._KILL_AFTER_SECONDS", 0.2)
    async with stage(tmp_path, "stubborn", count=1, drain_seconds=0.1) as running:
        await running.ready("guest")
        await running.stop()
        assert [fields["guest_id"] for fields in await running.log.wait("worker killed")] == ["guest"]

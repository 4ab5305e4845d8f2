"""Several workers as processes: `verser2-guest APP --workers N` behind a Host, from start to end."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, Running, fails
from tests.service.conftest import Place, registered
from tests.support.steady_load import SteadyLoad
from tests.support.waiting import until
from verser2_guest_python import DisconnectedTargetError, StreamFailureError, VerserBroker, VerserError

RATE = 100.0
SLOW_SECONDS = 1.0


@asynccontextmanager
async def workers(place: Place, *more: str, **env: str) -> AsyncIterator[tuple[Running, VerserBroker]]:
    """Two workers, registered as team-1 and team-2 for team.test, and a Broker."""
    with place.guest("team", "--workers", "2", *more, **env) as process:
        await registered(process, "team-1", "team-2")
        async with place.broker() as broker:
            await broker.wait_for_route("team.test")
            yield process, broker


def pid_of(process: Running, peer_id: str) -> int:
    found = re.search(r'"worker_pid":(\d+)', process.says('"worker started"', f'"{peer_id}"'))
    assert found is not None
    return int(found[1])


def is_there(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for its parent to notice."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def slow_requests(
    broker: VerserBroker, place: Place, count: int, seconds: float
) -> list[asyncio.Task[bytes]]:
    """So many requests that the apps have begun with."""

    async def ask() -> bytes:
        response = await broker.get(f"http://team.test/slow?{seconds}")
        return await response.read()

    tasks = [asyncio.ensure_future(ask()) for _ in range(count)]
    await until(lambda: place.count("slow began") == count)
    return tasks


async def ended(process: Running) -> int:
    return await asyncio.to_thread(process.wait)


async def test_a_worker_that_is_killed_comes_back_and_their_number_can_be_changed(place: Place) -> None:
    async with workers(place) as (process, broker):
        assert {route.target_id for route in broker.get_routes() if route.domain == "team.test"} == {
            "team-1",
            "team-2",
        }
        os.kill(pid_of(process, "team-1"), signal.SIGKILL)
        await registered(process, "team-1", times=2)
        assert process.count('"worker died"', '"exit_code":137') == 1
        process.send(signal.SIGTTIN)
        await registered(process, "team-3")
        process.send(signal.SIGTTOU)
        await until(lambda: process.count('"worker ended"', '"team-3"', '"exit_code":0') == 1)
        process.send(signal.SIGTERM)
        assert await ended(process) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_all(place: Place, number: signal.Signals) -> None:
    """SIGINT goes to all of them, as a terminal sends it."""
    arguments = [*COMMAND, *place.arguments("team", "--workers", "2")]
    with Running(arguments, env=place.env(), own_group=True) as process:
        await registered(process, "team-1", "team-2")
        async with place.broker() as broker:
            await broker.wait_for_route("team.test")
            answers = await slow_requests(broker, place, 4, SLOW_SECONDS)
            pids = {line.split()[-1] for line in place.journal.read_text().splitlines()}
            assert len(pids) == 2, "both have requests in hand"
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send(number)
            assert await asyncio.gather(*answers) == [b"slow"] * 4
        assert await ended(process) == 0
        assert process.count('"event":"draining"', f'"{number.name} received"', '"guest_id"') == (
            2 if number == signal.SIGTERM else 0
        )
        assert process.count('"event":"stopped"', '"exit_code":0') == 3


async def test_hangup_replaces_them_without_a_lost_request(place: Place) -> None:
    async with workers(place) as (process, broker):
        async with SteadyLoad(broker, "team.test", rate=RATE) as load:
            await load.more(20)
            process.send(signal.SIGHUP)
            await registered(process, "team-1~2", "team-2~2")
            await until(lambda: process.count('"worker ended"') == 2)  # their names are free again
            process.send(signal.SIGHUP)
            await registered(process, "team-1", "team-2", times=2)
            await until(lambda: process.count('"worker ended"') == 4)
            await load.more(20)
        load.check(place.journal)
        process.send(signal.SIGTERM)
        assert await ended(process) == 0


async def test_a_worker_that_has_served_enough_is_replaced_without_a_lost_request(place: Place) -> None:
    limits = ("--limit-max-requests", "20", "--limit-max-requests-jitter", "10")
    async with workers(place, *limits) as (process, broker):
        async with SteadyLoad(broker, "team.test", rate=RATE) as load:
            await registered(process, "team-1~2", "team-2~2")
            await until(lambda: process.count('"worker ended"', '"exit_code":0') >= 2)
            await load.more(5)
        load.check(place.journal)
        process.send(signal.SIGTERM)
        assert await ended(process) == 0


async def test_alone_it_ends_when_it_has_served_enough(place: Place) -> None:
    with place.guest("alone", "--limit-max-requests", "3") as process:
        await registered(process, "alone")
        async with place.broker() as broker:
            await broker.wait_for_route("alone.test")
            for number in range(3):
                assert await (await broker.get(f"http://alone.test/?{number}")).read() == b"%d" % number
        assert await ended(process) == 0
        process.says('"draining"', "--limit-max-requests")


async def test_hangup_alone_moves_to_a_new_session_without_a_lost_request(place: Place) -> None:
    with place.guest("alone") as process:
        await registered(process, "alone")
        async with place.broker() as broker:
            await broker.wait_for_route("alone.test")
            async with SteadyLoad(broker, "alone.test", rate=RATE) as load:
                await load.more(10)
                process.send(signal.SIGHUP)
                await registered(process, "alone~2")
                await load.more(20)
                process.send(signal.SIGHUP)
                await registered(process, "alone", times=2)
                await load.more(10)
            load.check(place.journal)
        assert len({line.split()[-1] for line in place.journal.read_text().splitlines()}) == 1
        process.send(signal.SIGTERM)
        assert await ended(process) == 0


async def test_workers_whose_supervisor_is_gone_finish_and_end(place: Place) -> None:
    async with workers(place) as (process, broker):
        pids = [pid_of(process, "team-1"), pid_of(process, "team-2")]
        answers = await slow_requests(broker, place, 4, SLOW_SECONDS)
        process.send(signal.SIGKILL)
        assert await asyncio.gather(*answers) == [b"slow"] * 4
        await until(lambda: not any(map(is_there, pids)))
        await ended(process)
        assert process.count('"draining"', "the supervisor is gone") == 2
        assert process.count('"stopped"', '"exit_code":0') == 2


async def test_the_second_signal_ends_all_at_once(place: Place) -> None:
    async with workers(place) as (process, broker):
        pids = [pid_of(process, "team-1"), pid_of(process, "team-2")]
        answers = await slow_requests(broker, place, 4, 600.0)
        process.send(signal.SIGTERM)
        await until(lambda: process.count('"draining"') == 3)
        process.send(signal.SIGTERM)
        assert await ended(process) == 143
        assert not any(map(is_there, pids))
        errors = await asyncio.gather(*answers, return_exceptions=True)
        assert all(isinstance(error, StreamFailureError | DisconnectedTargetError) for error in errors)
        assert "Traceback" not in process.transcript()


def test_what_no_worker_can_do_is_told_once(place: Place) -> None:
    nowhere = ("nowhere:app", *place.arguments("team", "--workers", "2", "--log-format", "console")[1:])
    said = fails(78, "nowhere", arguments=nowhere)
    assert said.count("there is no module") == 1
    wrong_file = place.arguments("team", "--workers", "3", "--tls-ca-file", "missing.pem")
    assert "worker" not in fails(78, "missing.pem", arguments=wrong_file)


async def test_an_app_that_holds_up_its_loop_cannot_hold_up_the_end(place: Place) -> None:
    async with workers(place) as (process, broker):
        pids = [pid_of(process, "team-1"), pid_of(process, "team-2")]
        asked = asyncio.ensure_future(broker.get("http://team.test/block"))
        await until(lambda: place.count("blocked") == 1)
        process.send(signal.SIGTERM)
        await until(lambda: process.count('"draining"', '"workers":2') == 1)
        process.send(signal.SIGTERM)
        assert await ended(process) == 143
        assert not any(map(is_there, pids))
        with pytest.raises(VerserError):
            await asked


async def test_web_concurrency_counts_and_each_line_says_whose_it_is(place: Place) -> None:
    with place.guest("team", "--access-log", WEB_CONCURRENCY="2") as process:
        await registered(process, "team-1", "team-2")
        async with place.broker() as broker:
            await broker.wait_for_route("team.test")
            assert await (await broker.get("http://team.test/?1")).read() == b"1"
            process.says('"event":"request"', '"guest_id":"team-')
        process.send(signal.SIGTERM)
        assert await ended(process) == 0
        of_workers = [line for line in process.stderr if '"guest_id":"team-' in line]
        of_the_supervisor = [line for line in process.stderr if line not in of_workers]
        assert [re.sub(r'.*"event":"([^"]+)".*', r"\1", line) for line in of_the_supervisor] == [
            "supervising",
            "draining",
            "stopped",
        ]


def namespaces_are_permitted() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "true"], capture_output=True).returncode
        == 0
    )


@pytest.mark.skipif(
    not namespaces_are_permitted(), reason="needs the right to make a namespace (unshare --pid --fork)"
)
async def test_as_the_first_process_of_a_container_it_reaps_orphans(place: Place) -> None:
    arguments = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        *COMMAND,
        *place.arguments("team", "--workers", "2"),
    ]
    with Running(arguments, env=place.env()) as process:
        await registered(process, "team-1", "team-2")
        assert '"pid":1' in process.says('"supervising"')
        supervisor = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        async with place.broker() as broker:
            await broker.wait_for_route("team.test")
            for _ in range(4):
                orphan = int(await (await broker.get("http://team.test/orphan")).read())
                await until(lambda pid=orphan: pid not in pids_inside(supervisor))  # type: ignore[misc]
        os.kill(supervisor, signal.SIGTERM)
        assert await ended(process) == 0


def pids_inside(first: int) -> set[int]:
    """The processes in the namespace of this one, dead ones too, by the numbers that they have there."""
    inside = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parent = re.search(r"^PPid:\t(\d+)", text, re.MULTILINE)
        numbers = re.search(r"^NSpid:\t(.+)", text, re.MULTILINE)
        if parent and numbers and int(parent[1]) == first:
            inside.add(int(numbers[1].split()[-1]))
    return inside

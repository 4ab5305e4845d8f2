"""Health checks of real processes: a Guest alone and one with workers, asked on port and socket."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.processes import Running, run, start
from tests.service.asking import get, metrics, status
from tests.service.conftest import APPS, Place, registered
from tests.service.test_serving_options import closed_port
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import VerserError


async def until_answers(where: Path | tuple[str, int], path: str, code: int) -> str:
    """Until this is answered: the sentence."""
    while (found := await get(where, path))[0] != code:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)
    return found[1].strip()


def port_of(process: Running) -> tuple[str, int]:
    found = re.search(r'"address":"127.0.0.1:(\d+)"', process.says('"health"', "127.0.0.1"))
    assert found is not None
    return "127.0.0.1", int(found[1])


async def end_twice(process: Running) -> None:
    """Ends it while its app still has a request in hand."""
    process.send(signal.SIGTERM)
    process.says('"draining"')
    process.send(signal.SIGTERM)
    assert process.wait() == 143


async def test_a_guest_answers_on_port_and_socket(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with place.guest("well", "--health-listen", "127.0.0.1:0", "--health-socket", path) as process:
        await registered(process, "well")
        port = port_of(process)
        assert await get(port, "/livez") == (200, "live: the event loop turns\n")
        assert await get(path, "/readyz") == (200, f"ready: registered at {place.url} as well\n")
        assert await get(port, "/readyz", method="HEAD") == (200, "")
        code, body = await get(port, "/")
        assert (code, "/livez, /readyz, /metrics, /status" in body) == (404, True)
        async with place.broker() as broker:
            await broker.wait_for_route("well.test")
            slow = asyncio.ensure_future(broker.get("http://well.test/slow?600"))
            await until(lambda: place.count("slow began") == 1)
            for _ in range(3):
                await (await broker.get("http://well.test/?0")).read()
            await (await broker.post("http://well.test/?0", body=b"12345")).read()
            facts = await status(path)
            assert facts["ready"] is True
            assert facts["guest_id"] == "well"
            assert facts["pid"] == process.pid
            assert facts["sessions"][0]["host"] == place.url
            assert facts["requests"] == {"total": 4, "in_flight": 1}
            assert facts["leases"]["active"] == 1
            assert facts["leases"]["idle"] >= 1
            found = await metrics(port)
            assert found["requests_total", "GET", "2xx", "1"] == 3
            assert found["requests_total", "POST", "2xx", "1"] == 1
            assert found["request_duration_seconds_count", "GET", "1"] == 3
            assert found["time_to_first_byte_seconds_bucket", "GET", "1"] == 3
            assert found["requests_in_flight", "1"] == 1
            assert found["leases", "active", "1"] == 1
            assert found["leases", "idle", "1"] >= 1
            assert found["sessions", place.url, "1"] == 1
            assert found["response_bytes_total", "1"] == 4
            slow.cancel()
            result = run("health", "--health-socket", path)
            assert (result.returncode, result.stdout) == (
                0,
                f"ready: registered at {place.url} as well\n".encode(),
            )
            result = run("health", "--live", f"http://127.0.0.1:{port[1]}")
            assert (result.returncode, result.stdout) == (0, b"live: the event loop turns\n")
            env = {"VERSER_HEALTH__LISTEN": f"127.0.0.1:{port[1]}"}
            assert run("health", env=env).returncode == 0
        await end_twice(process)
        assert not path.exists()
        result = run("health", "--health-socket", path)
        assert (result.returncode, result.stderr) == (1, b"")
        assert result.stdout == f"not reachable at {path}: no such file or directory\n".encode()


async def test_not_ready_before_the_host_is_there_and_while_it_drains(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    peer = ("--host-url", f"https://127.0.0.1:{closed_port()}", "--guest-id", "away", "--domain", "away.test")
    with start("counting:app", "--app-dir", APPS, *peer, "--health-socket", path, env=place.env()) as process:
        process.says('"reconnecting"')
        why = "not ready: not registered at any Host: Cannot reach 127.0.0.1:"
        status, told = await get(path, "/readyz")
        assert (status, told.startswith(why), "connection refused" in told) == (503, True, True)
        assert (await get(path, "/livez"))[0] == 200
        result = run("health", "--health-socket", path)
        assert (result.returncode, result.stdout.decode()) == (1, told)
        assert (await metrics(path))["reconnects_total", "connect-failed", "1"] >= 1
        assert process.stop() == 0
    arguments = ("--health-socket", path, "--timeout-graceful-shutdown", "600")
    with place.guest("leaving", *arguments) as process:
        await registered(process, "leaving")
        async with place.broker() as broker:
            await broker.wait_for_route("leaving.test")
            slow = asyncio.ensure_future(broker.get("http://leaving.test/slow?600"))
            await until(lambda: place.count("slow began") == 1)
            process.send(signal.SIGTERM)
            assert await until_answers(path, "/readyz", 503) == "not ready: taking leave"
            assert (await get(path, "/livez"))[0] == 200
            assert (await metrics(path))["draining", "1"] == 1
            slow.cancel()
        process.send(signal.SIGTERM)
        assert process.wait() == 143


async def test_a_supervisor_answers_for_its_workers(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with place.guest("crew", "--workers", "2", "--health-socket", path) as process:
        await registered(process, "crew-1", "crew-2")
        assert (
            await until_answers(path, "/readyz", 200)
            == "ready: 2 of 2 workers are registered (crew-1, crew-2)"
        )
        async with place.broker() as broker:
            await broker.wait_for_route("crew.test")
            for number in range(8):
                await (await broker.get(f"http://crew.test/?{number * 5}")).read()
            facts = await status(path)
            assert facts["requests"] == {"total": 8, "in_flight": 0}
            assert [worker["guest_id"] for worker in facts["workers"]] == ["crew-1", "crew-2"]
            found = await metrics(path)
            assert (
                found["requests_total", "GET", "2xx", "1"] + found["requests_total", "GET", "2xx", "2"] == 8
            )
            # What each process takes, by what the kernel says of it
            taken = {who: found["process_resident_memory_bytes", who] for who in ("1", "2", "supervisor")}
            assert all(size > 1_000_000 for size in taken.values())
            spent = sum(found["process_cpu_seconds_total", who] for who in taken)
            process.send(signal.SIGHUP)
            await registered(process, "crew-1~2", "crew-2~2")
            await until(lambda: process.count('"worker ended"') == 2)
            for number in range(4):
                await (await broker.get(f"http://crew.test/?{number * 5}")).read()
            found = await metrics(path)
            total = sum(value for key, value in found.items() if key[0] == "requests_total")
            assert total == 12, "what workers had counted is not lost with them"
            assert found["worker_starts_total", "1"] == 2
            assert sum(found["process_cpu_seconds_total", who] for who in taken) > spent
            assert found["info", "crew-1~2", version("verser2-guest-python"), "1"] == 1
            blocked = [asyncio.ensure_future(broker.get("http://crew.test/block")) for _ in range(2)]
            await until(lambda: place.count("blocked") == 2)
            assert await get(path, "/livez") == (503, "not live: no worker has answered within 2 s\n")
            assert (await get(path, "/readyz"))[0] == 503
            assert run("health", "--live", "--health-socket", path).returncode == 1
            for pid in {
                line.split()[-1] for line in place.journal.read_text().splitlines() if "blocked" in line
            }:
                os.kill(int(pid), signal.SIGKILL)
            await asyncio.gather(*blocked, return_exceptions=True)
            assert "ready: " in await until_answers(path, "/readyz", 200)
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        process.says('"stopped"', '"requests_total":12', '"errors_total":0')
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("health",), "Nothing says whom to ask"),
        (("health", "ftp://a:1"), "does not fit"),
        (("health", "--health-listen", "9464"), "HOST:PORT"),
    ],
)
def test_whom_to_ask_has_to_be_said(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert words in result.stderr.decode()


def test_a_place_that_cannot_be_had_ends_the_start(place: Place, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    with place.guest("taken", "--health-socket", taken) as process:
        assert process.wait() == 78
        assert process.count("no socket") == 1


async def test_a_host_answers_too(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    arguments = ("--port", "0", "--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    with start("host", *arguments, "--allow-anonymous", "--health-socket", path) as process:
        process.says('"health"', str(path))
        verdict = await until_answers(path, "/readyz", 200)
        url = verdict.removeprefix("ready: listening on ")
        place = Place(url, certs.ca, tmp_path / "journal")
        place.journal.touch()
        with place.guest("asked") as guest:
            await registered(guest, "asked")
            async with place.broker() as broker:
                await broker.wait_for_route("asked.test")
                for _ in range(3):
                    await (await broker.get("http://asked.test/?0")).read()
                with pytest.raises(VerserError):
                    await broker.get("http://asked.test/?x")
                found = {
                    key[0].removeprefix("verser_host_"): value for key, value in (await metrics(path)).items()
                }
                assert found["guests"] == 1
                assert found["sessions"] == 2
                assert found["log_lines_dropped_total"] == 0
                assert found["lease_wait_seconds_count"] == found["request_duration_seconds_count"] == 4
                by_key = await metrics(path)
                assert by_key["verser_host_requests_total", "GET", "2xx"] == 3
                assert by_key["verser_host_errors_total", "local-handler-failure"] == 1
                facts = await status(path)
                assert facts["guests"] == 1
                assert facts["requests"] == {"total": 4, "in_flight": 0, "queued": 0}
        assert process.stop() == 0
    assert not path.exists()

"""The log of a real Guest: no secret in it at any level, and nobody who has to read it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, ROOT, WAIT_SECONDS, environment, start
from tests.service.conftest import Place, registered
from tests.support.certificates import Certificates

SECRET = "hunter2"


def arguments(place: Place, guest_id: str) -> tuple[str | Path, ...]:
    names = ("--guest-id", guest_id, "--domain", f"{guest_id}.test")
    return ("examples.bench_app:app", *place.peer, *names)


@pytest.mark.parametrize("form", ["json", "logfmt"])
async def test_no_secret_is_logged_at_any_level(place: Place, certs: Certificates, form: str) -> None:
    files = ("--tls-cert-file", certs.guest, "--tls-key-file", certs.guest_encrypted_key)
    more = ("--log-level", "debug", "--log-format", form, "--access-log", "--access-log-query")
    variables = {
        "VERSER_TLS_KEY_PASSWORD": certs.password,
        "VERSER_REGISTRATION_TOKEN": f"{SECRET}-token",
        "VERSER_TLS_PFX_PASSWORD": "",
    }
    with start(*arguments(place, "guest-a"), *files, *more, env=variables) as guest:
        async with place.broker() as broker:
            await broker.wait_for_route("guest-a.test")
            headers = {"cookie": f"session={SECRET}", "authorization": f"Bearer {SECRET}.{SECRET}"}
            path = f"http://guest-a.test/plain?access_token={SECRET}&page=2"
            response = await broker.get(path, headers=headers)
            await response.read()
        assert await asyncio.to_thread(guest.stop) == 0
    assert guest.count("page=2") >= 1
    assert SECRET not in guest.transcript()
    assert certs.password not in guest.transcript()


async def test_a_log_that_nobody_reads_stops_no_request(place: Place) -> None:
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments(place, "guest-b")), "--access-log-query", "--log-format", "json"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # and nobody reads it
    )
    try:
        async with place.broker() as broker:
            await broker.wait_for_route("guest-b.test")

            async def ask() -> int:
                response = await broker.get("http://guest-b.test/plain?" + "x" * 400)
                await response.read()
                return response.status

            for _ in range(10):  # far more than a pipe holds
                statuses = await asyncio.gather(*(ask() for _ in range(50)))
                assert set(statuses) == {200}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, WAIT_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


async def test_what_was_said_before_the_end_is_written(place: Place) -> None:
    with place.guest("guest-c", "--log-level", "debug") as guest:
        await registered(guest, "guest-c")
        assert await asyncio.to_thread(guest.stop) == 0
    assert '"event":"stopped"' in guest.stderr[-1]

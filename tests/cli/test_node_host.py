"""The same commands with a Host that is not ours: the Node.js one, strict about what a Guest may do."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cli.processes import fails, run, start
from tests.support.certificates import Certificates
from tests.support.node_peers import NodeHost, node_host

pytestmark = pytest.mark.interop


def peer(host: NodeHost, certs: Certificates) -> tuple[str | Path, ...]:
    return ("--host-url", host.url, "--tls-ca-file", certs.ca)


async def test_an_app_is_served_and_called_through_it(certs: Certificates, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 4096)
    async with node_host(certs, strict=True) as host:
        where = peer(host, certs)
        names = ("--guest-id", "guest-a", "--domain", "a.test")
        with start("examples.bench_app:app", *where, *names) as guest:
            call = asyncio.to_thread
            await call(guest.says, '"registered"')
            assert (await call(run, "broker", "get", "a.test/plain", *where)).stdout == b"Hello, World!"
            echo = await call(run, "broker", "post", "a.test/echo", "-d", f"@{body}", *where)
            assert echo.stdout == body.read_bytes()
            shown = await call(run, "broker", "get", "-i", "a.test/cookies", *where)
            assert shown.stdout.count(b"set-cookie: ") == 2  # this Host joins them; they are split again
            cut = await call(run, "broker", "get", "a.test/cut", *where)
            assert cut.returncode == 56
            await call(fails, 6, "a.test", arguments=("broker", "get", "b.test/", *where))
            await call(
                fails,
                77,
                "registered",
                arguments=("broker", "get", "a.test/", "--broker-id", "guest-a", *where),
            )
            assert await call(guest.stop, signal.SIGTERM) == 0
        await host.event("route-revoked")
        assert host.violations == []


async def test_a_lost_session_is_told_and_taken_up_again(certs: Certificates) -> None:
    async with node_host(certs, strict=True) as host:
        names = ("--guest-id", "guest-a", "--domain", "a.test")
        with start("examples.bench_app:app", *peer(host, certs), *names, "--log-format", "console") as guest:
            await asyncio.to_thread(guest.says, "registered  ")
            await host.command("drop", peer="guest-a")
            await asyncio.to_thread(guest.says, "warning disconnected")
            await asyncio.to_thread(guest.says, "registered  ", times=2)
            assert await asyncio.to_thread(guest.stop, signal.SIGINT) == 0

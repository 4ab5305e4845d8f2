"""Our Guest, as a process, behind the strict Node Host under the Node load generator.

No violation, no error, no stall (the generator reports what is unfinished), and bounded memory, whatever
the order of small and large requests.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.node_peers import NodeHost, node_host, node_load

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
MAX_RSS_MB = 150
STOP_SECONDS = 20.0
SECONDS = 0.3  # and each of the requests that are made at a time comes to its end, however slow

LOADS = [
    ("/plain", 1, 0),
    ("/plain", 16, 0),
    ("/plain", 64, 0),
    ("/echo", 16, 1024),
    ("/big?4", 16, 0),
    ("/sink", 16, 4 * MIB),
    ("/echo", 16, 4 * MIB),
]


@asynccontextmanager
async def guest_process(host: NodeHost, certs: Certificates) -> AsyncIterator[int]:
    """`verser2-guest examples.bench_app:app`; yields its process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "verser2_guest_python",
        "examples.bench_app:app",
        *("--host-url", host.url, "--guest-id", "guest-a", "--domain", "a.local.test"),
        *("--tls-ca-file", str(certs.ca), "--no-access-log"),
        cwd=ROOT,
        env=dict(os.environ),
    )
    try:
        await host.event("registered", peer="guest-a")
        yield process.pid
        process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.limit(120)
@pytest.mark.parametrize(
    ("loads", "initial_window"),
    [
        pytest.param(LOADS, None, id="small first"),
        pytest.param(LOADS[::-1], 65_535, id="large first, small windows"),
        pytest.param(LOADS[::-1], None, id="large first", marks=pytest.mark.slow),
        pytest.param(LOADS, 65_535, id="small first, small windows", marks=pytest.mark.slow),
    ],
)
async def test_load(
    certs: Certificates, loads: list[tuple[str, int, int]], initial_window: int | None
) -> None:
    async with node_host(certs, strict=True, quiet=True, initial_window=initial_window) as host:
        async with guest_process(host, certs) as pid:
            for path, concurrency, body_bytes in loads:
                result = await node_load(
                    host.url,
                    certs,
                    domain="a.local.test",
                    path=path,
                    concurrency=concurrency,
                    body_bytes=body_bytes,
                    seconds=SECONDS,
                    warmup=0,
                    pid=pid,
                )
                assert result["errors"] == {}, (path, concurrency)
                assert result["unfinished"] == 0, (path, concurrency)
                assert result["requests"] > 0, (path, concurrency)
                assert result["rss_mb"] < MAX_RSS_MB, (path, concurrency)
        assert host.violations == []

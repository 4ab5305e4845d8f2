"""Large bodies through the Broker: the memory that they take does not grow with them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
MEMORY_MB = 24
GIB = pytest.param(1024, marks=[pytest.mark.slow, pytest.mark.limit(300)])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured as Linux counts it")
@pytest.mark.parametrize("way", ["up", "down", "both"])
@pytest.mark.parametrize("mib", [64, GIB])
async def test_large_bodies_take_no_memory(certs: Certificates, way: str, mib: int) -> None:
    async with node_host(certs, quiet=True) as host, node_guest(host.url, certs):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.broker.transfer", host.url, str(certs.ca), way, str(mib)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        said = json.loads(output)
    assert said["bytes"] == mib * MIB
    assert said["peak_mb"] - said["idle_mb"] <= MEMORY_MB

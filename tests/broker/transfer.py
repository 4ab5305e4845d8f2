"""A process that moves many bytes through a Broker, and tells how much memory that took.

    python -m tests.broker.transfer HOST_URL CA_FILE (up|down|both) MIB

Prints one JSON line: bytes that arrived, resident MB at rest, and the most while they moved.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from verser2_guest_python import VerserBroker, create_verser_broker

DOMAIN = "a.local.test"
PIECE = b"x" * 65_536
MIB = 1 << 20


async def pieces(mib: int) -> AsyncIterator[bytes]:
    for _ in range(mib * MIB // len(PIECE)):
        yield PIECE


async def up(broker: VerserBroker, mib: int) -> int:
    response = await broker.post(f"http://{DOMAIN}/sink", body=pieces(mib))
    return int(await response.read())


async def down(broker: VerserBroker, mib: int) -> int:
    async with await broker.get(f"http://{DOMAIN}/big?{mib}") as response:
        return sum([len(chunk) async for chunk in response.aiter_bytes(65_536)])


async def both(broker: VerserBroker, mib: int) -> int:
    return min(await asyncio.gather(up(broker, mib), down(broker, mib)))


def memory(field: str) -> float:
    """A figure of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


async def main(host_url: str, ca_file: str, way: str, mib: int) -> None:
    move = {"up": up, "down": down, "both": both}[way]
    async with create_verser_broker(host_url=host_url, tls_ca_file=ca_file) as broker:
        await broker.wait_for_route(DOMAIN)
        await move(broker, 1)  # what everything needs once
        idle = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew from here
        moved = await move(broker, mib)
        print(json.dumps({"bytes": moved, "idle_mb": idle, "peak_mb": memory("VmHWM")}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))

"""What a request costs this Broker, beside the Node Broker, through one and the same Node Host and Guest.

    .venv/bin/python -m bench.broker                            all cases, 3 rounds
    .venv/bin/python -m bench.broker --rounds 5 --case plain-64 --loop asyncio

Two load generators that do the same, one on each Broker, run in turn, round after round. Printed are
medians, and the median of the ratios of each round. CPU is user and system time of the whole load
generator, from the end of its warm-up on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.guest import MIB, PEERS, Case, Result, event, process
from tests.support.certificates import Certificates

DOMAIN = "node.bench.test"
PIECE_BYTES = 65_536
WARMUP_SECONDS = 1.0

CASES = [
    Case("plain-1", 1),
    Case("plain-16", 16),
    Case("plain-64", 64),
    Case("echo-1k", 64, "/echo", 1024),
    Case("down-4m", 16, "/big?4"),
    Case("up-4m", 16, "/sink", 4 * MIB),
]

COLUMNS = [
    ("requests/s", "rps"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU ms/request", "cpu_ms_per_request"),
    ("RSS MB", "rss_mb"),
]


# --- One load generator on this Broker: what load.mjs is on the Node Broker -------------------------


async def body_of(size: int) -> AsyncIterator[bytes]:
    piece = b"x" * PIECE_BYTES
    for left in range(size, 0, -PIECE_BYTES):
        yield piece[:left]


async def generate(arguments: argparse.Namespace) -> Result:
    """Keeps `concurrency` requests going for so many seconds."""
    from verser2_guest_python import create_verser_broker

    url = f"http://{arguments.domain}{arguments.path}"
    size = arguments.body_bytes
    latencies: list[float] = []

    async def work(until: float) -> None:
        while (started := perf_counter()) < until:
            body = None if not size else b"x" * size if size <= PIECE_BYTES else body_of(size)
            response = await broker.request("GET" if body is None else "POST", url, body=body)
            if "big" in arguments.path:
                async for _ in response.aiter_bytes(PIECE_BYTES):
                    pass
            else:
                await response.read()
            response.raise_for_status()
            latencies.append(perf_counter() - started)

    async def run(seconds: float) -> float:
        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(arguments.concurrency):
                group.create_task(work(started + seconds))
        return perf_counter() - started

    async with create_verser_broker(
        host_url=arguments.host_url, tls_ca_file=arguments.ca, lease_timeout=30
    ) as broker:
        await broker.wait_for_route(arguments.domain, timeout=30)
        await run(WARMUP_SECONDS)
        latencies.clear()
        before = sum(os.times()[:2])
        seconds = await run(arguments.seconds)
        cpu = sum(os.times()[:2]) - before
    latencies.sort()
    count = len(latencies)
    return {
        "requests": count,
        "rps": round(count / seconds),
        "p50_ms": round(latencies[count // 2] * 1000, 2),
        "p99_ms": round(latencies[count * 99 // 100] * 1000, 2),
        "cpu_ms_per_request": round(cpu * 1000 / count, 3),
        "rss_mb": round(resident_mb()),
    }


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def run_generator(arguments: argparse.Namespace) -> None:
    factory = None
    if arguments.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(generate(arguments))))


# --- Both of them, in turn --------------------------------------------------------------------------


class Bench:
    """A Node Host with a Node Guest, and what is asked of them."""

    def __init__(self, url: str, certs: Certificates, arguments: argparse.Namespace) -> None:
        self.url = url
        self.certs = certs
        self.arguments = arguments

    async def ours(self, case: Case) -> Result:
        return await self._run(
            case, sys.executable, "-m", "bench.broker", "--generate", "--loop", self.arguments.loop
        )

    async def node(self, case: Case) -> Result:
        return await self._run(case, "node", PEERS / "load.mjs", "--warmup", WARMUP_SECONDS, "--pid", "self")

    async def _run(self, case: Case, *command: object) -> Result:
        common: list[object] = ["--host-url", self.url, "--ca", self.certs.ca, "--domain", DOMAIN]
        common += ["--path", case.path, "--concurrency", case.concurrency, "--body-bytes", case.body_bytes]
        async with process(*command, *common, "--seconds", self.arguments.seconds) as running:
            output, _ = await running.communicate()
        result: Result = json.loads(output)
        if result.get("errors") or result.get("unfinished"):
            raise RuntimeError(f"{case.name}: {result}")
        return result


def table(case: Case, ours: list[Result], theirs: list[Result]) -> str:
    """A case as Markdown."""
    lines = [
        f"### {case.title}",
        "",
        "| | " + " | ".join(title for title, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, results in (("this Broker", ours), ("Node Broker", theirs)):
        cells = [f"{median(result[key] for result in results):g}" for _, key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [f"**{median(one[key] / (other[key] or 1) for one, other in pairs):.2f}**" for _, key in COLUMNS]
    lines.append("| ratio | " + " | ".join(ratios) + " |")
    return "\n".join(lines) + "\n"


async def main(arguments: argparse.Namespace) -> None:
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    async with AsyncExitStack() as stack:
        certs = Certificates.make(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        host = await stack.enter_async_context(
            process("node", PEERS / "host.mjs", "--quiet", "--cert", certs.host, "--key", certs.host_key)
        )
        url = f"https://localhost:{(await event(host, 'listening'))['port']}"
        guest = await stack.enter_async_context(
            process(
                "node",
                PEERS / "guest.mjs",
                *("--host-url", url, "--ca", certs.ca, "--guest-id", "node", "--domain", DOMAIN),
                *("--idle-leases", 64),
            )
        )
        await event(guest, "ready")
        bench = Bench(url, certs, arguments)
        for case in cases:
            ours: list[Result] = []
            theirs: list[Result] = []
            for turn in range(arguments.rounds):
                for run, results in ((bench.ours, ours), (bench.node, theirs))[:: 1 if turn % 2 else -1]:
                    results.append(await run(case))
            print(table(case, ours, theirs), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    generator = parser.add_argument_group("one load generator alone")
    generator.add_argument("--generate", action="store_true")
    generator.add_argument("--host-url")
    generator.add_argument("--ca")
    generator.add_argument("--domain")
    generator.add_argument("--path", default="/plain")
    generator.add_argument("--concurrency", type=int, default=64)
    generator.add_argument("--body-bytes", type=int, default=0)
    given = parser.parse_args()
    if given.generate:
        run_generator(given)
    else:
        asyncio.run(main(given))

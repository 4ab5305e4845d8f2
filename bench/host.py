"""What a request costs this Host, beside the Node Host, each with a Node Guest behind it.

    .venv/bin/python -m bench.host                              all cases, 3 rounds
    .venv/bin/python -m bench.host --rounds 5 --case plain-64

Both Hosts run all the time, each with a Node Guest of its own; the Node load generator asks through the
one and then through the other, round after round, so that both see the same machine. Printed are medians,
and the median of the ratios of each round. CPU is user and system time of the Host's process as the kernel
counts it. `idle-guests` starts both Hosts anew and shows what 1,000 Guests that wait, with 8 leases each,
add to their memory.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from bench.guest import MIB, PEERS, Case, Result, event, load, process
from tests.support.certificates import Certificates

DOMAIN = "node.bench.test"
NAMES = {"ours": "this Host", "node": "Node Host"}
IDLE = "idle-guests"
IDLE_GUESTS = 1_000
LEASES = 8

CASES = [
    Case("plain-1", 1),
    Case("plain-16", 16),
    Case("plain-64", 64),
    Case("echo-1k", 64, "/echo", 1024),
    Case("down-4m", 16, "/big?4"),
    Case("up-4m", 16, "/sink", 4 * MIB),
    Case("echo-4m", 16, "/echo", 4 * MIB),
    Case("websocket", 16, "/", 100, websocket=True),
]

COLUMNS = [
    ("requests/s", "rps"),
    ("MB/s", "mb_per_second"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU ms/request", "cpu_ms_per_request"),
    ("RSS MB", "rss_mb"),
]


class Bench:
    """Both Hosts, with a Guest behind each."""

    def __init__(self, certs: Certificates, seconds: float) -> None:
        self.certs = certs
        self.seconds = seconds
        self.urls: dict[str, str] = {}
        self.pids: dict[str, int] = {}

    async def add_host(self, stack: AsyncExitStack, name: str) -> None:
        command = (
            (sys.executable, "-m", "bench.host_process")
            if name == "ours"
            else ("node", PEERS / "host.mjs", "--quiet")
        )
        host = await stack.enter_async_context(
            process(*command, "--cert", self.certs.host, "--key", self.certs.host_key)
        )
        self.pids[name] = host.pid
        self.urls[name] = f"https://localhost:{(await event(host, 'listening'))['port']}"

    async def add_guest(self, stack: AsyncExitStack, name: str) -> None:
        guest = await stack.enter_async_context(
            process(
                *("node", PEERS / "guest.mjs", "--host-url", self.urls[name], "--ca", self.certs.ca),
                *("--guest-id", "node", "--domain", DOMAIN, "--idle-leases", 64),
            )
        )
        await event(guest, "ready")

    async def run(self, case: Case, name: str) -> Result:
        result = await load(self.urls[name], self.certs, case, DOMAIN, self.pids[name], self.seconds)
        transferred = 4 * MIB if case.path.startswith("/big") else case.body_bytes
        result["mb_per_second"] = round(result["rps"] * transferred / 1e6, 1)
        return result


def table(case: Case, ours: list[Result], theirs: list[Result]) -> str:
    """A case as Markdown."""
    large = case.path.startswith("/big") or case.body_bytes >= MIB
    columns = [one for one in COLUMNS if large or one[1] != "mb_per_second"]
    lines = [
        f"### {case.title}",
        "",
        "| | " + " | ".join(title for title, _ in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name, results in (("ours", ours), ("node", theirs)):
        cells = [f"{median(result[key] for result in results):g}" for _, key in columns]
        lines.append(f"| {NAMES[name]} | " + " | ".join(cells) + " |")
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [f"**{median(one[key] / (other[key] or 1) for one, other in pairs):.2f}**" for _, key in columns]
    lines.append("| ratio | " + " | ".join(ratios) + " |")
    return "\n".join(lines) + "\n"


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def idle_guests(certs: Certificates, count: int, leases: int) -> str:
    """What Guests that wait add to the memory of each Host."""
    lines = [
        f"### {count:,} idle Guests with {leases} leases each",
        "",
        "| | RSS MB without Guests | with | KB each |",
        "|---|---:|---:|---:|",
    ]
    for name, title in NAMES.items():
        async with AsyncExitStack() as stack:
            bench = Bench(certs, 0.0)
            await bench.add_host(stack, name)
            before = resident_mb(bench.pids[name])
            guests = await stack.enter_async_context(
                process(
                    *(sys.executable, "-m", "bench.idle_guests", "--host-url", bench.urls[name]),
                    *("--ca", certs.ca, "--guests", count, "--leases", leases),
                )
            )
            await event(guests, "ready")
            after = resident_mb(bench.pids[name])
        lines.append(f"| {title} | {before:.0f} | {after:.0f} | {(after - before) * 1024 / count:.0f} |")
    return "\n".join(lines) + "\n"


async def main(arguments: argparse.Namespace) -> None:
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    async with AsyncExitStack() as stack:
        certs = Certificates.make(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if cases:
            bench = Bench(certs, arguments.seconds)
            for name in NAMES:
                await bench.add_host(stack, name)
                await bench.add_guest(stack, name)
            for case in cases:
                results: dict[str, list[Result]] = {name: [] for name in NAMES}
                for turn in range(arguments.rounds):
                    for name in list(NAMES)[:: 1 if turn % 2 else -1]:
                        results[name].append(await bench.run(case, name))
                print(table(case, results["ours"], results["node"]), flush=True)
        if not arguments.case or IDLE in arguments.case:
            print(await idle_guests(certs, arguments.guests, arguments.leases), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--case", action="append", choices=[*(case.name for case in CASES), IDLE])
    parser.add_argument("--guests", type=int, default=IDLE_GUESTS)
    parser.add_argument("--leases", type=int, default=LEASES)
    asyncio.run(main(parser.parse_args()))

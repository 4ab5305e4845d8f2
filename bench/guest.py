"""What a request costs this Guest, beside the Node Guest, through one and the same Node Host.

    make bench                                  all cases, 3 rounds
    .venv/bin/python -m bench.guest --rounds 5 --case plain-64 --case idle

Both Guests run all the time; the load generator asks the one and then the other, round after round,
so that both see the same machine. Printed are medians, and the median of the ratios of each round.
CPU is user and system time of the Guest's process as the kernel counts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.certificates import Certificates

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "tests" / "interop" / "peer"
START_SECONDS = 30.0
MIB = 1 << 20

Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    name: str
    concurrency: int
    path: str = "/plain"
    body_bytes: int = 0
    baseline: str = "node"
    guest: str = "ours"
    websocket: bool = False

    @property
    def title(self) -> str:
        if self.websocket:
            return f"WebSocket echo, messages of {self.body_bytes} bytes, {self.concurrency} in flight"
        body = f", body of {self.body_bytes:,} bytes" if self.body_bytes else ""
        return f"`{self.path}`{body}, {self.concurrency} in flight"


CASES = [
    Case("plain-1", 1),
    Case("plain-16", 16),
    Case("plain-64", 64),
    Case("echo-1k", 64, "/echo", 1024),
    Case("down-4m", 16, "/big?4"),
    Case("up-4m", 16, "/sink", 4 * MIB),
    Case("echo-4m", 16, "/echo", 4 * MIB),
    Case("websocket", 16, "/", 100, websocket=True),
    Case("log", 64, baseline="ours", guest="logging"),
    Case("metrics", 64, baseline="ours", guest="metrics"),
    Case("idle", 64, baseline="ours", guest="idle"),
]


@asynccontextmanager
async def process(*command: object, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that surely ends with the block; its standard error is shown when it fails early."""
    with tempfile.TemporaryFile() as errors:
        running = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        try:
            yield running
        except TimeoutError:
            errors.seek(0)
            sys.stderr.write(errors.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            if running.returncode is None:
                running.terminate()
                try:
                    async with asyncio.timeout(10):
                        await running.wait()
                except TimeoutError:
                    running.kill()
                    await running.wait()


async def event(peer: asyncio.subprocess.Process, name: str) -> Result:
    """The next event of that name that a Node peer prints."""
    async with asyncio.timeout(START_SECONDS):
        while line := await peer.stdout.readline():
            said: Result = json.loads(line)
            if said.get("event") == name:
                return said
    raise RuntimeError(f"the peer ended before it said {name}")


async def load(url: str, certs: Certificates, case: Case, domain: str, pid: int, seconds: float) -> Result:
    """One run of the load generator."""
    script = ROOT / "bench" / "websocket_load.mjs" if case.websocket else PEERS / "load.mjs"
    command = [
        script,
        "--host-url",
        url,
        "--ca",
        certs.ca,
        "--domain",
        domain,
        "--path",
        case.path,
    ]
    command += ["--concurrency", case.concurrency, "--seconds", seconds, "--body-bytes", case.body_bytes]
    async with process("node", *command, "--pid", pid) as running:
        output, _ = await running.communicate()
    result: Result = json.loads(output)
    if result["errors"] or result["unfinished"]:
        raise RuntimeError(f"{case.name} on {domain}: {result}")
    return result


class Bench:
    """A Node Host and the Guests behind it."""

    def __init__(self, url: str, certs: Certificates, seconds: float) -> None:
        self.url = url
        self.certs = certs
        self.seconds = seconds
        self.pids: dict[str, int] = {}

    async def add_node(self, stack: AsyncExitStack) -> None:
        guest = await stack.enter_async_context(
            process(
                "node", PEERS / "guest.mjs", *self._common("node"), "--ca", self.certs.ca, "--idle-leases", 64
            )
        )
        await event(guest, "ready")
        self.pids["node"] = guest.pid

    async def add_ours(
        self, stack: AsyncExitStack, name: str, *, idle: int, more: tuple[str, ...] = ("--no-access-log",)
    ) -> None:
        guest = await stack.enter_async_context(
            process(
                Path(sys.executable).with_name("verser2-guest"),
                "examples.bench_app:app",
                *self._common(name),
                "--tls-ca-file",
                self.certs.ca,
                "--min-waiting-streams",
                idle,
                "--limit-concurrency",
                idle + 1_000,
                *more,
            )
        )
        self.pids[name] = guest.pid

    def _common(self, name: str) -> list[object]:
        return ["--host-url", self.url, "--guest-id", name, "--domain", f"{name}.bench.test"]

    async def run(self, case: Case, name: str) -> Result:
        return await load(self.url, self.certs, case, f"{name}.bench.test", self.pids[name], self.seconds)


COLUMNS = [
    ("requests/s", "rps"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU ms/request", "cpu_ms_per_request"),
    ("RSS MB", "rss_mb"),
]


def table(case: Case, ours: list[Result], theirs: list[Result]) -> str:
    """A case as Markdown."""
    names = {
        "node": "Node Guest",
        "ours": "this Guest",
        "logging": "with access log",
        "metrics": "with metrics",
        "idle": "2,000 idle leases",
    }
    lines = [
        f"### {case.title}",
        "",
        "| | " + " | ".join(title for title, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, results in ((names[case.guest], ours), (names[case.baseline], theirs)):
        cells = [f"{median(result[key] for result in results):g}" for _, key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [f"**{median(one[key] / (other[key] or 1) for one, other in pairs):.2f}**" for _, key in COLUMNS]
    lines.append("| ratio | " + " | ".join(ratios) + " |")
    return "\n".join(lines) + "\n"


async def main(arguments: argparse.Namespace) -> None:
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    wanted = {name for case in cases for name in (case.guest, case.baseline)}
    async with AsyncExitStack() as stack:
        certs = Certificates.make(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        host = await stack.enter_async_context(
            process("node", PEERS / "host.mjs", "--quiet", "--cert", certs.host, "--key", certs.host_key)
        )
        port = (await event(host, "listening"))["port"]
        bench = Bench(f"https://localhost:{port}", certs, arguments.seconds)
        if "node" in wanted:
            await bench.add_node(stack)
        for name, idle in (("ours", 64), ("idle", 2_000)):
            if name in wanted:
                await bench.add_ours(stack, name, idle=idle)
        for name, option in (("logging", "--access-log"), ("metrics", "--health-listen=127.0.0.1:0")):
            if name in wanted:
                more = ("--no-access-log", option)  # the last one of two that contradict each other counts
                await bench.add_ours(stack, name, idle=64, more=more)
        for case in cases:
            ours: list[Result] = []
            theirs: list[Result] = []
            for turn in range(arguments.rounds):
                pair = [(case.guest, ours), (case.baseline, theirs)]
                for name, results in pair if turn % 2 else reversed(pair):
                    results.append(await bench.run(case, name))
            print(table(case, ours, theirs), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    asyncio.run(main(parser.parse_args()))

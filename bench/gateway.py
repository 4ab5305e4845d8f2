"""What a request costs the gateway, beside one on the Node Broker, and beside the app on a port of its own.

    .venv/bin/python -m bench.gateway                           all cases, 3 rounds
    .venv/bin/python -m bench.gateway --rounds 5 --case plain-64

One Node Host and one Node Guest; before them this gateway and `bench/gateway.mjs`; beside them uvicorn, which
serves an app that answers the same: what the whole path costs somebody who could open a port. One load
generator asks the three in turn, in plain HTTP/1.1 on connections that stay open. Printed are medians. CPU is
user and system time of the gateway's process (of uvicorn: of the app's) as the kernel counts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from bench.broker import CASES, COLUMNS, DOMAIN
from bench.guest import PEERS, ROOT, START_SECONDS, Case, Result, event, process
from tests.support.certificates import Certificates

NAMES = {"ours": "this gateway", "node": "one on the Node Broker", "uvicorn": "uvicorn, no Host"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(port: int) -> None:
    """Until something listens there, and answers with the app's 200."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.write(f"GET /plain HTTP/1.1\r\nhost: {DOMAIN}\r\nconnection: close\r\n\r\n".encode())
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
            await asyncio.sleep(0.05)


async def load(port: int, pid: int, case: Case, seconds: float) -> Result:
    """One run of the load generator."""
    command = [
        *("node", ROOT / "bench" / "http_load.mjs", "--url", f"http://127.0.0.1:{port}", "--domain", DOMAIN),
        *("--path", case.path, "--concurrency", case.concurrency, "--seconds", seconds),
        *("--body-bytes", case.body_bytes, "--pid", pid),
    ]
    async with process(*command) as running:
        output, _ = await running.communicate()
    result: Result = json.loads(output)
    if result["errors"]:
        raise RuntimeError(f"{case.name}: {result}")
    return result


async def start(stack: AsyncExitStack, certs: Certificates) -> dict[str, tuple[int, int]]:
    """Everything that runs all the time; the port and the process of each that is asked."""
    host = await stack.enter_async_context(
        process("node", PEERS / "host.mjs", "--quiet", "--cert", certs.host, "--key", certs.host_key)
    )
    url = f"https://localhost:{(await event(host, 'listening'))['port']}"
    guest = await stack.enter_async_context(
        process(
            *("node", PEERS / "guest.mjs", "--host-url", url, "--ca", certs.ca),
            *("--guest-id", "node", "--domain", DOMAIN, "--idle-leases", 64),
        )
    )
    await event(guest, "ready")
    theirs = await stack.enter_async_context(
        process(
            *("node", ROOT / "bench" / "gateway.mjs", "--host-url", url),
            *("--ca", certs.ca, "--domain", DOMAIN),
        )
    )
    asked = {"node": ((await event(theirs, "listening"))["port"], theirs.pid)}
    commands = Path(sys.executable)
    for name, command in {
        "ours": (
            *(commands.with_name("verser2-guest"), "gateway", "--no-access-log"),
            *("--host-url", url, "--tls-ca-file", certs.ca, "--listen", "127.0.0.1:{port}"),
        ),
        "uvicorn": (
            *(commands.with_name("uvicorn"), "examples.bench_app:app", "--no-access-log"),
            *("--log-level", "warning", "--port", "{port}"),
        ),
    }.items():
        port = free_port()
        running = await stack.enter_async_context(
            process(*(str(word).replace("{port}", str(port)) for word in command))
        )
        await answers(port)
        asked[name] = (port, running.pid)
    return asked


def table(case: Case, results: dict[str, list[Result]]) -> str:
    """A case as Markdown; the ratios are this gateway's to each of the others, round by round."""
    lines = [
        f"### {case.title}",
        "",
        "| | " + " | ".join(title for title, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, title in NAMES.items():
        cells = [f"{median(result[key] for result in results[name]):g}" for _, key in COLUMNS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for other in ("node", "uvicorn"):
        pairs = list(zip(results["ours"], results[other], strict=True))
        ratios = [f"**{median(one[key] / (two[key] or 1) for one, two in pairs):.2f}**" for _, key in COLUMNS]
        lines.append(f"| ratio to {NAMES[other]} | " + " | ".join(ratios) + " |")
    return "\n".join(lines) + "\n"


async def main(arguments: argparse.Namespace) -> None:
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    async with AsyncExitStack() as stack:
        certs = Certificates.make(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        asked = await start(stack, certs)
        for case in cases:
            results: dict[str, list[Result]] = {name: [] for name in NAMES}
            for turn in range(arguments.rounds):
                for name in list(NAMES)[:: 1 if turn % 2 else -1]:
                    results[name].append(await load(*asked[name], case, arguments.seconds))
            print(table(case, results), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    asyncio.run(main(parser.parse_args()))

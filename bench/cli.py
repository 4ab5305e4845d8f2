"""How long the command line takes to start, and to bring the first byte, beside `curl`.

    .venv/bin/python -m bench.cli
    .venv/bin/python -m bench.cli --runs 40

`broker get` goes from a new process through a Host to a Guest and back; `curl` asks uvicorn for the same
app, without TLS and with nothing in between. Each run is a process of its own, and the commands take turns,
so that all see the same machine. Shown are the fastest, the median and the slowest, in milliseconds from the
start of the process to the first byte on its standard output. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from tests.cli.processes import COMMAND, environment, host_process, start
from tests.support.certificates import Certificates

ROOT = Path(__file__).resolve().parents[1]
APP = "examples.bench_app:app"
DOMAIN = "cli.bench.test"
START_SECONDS = 30.0
AIMS = {"--help": 200.0, "broker get --help": 200.0, "broker get": 400.0}


def first_byte(arguments: Sequence[str]) -> float:
    """Milliseconds until the first byte is there; the process is waited for."""
    started = perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment(), cwd=ROOT) as process:
        assert process.stdout is not None
        got = os.read(process.stdout.fileno(), 1)
        milliseconds = (perf_counter() - started) * 1000
        process.stdout.read()
    if process.returncode or not got:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return milliseconds


@contextmanager
def uvicorn() -> Iterator[str]:
    """The app on uvicorn; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "uvicorn", APP, "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(arguments, cwd=ROOT)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for_port(port: int) -> None:
    deadline = perf_counter() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if perf_counter() > deadline:
                raise SystemExit(f"nothing answers on port {port}") from None
            sleep(0.05)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="runs of each command (20)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as directory:
        certs = Certificates.make(Path(directory))
        with host_process(certs.host, certs.host_key) as port, uvicorn() as url:
            peer = ["--host-url", f"https://localhost:{port}", "--tls-ca-file", str(certs.ca)]
            with start(
                APP, "--guest-id", "bench", "--domain", DOMAIN, *peer, "--log-format", "json"
            ) as guest:
                guest.says('"registered"')
                compare(runs, peer, url)


def compare(runs: int, peer: list[str], url: str) -> None:
    """Runs all commands in turn and prints what they took."""
    commands = {
        "--help": [*COMMAND, "--help"],
        "broker get --help": [*COMMAND, "broker", "get", "--help"],
        "broker get": [*COMMAND, "broker", "get", f"http://{DOMAIN}/plain", *peer],
        "python -c pass": [sys.executable, "-c", "print()"],
    }
    if curl := shutil.which("curl"):
        commands["curl to uvicorn"] = [curl, "--silent", "--show-error", f"{url}/plain"]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for count in range(runs + 1):
        for name, arguments in commands.items():
            milliseconds = first_byte(arguments)
            if count:  # the first round fills caches
                taken[name].append(milliseconds)
    print(f"| to the first byte, {runs} runs | fastest ms | median ms | slowest ms | aim ms |")
    print("|---|---|---|---|---|")
    for name, values in taken.items():
        aim = f"< {AIMS[name]:g}" if name in AIMS else ""
        print(f"| `{name}` | {min(values):.0f} | {median(values):.0f} | {max(values):.0f} | {aim} |")


if __name__ == "__main__":
    main()

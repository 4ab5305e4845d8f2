"""Plays a page as a reader would: its files are written, its commands run, what they print compared.

Apart from `markdown.py`, which only reads. Everything happens in one directory for each page, with
`verser2-guest` on the PATH, a home of its own, and a free port in place of the 8443 that pages name.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.markdown import ROOT, Block
from tests.support.certificates import Certificates

WAIT_SECONDS = 30.0
SHOWN_PORT = "8443"
_LOOK_AGAIN_SECONDS = 0.02

_HOST = """\
import asyncio
from verser2_guest_python import create_verser_host

async def main() -> None:
    async with create_verser_host(
        port=PORT, tls_cert_file="host.pem", tls_key_file="host-key.pem", client_ca_file="ca.pem"
    ) as host:
        print("listening", flush=True)
        await host.serve_forever()

asyncio.run(main())
"""
_GUEST = (
    "verser2-guest serve play_app:app --host-url https://localhost:PORT --guest-id guest-a "
    "--domain a.local.test --tls-ca-file ca.pem --tls-cert-file guest.pem --tls-key-file guest-key.pem"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Player:
    """One page being played; what it started ends with the block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = str(free_port())
        self.said = ""  # by the command that ran last
        self._ends = ExitStack()
        self._names = 0
        binaries = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VERSER_", "XDG_"))}
        self._environment = {
            **kept,
            "PATH": f"{binaries}{os.pathsep}{kept.get('PATH', '')}",
            "HOME": str(directory),
            "NO_PROXY": "*",  # loopback is reached without one
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "120",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    # --- Before the first block -------------------------------------------------------------

    def prepare(self, needs: set[str]) -> None:
        """What the page takes for granted."""
        if "certificates" in needs:
            Certificates.make(
                self.directory, guest_name="guest", broker_name="broker"
            )  # as the tutorial does
        if "host" in needs:
            self.write("play_host.py", _HOST.replace("PORT", self.port))
            self.start("python play_host.py", "listening")
        if "guest" in needs:
            shutil.copy(ROOT / "examples" / "hello.py", self.directory / "play_app.py")
            self.start(_GUEST.replace("PORT", self.port), '"event":"registered"')

    # --- Blocks -----------------------------------------------------------------------------

    def play(self, block: Block) -> None:
        """Does what the marker of `block` asks for."""
        text = block.text.replace(SHOWN_PORT, self.port)
        match block.marker:
            case "file":
                self.write(block.argument, text)
            case "run":
                name, code = _run_argument(block.argument)
                self.run(self._command(block, text, name), code, block.place)
            case "start":
                name, until = _start_argument(block.argument)
                self.start(self._command(block, text, name), until)
            case "output":
                assert matches(self.said, text), (
                    f"{block.place} shows\n{text}\nbut this was said:\n{self.said}"
                )

    def _command(self, block: Block, text: str, name: str) -> str:
        """What bash is to run: the block itself, or the program that it is."""
        if block.language == "sh":
            return text
        if not name:
            self._names += 1
            name = f"block_{self._names}.py"
        self.write(name, text)
        return f"exec python {name}"

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, command: str, code: int, place: str) -> None:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WAIT_SECONDS,
        )
        self.said = done.stdout.decode()
        assert done.returncode == code, f"{place} ended with {done.returncode}:\n{self.said}"

    def start(self, command: str, until: str) -> None:
        """Starts a command in a process group of its own, and waits until it says `until`."""
        log = self.directory / f"started-{len(list(self.directory.glob('started-*')))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-c", command],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._ends.callback(_end, process)
        deadline = time.monotonic() + WAIT_SECONDS
        while until not in (said := log.read_text()):
            assert process.poll() is None, f"{command} ended with {process.returncode}:\n{said}"
            assert time.monotonic() < deadline, f"{command} did not say {until!r}:\n{said}"
            time.sleep(_LOOK_AGAIN_SECONDS)
        self.said = said


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and whatever it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(WAIT_SECONDS / 3)
            except subprocess.TimeoutExpired:
                continue


def _run_argument(argument: str) -> tuple[str, int]:
    """`hello.py exits 6`: the name of the file and the exit code, both optional."""
    found = re.fullmatch(r"(?:([\w.-]+\.py)\s*)?(?:exits (\d+))?", argument)
    assert found, f"not understood: run: {argument}"
    return found[1] or "", int(found[2] or 0)


def _start_argument(argument: str) -> tuple[str, str]:
    found = re.fullmatch(r'(?:([\w.-]+\.py)\s+)?until "(.+)"', argument)
    assert found, f"not understood: start: {argument}"
    return found[1] or "", found[2]


def matches(said: str, shown: str) -> bool:
    """Whether the lines of `shown` occur, one after the other, in `said`; `…` stands for anything."""
    pattern = r"\s*\n".join(
        ".*?".join(re.escape(part) for part in line.rstrip().split("…"))
        for line in shown.strip().splitlines()
    )
    return re.search(pattern, said, re.DOTALL) is not None

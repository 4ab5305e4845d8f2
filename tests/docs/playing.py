"""Plays a page as a reader would: its files are written, its commands run, what they print compared.

Apart from `markdown.py`, which only reads. Everything happens in one directory for each page, with
`verser2-guest` on the PATH and a home of its own. Pages are written for readers; what is another thing here
than there is all in `Player.here`:

- A port that a page names is one that is free.
- `host.example` is this machine. A page that needs `host.example` has a Host there, on a port of its own.
- `collector` is this machine as well, with a receiver of traces for pages that need one.
- `/path/to/verser2-guest-python` is this checkout. Pages that need `checkout` begin in a copy of it.
- `/etc` and `/opt` are directories of the page.
- A benchmark is one short round, `make test` runs one file of tests.
- What needs more than a test can have (a cluster, a service manager, root) is done by the programs in
  `standins/`, each of which says what it does instead.
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
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.markdown import ROOT, Block
from tests.support.certificates import Certificates

WAIT_SECONDS = 30.0
LONG_SECONDS = 300.0
CHECKOUT = "/path/to/verser2-guest-python"
STAND_INS = Path(__file__).parent / "standins"
_PORT = re.compile(r"\b(?:4318|8000|8080|8443|9464)\b")
_SHORT = "--case plain-1 --rounds 1 --seconds 0.2"
_LOOK_AGAIN_SECONDS = 0.02
_COPIED = ("src", "tests", "config", "examples", "bench", "docs", "requirements", "tools")

_HOST = """\
import asyncio
from verser2_guest_python import create_verser_host

async def main() -> None:
    async with create_verser_host(
        port=PORT, tls_cert_file="host.pem", tls_key_file="host-key.pem", client_ca_file=CLIENT_CA
    ) as host:
        print("listening", flush=True)
        await host.serve_forever()

asyncio.run(main())
"""
_GUEST = (
    "verser2-guest serve play_app:app --host-url https://localhost:8443 --guest-id guest-a "
    "--domain a.local.test --tls-ca-file ca.pem --tls-cert-file guest.pem --tls-key-file guest-key.pem"
)
_MY_APP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "my-app"
version = "1"

[tool.hatch.build.targets.wheel]
only-include = ["hello.py"]
"""
_COLLECTOR = """\
from http.server import BaseHTTPRequestHandler, HTTPServer

class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

server = HTTPServer(("127.0.0.1", 4318), Collector)
print("listening", flush=True)
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Player:
    """One page being played; what it started ends with the block."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.directory = directory
        self.said = ""  # by the command that ran last
        self._ports: dict[str, str] = {}
        self._ends = ExitStack()
        self._names = 0
        binaries = Path(sys.executable).parent
        # What a make tells one below it is for these tests, not for the reader's (`make test PYTEST_ARGS=…`)
        others = ("VERSER_", "XDG_", "MAKE", "MFLAGS", "GNUMAKEFLAGS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        self._environment = {
            **kept,
            "PATH": os.pathsep.join([str(self._stand_ins()), str(binaries), kept.get("PATH", "")]),
            "HOME": str(directory),
            "NO_PROXY": "*",  # loopback is reached without one
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "120",
            "WORKERS": "0",
            "PYTEST_ARGS": "-q tests/test_errors.py",
            "BENCH_ARGS": _SHORT,
            **variables,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self.directory / "root").glob("*.pid"):  # of services
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGTERM)
        for link in (self.directory / "root").glob("*.run"):
            shutil.rmtree(link.resolve())
        self._ends.close()

    # --- What is another thing here ---------------------------------------------------------

    def here(self, text: str) -> str:
        """What a page says to its readers, as it is here (see above)."""
        text = text.replace("host.example:8443", f"localhost:{self.port('host.example')}")
        text = text.replace("//collector:", "//localhost:").replace(CHECKOUT, str(ROOT))
        text = re.sub(r"(?<![\w.}/])/(?=(?:etc|opt)/)", f"{self.directory}/root/", text)
        text = re.sub(r"-m bench\.cli\b", r"\g<0> --runs 1", text)
        text = re.sub(r"-m bench\.(?!cli)\w+.*", rf"\g<0> {_SHORT}", text)
        return _PORT.sub(lambda found: self.port(found[0]), text)

    def port(self, shown: str) -> str:
        """The free port that stands for the one that is shown."""
        return self._ports.setdefault(shown, str(free_port()))

    def _stand_ins(self) -> Path:
        """A directory of commands that run the stand-ins."""
        folder = self.directory / "stand-ins"
        folder.mkdir()
        for program in STAND_INS.iterdir():
            if program.suffix in {".py", ".sh"}:
                command = sys.executable if program.suffix == ".py" else "/bin/sh"
                script = folder / program.stem
                script.write_text(f'#!/bin/sh\nexec {command} {program} "$@"\n')
                script.chmod(0o755)
        return folder

    # --- Before the first block -------------------------------------------------------------

    def prepare(self, needs: set[str]) -> None:
        """What the page takes for granted."""
        if "checkout" in needs:
            self._check_out()
        if "certificates" in needs:
            Certificates.make(
                self.directory, guest_name="guest", broker_name="broker"
            )  # as the tutorial does
        if "secret" in needs:  # as cert-manager calls its files
            for name, file in (("tls.crt", "guest.pem"), ("tls.key", "guest-key.pem"), ("ca.crt", "ca.pem")):
                shutil.copy(self.directory / file, self.directory / name)
        if "my-app" in needs:
            self.write("my-app/pyproject.toml", _MY_APP)
            shutil.copy(ROOT / "examples" / "hello.py", self.directory / "my-app" / "hello.py")
        if "shop" in needs:
            shutil.copy(ROOT / "examples" / "hello.py", self.directory / "shop.py")
        if "host.example" in needs:
            port = self.port("host.example")
            self.write("play_example.py", _HOST.replace("PORT", port).replace("CLIENT_CA", "None"))
            self.start("python play_example.py", "listening")
        if "host" in needs:
            host = _HOST.replace("PORT", "8443").replace("CLIENT_CA", '"ca.pem"')
            self.write("play_host.py", self.here(host))
            self.start("python play_host.py", "listening")
        if "guest" in needs:
            shutil.copy(ROOT / "examples" / "hello.py", self.directory / "play_app.py")
            self.start(self.here(_GUEST), '"event":"registered"')
        if "collector" in needs:
            self.write("play_collector.py", self.here(_COLLECTOR))
            self.start("python play_collector.py", "listening")

    def _check_out(self) -> None:
        """A copy of this checkout, with everything installed that its Makefile asks for."""
        for name in _COPIED:
            left_out = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / name, self.directory / name, ignore=left_out)
        for path in ROOT.iterdir():
            if path.is_file() and path.name != ".git":  # of a worktree it is a file
                shutil.copy(path, self.directory)
        for path in (self.directory / "config").rglob("*.toml"):
            path.write_text(self.here(path.read_text()))
        environment = self.directory / ".venv"
        environment.mkdir()
        for path in Path(sys.prefix).iterdir():
            if path.name != ".installed":
                (environment / path.name).symlink_to(path)
        (environment / ".installed").mkdir()
        for name in ("venv", "uv", "package", "test", "lint", "speed", "docs"):
            (environment / ".installed" / name).touch()

    # --- Blocks -----------------------------------------------------------------------------

    def play(self, block: Block) -> None:
        """Does what the marker of `block` asks for."""
        text = self.here(block.text)
        match block.marker:
            case "file":
                self.write(block.argument, text)
            case "run":
                name, code = _run_argument(block.argument)
                self.run(self._command(block, text, name), code, block.place)
            case "start":
                name, until, stop = _start_argument(block.argument)
                process = self.start(self._command(block, text, name), until)
                if stop:
                    _end(process)
            case "install":
                self.install(text, block.place)
            case "output":
                assert matches(self.said, text), (
                    f"{block.place} shows\n{text}\nbut this was said:\n{self.said}"
                )

    def install(self, text: str, place: str) -> None:
        """Installs into an environment of its own, and asks what is there whether it works."""
        if "-m venv" not in text:
            text = f"python3 -m venv .venv\n. .venv/bin/activate\n{text}"
        self.run(f"{text}\npip check\n.venv/bin/verser2-guest --version\n", 0, place)
        assert "WARNING" not in self.said, f"{place}:\n{self.said}"

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
        environment, seconds = self._environment, WAIT_SECONDS
        if re.search(r"\bpip |\bmake |\bbench\.", command):  # pip itself uses what is deprecated
            environment, seconds = {**environment, "PYTHONWARNINGS": ""}, LONG_SECONDS
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
        self.said = done.stdout.decode()
        assert done.returncode == code, f"{place} ended with {done.returncode}:\n{self.said}"

    def start(self, command: str, until: str) -> subprocess.Popen[bytes]:
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
        return process


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


def _start_argument(argument: str) -> tuple[str, str, bool]:
    found = re.fullmatch(r'(?:([\w.-]+\.py)\s+)?until "([^"]+)"(, then stop)?', argument)
    assert found, f"not understood: start: {argument}"
    return found[1] or "", found[2], bool(found[3])


def matches(said: str, shown: str) -> bool:
    """Whether the lines of `shown` occur, one after the other, in `said`; `…` stands for anything."""
    pattern = r"\s*\n".join(
        ".*?".join(re.escape(part) for part in line.rstrip().split("…"))
        for line in shown.strip().splitlines()
    )
    return re.search(pattern, said, re.DOTALL) is not None

"""Real processes for the tests of the command line: started, watched, ended; every wait has an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.cli.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (str(Path(sys.executable).with_name("verser2-guest")),)
WAIT_SECONDS = 30.0


def environment(**variables: str) -> dict[str, str]:
    """The environment of a child: plain, wide, and without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VERSER_")}
    return {**kept, "COLUMNS": "100", "PYTHONUNBUFFERED": "1", **variables}


def run(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    data: bytes | None = None,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[bytes]:
    """Runs `verser2-guest` to its end, from a warm start."""
    command = [*COMMAND, *map(str, arguments)]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(data or b"")
        stdin.seek(0)
        process = WarmProcess(command, stdin=stdin.fileno(), env=environment(**(env or {})), cwd=cwd)
    said: dict[str, bytes] = {}

    def read(name: str, stream: IO[bytes]) -> None:
        with stream:
            said[name] = stream.read()

    readers = [
        threading.Thread(target=read, args=("stdout", process.stdout)),
        threading.Thread(target=read, args=("stderr", process.stderr)),
    ]
    for reader in readers:
        reader.start()
    try:
        code = process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        for reader in readers:
            reader.join(WAIT_SECONDS)
    return subprocess.CompletedProcess(command, code, said["stdout"], said["stderr"])


def fails(
    code: int,
    *words: str,
    arguments: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> str:
    """Runs a command that has to fail: with this code, one sentence that has these words, no traceback."""
    result = run(*arguments, env=env, cwd=cwd)
    said = result.stderr.decode()
    assert result.returncode == code, f"ended with {result.returncode}: {said}"
    assert "Traceback" not in said
    lines = said.splitlines()
    assert lines[-1].startswith("verser2-guest: "), said
    assert all(word in lines[-1] for word in words), said
    assert result.stdout == b""
    return said


class Running:
    """A process that goes on; what it says is collected, and it is ended with the block."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        own_group: bool = False,
        warm: bool = False,
        inherited: Sequence[int] = (),
    ) -> None:
        command = [str(argument) for argument in arguments]
        variables = environment(**(env or {}))
        self._process: subprocess.Popen[bytes] | WarmProcess
        if warm:
            with Path(os.devnull).open("rb") as nothing:
                self._process = WarmProcess(command, stdin=nothing.fileno(), env=variables, cwd=cwd)
        else:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=variables,
                cwd=cwd,
                start_new_session=own_group,
                pass_fds=inherited,
            )
        self._changed = threading.Condition()
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._readers = [
            self._collect(self._process.stdout, self.stdout),
            self._collect(self._process.stderr, self.stderr),
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    def _collect(self, stream: IO[bytes] | None, lines: list[str]) -> threading.Thread:
        assert stream is not None

        def read() -> None:
            with stream:
                for line in stream:
                    with self._changed:
                        lines.append(line.decode().rstrip("\n"))
                        self._changed.notify_all()
            with self._changed:
                self._changed.notify_all()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def says(self, *words: str, where: str = "stderr", times: int = 1) -> str:
        """The first line with all of these words, or a later one (`times`); waits for it."""
        deadline = time.monotonic() + WAIT_SECONDS
        lines = getattr(self, where)
        with self._changed:
            while True:
                found = [line for line in lines if all(word in line for word in words)]
                if len(found) >= times:
                    return str(found[times - 1])
                ended = not any(reader.is_alive() for reader in self._readers)
                left = deadline - time.monotonic()
                assert left > 0, f"{words} not said within {WAIT_SECONDS:g} s:\n{self.transcript()}"
                assert not ended, f"ended without saying {words}:\n{self.transcript()}"
                self._changed.wait(min(left, 0.2))

    def count(self, *words: str) -> int:
        """How many lines on stderr have all of these words."""
        with self._changed:
            return sum(all(word in line for word in words) for line in self.stderr)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended and all that it said is read."""
        try:
            code = self._process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end:\n{self.transcript()}") from None
        for reader in self._readers:
            reader.join(WAIT_SECONDS)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait()

    def transcript(self) -> str:
        return "\n".join(["--- stdout", *self.stdout, "--- stderr", *self.stderr])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(WAIT_SECONDS)
        for reader in self._readers:
            reader.join(WAIT_SECONDS)


def start(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Running:
    """Starts `verser2-guest`, warm."""
    return Running([*COMMAND, *arguments], env=env, cwd=cwd, warm=True)


@contextmanager
def host_process(cert_file: Path, key_file: Path, *more: str | Path) -> Iterator[str]:
    """A Host of this project in a process of its own; gives its port."""
    script = ROOT / "tests" / "cli" / "host_process.py"
    with Running([sys.executable, script, cert_file, key_file, *more]) as host:
        yield host.says("port", where="stdout").split()[1]

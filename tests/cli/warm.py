"""Commands that start quickly: forked from one process that has imported everything (`warm_server.py`).

Apart from `processes.py`, which starts them cold as well, because it is the client of that server and
looks like `subprocess.Popen`.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

SERVER = Path(__file__).with_name("warm_server.py")


@cache
def server() -> str:
    """Starts the server, for the rest of the tests; the name of its socket."""
    directory = tempfile.mkdtemp(prefix="warm-")
    name = str(Path(directory) / "socket")
    process = subprocess.Popen(
        [sys.executable, "-u", str(SERVER), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def end() -> None:
        """It ends with its standard input, also when the tests are killed, and takes the directory along."""
        process.communicate()

    atexit.register(end)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{SERVER.name} did not start: see its traceback on stderr")
    return name


class WarmProcess:
    """A command that was forked. `stdout` and `stderr` are the reading ends of its output."""

    def __init__(self, arguments: Sequence[str], *, stdin: int, env: Mapping[str, str], cwd: Path) -> None:
        request = {"arguments": list(arguments), "environment": dict(env), "directory": str(cwd)}
        out, out_writer = os.pipe()
        err, err_writer = os.pipe()
        self.stdout: IO[bytes] = os.fdopen(out, "rb")
        self.stderr: IO[bytes] = os.fdopen(err, "rb")
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(server())
            socket.send_fds(
                self._socket, [json.dumps(request).encode() + b"\n"], [stdin, out_writer, err_writer]
            )
        finally:
            os.close(out_writer)
            os.close(err_writer)
        self._news = self._socket.makefile("rb")
        pid = self._news.readline()
        if not pid:
            raise RuntimeError(f"{SERVER.name} is gone")
        self.pid = int(pid)
        self.returncode: int | None = None
        self._ended = threading.Event()
        self._waiting = threading.Thread(target=self._wait, daemon=True)
        self._waiting.start()

    def _wait(self) -> None:
        with self._news, self._socket:
            code = self._news.readline()
        self.returncode = int(code) if code else -signal.SIGKILL  # the server was killed, and all it started
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("verser2-guest", timeout or 0.0)
        self._waiting.join()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and its exit code is on the way
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

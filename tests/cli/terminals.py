"""Processes on a pseudo terminal: what somebody at a keyboard sees of `verser2-guest`."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cli.processes import COMMAND, ROOT, WAIT_SECONDS, environment

ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
COLUMNS = 100
LINES = 24


class AtTerminal:
    """A command whose standard input, output and error are one terminal, but for those that are given.

    `stdin`, `stdout` and `stderr` are descriptors, or None for the terminal.
    """

    def __init__(
        self,
        *arguments: str | Path,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        lines: int = LINES,
        columns: int = COLUMNS,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=theirs if stdin is None else stdin,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs if stderr is None else stderr,
            env=environment(**{"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(env or {})}),
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(theirs)
        self._data = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was written, escape sequences and all."""
        with self._changed:
            return self._data.decode("utf-8", "replace")

    @property
    def plain(self) -> str:
        """The same without escape sequences, and with plain line ends."""
        return ESCAPE.sub("", self.text).replace("\r\n", "\n")

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # Linux says EIO once the other side is closed
                data = b""
            with self._changed:
                self._data += data
                self._changed.notify_all()
            if not data:
                return

    def shows(self, words: str, *, times: int = 1) -> None:
        """Waits until `words` are there, so many times."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: ESCAPE.sub("", self._data.decode("utf-8", "replace")).count(words) >= times,
                WAIT_SECONDS,
            )
        assert there, f"{words!r} not shown:\n{self.text}"

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended and all that it wrote is read."""
        code = self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_SECONDS)
        os.close(self._ours)

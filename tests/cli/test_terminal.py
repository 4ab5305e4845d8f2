"""On a terminal: colours, columns, and no line that was forged by a request."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
from pathlib import Path

from tests.cli.conftest import Stage
from tests.cli.processes import COMMAND, ROOT, environment, run

APPS = Path(__file__).parent / "apps"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A process whose stdout and stderr are one terminal."""

    def __init__(self, *arguments: str | Path, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm-256color", **variables),
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # Linux says EIO once the other side is closed
                data = b""
            with self._changed:
                self.text += data.decode()
                self._changed.notify_all()
            if not data:
                return

    def shows(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in ESCAPE.sub("", self.text), 30), self.text

    def end(self) -> list[str]:
        """Ends it and returns the lines without colours."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(30) == 0
        self._reader.join(30)
        os.close(self._ours)
        return ESCAPE.sub("", self.text).split("\r\n")


def guest(stage: Stage, name: str) -> tuple[str | Path, ...]:
    names = ("--guest-id", name, "--domain", f"{name}.test")
    return ("small:app", "--app-dir", APPS, *stage.peer, *names)


def test_lines_are_coloured_and_line_up(stage: Stage) -> None:
    terminal = Terminal(*guest(stage, "terminal"))
    terminal.shows("registered")
    assert run("broker", "get", "terminal.test/%0d%0aforged?x=1", *stage.peer).returncode == 0
    terminal.shows("request 200 GET")
    lines = terminal.end()
    stamp = r"\d\d:\d\d:\d\d\.\d{3}Z"
    patterns = [
        rf"{stamp} info    starting       app=small:app guest_id=terminal host=https://localhost:\d+ .*",
        rf"{stamp} info    registered     .*guest_id=terminal.*",
        rf"{stamp} request 200 GET    /%0d%0aforged +\d+\.\d ms +5 B  broker-[0-9a-f]+-1",
        rf'{stamp} info    draining       reason="SIGINT received"',
        rf"{stamp} info    stopped        exit_code=0",
        r"",
    ]
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert "\x1b[32m200\x1b[0m" in terminal.text


def test_colours_can_be_switched_off(stage: Stage) -> None:
    terminal = Terminal(*guest(stage, "plain"), NO_COLOR="1")
    terminal.shows("registered")
    terminal.end()
    assert "\x1b" not in terminal.text


def test_the_error_of_a_command_is_one_line(stage: Stage) -> None:
    terminal = Terminal("broker", "get", "nowhere.test/", *stage.peer)
    terminal.shows("No Guest serves nowhere.test.")
    assert terminal.process.wait(30) == 6
    assert terminal.text.startswith("\x1b[31m\x1b[1mverser2-guest:\x1b[0m ")
    assert terminal.text.count("\n") == 1

"""SIGHUP in a terminal: a reload while the terminal is there, a drain once its window is closed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.cli.conftest import APPS, Stage
from tests.cli.processes import COMMAND, WAIT_SECONDS, Running, environment

# A process gets the terminal that it controls by asking for it, as a terminal emulator has its shell do
PROGRAM: Final = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where these tests run under nohup
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
AT_TERMINAL: Final = (sys.executable, "-c", PROGRAM)


class Window:
    """A terminal that can be closed."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()

    @property
    def command(self) -> tuple[str, ...]:
        """The beginning of a command whose terminal this is."""
        return (*AT_TERMINAL, str(self.theirs), *COMMAND)

    def close(self) -> None:
        """The window is closed: whoever is in it gets SIGHUP."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def read_until(self, word: bytes) -> None:
        """Reads what is shown up to a word."""
        shown = b""
        while word not in shown:
            shown += os.read(self._ours, 65_536)


@contextmanager
def window() -> Iterator[Window]:
    opened = Window()
    try:
        yield opened
    finally:
        opened.close()
        os.close(opened.theirs)


def roles(stage: Stage) -> Mapping[str, tuple[tuple[str | Path, ...], str, str]]:
    """What is started, what it says when it serves, and what it says after a reload."""
    guest = ("small:app", "--app-dir", APPS, *stage.peer, "--domain", "window.test", "--guest-id")
    return {
        "guest": ((*guest, "window"), '"registered"', '"registered"'),
        "workers": ((*guest, "windows", "--workers", "2"), '"registered"', '"worker ended"'),
        "host": (
            (
                *("host", "--port", "0", "--tls-cert-file", stage.certs.host),
                *("--tls-key-file", stage.certs.host_key),
            ),
            '"listening"',
            '"certificates reloaded"',
        ),
        "gateway": (
            ("gateway", "--listen", "127.0.0.1:0", *stage.peer),
            '"listening"',
            '"certificates reloaded"',
        ),
    }


@pytest.mark.parametrize("role", ["guest", "workers", "host", "gateway"])
def test_a_window_that_is_closed_ends_what_runs_in_it(stage: Stage, role: str) -> None:
    arguments, serving, reloaded = roles(stage)[role]
    with (
        window() as opened,
        Running(
            [*opened.command, *arguments, "--log-format", "json"],
            own_group=True,
            inherited=(opened.theirs,),
        ) as process,
    ):
        process.says(serving, times=2 if role == "workers" else 1)
        process.send(signal.SIGHUP)  # by hand, with the terminal there
        process.says(reloaded, times=2 if role in ("guest", "workers") else 1)
        assert process.count("the terminal was closed") == 0
        opened.close()
        process.says("the terminal was closed")
        assert process.wait() == 0


@pytest.mark.parametrize("role", ["guest", "workers"])
def test_it_ends_well_though_nothing_can_be_written_any_more(stage: Stage, role: str) -> None:
    arguments = roles(stage)[role][0]
    with window() as opened:
        process = subprocess.Popen(
            [*opened.command, *map(str, arguments)],
            stdin=opened.theirs,
            stdout=opened.theirs,
            stderr=opened.theirs,
            pass_fds=(opened.theirs,),
            env=environment(),
            start_new_session=True,
        )
        try:
            opened.read_until(b"registered")
            opened.close()
            assert process.wait(WAIT_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


def test_nohup_makes_it_stay(stage: Stage) -> None:
    arguments, serving, reloaded = roles(stage)["guest"]
    with window() as opened:
        nohup = ("/usr/bin/env", "nohup", *COMMAND, *arguments, "--log-format", "json")
        command = [*AT_TERMINAL, str(opened.theirs), *nohup]
        with Running(command, own_group=True, inherited=(opened.theirs,)) as process:
            process.says(serving)
            opened.close()
            process.says(reloaded, times=2)  # as any SIGHUP means it there
            assert process.stop() == 0
            assert process.count("the terminal was closed") == 0

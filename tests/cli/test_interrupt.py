"""Ctrl-C before a command is under way: it ends in silence, wherever it was hit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, WAIT_SECONDS, environment

SAID = "import os, signal\nprint('importing', flush=True)\nos.kill(os.getpid(), signal.SIGINT)\n"
SWALLOWED = f"try:\n    {SAID.replace(chr(10), chr(10) + '    ')}\nexcept BaseException:\n    pass\n"
GUEST = ("--host-url", "https://localhost:1", "--guest-id", "g", "--domain", "g.test")


def interrupted(*command: str, cwd: Path) -> None:
    """Runs a command that is interrupted by a module that it imports: code 130, and not a word about it."""
    ended = subprocess.run(
        command, env=environment(PYTHONPATH=str(cwd)), cwd=cwd, capture_output=True, timeout=WAIT_SECONDS
    )
    assert (ended.returncode, ended.stderr.decode()) == (130, "")
    assert ended.stdout.decode() == "importing\n"


@pytest.mark.parametrize("command", [COMMAND, (sys.executable, "-m", "verser2_guest_python")])
def test_an_interrupt_while_the_command_loads_itself(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(SAID)
    interrupted(*command, "--version", cwd=tmp_path)


def test_an_interrupt_while_the_app_is_imported(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SAID)
    interrupted(*COMMAND, "slow:app", *GUEST, cwd=tmp_path)


def test_an_interrupt_that_an_import_swallows(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(f"{SWALLOWED}\nasync def app(scope, receive, send): ...\n")
    interrupted(*COMMAND, "slow:app", *GUEST, cwd=tmp_path)

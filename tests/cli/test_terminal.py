"""On a terminal: colours, columns, and no line that was forged by a request."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.cli.conftest import Stage
from tests.cli.processes import run
from tests.cli.terminals import AtTerminal

APPS = Path(__file__).parent / "apps"


def guest(stage: Stage, name: str) -> tuple[str | Path, ...]:
    names = ("--guest-id", name, "--domain", f"{name}.test")
    return ("small:app", "--app-dir", APPS, *stage.peer, *names)


def test_lines_are_coloured_and_line_up(stage: Stage) -> None:
    with AtTerminal(*guest(stage, "terminal")) as terminal:
        terminal.shows("registered")
        assert run("broker", "get", "terminal.test/%0d%0aforged?x=1", *stage.peer).returncode == 0
        terminal.shows("request 200 GET")
        terminal.send(signal.SIGINT)
        assert terminal.wait() == 0
    lines = terminal.plain.split("\n")
    stamp = r"\d\d:\d\d:\d\d\.\d{3}Z"
    patterns = [
        rf"{stamp} info    starting       app=small:app guest_id=terminal host=https://localhost:\d+ .*",
        rf"{stamp} info    registered     .*guest_id=terminal.*",
        rf"{stamp} request 200 GET    /%0d%0aforged +\d+\.\d ms +5 B  broker-[0-9a-f]+-1",
        rf'{stamp} info    draining       reason="SIGINT received"',
        rf"{stamp} info    stopped        exit_code=0 requests_total=1 errors_total=0",
        r"",
    ]
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert "\x1b[32m200\x1b[0m" in terminal.text


def test_a_request_keeps_to_a_line_of_80_columns(stage: Stage) -> None:
    with AtTerminal(*guest(stage, "narrow"), columns=80) as terminal:
        terminal.shows("registered")
        assert run("broker", "get", "narrow.test/a", "--broker-id", "b", *stage.peer).returncode == 0
        terminal.shows(" b-1")
    line = next(one for one in terminal.plain.split("\n") if "request 200" in one)
    assert len(line.rstrip()) <= 80


def test_colours_can_be_switched_off(stage: Stage) -> None:
    with AtTerminal(*guest(stage, "plain"), env={"NO_COLOR": "1"}) as terminal:
        terminal.shows("registered")
        terminal.send(signal.SIGINT)
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.text


def test_the_error_of_a_command_is_one_line(stage: Stage) -> None:
    with AtTerminal("broker", "get", "nowhere.test/", *stage.peer) as terminal:
        terminal.shows("No Guest serves nowhere.test.")
        assert terminal.wait() == 6
    assert terminal.text.startswith("\x1b[31m\x1b[1mverser2-guest:\x1b[0m ")
    assert terminal.text.count("\n") == 1

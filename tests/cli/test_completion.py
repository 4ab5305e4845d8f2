"""Completion, in the shells themselves: what a Tab shows after `verser2-guest completion SHELL`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, WAIT_SECONDS, environment
from verser2_guest_python.cli.broker_methods import METHODS

LINES = [
    ("verser2-guest brok", "broker"),
    ("verser2-guest serve --log-form", "--log-format"),
    ("verser2-guest serve --tls-ca-file shop-c", "shop-ca.pem"),
]
IN_BASH = [
    *LINES[:2],
    ("verser2-guest serve --log-format ", "logfmt"),
    ("verser2-guest ", "dev"),
    ("verser2-guest config check gat", "gateway"),
    ("verser2-guest config check host --clie", "--client-ca-file"),
]
# Types a line in a zsh of its own and waits for what it becomes; `print` says when the shell has begun.
ZSH = """
zmodload zsh/zpty
zpty shell "zsh -f -i"
zpty -w shell "autoload -Uz compinit && compinit -u -D; source <(verser2-guest completion zsh)"
zpty -w shell "print -r BE''GUN"
zpty -r -m shell seen '*BEGUN*'
zpty -w -n shell "$1"$'\\t'
zpty -r -m shell seen "*$2*"
print -r -- "$seen"
zpty -d shell
"""
BASH = """
source <(verser2-guest completion bash 2>/dev/null); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_verser2_guest_completion "$1"; printf "%s\\n" "${COMPREPLY[@]}"
"""
FISH = "verser2-guest completion fish | source; complete -C $argv[1]"


def shell(name: str, *arguments: str, cwd: Path) -> str:
    """What a shell prints; the command is in its path."""
    if (program := shutil.which(name)) is None:
        pytest.skip(f"there is no {name}")
    path = f"{Path(COMMAND[0]).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        env=environment(PATH=path, HOME=str(cwd)),
        cwd=cwd,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop-ca.pem").touch()
    return tmp_path


@pytest.mark.parametrize(("line", "expected"), IN_BASH)
def test_bash_completes(line: str, expected: str, shop: Path) -> None:
    words = [*line.split(), ""] if line.endswith(" ") else line.split()
    assert expected in shell("bash", "-c", BASH, "bash", *words, cwd=shop).splitlines()


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_zsh_completes(line: str, expected: str, shop: Path) -> None:
    assert expected in shell("zsh", "-f", "-c", ZSH, "zsh", line, expected, cwd=shop)


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_fish_completes(line: str, expected: str, shop: Path) -> None:
    shown = shell("fish", "--no-config", "-c", FISH, line, cwd=shop)
    assert expected in [choice.split("\t")[0] for choice in shown.splitlines()]


def test_what_a_command_does_stands_beside_it_whole(shop: Path) -> None:
    shown = shell("fish", "--no-config", "-c", FISH, "verser2-guest broker ", cwd=shop)
    assert dict(choice.split("\t") for choice in shown.splitlines()) == {
        **{name: f"Send a {name.upper()} request" for name in METHODS if name != "options"},
        "options": "Send an OPTIONS request",
        "request": "Send a request of any other method",
        "routes": "Show which Guest serves which domain",
        "ws": "Talk through a WebSocket line by line",
    }

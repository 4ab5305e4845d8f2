"""`--help` as text: compared with what is kept in `help/`, so that every change of it is seen.

`UPDATE_HELP=1 pytest tests/cli/test_help.py` writes the files anew.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.processes import run
from verser2_guest_python.service.settings.environment import shown_variable
from verser2_guest_python.service.settings.options import (
    BROKER_KEYS,
    CALL_KEYS,
    DEV_KEYS,
    GATEWAY_KEYS,
    HOST_KEYS,
    OPTIONS,
    SERVE_KEYS,
    options,
)

KEPT = Path(__file__).parent / "help"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "serve",
        "dev",
        "host",
        "broker",
        "broker get",
        "broker request",
        "broker routes",
        "broker ws",
        "health",
        "gateway",
        "config",
        "config show",
        "config check",
        "config check host",
        "config schema",
        "completion",
    ],
)
def test_help_is_what_was_reviewed(command: str) -> None:
    result = run(*command.split(), "--help")
    assert (result.returncode, result.stderr) == (0, b"")
    kept = KEPT / f"{command.replace(' ', '-') or 'main'}.txt"
    if os.environ.get("UPDATE_HELP"):
        kept.write_bytes(result.stdout)
    assert result.stdout.decode() == kept.read_text()


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("serve", SERVE_KEYS),
        ("dev", DEV_KEYS),
        ("gateway", GATEWAY_KEYS),
        ("host", tuple(key for key in HOST_KEYS if not key.startswith("tls."))),  # these in words of its own
        ("broker get", (*BROKER_KEYS, *CALL_KEYS)),
    ],
)
def test_every_option_has_a_sentence_its_variable_and_its_default(
    command: str, keys: tuple[str, ...]
) -> None:
    text = re.sub(r"\s+", " ", run(*command.split(), "--help").stdout.decode())
    for option in options(keys):
        assert option.flag in text
        assert option.sentence.endswith(".")
        assert option.sentence in text
        assert f"env: {shown_variable(option.key)}" in text
        if option.shown_default and not option.required:
            assert f"{shown_variable(option.key)}; default: {option.shown_default}]" in text


def test_every_option_is_one_of_some_command() -> None:
    assert set(OPTIONS) == {*SERVE_KEYS, *DEV_KEYS, *HOST_KEYS, *GATEWAY_KEYS, *BROKER_KEYS, *CALL_KEYS}


def test_without_a_word_there_is_help() -> None:
    assert run().stdout == run("--help").stdout
    assert run("broker").stdout == run("broker", "--help").stdout


def test_the_version_is_that_of_the_distribution() -> None:
    assert run("--version").stdout.decode() == f"verser2-guest {version('verser2-guest-python')}\n"

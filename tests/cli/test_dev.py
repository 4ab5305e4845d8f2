"""`verser2-guest dev` and `make demo`: the printed line works, the newest is found, all ends cleanly."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import ROOT, Running, environment, fails, run, start

APPS = Path(__file__).parent / "apps"


def dev(state: dict[str, str], *more: str, app: str = "small:app") -> Running:
    return start("dev", app, "--app-dir", str(APPS), *more, env=state)


def printed(process: Running, *words: str) -> str:
    return process.says("broker get", *words, where="stdout").strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_printed_lines_work_and_a_signal_ends_it(state: dict[str, str], number: signal.Signals) -> None:
    with dev(state) as process:
        for line in (printed(process), printed(process, "--host-url")):
            result = subprocess.run(
                ["sh", "-c", line], capture_output=True, env=environment(**state), timeout=30
            )
            assert (result.returncode, result.stdout) == (0, b"small"), result.stderr.decode()
        process.says('"request"')
        assert process.stop(number) == 0
        assert "Traceback" not in process.transcript()
    fails(2, "--host-url", arguments=("broker", "get", "small.localhost/"), env=state)


def test_the_domain_can_be_chosen(state: dict[str, str]) -> None:
    with dev(state, "--domain", "one.test", "--domain", "two.test") as process:
        assert "http://one.test/" in printed(process)
        assert run("broker", "get", "two.test/", env=state).stdout == b"small"
        fails(6, "one.test, two.test", arguments=("broker", "get", "small.localhost/"), env=state)


def test_a_proxy_in_the_environment_is_left_alone(state: dict[str, str]) -> None:
    state = {**state, "HTTPS_PROXY": "http://127.0.0.1:1"}
    with dev(state) as process:
        for line in (printed(process), printed(process, "--host-url")):
            result = subprocess.run(
                ["sh", "-c", line], capture_output=True, env=environment(**state), timeout=30
            )
            assert (result.returncode, result.stdout) == (0, b"small"), result.stderr.decode()
        assert process.stop() == 0


def test_the_newest_of_two_is_found_and_a_crash_is_noticed(state: dict[str, str]) -> None:
    with dev(state, "--domain", "older.test") as older:
        printed(older)
        with dev(state, "--domain", "newer.test") as newer:
            printed(newer)
            assert run("broker", "get", "newer.test/", env=state).stdout == b"small"
            newer.send(signal.SIGKILL)
            newer.wait()
        assert run("broker", "get", "older.test/", env=state).stdout == b"small"


def test_two_that_start_at_once_both_serve(state: dict[str, str]) -> None:
    with dev(state, "--domain", "one.test") as one, dev(state, "--domain", "two.test") as two:
        for process in (one, two):
            line = printed(process, "--host-url")
            result = subprocess.run(
                ["sh", "-c", line], capture_output=True, env=environment(**state), timeout=30
            )
            assert result.stdout == b"small", result.stderr.decode()


def test_what_it_keeps_is_private(state: dict[str, str]) -> None:
    with dev(state) as process:
        printed(process)
        for directory, _, files in os.walk(state["XDG_STATE_HOME"] + "/verser2-guest"):
            assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
            assert {stat.S_IMODE(Path(directory, file).stat().st_mode) for file in files} <= {0o600}


def test_nobody_without_a_certificate_of_ours_gets_in(state: dict[str, str]) -> None:
    with dev(state) as process:
        words = shlex.split(printed(process, "--host-url"))
        url, ca_file = (words[words.index(flag) + 1] for flag in ("--host-url", "--tls-ca-file"))
        arguments = ("broker", "get", "small.localhost/", "--host-url", url, "--tls-ca-file", ca_file)
        fails(60, "certificate", arguments=arguments, env=state)


def test_mistakes(state: dict[str, str]) -> None:
    fails(78, "nowhere", arguments=("dev", "nowhere:app"), env=state)
    fails(2, "APP", arguments=("dev",), env=state)
    no_database = ("dev", "small:no_database", "--app-dir", str(APPS))
    fails(1, "the database is away", arguments=no_database, env=state)
    fails(
        78,
        "XDG_STATE_HOME",
        arguments=("dev", "small:app", "--app-dir", str(APPS)),
        env={"XDG_STATE_HOME": "/dev/null"},
    )


def test_the_demo_shows_an_answer_and_goes_on(state: dict[str, str]) -> None:
    with Running([sys.executable, ROOT / "examples" / "demo.py"], env=state) as demo:
        demo.says("200 OK", where="stdout")
        demo.says("Hello from behind the Host!", where="stdout")
        demo.says("Ctrl-C", where="stdout")
        commands = [line.strip() for line in demo.stdout if " broker " in line]
        answers = [
            subprocess.run(["sh", "-c", line], capture_output=True, env=environment(**state), timeout=30)
            for line in commands
        ]
        assert [answer.returncode for answer in answers] == [0, 0, 0]
        assert b'"answer": 42' in answers[1].stdout
        assert answers[2].stdout.count(b"line") == 5
        assert demo.stop(signal.SIGINT) == 0
        assert "Traceback" not in demo.transcript()

"""How single calls are limited, wherever it is said: on the command line, in the environment, in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Stage
from tests.cli.processes import fails, run, start


def test_a_file_limits_calls_and_the_command_line_wins(kit: Stage, tmp_path: Path) -> None:
    (tmp_path / "verser2-guest.toml").write_text("[broker]\ntimeout = 0.5\nretry = 1\n")
    slow = ("broker", "get", "a.test/slow?60000", *kit.peer)
    fails(28, "0.5 s", arguments=slow, cwd=tmp_path)
    fails(28, "0.3 s", arguments=(*slow, "--timeout", "0.3"), cwd=tmp_path)
    flaky = ("broker", "get", "kit.test/flaky?settings:1:503", *kit.peer)
    again = run(*flaky, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, b"GET 2 ")
    assert b"(1 of 1)" in again.stderr
    # What goes with one answer only is passed over in a load run
    load = run("broker", "get", "kit.test/text", "--repeat", "2", "--timeout", "20", *kit.peer, cwd=tmp_path)
    assert load.returncode == 0, load.stderr


def test_the_environment_limits_calls(kit: Stage) -> None:
    loop = ("broker", "get", "-L", "kit.test/loop", *kit.peer)
    fails(1, "more than 2 redirects", arguments=loop, env={"VERSER_BROKER__MAX_REDIRECTS": "2"})
    fails(1, "more than 3 redirects", arguments=(*loop, "--max-redirects", "3"))
    nobody = ("broker", "ws", "nobody.test/", *kit.peer)
    fails(6, "0.1 s", arguments=nobody, env={"VERSER_BROKER__WAIT": "0.1"})


def test_the_host_waits_as_long_as_it_is_told_to(stage: Stage) -> None:
    names = ("--guest-id", "busy", "--domain", "busy.test", "--limit-concurrency", "1")
    arguments = ("examples.bench_app:app", *stage.peer, *names, "--log-format", "json")
    get = ("broker", "get", "busy.test/slow?60000", *stage.peer)
    with start(*arguments) as guest:
        guest.says('"registered"')
        with start(*get, "-v") as first:
            first.says("> GET")
            fails(28, "0.2 s", arguments=(*get, "--wait", "5", "--lease-timeout", "0.2"))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("TIMEOUT", "soon", "seconds"),
        ("WAIT", "0", "above 0"),
        ("LEASE_TIMEOUT", "nan", "above 0"),
        ("RETRY", "-1", "from 0"),
        ("MAX_REDIRECTS", "2.5", "a number"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_dialled(
    tmp_path: Path, name: str, value: str, wanted: str
) -> None:
    get = ("broker", "get", "a.test/", "--host-url", "https://host.invalid")
    flag = f"--{name.lower().replace('_', '-')}"
    fails(2, repr(value), flag, wanted, arguments=(*get, flag, value))
    variable = f"VERSER_BROKER__{name}"
    fails(2, repr(value), variable, wanted, arguments=get, env={variable: value})
    (tmp_path / "verser2-guest.toml").write_text(f"[broker]\n{name.lower()} = '{value}'\n")
    place = f"broker.{name.lower()} in verser2-guest.toml:2"
    fails(78, repr(value), place, wanted, arguments=get, cwd=tmp_path)
    checked = run("config", "check", cwd=tmp_path)
    assert checked.returncode == 78
    assert f"of {place} does not fit" in checked.stderr.decode()

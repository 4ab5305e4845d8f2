"""`broker routes`: who serves what, and what becomes of it."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import APPS, Stage
from tests.cli.processes import fails, host_process, run, start
from tests.support.certificates import Certificates


def test_a_table_of_domains_guests_and_states(kit: Stage) -> None:
    result = run("broker", "routes", *kit.peer)
    assert (result.returncode, result.stderr) == (0, b"")
    head, *rows = result.stdout.decode().splitlines()
    assert head.split() == ["DOMAIN", "GUEST", "STATE"]
    rows = [row for row in rows if row.split()[1] in ("stage", "kit")]  # others may just have left
    assert [row.split() for row in rows] == [
        ["a.test", "stage", "active"],
        ["b.test", "stage", "active"],
        ["kit.test", "kit", "active"],
        ["two.test", "kit", "active"],
    ]


def test_as_json(kit: Stage) -> None:
    rows = json.loads(run("broker", "routes", "--json", *kit.peer).stdout)
    row = next(row for row in rows if row["domain"] == "kit.test")
    assert (row["guest"], row["state"]) == ("kit", "active")
    assert abs(datetime.fromisoformat(row["since"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("as_json", [False, True])
def test_each_change_is_a_line(kit: Stage, as_json: bool) -> None:
    name = f"passing-{as_json}".lower()
    more = ["--json"] if as_json else []
    with start("broker", "routes", "--watch", *more, *kit.peer) as watching:
        watching.says("kit.test", where="stdout")
        names = ("--guest-id", name, "--domain", f"{name}.test")
        with start("small:app", "--app-dir", APPS, *kit.peer, *names) as guest:
            guest.says("registered")
            watching.says("added", name, where="stdout")
            guest.stop()
        watching.says("removed", name, where="stdout")
        assert watching.stop(signal.SIGINT) == 130
        lines = [line for line in watching.stdout if name in line]
    assert len(lines) == 2
    for line, kind, reason in zip(lines, ("added", "removed"), ("registered", "revoked"), strict=True):
        if as_json:
            said = json.loads(line)
            assert datetime.fromisoformat(said.pop("time")).tzinfo is UTC
            assert said == {"type": kind, "domain": f"{name}.test", "guest": name, "reason": reason}
        else:
            assert line.split("\t")[1:] == [kind, f"{name}.test", name, reason]


def test_a_host_without_guests(certs: Certificates) -> None:
    with host_process(certs.host, certs.host_key) as port:
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        result = run("broker", "routes", *peer)
        assert (result.returncode, result.stdout) == (0, b"DOMAIN  GUEST  STATE\n")
        assert b"no Guest is registered" in result.stderr
        assert run("broker", "routes", "--json", *peer).stdout == b"[]\n"


def test_watching_goes_on_when_the_host_was_away(certs: Certificates) -> None:
    with host_process(certs.host, certs.host_key) as port:
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        watching = start("broker", "routes", "--watch", "-v", *peer)
        watching.says("Connected")
    with watching:
        watching.says("was lost")
        with (
            host_process(certs.host, certs.host_key, port),
            start("small:app", "--app-dir", APPS, *peer, "--guest-id", "new", "--domain", "new.test"),
        ):
            watching.says("added", "new.test", where="stdout")
            assert watching.stop() == 143


def test_mistakes_end_as_everywhere(certs: Certificates, kit: Stage) -> None:
    fails(7, arguments=("broker", "routes", "--host-url", "https://host.invalid"))
    fails(60, arguments=("broker", "routes", "--host-url", kit.url))
    fails(2, "--tls-ca-file", arguments=("broker", "routes", "-k", *kit.peer))

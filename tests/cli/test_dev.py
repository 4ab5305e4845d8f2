"""`verser2-guest dev` and `make demo`: the printed lines work, the newest is found, all ends cleanly."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.cli.devs import APPS, dev
from tests.cli.processes import COMMAND, ROOT, Running, environment, fails, run
from tests.support.collector import Collected, collector

PLAIN = "--no-reload"  # where it makes no difference, one process is quicker


@pytest.mark.parametrize(("number", "more"), [(signal.SIGINT, ()), (signal.SIGTERM, (PLAIN,))])
def test_the_printed_line_works_and_a_signal_ends_it(
    state: dict[str, str], number: signal.Signals, more: tuple[str, ...]
) -> None:
    with dev(state, *more) as one:
        result = subprocess.run(
            one.command("broker get"), capture_output=True, env=environment(**state), timeout=30
        )
        assert (result.returncode, result.stdout) == (0, b"small"), result.stderr.decode()
        answer = one.get()
        assert answer.text == "small"
        assert answer.headers["server-timing"].startswith("verser-lease;dur=")  # for the browser's own tools
        one.process.says('"request"')
        assert one.process.stop(number) == 0
        assert "Traceback" not in one.process.transcript()
    fails(2, "--host-url", arguments=("broker", "get", "small.localhost/"), env=state)


@pytest.mark.parametrize(("more", "of_host"), [((), "verser2-dev"), ((PLAIN,), "small.localhost")])
def test_one_trace_from_the_gateway_to_the_app(
    state: dict[str, str], more: tuple[str, ...], of_host: str
) -> None:
    with collector() as found, dev({**state, **found.env}, "--otel", *more) as one:
        inspector = one.printed("Look inside").split()[-1]
        assert httpx2.get(inspector, timeout=20.0).status_code < 400  # in no trace
        assert one.get("/?token=secret").text == "small"
        found.wait(5)
        (said,) = [json.loads(line) for line in one.process.stderr if '"event":"request"' in line]
        assert "session_id" not in said  # the gateway tells of it, which has none
        assert one.process.stop() == 0
    spans = {span.span_id: span for span in found.spans}
    assert len({span.trace_id for span in spans.values()}) == 1, one.process.transcript()
    assert (said["trace_id"], spans[said["span_id"]].kind) == (found.spans[0].trace_id, "SPAN_KIND_SERVER")

    def described(span: Collected | None) -> str:
        return "" if span is None else f"{span.kind.removeprefix('SPAN_KIND_')} of {span.service}"

    found_so = {(described(span), described(spans.get(span.parent_id))) for span in spans.values()}
    assert found_so == {
        (f"SERVER of {of_host}", ""),  # the gateway
        (f"CLIENT of {of_host}", f"SERVER of {of_host}"),
        (f"INTERNAL of {of_host}", f"CLIENT of {of_host}"),
        (f"INTERNAL of {of_host}", f"INTERNAL of {of_host}"),  # the wait for a lease
        ("SERVER of small.localhost", f"INTERNAL of {of_host}"),
    }
    assert all(b"secret" not in body for body in found.bodies)


def test_the_domain_can_be_chosen(state: dict[str, str]) -> None:
    with dev(state, PLAIN, "--domain", "one.test", "--domain", "two.test") as one:
        assert one.printed("broker get").endswith("http://one.test/")
        assert one.url.startswith("http://one.test:")
        assert one.get(headers={"host": "two.test"}).text == "small"
        assert run("broker", "get", "two.test/", env=state).stdout == b"small"
        fails(6, "one.test, two.test", arguments=("broker", "get", "small.localhost/"), env=state)


def test_a_proxy_in_the_environment_is_left_alone(state: dict[str, str]) -> None:
    state = {**state, "HTTPS_PROXY": "http://127.0.0.1:1"}
    with dev(state, PLAIN) as one:
        one.printed("Ctrl-C")
        for words in ((), (*one.peer(), "--proxy", "")):
            assert run("broker", "get", "small.localhost/", *words, env=state).stdout == b"small"
        assert one.process.stop() == 0


def test_of_two_the_one_that_serves_the_domain_is_found_and_a_crash_is_noticed(
    state: dict[str, str],
) -> None:
    with dev(state, PLAIN, "--domain", "older.test") as older:
        older.printed("Ctrl-C")
        with dev(state, PLAIN, "--domain", "newer.test") as newer:
            newer.printed("Ctrl-C")
            for domain in ("newer.test", "older.test"):
                assert run("broker", "get", f"{domain}/", env=state).stdout == b"small"
            fails(6, "newer.test", arguments=("broker", "get", "neither.test/"), env=state)
            newer.process.send(signal.SIGKILL)
            newer.process.wait()
        fails(6, "older.test", arguments=("broker", "get", "newer.test/"), env=state)


def test_two_that_start_at_once_both_serve(state: dict[str, str]) -> None:
    with dev(state, PLAIN) as one, dev(state, PLAIN) as two:
        for each in (one, two):
            assert each.get().text == "small"
            assert run("broker", "get", "small.localhost/", *each.peer(), env=state).stdout == b"small"


def test_what_it_keeps_is_private(state: dict[str, str]) -> None:
    with dev(state, PLAIN) as one:
        one.printed("Ctrl-C")
        for directory, _, files in os.walk(state["XDG_STATE_HOME"] + "/verser2-guest"):
            assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
            assert {stat.S_IMODE(Path(directory, file).stat().st_mode) for file in files} <= {0o600}


def test_nobody_without_a_certificate_of_ours_gets_in(state: dict[str, str]) -> None:
    with dev(state, PLAIN) as one:
        one.printed("Ctrl-C")
        without_ours = one.peer()[:4]
        fails(
            60, "--tls-cert-file", arguments=("broker", "get", "small.localhost/", *without_ours), env=state
        )


def test_mistakes(state: dict[str, str]) -> None:
    port = ("--port", "0")
    for more in ((), (PLAIN,)):
        fails(78, "nowhere", arguments=("dev", "nowhere:app", *port, *more), env=state)
    fails(2, "APP", arguments=("dev", *port), env=state)
    fails(2, "--port", arguments=("dev", "small:app", "--port", "x"), env=state)
    no_database = ("dev", "small:no_database", "--app-dir", str(APPS), PLAIN, *port)
    fails(1, "the database is away", arguments=no_database, env=state)
    fails(
        78,
        "XDG_STATE_HOME",
        arguments=("dev", "small:app", "--app-dir", str(APPS), *port),
        env={"XDG_STATE_HOME": "/dev/null"},
    )


def test_a_port_that_is_taken_is_told(state: dict[str, str]) -> None:
    with dev(state, PLAIN) as one:
        arguments = ("dev", "small:app", "--app-dir", str(APPS), "--port", str(one.port))
        fails(78, f"{one.port} of this machine: address already in use. ", arguments=arguments, env=state)


def test_without_its_extras_it_says_so_and_serves(state: dict[str, str], tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    missing = ("uvicorn", "httptools", "websockets", "watchfiles")
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in missing)]
    (blocker / "sitecustomize.py").write_text("\n".join(lines))
    env = {**state, "PYTHONPATH": str(blocker)}
    with Running([*COMMAND, "dev", "small:app", "--app-dir", APPS], env=env) as process:
        line = process.says("pip install", where="stdout")
        assert "gateway" in line
        assert "reload" in line
        process.says("Ctrl-C", where="stdout")
        assert not [text for text in process.stdout if ":8080" in text]
        assert run("broker", "get", "small.localhost/", env=state).stdout == b"small"
        assert process.stop(signal.SIGINT) == 0


def test_a_browser_is_opened(state: dict[str, str], tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.draft && mv {opened}.draft {opened}\n')
    browser.chmod(0o755)
    with dev({**state, "BROWSER": f"{browser} %s"}, PLAIN, "--open") as one:
        one.process.says('"browser opened"')
        assert opened.read_text().strip() == f"{one.url}/"


def test_the_demo_shows_an_answer_and_goes_on(state: dict[str, str]) -> None:
    with Running([sys.executable, ROOT / "examples" / "demo.py"], env=state) as demo:
        demo.says("200 OK", where="stdout")
        demo.says("Hello from behind the Host!", where="stdout")
        demo.says("http://hello.localhost:", where="stdout")
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

"""`verser2-guest APP`: a Guest as a process, from its first line to its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path
from textwrap import dedent

import pytest

from tests.cli.conftest import Stage
from tests.cli.processes import Running, fails, host_process, run, start
from tests.support.certificates import Certificates

APPS = Path(__file__).parent / "apps"
HERE = ("--app-dir", str(APPS))
NAMED = ("--guest-id", "g", "--domain", "g.test")
ANYWHERE = ("--host-url", "https://localhost:1", *NAMED)


def guest(stage: Stage, app: str, name: str, *more: str | Path) -> tuple[str | Path, ...]:
    """The arguments of a Guest `name` at the stage, for the domain of that name."""
    names = ("--guest-id", name, "--domain", f"{name}.test")
    return (app, *stage.peer, *HERE, *names, *more)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- Mistakes -----------------------------------------------------------------------------------


def test_an_app_that_does_not_import_shows_its_own_error() -> None:
    words = ("broken", "KeyError: 'DATABASE_URL'", "line 6", "--debug")
    fails(78, *words, arguments=("broken:app", *HERE, *ANYWHERE))


def test_the_traceback_of_the_app_is_shown_with_debug() -> None:
    result = run("broken:app", "--debug", *HERE, *ANYWHERE)
    assert result.returncode == 78
    assert b"Traceback" in result.stderr
    assert b"verser2_guest_python" not in result.stderr


def test_a_startup_that_fails_says_where_and_how_to_see_more(stage: Stage, tmp_path: Path) -> None:
    source = """
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette

    @asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("no database")
        yield

    app = Starlette(lifespan=lifespan)
    """
    (tmp_path / "asleep.py").write_text(dedent(source))
    arguments = ("asleep:app", *stage.peer, *NAMED, *CONSOLE)
    words = ("RuntimeError: no database (asleep.py, line 7).", "--debug")
    fails(1, *words, arguments=arguments, cwd=tmp_path)
    result = run(*arguments, "--debug", cwd=tmp_path)
    assert (result.returncode, b"Traceback" in result.stderr) == (1, True)
    assert not result.stderr.splitlines()[-1].endswith(b"is shown.")


def test_a_name_that_is_taken_is_an_outage_like_others(stage: Stage) -> None:
    with start(*guest(stage, "small:app", "stage"), "--log-format", "json") as process:
        told = json.loads(process.says("did not register 'stage'"))
        assert (told["event"], told["level"]) == ("reconnecting", "warning")
        assert "take another id" in told["reason"]


@pytest.mark.parametrize(
    ("app", "word"),
    [
        ("nowhere:app", "nowhere"),
        ("small:ap", "'app'"),
        ("small:number", "cannot be called"),
        ("small:make_app", "--factory"),
        ("small.app:", "module:attribute"),
    ],
)
def test_an_app_that_cannot_be_loaded(app: str, word: str) -> None:
    fails(78, word, arguments=(app, *HERE, *ANYWHERE))


@pytest.mark.parametrize(
    ("flag", "variable"),
    [
        ("--host-url", "VERSER_HOST_URL"),
        ("--guest-id", "VERSER_GUEST_ID"),
        ("--domain", "VERSER_ROUTED_DOMAINS"),
    ],
)
def test_what_is_required_is_named_with_its_variable(flag: str, variable: str) -> None:
    arguments = ["small:app", *HERE, *ANYWHERE]
    at = arguments.index(flag)
    fails(2, flag, variable, arguments=arguments[:at] + arguments[at + 2 :])


def test_an_app_has_to_be_named() -> None:
    fails(2, "APP", arguments=("serve", *ANYWHERE))


def test_a_word_without_a_colon_is_a_mistyped_command() -> None:
    fails(2, "'broker'", arguments=("brokre", "get", "a.test/"))
    fails(2, "module:attribute", arguments=("myapp", *ANYWHERE))


def test_values_that_do_not_fit() -> None:
    fails(
        2,
        "http://localhost:1",
        "https",
        arguments=("small:app", *HERE, *ANYWHERE, "--host-url", "http://localhost:1"),
    )
    fails(
        2, "--limit-concurrency", "'x'", arguments=("small:app", *HERE, *ANYWHERE, "--limit-concurrency", "x")
    )
    fails(2, "--log-format", "'xml'", arguments=("small:app", *HERE, *ANYWHERE, "--log-format", "xml"))
    fails(
        2,
        "VERSER_LOG__LEVEL",
        "'loud'",
        arguments=("small:app", *ANYWHERE),
        env={"VERSER_LOG__LEVEL": "loud"},
    )
    fails(2, "--hots-url", "--host-url", arguments=("small:app", *ANYWHERE, "--hots-url", "x"))


def test_aliases_that_contradict_each_other() -> None:
    env = {"VERSER_ROUTED_DOMAINS": "a.test", "VERSER_GUEST_DOMAIN": "b.test"}
    fails(78, "VERSER_ROUTED_DOMAINS", "VERSER_GUEST_DOMAIN", arguments=("small:app", *ANYWHERE), env=env)


CONSOLE = ("--log-format", "console")


def test_files_that_cannot_be_used(stage: Stage) -> None:
    certs = stage.certs
    fails(
        78, "missing.pem", arguments=guest(stage, "small:app", "f", *CONSOLE, "--tls-ca-file", "missing.pem")
    )
    pair = ("--tls-cert-file", certs.guest, "--tls-key-file", certs.broker_key)
    fails(78, str(certs.broker_key), arguments=guest(stage, "small:app", "f", *CONSOLE, *pair))


def test_a_host_that_is_not_there_ends_it_when_asked_to() -> None:
    url = f"https://127.0.0.1:{free_port()}"
    more = ("--host-url", url, "--exit-on-connect-failure", *CONSOLE)
    fails(7, url.removeprefix("https://"), arguments=("small:app", *HERE, *NAMED, *more))


def test_in_json_the_reason_is_the_last_line() -> None:
    url = f"https://127.0.0.1:{free_port()}"
    result = run("small:app", *HERE, *NAMED, "--host-url", url, "--exit-on-connect-failure")
    *_, last = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.returncode == 7
    assert (last["event"], last["level"], last["exit_code"]) == ("stopped", "error", 7)
    assert url.removeprefix("https://") in last["reason"]


@pytest.mark.parametrize("more", [(), ("--exit-on-connect-failure",)])
def test_an_app_that_has_started_is_stopped_also_when_there_is_no_host(
    stage: Stage, more: tuple[str, ...]
) -> None:
    trust = ("--tls-ca-file", stage.certs.untrusted_ca)
    result = run(*guest(stage, "small:says_goodbye", "t", *trust, *more))
    assert (result.returncode, result.stdout) == (60, b"goodbye\n")
    assert b"Traceback" not in result.stderr


def test_trust_is_refused_at_once(stage: Stage) -> None:
    more = ("--tls-ca-file", stage.certs.untrusted_ca, *CONSOLE)
    fails(60, "certificate", arguments=guest(stage, "small:app", "t", *more))


def test_a_certificate_for_another_name(certs: Certificates) -> None:
    with host_process(certs.other_name, certs.other_name_key) as port:
        where = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        fails(60, "localhost", arguments=("small:app", *HERE, *NAMED, *where, *CONSOLE))


def test_a_name_that_is_taken_ends_it_when_asked_to(stage: Stage) -> None:
    more = ("--fail-if-registered", *CONSOLE)
    said = (f"localhost:{stage.port} did not register 'stage'", "already registered", "another id")
    fails(77, *said, arguments=guest(stage, "small:app", "stage", *more))


def test_an_app_that_fails_to_start(stage: Stage) -> None:
    fails(1, "the database is away", arguments=guest(stage, "small:no_database", "n", *CONSOLE))


# --- Serving ------------------------------------------------------------------------------------


def ask(stage: Stage, url: str) -> bytes:
    return run("broker", "get", url, *stage.peer).stdout


@pytest.mark.parametrize("spelling", [(), ("serve",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(stage: Stage, spelling: tuple[str, ...], number: signal.Signals) -> None:
    with start(*spelling, *guest(stage, "small:app", "one")) as process:
        process.says('"registered"')
        assert ask(stage, "one.test/items?token=hunter2") == b"small"
        line = json.loads(process.says('"request"'))
        assert process.stop(number) == 0
        assert process.stdout == []
    assert line.pop("duration_ms") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert re.fullmatch(r"broker-[0-9a-f]+-1", line.pop("request_id")[:])
    assert line.pop("source_id").startswith("broker-")
    assert re.fullmatch(r"[0-9a-f]{8}", line.pop("session_id"))
    assert line == {
        "level": "info",
        "event": "request",
        "guest_id": "one",
        "method": "GET",
        "path": "/items",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": 5,
    }
    events = [json.loads(text) for text in process.stderr]
    assert [entry["event"] for entry in events] == [
        "starting",
        "registered",
        "request",
        "draining",
        "stopped",
    ]
    assert events[-2]["reason"] == f"{number.name} received"
    assert (events[-1]["requests_total"], events[-1]["errors_total"]) == (1, 0)


def test_settings_come_from_the_environment(stage: Stage) -> None:
    env = {
        "VERSER_APP": "small:make_app",
        "VERSER_FACTORY": "yes",
        "VERSER_APP_DIR": str(APPS),
        "VERSER_HOST_URL": stage.url,
        "VERSER_GUEST_ID": "from-env",
        "VERSER_GUEST_DOMAIN": "env-one.test, env-two.test",
        "VERSER_TLS_CA_FILE": str(stage.certs.ca),
        "VERSER_TLS_CERT_FILE": str(stage.certs.guest),
        "VERSER_TLS_KEY_FILE": str(stage.certs.guest_encrypted_key),
        "VERSER_TLS_KEY_PASSWORD": stage.certs.password,
        "VERSER_LOG__ACCESS_LOG": "no",
    }
    with start(env=env) as process:
        process.says('"registered"')
        assert ask(stage, "env-two.test/") == b"small"
        assert process.stop() == 0
        assert process.count('"event":"request"') == 0
        assert stage.certs.password not in process.transcript()


def test_a_drain_lets_requests_finish(stage: Stage) -> None:
    name = (
        "examples.bench_app:app",
        *stage.peer,
        "--guest-id",
        "drained",
        "--domain",
        "drained.test",
        "--log-level",
        "debug",
    )
    with start(*name) as process, ask_slowly(stage, process, "drained.test", 1500) as broker:
        process.send(signal.SIGTERM)
        process.says('"draining"')
        assert broker.wait() == 0
        assert broker.stdout == ["slow"]
        assert process.wait() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_it_at_once(stage: Stage, number: signal.Signals, code: int) -> None:
    domain = f"second-{code}.test"
    name = (
        "examples.bench_app:app",
        *stage.peer,
        "--guest-id",
        f"second-{code}",
        "--domain",
        domain,
        "--log-level",
        "debug",
    )
    with start(*name) as process, ask_slowly(stage, process, domain, 60_000) as broker:
        process.send(number)
        process.says('"draining"')
        assert process.stop(number) == code
        assert broker.wait() == 56
        assert "Traceback" not in process.transcript()


def ask_slowly(stage: Stage, process: Running, domain: str, milliseconds: int) -> Running:
    """A Broker with a request under way at a Guest that logs each one at debug level."""
    process.says('"registered"')
    broker = start("broker", "get", f"http://{domain}/slow?{milliseconds}", *stage.peer)
    process.says('"request started"')
    return broker


def test_an_app_that_holds_up_the_loop_cannot_hold_up_the_end(stage: Stage) -> None:
    with start(*guest(stage, "small:app", "blocked", "--log-level", "debug")) as process:
        process.says('"registered"')
        with start("broker", "get", "http://blocked.test/block", *stage.peer):
            process.says('"request started"')
            while not process.ended:  # two that come too close together would count as one
                process.send(signal.SIGTERM)
                time.sleep(0.2)
            assert process.wait() == 143


def test_a_signal_while_the_app_starts(stage: Stage) -> None:
    with start(*guest(stage, "small:slow_start", "starting")) as process:
        process.says("starting", where="stdout")
        assert process.stop() == 0


def test_a_host_that_comes_later_is_found(certs: Certificates) -> None:
    port = free_port()
    where = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
    with start("small:app", *HERE, *NAMED, *where) as process:
        process.says('"reconnecting"', f"localhost:{port}")
        with host_process(certs.host, certs.host_key, str(port)):
            process.says('"registered"')
            assert process.count('"reconnecting"') == 1
        process.says('"disconnected"')
        assert process.stop() == 0


def test_a_name_that_is_taken_is_tried_again_with_one_warning(stage: Stage) -> None:
    with start(*guest(stage, "small:app", "twice")) as first:
        first.says('"registered"')
        with start(*guest(stage, "small:app", "twice")) as second:
            second.says('"warning"', "already registered")
            assert first.stop() == 0
            second.says('"registered"')
            assert second.count('"warning"', "already registered") == 1
            assert second.stop() == 0


def test_no_secret_is_logged_at_any_level(stage: Stage) -> None:
    secrets = (
        "-H",
        "Authorization: Bearer hunter2",
        "-H",
        "Cookie: session=hunter2",
        "-H",
        "X-Api-Key: hunter2",
    )
    name = ("examples.bench_app:app", *stage.peer, "--guest-id", "secret", "--domain", "secret.test")
    with start(*name, "--log-level", "debug", "--debug") as process:
        process.says('"registered"')
        seen = run("broker", "get", "secret.test/headers?token=hunter2", *secrets, *stage.peer)
        assert seen.stdout.count(b"hunter2") == 3
        assert run("broker", "get", "secret.test/boom?token=hunter2", *secrets, *stage.peer).returncode == 1
        process.says("app failed: RuntimeError")
        assert process.stop() == 0
    assert "hunter2" not in process.transcript()


def test_the_app_s_error_text_reaches_the_broker_only_with_debug(stage: Stage) -> None:
    name = ("examples.bench_app:app", *stage.peer, "--guest-id", "frank", "--domain", "frank.test", "--debug")
    assert b"boom" not in run("broker", "get", "a.test/boom", *stage.peer).stderr
    with start(*name) as process:
        process.says('"registered"')
        assert b"boom" in run("broker", "get", "frank.test/boom", *stage.peer).stderr
        assert process.stop() == 0

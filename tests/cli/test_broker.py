"""`verser2-guest broker get` and its sisters: what comes out, and how each mistake ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Stage
from tests.cli.processes import COMMAND, environment, fails, host_process, run, start
from tests.support.certificates import Certificates

# --- What comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://a.test/plain", "https://b.test/plain", "a.test/plain"])
def test_the_body_is_written_as_it_is(stage: Stage, url: str) -> None:
    result = run("broker", "get", url, *stage.peer)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"Hello, World!", b"")


def test_status_and_headers_come_first_when_asked_for(stage: Stage) -> None:
    result = run("broker", "get", "-i", "http://a.test/cookies", *stage.peer)
    head, body = result.stdout.split(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    assert status == b"HTTP/1.1 200 OK"
    assert b"content-type: text/plain" in fields
    assert fields.count(b"set-cookie: a=1; Path=/") == fields.count(b"set-cookie: b=2; Path=/") == 1
    assert body == b"cookies"


def test_headers_are_sent(stage: Stage) -> None:
    headers = ("-H", "X-Colour: blue", "-H", "x-empty:")
    seen = json.loads(run("broker", "get", "http://a.test/headers", *headers, *stage.peer).stdout)
    assert (seen["x-colour"], seen["x-empty"], seen["host"]) == ("blue", "", "a.test")


def test_head_shows_the_head_alone(stage: Stage) -> None:
    result = run("broker", "head", "http://a.test/plain", *stage.peer)
    assert result.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert result.stdout.endswith(b"\r\n\r\n")


def test_an_answer_of_the_app_is_an_answer_whatever_its_status(stage: Stage) -> None:
    result = run("broker", "get", "http://a.test/nowhere", *stage.peer)
    assert (result.returncode, result.stdout) == (0, b"Not Found")


def test_a_body_is_sent_from_text_file_and_standard_input(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\x00\xff\n")
    peer = stage.peer
    assert run("broker", "post", "a.test/echo", "-d", "a=1&b=ü", *peer).stdout == "a=1&b=ü".encode()
    assert run("broker", "put", "a.test/echo", "-d", f"@{tmp_path}/body", *peer).stdout == b"\x00\xff\n"
    assert run("broker", "patch", "a.test/echo", "-d", "@-", *peer, data=b"in\n").stdout == b"in\n"
    shown = run("broker", "post", "-i", "a.test/echo", "-d", "{}", "-H", "Content-Type: text/x", *peer).stdout
    assert b"content-type: text/x" in shown


def test_a_large_answer_is_whole(stage: Stage, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        arguments = [*COMMAND, "broker", "get", "http://a.test/big?4", *map(str, stage.peer)]
        assert subprocess.run(arguments, stdout=file, env=environment(), timeout=30).returncode == 0
    assert (tmp_path / "out").stat().st_size == 4 * 1024 * 1024


def test_events_come_as_they_are_sent(stage: Stage) -> None:
    """The first event of a stream without end is there while the request goes on."""
    with start("broker", "get", "http://a.test/sse?1000000", *stage.peer) as broker:
        assert broker.says("data: 1", where="stdout")
        assert broker.stop(signal.SIGINT) == 130


def test_settings_come_from_the_environment(stage: Stage) -> None:
    env = {
        "VERSER_HOST_URL": stage.url,
        "VERSER_TLS_CA_FILE": str(stage.certs.ca),
        "VERSER_BROKER_ID": "mine",
    }
    assert run("broker", "get", "http://a.test/plain", env=env).stdout == b"Hello, World!"
    assert '"source_id":"mine"' in stage.guest.says('"mine-1"')


# --- Mistakes -----------------------------------------------------------------------------------


def test_a_domain_that_nobody_serves(stage: Stage) -> None:
    fails(6, "c.test", "a.test", "b.test", arguments=("broker", "get", "http://c.test/", *stage.peer))


def test_a_host_that_is_not_there(certs: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
    fails(7, url.removeprefix("https://"), arguments=("broker", "get", "a.test/", "--host-url", url))


def test_a_name_that_does_not_exist() -> None:
    fails(7, "host.invalid", arguments=("broker", "get", "a.test/", "--host-url", "https://host.invalid"))


def test_an_unknown_authority(stage: Stage) -> None:
    arguments = (
        "broker",
        "get",
        "a.test/",
        "--host-url",
        stage.url,
        "--tls-ca-file",
        stage.certs.untrusted_ca,
    )
    fails(60, "certificate", arguments=arguments)
    fails(60, "certificate", arguments=("broker", "get", "a.test/", "--host-url", stage.url))


@pytest.mark.parametrize("name", ["other_name", "expired"])
def test_a_certificate_that_does_not_hold(certs: Certificates, name: str) -> None:
    with host_process(getattr(certs, name), getattr(certs, f"{name}_key")) as port:
        url = f"https://localhost:{port}"
        fails(
            60,
            "certificate",
            arguments=("broker", "get", "a.test/", "--host-url", url, "--tls-ca-file", certs.ca),
        )


def test_a_host_that_wants_a_certificate(certs: Certificates) -> None:
    with host_process(certs.host, certs.host_key, "0", certs.ca) as port:
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        fails(60, "certificate", arguments=("broker", "get", "a.test/", *peer))
        identity = ("--tls-cert-file", certs.broker, "--tls-key-file", certs.broker_key)
        fails(6, "a.test", arguments=("broker", "get", "a.test/", *peer, *identity))
        env = {"VERSER_TLS_PFX_FILE": str(certs.guest_pfx), "VERSER_TLS_PFX_PASSWORD": certs.password}
        fails(6, "a.test", arguments=("broker", "get", "a.test/", *peer), env=env)


@contextmanager
def tls_server(certs: Certificates, protocols: list[str] | None) -> Iterator[str]:
    """A TLS server that is no Host; gives its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.host, certs.host_key)
    if protocols:
        context.set_alpn_protocols(protocols)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        thread.join(30)


@pytest.mark.parametrize("protocols", [None, ["http/1.1"]])
def test_a_server_that_speaks_no_http2(certs: Certificates, protocols: list[str] | None) -> None:
    with tls_server(certs, protocols) as url:
        fails(35, "h2", arguments=("broker", "get", "a.test/", "--host-url", url, "--tls-ca-file", certs.ca))


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        fails(28, arguments=("broker", "get", "a.test/", "--host-url", url, "--connect-timeout", "0.3"))


def test_an_answer_that_takes_too_long(stage: Stage) -> None:
    arguments = ("broker", "get", "http://a.test/slow?60000", "--timeout", "0.5", *stage.peer)
    fails(28, "0.5 s", arguments=arguments)


def test_a_name_that_is_taken(stage: Stage) -> None:
    said = (f"localhost:{stage.port} did not register 'stage'", "already registered", "another id")
    fails(77, *said, arguments=("broker", "get", "a.test/", "--broker-id", "stage", *stage.peer))


def test_an_app_that_fails(stage: Stage) -> None:
    fails(1, "app failed", arguments=("broker", "get", "http://a.test/boom", *stage.peer))


def test_an_answer_that_is_cut_off(stage: Stage) -> None:
    result = run("broker", "get", "http://a.test/cut", *stage.peer)
    assert result.returncode == 56
    assert len(result.stdout) == 100_000
    assert result.stderr.startswith(b"verser2-guest: ")


def test_a_host_that_says_goodbye_and_ends_is_told_once(certs: Certificates) -> None:
    with start(
        "host", "--port", "0", "--tls-cert-file", certs.host, "--tls-key-file", certs.host_key
    ) as host:
        port = json.loads(host.says('"listening"'))["port"]
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        names = ("--guest-id", "mortal", "--domain", "mortal.test", "--log-level", "debug")
        with (
            start("examples.bench_app:app", *peer, *names) as guest,
            start("broker", "get", "mortal.test/slow?60000", "--wait", "20", *peer) as asking,
        ):
            guest.says("request started")
            host.send(signal.SIGTERM)
            host.says('"draining"')
            host.send(signal.SIGTERM)
            assert asking.wait() == 56
            assert [line.partition(":")[0] for line in asking.stderr] == ["verser2-guest"]


def test_mistakes_of_a_newcomer_are_led_on(stage: Stage) -> None:
    fails(2, "`broker ws`", arguments=("broker", "get", "ws://a.test/", *stage.peer))
    fails(2, "No such option '--nope'. Did you mean one of '--", arguments=("--nope",))
    names = ("--host-url", stage.url, "--guest-id", "g", "--domain", "http://a.test/")
    fails(2, "--domain", "'http://a.test/'", arguments=("examples.bench_app:app", *names))


@pytest.mark.parametrize("url", ["ftp://a.test/", "http://", "http://a b/"])
def test_a_url_that_cannot_be_asked_for(stage: Stage, url: str) -> None:
    fails(2, arguments=("broker", "get", url, *stage.peer))


@pytest.mark.parametrize("url", ["http://localhost:1", "localhost:1", "https://localhost:1/path"])
def test_a_url_that_no_host_has(url: str) -> None:
    fails(2, url, "https", arguments=("broker", "get", "a.test/", "--host-url", url))


def test_no_host_at_all(state: dict[str, str]) -> None:
    fails(2, "--host-url", "VERSER_HOST_URL", "dev", arguments=("broker", "get", "a.test/"), env=state)


def test_certificates_are_always_checked(stage: Stage) -> None:
    for flag in ("-k", "--insecure"):
        fails(2, "--tls-ca-file", arguments=("broker", "get", "a.test/", flag, *stage.peer))


def test_files_that_cannot_be_used(stage: Stage) -> None:
    certs, url = stage.certs, ("--host-url", stage.url)
    get = ("broker", "get", "a.test/", *url)
    fails(78, "missing.pem", arguments=(*get, "--tls-ca-file", "missing.pem"))
    pair = ("--tls-cert-file", certs.guest, "--tls-key-file", certs.broker_key)
    fails(78, str(certs.broker_key), arguments=(*get, "--tls-ca-file", certs.ca, *pair))
    pair = ("--tls-cert-file", certs.guest, "--tls-key-file", certs.guest_encrypted_key)
    fails(78, "password", arguments=(*get, "--tls-ca-file", certs.ca, *pair))
    fails(78, "no-body", arguments=("broker", "post", "a.test/", "-d", "@no-body", *stage.peer))


def test_variables_that_contradict_each_other(stage: Stage) -> None:
    env = {"VERSER_TLS_CA_FILE": str(stage.certs.ca), "VERSER_TLS__CA_FILE": "other.pem"}
    arguments = ("broker", "get", "a.test/", "--host-url", stage.url)
    fails(78, "VERSER_TLS_CA_FILE", "VERSER_TLS__CA_FILE", arguments=arguments, env=env)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("no colon", "-H"),
        (": value", "-H"),
        ("", "-H"),
        ("x y: 1", "'x y'"),
        ("x: 1\nz: 2", "'x'"),
    ],
)
def test_a_header_that_is_none(header: str, said: str) -> None:
    where = ("--host-url", "https://localhost:1")  # it is told before anybody is asked
    fails(2, said, arguments=("broker", "get", "a.test/", "-H", header, *where))
    fails(2, said, arguments=("broker", "ws", "a.test/", "-H", header, *where))


def test_a_method_that_is_none() -> None:
    where = ("--host-url", "https://localhost:1")
    fails(2, "'GE T'", arguments=("broker", "request", "GE T", "a.test/", *where))


# --- The output ---------------------------------------------------------------------------------


def in_shell(command: str, stage: Stage) -> subprocess.CompletedProcess[bytes]:
    """Runs `$GET PATH…`, written for sh, where $GET is `broker get` with what leads to the stage."""
    call = " ".join(map(str, [*COMMAND, "broker", "get", *stage.peer]))
    env = environment(GET=call)
    return subprocess.run(["sh", "-c", command], capture_output=True, env=env, timeout=30)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written(stage: Stage) -> None:
    result = in_shell("$GET a.test/plain > /dev/full", stage)
    assert result.returncode == 23
    assert b"No space left on device" in result.stderr
    assert b"Traceback" not in result.stderr
    result = in_shell("$GET a.test/plain >&-", stage)
    assert (result.returncode, result.stderr.count(b"\n")) == (23, 1)


def test_a_closed_pipe_ends_it_quietly(stage: Stage) -> None:
    result = in_shell("{ $GET 'a.test/big?16'; echo $? >&2; } | head -c 10", stage)
    assert (result.stdout, result.stderr) == (b"x" * 10, b"0\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_app_learns_of_it(stage: Stage, number: signal.Signals, code: int) -> None:
    name = f"interrupted-{code}"
    with start("broker", "get", "a.test/sse?1000000", "--broker-id", name, *stage.peer) as broker:
        broker.says("data: 1", where="stdout")
        assert broker.stop(number) == code
        assert broker.stderr == []
    assert '"reason":"cancelled"' in stage.guest.says(f'"{name}-1"')


def test_a_reader_that_stands_still_does_not_stop_a_signal(stage: Stage) -> None:
    reading, writing = os.pipe()
    arguments = [*COMMAND, "broker", "get", "a.test/big?16", *map(str, stage.peer)]
    process = subprocess.Popen(arguments, stdout=writing, stderr=subprocess.PIPE, env=environment())
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 130
    os.close(reading)

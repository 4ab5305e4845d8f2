"""`verser2-guest host`: a Host as a process, from its first line to its end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.processes import Running, fails, run, start
from tests.support.certificates import Certificates, make_identity
from verser2_guest_python import LeaseTimeoutError, VerserError, create_verser_broker
from verser2_guest_python.host import HostLimits
from verser2_guest_python.service.daemons.host import limits_of
from verser2_guest_python.service.settings.model import Settings

APPS = Path(__file__).parent / "apps"
TOKEN = "a-token-of-some-length"
ANY_PORT = ("--port", "0")


def own(certs: Certificates) -> tuple[str | Path, ...]:
    return (*ANY_PORT, "--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)


def by(name: str, certs: Certificates) -> tuple[str | Path, ...]:
    cert, key = getattr(certs, name), getattr(certs, f"{name}_key")
    return ("--tls-cert-file", cert, "--tls-key-file", key)


@contextmanager
def running(*arguments: str | Path, cwd: Path = APPS) -> Iterator[tuple[Running, str]]:
    """A Host that listens, and its URL."""
    with start("host", *arguments, cwd=cwd) as host:
        yield host, str(json.loads(host.says('"listening"'))["url"])


@contextmanager
def guest(url: str, certs: Certificates, guest_id: str, domain: str, *more: str | Path) -> Iterator[Running]:
    names = ("--guest-id", guest_id, "--domain", domain)
    where = ("--host-url", url, "--tls-ca-file", certs.ca, "--log-format", "json")
    with start("examples.bench_app:app", "--log-level", "debug", *names, *where, *more) as process:
        yield process


def get(url: str, certs: Certificates, target: str, *more: str | Path) -> tuple[str | Path, ...]:
    return ("broker", "get", target, "--host-url", url, "--tls-ca-file", certs.ca, *more)


def config(path: Path, certs: Certificates, policy: str, more: str = "") -> tuple[str | Path, ...]:
    tls = f'[tls]\ncert_file = "{certs.host}"\nkey_file = "{certs.host_key}"'
    path.write_text(f"{tls}\n[host]\nport = 0\n{more}\n{policy}\n")
    return ("--config", path)


# --- Mistakes -----------------------------------------------------------------------------------


def test_what_is_missing_or_contradicts_itself(certs: Certificates, tmp_path: Path) -> None:
    fails(2, "--tls-cert-file", "--tls-pfx-file", arguments=("host",))
    anonymous = (*own(certs), "--allow-anonymous")
    fails(2, "--client-ca-file", arguments=("host", *anonymous, "--client-ca-file", certs.ca))
    fails(2, "--port", "65536", arguments=("host", *own(certs), "--port", "65536"))
    policy = '[[host.policy]]\nregistration_token_sha256 = "' + "0" * 64 + '"\npeer_ids = "x"\ndomains = "x"'
    named = config(tmp_path / "host.toml", certs, policy)
    fails(2, "--allow-anonymous", "policy", arguments=("host", *named, "--allow-anonymous"))
    for_certificates = config(tmp_path / "host.toml", certs, '[[host.policy]]\ncn = "x"\ndomains = "x"')
    fails(2, "--client-ca-file", arguments=("host", *for_certificates))


def test_what_can_never_work(certs: Certificates, tmp_path: Path) -> None:
    fails(78, "missing.pem", arguments=("host", "--tls-cert-file", "missing.pem"))
    wrong = ("--tls-cert-file", certs.host, "--tls-key-file", certs.guest_key)
    fails(78, str(certs.guest_key), arguments=("host", *wrong))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = f"port {port}: address already in use. Choose another"  # and no more
        fails(78, said, arguments=("host", *own(certs), "--port", port))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ('[[host.policy]]\ncn = "x"\ndomain = "x.test"', ["host.toml:7", "'domain'", "'domains'"]),
        ('[[host.policy]]\ncn = "x"\ndomains = "a"\n[[host.policy]]\ncn = "x"', ["host.toml:10", "#2"]),
        ('[[host.policy]]\ncn = "x"\ndomains = "x"\nregistration_token_file = "t"', ["t cannot be read"]),
        ('[host.policy]\ncn = "x"', ["host.policy"]),
    ],
)
def test_mistakes_in_a_policy(certs: Certificates, tmp_path: Path, policy: str, words: list[str]) -> None:
    path = tmp_path / "host.toml"
    fails(78, *words, arguments=("host", *config(path, certs, policy)))


def test_a_limit_that_is_none(certs: Certificates, tmp_path: Path) -> None:
    fails(2, "--max-sessions", arguments=("host", *own(certs), "--max-sessions", "0"))
    fails(2, "64MiB", arguments=("host", *own(certs), "--max-queued-bytes", "8X"))
    named = config(tmp_path / "host.toml", certs, "", 'max_queued_bytes = "much"')
    fails(78, "host.toml:6", "64MiB", arguments=("host", *named))


def test_the_limits_of_the_command_are_those_of_the_library() -> None:
    assert limits_of(Settings().host) == HostLimits()


# --- Running --------------------------------------------------------------------------------------


def test_limits_of_a_file_and_of_the_command_line(certs: Certificates, tmp_path: Path) -> None:
    named = config(tmp_path / "host.toml", certs, "", "max_queued_requests = 0")
    with (
        running(*named, "--max-sessions", "2") as (host, url),
        guest(url, certs, "guest-a", "a.test", "--limit-concurrency", "1") as served,
    ):
        served.says('"registered"')

        async def ask_for_too_much() -> None:
            async with create_verser_broker(host_url=url, tls_ca_file=certs.ca) as broker:
                await broker.wait_for_route("a.test")
                async with await broker.get("http://a.test/sse?1000000"):  # the only lease
                    with pytest.raises(LeaseTimeoutError, match="Too many requests wait"):
                        await broker.get("http://a.test/plain")
                    with pytest.raises(VerserError):
                        await create_verser_broker(host_url=url, tls_ca_file=certs.ca).connect()

        asyncio.run(ask_for_too_much())
        host.says('"limit":"sessions"')


def test_it_carries_requests_and_logs_them(certs: Certificates) -> None:
    with (
        running(*own(certs)) as (host, url),
        guest(url, certs, "guest-a", "a.test") as served,
    ):
        listening = json.loads(host.says('"listening"'))
        assert listening["may_register"] == "any user of this machine, for any domain"
        assert listening["level"] == "warning"
        served.says('"registered"')
        registered = json.loads(host.says('"registered"', '"guest-a"'))
        assert (registered["role"], registered["domains"]) == ("guest", "a.test")
        assert registered["identity"] == "nobody known"
        result = run(*get(url, certs, "http://a.test/plain?secret=1", "--broker-id", "b"))
        assert result.returncode == 0, result.stderr
        line = json.loads(host.says('"request"', '"source_id":"b"'))
        assert (line["method"], line["domain"], line["path"]) == ("GET", "a.test", "/plain")
        assert (line["status"], line["target_id"], line["bytes_out"]) == (200, "guest-a", len(result.stdout))
        assert line["duration_ms"] >= line["lease_wait_ms"] >= 0
        host.says('"disconnected"', '"peer":"b"')
        assert host.stop() == 0
        last = json.loads(host.stderr[-1])
        assert (last["event"], last["requests_total"], last["errors_total"]) == ("stopped", 1, 0)
        assert "secret" not in host.transcript()


def test_with_server_timing_everybody_knows_how_long_a_request_waited(certs: Certificates) -> None:
    with (
        running(*own(certs), "--server-timing") as (_host, url),
        guest(url, certs, "guest-a", "a.test") as served,
    ):
        served.says('"registered"')
        result = run(*get(url, certs, "a.test/plain", "-v"))
        said = result.stderr.decode()
        assert "\n< server-timing: verser-lease;dur=" in said
        assert re.search(r"\* Answered by guest-a in .+, [\d.]+ m?s of waiting for a lease included \(", said)
        result = run(*get(url, certs, "a.test/plain", "--repeat", "4"))
        _, _, summary = result.stdout.decode().partition("\nWaiting for a lease, as the Host says\n\n")
        names = [line[:16].strip() for line in summary.splitlines()]
        assert (names[:3], names[-1]) == (["fastest", "mean", "50 %"], "slowest")


def test_a_policy_a_token_and_a_certificate(certs: Certificates, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    policy = """
[[host.policy]]
name = "lab"
registration_token_file = "token"
peer_ids = "lab-*"
domains = "lab.test"
[[host.policy]]
name = "lookers"
cn = "broker-a"
call_domains = "lab.test"
call_methods = "GET"
"""
    named = config(tmp_path / "host.toml", certs, policy, f'client_ca_file = "{certs.ca}"')
    shown = ("--registration-token-file", tmp_path / "token")
    with running(*named) as (host, url), guest(url, certs, "lab-1", "lab.test", *shown) as lab:
        assert "2 entries" in json.loads(host.says('"listening"'))["may_register"]
        lab.says('"registered"')
        assert json.loads(host.says('"registered"'))["identity"] == "a registration token (lab)"
        looker = by("broker", certs)
        assert run(*get(url, certs, "http://lab.test/plain", *looker)).returncode == 0
        delete = ("broker", "delete", *get(url, certs, "http://lab.test/plain", *looker)[2:])
        fails(77, "lab.test with DELETE", arguments=delete)
        denied = json.loads(host.says('"denied"'))
        assert denied["identity"] == "CN=broker-a (lookers)"
        assert (denied["method"], denied["domain"], denied["level"]) == ("DELETE", "lab.test", "warning")
        # Who shows nothing, or the wrong thing, is refused for good, and the log says who it was
        fails(77, "neither a client certificate nor", arguments=get(url, certs, "http://lab.test/plain"))
        fails(
            77,
            "no entry for CN=guest-a",
            arguments=get(url, certs, "http://lab.test/plain", *by("guest", certs)),
        )
        refused = json.loads(host.says('"refused"', "CN=guest-a"))
        assert len(refused["fingerprint"]) == 64
        with guest(url, certs, "lab-2", "other.test") as other:
            assert other.wait() == 77
        env = {"VERSER_REGISTRATION_TOKEN": TOKEN}
        names = ("--guest-id", "lab-3", "--domain", "other.test", "--log-format", "console")
        where = ("--host-url", url, "--tls-ca-file", certs.ca)
        fails(77, "register other.test", arguments=("small:app", "--app-dir", APPS, *names, *where), env=env)
        assert json.loads(host.says('"refused"', '"lab-3"'))["identity"] == "a registration token (lab)"
        assert lab.stop() == 0
        assert host.stop(signal.SIGINT) == 0
        assert TOKEN not in host.transcript()
        assert TOKEN not in lab.transcript()


def test_a_token_that_cannot_be_read(certs: Certificates, tmp_path: Path) -> None:
    url = "https://localhost:1"
    flag = ("--registration-token-file", tmp_path / "nowhere")
    fails(78, "--registration-token-file", "nowhere", arguments=get(url, certs, "http://a.test/plain", *flag))


def test_a_guest_that_was_stopped_is_replaced_by_its_return(certs: Certificates) -> None:
    with running(*own(certs)) as (host, url), guest(url, certs, "guest-a", "a.test") as dead:
        dead.says('"registered"')
        dead.send(signal.SIGSTOP)
        with guest(url, certs, "guest-a", "a.test") as back:
            back.says('"registered"')
            assert "came back" in json.loads(host.says('"disconnected"', '"guest-a"'))["reason"]
            assert run(*get(url, certs, "http://a.test/plain")).returncode == 0
            # … and once that one answers again, it is the newcomer, and the other one is alive
            dead.send(signal.SIGCONT)
            dead.says("already registered")
            assert run(*get(url, certs, "http://a.test/plain")).returncode == 0
            assert back.stop() == 0
        host.says('"registered"', '"guest-a"', times=3)
        assert dead.stop() == 0
        assert host.stop() == 0


# --- Certificates ---------------------------------------------------------------------------------


def show(path: Path, certificate: bytes, key: bytes) -> tuple[Path, Path]:
    """Puts a certificate and its key in place."""
    cert_file, key_file = path / "host.pem", path / "host-key.pem"
    cert_file.write_bytes(certificate)
    key_file.touch(mode=0o600)
    key_file.write_bytes(key)
    return cert_file, key_file


def shown_by(port: int) -> str:
    """The certificate that a Host shows in a new handshake."""
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_certificates_are_read_anew_on_sighup(certs: Certificates, tmp_path: Path) -> None:
    first = certs.host.read_bytes(), certs.host_key.read_bytes()
    second = make_identity("localhost")
    files = show(tmp_path, *first)
    arguments = (*ANY_PORT, "--tls-cert-file", files[0], "--tls-key-file", files[1])
    with running(*arguments) as (host, url), guest(url, certs, "guest-a", "a.test") as served:
        served.says('"registered"')
        port = int(url.rpartition(":")[2])
        assert shown_by(port) == first[0].decode()

        async def stay() -> None:
            # A session that is there goes on, whatever happens to the certificate
            async with create_verser_broker(host_url=url, tls_ca_file=certs.ca, broker_id="old") as broker:
                show(tmp_path, second.certificate_pem, second.key_pem())
                host.send(signal.SIGHUP)
                await asyncio.to_thread(host.says, "certificates reloaded")
                assert shown_by(port) == second.certificate_pem.decode()
                assert (await broker.get("http://a.test/plain")).status == 200
                # A bad file changes nothing
                show(tmp_path, b"nonsense", second.key_pem())
                host.send(signal.SIGHUP)
                line = json.loads(await asyncio.to_thread(host.says, "certificates not reloaded"))
                assert line["level"] == "error"
                assert "host.pem" in line["reason"]
                assert shown_by(port) == second.certificate_pem.decode()
                assert (await broker.get("http://a.test/plain")).status == 200

        asyncio.run(stay())
        fails(60, arguments=get(url, certs, "http://a.test/plain"))
        assert host.stop() == 0


def test_the_policy_is_read_anew_as_well(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    ca = f'client_ca_file = "{certs.ca}"'
    serving = '[[host.policy]]\ncn = "guest-a"\ndomains = "a.test"\n'
    looking = '[[host.policy]]\ncn = "broker-a"\ncall_domains = "*"\ncall_methods = '
    named = config(path, certs, f'{serving}{looking}"POST"', ca)
    with (
        running(*named) as (host, url),
        guest(url, certs, "guest-a", "a.test", *by("guest", certs)) as served,
    ):
        served.says('"registered"')
        fails(77, "with GET", arguments=get(url, certs, "http://a.test/plain", *by("broker", certs)))
        config(path, certs, f'{serving}{looking}"GET"', ca)
        host.send(signal.SIGHUP)
        host.says('"policy replaced"')
        assert run(*get(url, certs, "http://a.test/plain", *by("broker", certs))).returncode == 0
        for bad, word in ((f"{serving}nonsense = 1", "nonsense"), ("", "started anew")):
            config(path, certs, bad, ca)
            host.send(signal.SIGHUP)
            assert word in json.loads(host.says('"policy not replaced"', word))["reason"]
            assert run(*get(url, certs, "http://a.test/plain", *by("broker", certs))).returncode == 0
        assert host.stop() == 0


# --- The end --------------------------------------------------------------------------------------


def test_the_first_signal_lets_requests_finish(certs: Certificates) -> None:
    with running(*own(certs)) as (host, url), guest(url, certs, "guest-a", "a.test") as served:
        served.says('"registered"')
        with start(*get(url, certs, "http://a.test/slow?1500")) as caller:
            served.says("request started")
            host.send(signal.SIGTERM)
            host.says('"draining"', '"requests":1')
            assert caller.wait() == 0
        assert host.wait() == 0
        assert json.loads(host.says('"request"'))["status"] == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_it_now(certs: Certificates, number: signal.Signals, code: int) -> None:
    with running(*own(certs)) as (host, url), guest(url, certs, "guest-a", "a.test") as served:
        served.says('"registered"')
        with start(*get(url, certs, "http://a.test/slow?60000")) as caller:
            served.says("request started")
            host.send(number)
            host.says('"draining"')
            assert host.stop(number) == code
            assert caller.wait() == 56
        host.says('"stopped"', f'"exit_code":{code}')


def test_the_time_for_requests_has_an_end(certs: Certificates) -> None:
    limited = (*own(certs), "--timeout-graceful-shutdown", "0.2")
    with running(*limited) as (host, url), guest(url, certs, "guest-a", "a.test") as served:
        served.says('"registered"')
        with start(*get(url, certs, "http://a.test/slow?60000")) as caller:
            served.says("request started")
            assert host.stop() == 0
            assert caller.wait() == 56
        assert json.loads(host.says('"cut off"'))["requests"] == 1


def test_a_configuration_can_be_checked_before(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    policy = '[[host.policy]]\ncn = "x"\ndomains = "x.test"'
    named = config(path, certs, policy, f'client_ca_file = "{certs.ca}"')
    result = run("config", "check", *named)
    assert result.returncode == 0, result.stderr
    assert b"lets in whom the policy names (1 entry)" in result.stdout
    result = run("config", "check", *config(path, certs, policy.replace("cn", "nc")))
    assert result.returncode == 78
    assert b"host.toml:7" in result.stderr
    assert b"'cn'" in result.stderr

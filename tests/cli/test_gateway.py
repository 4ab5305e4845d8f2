"""`verser2-guest gateway` as a process, from its first line to its end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import Stage
from tests.cli.processes import Running, fails, run, start
from tests.service.asking import get as ask
from tests.service.asking import status
from tests.support.certificates import Certificates
from verser2_guest_python import VerserConfigurationError
from verser2_guest_python.service.gateway_server import server as gateway_server

ANYWHERE = ("gateway", "--listen", "127.0.0.1:0", "--host-url", "https://localhost:1")
A = {"host": "a.test"}
PLAIN = partial(httpx2.Client, trust_env=False, timeout=20.0)


def listening(process: Running) -> str:
    """Where it listens, once it does."""
    url: str = json.loads(process.says('"listening"'))["url"]
    return url


def get(url: str, host: str, **options: object) -> httpx2.Response:
    verify = options.pop("verify", True)
    with httpx2.Client(trust_env=False, timeout=20.0, verify=verify) as client:  # type: ignore[arg-type]
        return client.get(url, headers={"host": host}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "words", "more"),
    [
        (2, ("--host-url",), ("gateway",)),
        (2, ("--map", "a=b"), (*ANYWHERE, "--map", "a=b", "--map", "a=c")),
        (2, ("'a.test'", "public.example.com=app.local.test"), (*ANYWHERE, "--map", "a.test")),
        (2, ("everywhere",), (*ANYWHERE, "--listen", "everywhere")),
        (2, ("[::1]:80",), (*ANYWHERE, "--listen", "::1:80")),
        (2, ("10.0.0.0/33",), (*ANYWHERE, "--trust-forwarded", "10.0.0.0/33")),
        (2, ("--ssl-certfile",), (*ANYWHERE, "--ssl-keyfile", "key.pem")),
        (2, ("--timeout",), (*ANYWHERE, "--timeout", "0")),
        (78, ("nowhere.pem",), (*ANYWHERE, "--ssl-certfile", "nowhere.pem")),
        (78, ("nowhere.pem",), (*ANYWHERE, "--tls-ca-file", "nowhere.pem")),
    ],
)
def test_mistakes(code: int, words: tuple[str, ...], more: tuple[str, ...]) -> None:
    if words[-1] == "a=b":
        words = ("--map", "two domains")
    fails(code, *words, arguments=(*more, "--log-format", "console"))


def test_an_address_that_is_taken_and_a_host_that_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        fails(
            78,
            port,
            "in use",
            arguments=(*ANYWHERE, "--listen", f"127.0.0.1:{port}", "--log-format", "console"),
        )
    with start(*ANYWHERE, "--exit-on-connect-failure") as process:
        process.says('"stopped"', '"exit_code":7')
        assert process.wait() == 7


def test_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_server, "find_spec", lambda name: None if name == "httptools" else name)
    with pytest.raises(VerserConfigurationError, match=r"httptools.*pip install.*\[gateway\]"):
        gateway_server.check_extra()


def test_it_can_be_asked_how_it_is(stage: Stage, tmp_path: Path) -> None:
    sock = tmp_path / "health.sock"
    question = ("health", "--health-socket", str(sock))
    with start(*ANYWHERE, "--health-socket", sock) as process:
        listening(process)
        assert run(*question, "--live").returncode == 0
        process.says('"connecting"')
        away = run(*question)
        assert away.returncode == 1
        assert away.stdout.startswith(b"not ready: not registered at any Host: Cannot reach ")
        assert process.stop() == 0
    arguments = ("gateway", "--listen", "127.0.0.1:0", *stage.peer, "--broker-id", "door")
    with start(*arguments, "--health-socket", sock, "--no-access-log") as process:
        process.says('"registered"')
        assert run(*question).stdout == b"ready: registered as door\n"
        url = listening(process)
        assert get(f"{url}/plain", "a.test").status_code == 200
        assert get(f"{url}/", "nowhere.test").status_code == 404
        while asyncio.run(status(sock))["requests"] != {"total": 2, "in_flight": 0, "queued": 0}:
            pass  # a client has its answer a moment before that is counted
        text = asyncio.run(ask(sock, "/metrics"))[1]
        for line in (
            'verser_gateway_requests_total{method="GET",status_class="2xx"} 1.0',
            'verser_gateway_requests_total{method="GET",status_class="4xx"} 1.0',
            "verser_gateway_requests_in_flight 0.0",
            "verser_gateway_requests_queued 0.0",
            "verser_gateway_lease_wait_seconds_count 0.0",
            "verser_gateway_request_duration_seconds_count 2.0",
            "verser_gateway_connected 1.0",
        ):
            assert f"\n{line}\n" in text
        assert {"a.test", "b.test"} <= set(asyncio.run(status(sock))["domains"])
        assert process.stop() == 0


def test_from_the_first_line_to_the_last(stage: Stage) -> None:
    arguments = ("gateway", "--listen", "127.0.0.1:0", *stage.peer, "--map", "public.test=a.test")
    with start(*arguments) as process:
        url = listening(process)
        process.says('"registered"', "a.test")
        assert get(f"{url}/plain?token=s3cret", "public.test").text == "Hello, World!"
        line = process.says('"request"')
        assert "s3cret" not in line
        said = json.loads(line)
        assert (said["status"], said["host"], said["domain"]) == (200, "public.test", "a.test")
        assert (said["client"], said["target_id"], said["bytes_out"]) == ("127.0.0.1", "stage", 13)
        assert said["first_byte_ms"] <= said["duration_ms"]
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            assert raw.recv(4_096).startswith(b"HTTP/1.1 400 ")
        process.says('"status":400', "malformed")
        with PLAIN() as client, client.stream("GET", f"{url}/sse?20", headers=A) as sse:
            chunks = sse.iter_text()
            text = next(chunks)
            process.send(signal.SIGTERM)
            process.says('"stopping"')
            text += "".join(chunks)
            assert text.split() == [word for n in range(1, 21) for word in ("data:", str(n))]
        assert process.wait() == 0
        process.says('"stopped"', '"exit_code":0', '"requests_total":3', '"errors_total":1')


def test_the_second_signal_ends_it_at_once(stage: Stage) -> None:
    with start("gateway", "--listen", "127.0.0.1:0", *stage.peer) as process:
        url = listening(process)
        process.says('"registered"')
        with PLAIN() as client, client.stream("GET", f"{url}/sse?9999", headers=A) as sse:
            next(sse.iter_bytes())
            process.send(signal.SIGTERM)
            process.says('"stopping"')
            process.send(signal.SIGTERM)
            assert process.wait() == 143
        process.says('"stopped"', '"exit_code":143')


def test_it_waits_for_a_host_that_is_full(certs: Certificates) -> None:
    pair = ("--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    with start("host", "--port", "0", "--max-sessions", "1", *pair) as host:
        port = json.loads(host.says('"listening"'))["port"]
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        with start("broker", "routes", "--watch", *peer) as other:
            host.says('"registered"')
            with start(
                "gateway", "--listen", "127.0.0.1:0", "--reconnect-max-delay", "0.2", *peer
            ) as gateway:
                gateway.says('"connecting"', "too many sessions")
                assert other.stop() == 143
                gateway.says('"registered"')
                assert gateway.stop() == 0


def test_https_and_settings_from_a_file(stage: Stage, certs: Certificates, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        f"""
        host_url = "{stage.url}"
        [tls]
        ca_file = "{certs.ca}"
        [gateway]
        listen = "127.0.0.1:0"
        map = ["localhost=a.test"]
        ssl_certfile = "{certs.host}"
        ssl_keyfile = "{certs.host_key}"
        [log]
        access_log = false
        """
    )
    with start("gateway", "--config", tmp_path / "gateway.toml") as process:
        url = listening(process)
        assert url.startswith("https://127.0.0.1:")
        process.says('"registered"')
        trust = ssl.create_default_context(cafile=certs.ca)
        response = get(f"{url}/headers", "localhost", verify=trust)
        assert response.json()["x-forwarded-proto"] == "https"
        assert process.stop() == 0
        assert process.count('"request"') == 0


def test_a_host_that_is_not_there_yet(stage: Stage) -> None:
    """Clients are told, and the gateway tries again; what cannot work ends it."""
    with start(*ANYWHERE) as process:
        url = listening(process)
        process.says('"connecting"', "localhost:1")
        assert get(url, "a.test").status_code == 502
        assert process.stop() == 0
    with start("gateway", "--listen", "127.0.0.1:0", "--host-url", stage.url) as process:
        process.says('"stopped"', '"exit_code":60')
        assert process.wait() == 60


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_long_chunked_upload_takes_no_memory(stage: Stage) -> None:
    piece, count = bytes(65_536), 1_600  # 100 MiB
    with start("gateway", "--listen", "127.0.0.1:0", *stage.peer, "--no-access-log") as process:
        url = listening(process)
        process.says('"registered"')
        assert get(f"{url}/plain", "a.test").status_code == 200
        idle = peak_bytes(process.pid)
        with PLAIN() as client:
            response = client.post(f"{url}/sink", headers=A, content=(piece for _ in range(count)))
        assert response.text == str(count * len(piece))
        assert peak_bytes(process.pid) - idle < 24 << 20
        assert process.stop() == 0


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) * 1024

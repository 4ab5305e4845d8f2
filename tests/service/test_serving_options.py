"""Options of the Guest that only show in what an app sees, or in how the Host is reached."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

from tests.cli.processes import Running, start
from tests.service.conftest import APPS, Place, registered
from tests.support.certificates import Certificates

FORWARDED = {"x-forwarded-for": "10.0.0.1, 192.0.2.7", "x-forwarded-proto": "https"}


def telling(place: Place, *more: str | Path, **env: str) -> Running:
    """A Guest for telling.test. Without `--interface` its app would be taken for ASGI 3."""
    names = ("--guest-id", "telling", "--domain", "telling.test", "--interface", "asgi2")
    peer = ("--tls-ca-file", place.ca_file)
    return start("telling:app", "--app-dir", APPS, *names, *peer, *more, env=env)


async def told(place: Place, broker_id: str = "browser") -> dict[str, Any]:
    async with place.broker(broker_id) as broker:
        await broker.wait_for_route("telling.test")
        response = await broker.get("http://telling.test/path", headers=FORWARDED)
        result: dict[str, Any] = await response.json()
        return result


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_what_an_app_sees_and_the_second_host_when_the_first_is_away(place: Place) -> None:
    away = f"https://127.0.0.1:{closed_port()}"
    options = ("--root-path", "/api", "--proxy-headers", "--forwarded-allow-brokers", "gateway,other")
    with telling(place, "--host-url", away, "--host-url", place.url, *options) as process:
        await registered(process, "telling")
        seen = await told(place, "gateway")
        assert (seen["scheme"], seen["client"][0], seen["root_path"]) == ("https", "192.0.2.7", "/api")
        seen = await told(place, "stranger")
        assert (seen["scheme"], seen["client"]) == ("http", None)
        process.send(signal.SIGTERM)
        assert process.wait() == 0


async def test_headers_of_proxies_are_not_believed_unless_asked_for(place: Place) -> None:
    with telling(place, "--host-url", place.url) as process:
        await registered(process, "telling")
        seen = await told(place)
        assert (seen["scheme"], seen["client"], seen["root_path"]) == ("http", None, "")
        process.send(signal.SIGTERM)
        assert process.wait() == 0


async def test_the_proxy_is_that_of_the_environment_unless_said_otherwise(place: Place) -> None:
    proxy = f"http://user:hunter2@127.0.0.1:{closed_port()}"
    with telling(place, "--host-url", place.url, HTTPS_PROXY=proxy, NO_PROXY="") as process:
        line = process.says('"reconnecting"')
        assert "HTTPS_PROXY" in line
        assert "hunter2" not in line
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    with telling(place, "--host-url", place.url, "--proxy", "", HTTPS_PROXY=proxy, NO_PROXY="") as process:
        await registered(process, "telling")
        process.send(signal.SIGTERM)
        assert process.wait() == 0


async def test_at_all_hosts_it_registers_at_each(place: Place) -> None:
    away = f"https://127.0.0.1:{closed_port()}"
    with telling(place, "--host-url", f"{place.url},{away}", "--all-hosts") as process:
        await registered(process, "telling")
        process.says('"reconnecting"', away.removeprefix("https://"))
        process.send(signal.SIGTERM)
        assert process.wait() == 0


async def test_a_key_that_others_can_read_is_told_at_the_start(
    place: Place, certs: Certificates, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(certs.guest_key.read_bytes())
    key.chmod(0o644)
    identity = ("--tls-cert-file", certs.guest, "--tls-key-file", key)
    with telling(place, "--host-url", place.url, *identity) as process:
        await registered(process, "telling")
        assert '"level":"warning"' in process.says(str(key), "mode 0644", "chmod 600")
        process.send(signal.SIGTERM)
        assert process.wait() == 0

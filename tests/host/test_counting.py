"""What a Host tells of itself in metrics: counted from real peers, read as Prometheus does."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest

from tests.host.peers import DOMAIN, Broker, Guest, Peer, running_host
from tests.host.peers import Watcher as Events
from tests.integrations.stacks import guest_at, host_at
from tests.service.asking import samples as parsed
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import VerserError, create_verser_broker
from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.host import HostLimits
from verser2_guest_python.service.health.checks import answer
from verser2_guest_python.service.health.host import HostHealth, HostState
from verser2_guest_python.service.metrics import host_counts
from verser2_guest_python.service.metrics.metric_table import HOST_METRICS, HOST_PREFIX, Kind

Samples = dict[tuple[str, ...], float]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["path"] == "/fail":
        raise RuntimeError("the app failed")
    status = int(scope["path"].removeprefix("/") or 200)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def samples(health: HostHealth) -> Samples:
    found = await answer(health, "/metrics", {})
    assert found.status is HTTPStatus.OK
    return parsed(found.body.decode(), HOST_PREFIX)


def by(found: Samples, name: str) -> dict[tuple[str, ...], float]:
    """What is not 0, by the values of its labels."""
    return {key[1:]: value for key, value in found.items() if key[0] == name and value}


async def test_requests_are_counted_by_domain(certs: Certificates) -> None:
    async with host_at(certs) as host:
        health = HostHealth(host, lambda: 3)
        try:
            async with (
                guest_at(host, certs, app),
                create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
            ):
                await broker.wait_for_route(DOMAIN)
                for path in ("200", "200", "503", "fail"):
                    await _ask(broker.get(f"http://{DOMAIN}/{path}"))
                async with await broker.websocket(f"ws://{DOMAIN}/") as socket:
                    for _ in range(3):
                        await socket.send_text("hello")
                        await socket.receive()
                    found = await samples(health)
                    assert (found["websockets_open",], found["leases", "active"]) == (1, 0)
                    assert by(found, "websocket_messages_total") == {("guests",): 3, ("brokers",): 3}
                await until(lambda: host.get_stats().websockets == 0)
                found = await samples(health)
                assert by(found, "websocket_messages_total") == {("guests",): 3, ("brokers",): 3}
                assert by(found, "domain_requests_total") == {(DOMAIN, "2xx"): 3, (DOMAIN, "5xx"): 2}
                assert found["errors_total", "local-handler-failure"] == 1
                assert found["time_to_first_byte_seconds_count",] == 3
                assert (found["guests",], found["brokers",], found["sessions",]) == (1, 1, 2)
                assert by(found, "routes") == {("active",): 1}
                assert found["leases", "idle"] >= 1
                assert found["websocket_leases_idle",] >= 1
                assert by(found, "registrations_total") == {("guest",): 1, ("broker",): 1}
                assert (found["log_lines_dropped_total",], found["draining",]) == (3, 0)
                health.state = HostState.DRAINING
                assert (await samples(health))["draining",] == 1
            await until(lambda: host.get_stats().sessions == 0)
            assert by(await samples(health), "sessions_ended_total") == {("guest",): 1, ("broker",): 1}
        finally:
            health.stop()


async def _ask(asking: object) -> None:
    try:
        await (await asking).read()  # type: ignore[misc]
    except VerserError:
        return


async def test_who_waits_who_is_refused_and_which_limit_was_hit(certs: Certificates) -> None:
    limits = HostLimits(queued_requests_per_guest=1)
    async with running_host(certs, limits=limits) as host:
        health = HostHealth(host, lambda: 0)
        try:
            async with (
                Guest(host, certs) as guest,
                Broker(host, certs) as broker,
                Peer(host, certs) as peer,
            ):
                broker.request()
                await until(lambda: host.get_stats().queued_requests == 1)
                assert (await broker.answer(broker.request())).error["code"] == "timeout"
                for domain in ("nobody.test", "A.Local.Test:80"):
                    assert (await broker.answer(broker.request(domain=domain, target="gone"))).status == 502
                for path, body in (("/verser/register", b"{}"), ("/verser/nothing", b"")):
                    assert (await peer.exchange(path, body)).status == 502
                found = await samples(health)
                assert by(found, "guest_requests_queued") == {("guest-a",): 1}
                assert found["requests_queued",] == 1
                assert by(found, "limits_hit_total") == {("queued-requests",): 1}
                assert by(found, "registrations_refused_total") == {("invalid-registration",): 1}
                assert by(found, "streams_refused_total") == {("protocol-error",): 1}
                assert by(found, "domain_requests_total") == {(DOMAIN, "5xx"): 2, ("unknown", "5xx"): 1}
                assert guest.session.lost is None
        finally:
            health.stop()


async def test_strangers_make_no_labels(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_counts, "MAX_DOMAINS", 2)
    async with running_host(certs) as host:
        health = HostHealth(host, lambda: 0)
        try:
            async with (
                Guest(host, certs, "guest-a", DOMAIN, "b.test", "c.test", "d.test"),
                Broker(host, certs) as broker,
            ):
                for number in range(20):
                    asked = broker.request(domain=f"n{number}.test", target="gone")
                    assert (await broker.answer(asked)).status == 502
                assert by(await samples(health), "domain_requests_total") == {("other", "5xx"): 20}
        finally:
            health.stop()


async def test_doors_that_stay_shut_are_counted(certs: Certificates) -> None:
    async with running_host(certs, limits=HostLimits(sessions=1)) as host:
        health, events = HostHealth(host, lambda: 0), Events(host)
        try:
            async with Peer(host, certs):
                async with Peer(host, certs) as late:
                    await late.session.wait_lost()
                _, writer = await asyncio.open_connection("127.0.0.1", host.port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await events.wait("handshake-failed")
                writer.close()
                found = await samples(health)
                assert by(found, "limits_hit_total") == {("sessions",): 1}
                assert found["handshakes_failed_total",] == 1
        finally:
            health.stop()


async def test_every_metric_is_reported_and_has_the_labels_of_the_table(certs: Certificates) -> None:
    async with host_at(certs) as running:
        health = HostHealth(running, lambda: 0)
        health.stop()
        (report,) = (await health.reports()).values()
    assert set(report) == set(HOST_METRICS)
    for name, series in report.items():
        for labels, value in series:
            assert len(labels) == len(HOST_METRICS[name].labels)
            assert isinstance(value, list) == (HOST_METRICS[name].kind is Kind.HISTOGRAM)

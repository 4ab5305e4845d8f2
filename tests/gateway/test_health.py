"""What a gateway tells of itself: counted from real requests, read as Prometheus does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.integrations.stacks import DOMAIN, broker_behind
from tests.service.asking import samples as parsed
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python.integrations.gateway import Gateway, GatewayLimits, create_gateway
from verser2_guest_python.service.gateway_server.server import GatewayServer
from verser2_guest_python.service.health.checks import answer
from verser2_guest_python.service.health.gateway import GatewayHealth
from verser2_guest_python.service.metrics.metric_table import GATEWAY_METRICS, GATEWAY_PREFIX, Kind

from .raw import connected

Samples = dict[tuple[str, ...], float]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["path"] == "/fail":
        raise RuntimeError("the app failed")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def watched(
    certs: Certificates, *, host: dict[str, Any] | None = None, route_wait: float = 0.0, **limits: Any
) -> AsyncIterator[tuple[GatewayHealth, Gateway, int]]:
    """A gateway with all that is behind it, its health, and its port."""
    async with broker_behind(app, certs, broker_id="door", host=host) as broker:
        health = GatewayHealth(broker, lambda: 3, lambda: [(["public.pem"], 1.0)])
        gateway = health.gateway = create_gateway(
            broker,
            on_done=health,
            limits=GatewayLimits(**limits),
            route_wait=route_wait,
            maps={"away.test": "away.local.test"},
        )
        server = GatewayServer(
            gateway,
            listen="127.0.0.1:0",
            timeout_graceful_shutdown=1.0,
            limits=GatewayLimits(**limits),
            on_refused=health,
        )
        try:
            async with server:
                yield health, gateway, server.port
        finally:
            health.stop()


async def samples(health: GatewayHealth) -> Samples:
    found = await answer(health, "/metrics", {})
    assert found.status is HTTPStatus.OK
    return parsed(found.body.decode(), GATEWAY_PREFIX)


async def say(port: int, request: str) -> None:
    """A request, up to the end of its answer."""
    async with connected(port) as raw:
        raw.say(request.encode())
        await raw.reader.read()


def get(path: str, host: str = DOMAIN) -> str:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"


async def test_what_clients_were_told_is_counted(certs: Certificates) -> None:
    async with watched(certs, max_body_bytes=10) as (health, gateway, port):
        await say(port, get("/"))
        await say(port, get("/fail"))
        await say(port, get("/", "nobody.test"))
        await say(port, f"POST / HTTP/1.1\r\nhost: {DOMAIN}\r\ncontent-length: 11\r\n\r\n")
        await say(port, "nonsense\r\n\r\n")
        url = f"ws://{DOMAIN}:{port}/"
        async with connect(url, host="127.0.0.1", port=port, proxy=None) as socket:
            await socket.send("12345")
            await until(lambda: gateway.active == 1)
            found = await samples(health)
            assert (found["websockets_open",], found["requests_in_flight",]) == (1, 1)
            assert (await health.status())["websockets_open"] == 1
        await until(lambda: gateway.active == 0)
        found = await samples(health)
        assert (found["websockets_open",], found["requests_in_flight",]) == (0, 0)
        assert {key[1:]: value for key, value in found.items() if key[0] == "requests_total"} == {
            ("GET", "2xx"): 1,
            ("GET", "4xx"): 1,
            ("GET", "5xx"): 1,
            ("POST", "4xx"): 1,
            ("WEBSOCKET", "1xx"): 1,
            ("other", "4xx"): 1,
        }
        assert {key[1]: value for key, value in found.items() if key[0] == "errors_total"} == {
            "local-handler-failure": 1,
            "missing-guest": 1,
            "body-too-large": 1,
            "bad-request": 1,
        }
        assert found["request_bytes_total",] == 5
        assert found["websocket_messages_total", "received"] == 1
        assert found["request_duration_seconds_count",] == 5
        assert found["time_to_first_byte_seconds_count",] == 5
        assert found["log_lines_dropped_total",] == 3


async def test_waiting_for_a_lease_is_counted_where_the_host_tells_it(certs: Certificates) -> None:
    for options, count in (({}, 0), ({"server_timing": True}, 2)):
        async with watched(certs, host=options) as (health, _, port):
            await say(port, get("/"))
            await say(port, get("/"))
            await say(port, get("/fail"))
            found = await samples(health)
            assert found["lease_wait_seconds_count",] == count
            assert found["lease_wait_seconds_sum",] >= 0
            assert found["time_to_first_byte_seconds_count",] == 3


async def test_requests_that_have_not_left_are_counted(certs: Certificates) -> None:
    async with watched(certs, route_wait=30.0) as (health, gateway, port):
        broker = health._broker
        async with connected(port) as waiting:
            waiting.say(get("/", "away.test").encode())  # for a route, in the gateway
            await until(lambda: gateway.waiting == 1)
            assert (await samples(health))["requests_queued",] == 1
            assert (await health.status())["requests"] == {"total": 0, "in_flight": 1, "queued": 1}
        await until(lambda: gateway.active == 0)
        assert (await samples(health))["requests_queued",] == 0
        link = broker._keeper.link
        assert link is not None
        link.session.abort("the test says so")
        call = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))  # for a session, in the Broker
        await asyncio.sleep(0)
        assert (await samples(health))["requests_queued",] == 1
        assert await (await call).read() == b"hello"
        assert (await samples(health))["requests_queued",] == 0


async def test_the_session_and_every_metric_of_the_table(certs: Certificates) -> None:
    async with watched(certs) as (health, _, port):
        await say(port, get("/"))
        await say(port, get("/", "nobody.test"))
        assert (await health.ready()).sentence == "ready: registered as door"
        broker = health._broker
        link = broker._keeper.link
        assert link is not None
        await link.session.ping()
        url = link.address.url
        link.session.abort("the test says so")
        await until(lambda: broker.facts().reconnects == {"connection-lost": 1} and broker.connected)
        assert broker._keeper.link is not None
        await broker._keeper.link.session.ping()
        found = await samples(health)
        assert found["connected",] == 1
        assert found["session_age_seconds", url] >= 0
        assert found["ping_round_trip_seconds", url] > 0
        assert found["reconnects_total", "connection-lost"] == 1
        status = await health.status()
        assert (status["reconnects"], status["session"]["host"]) == (1, url)
        report = (await health.reports())[""]
        assert set(report) == set(GATEWAY_METRICS)
        for name, series in report.items():
            assert series, name
            for labels, value in series:
                assert len(labels) == len(GATEWAY_METRICS[name].labels)
                assert isinstance(value, list) == (GATEWAY_METRICS[name].kind is Kind.HISTOGRAM)
        health.draining = True
        found = await samples(health)
        assert found["draining",] == 1
        assert (await answer(health, "/readyz", {})).status is HTTPStatus.SERVICE_UNAVAILABLE
        health.draining = False
        await broker.close()
        found = await samples(health)
        assert found["connected",] == 0
        assert ("session_age_seconds", url) not in found
        assert not (await health.ready()).ok


@pytest.mark.parametrize("metric", GATEWAY_METRICS.values(), ids=lambda metric: metric.name)
def test_a_name_says_what_it_is(metric: Any) -> None:
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.sentence.endswith(".")

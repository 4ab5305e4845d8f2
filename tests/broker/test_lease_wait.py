"""How long a request waited for a lease, as a Broker learns it from its Host; and who waits in the Broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integrations.stacks import DOMAIN, broker_behind, guest_at, host_at, threaded_stack
from tests.support.brokers import ROUTES, broker_at, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import answer
from tests.support.waiting import until
from verser2_guest_python.host import RequestRecord
from verser2_guest_python.http2 import SessionOptions
from verser2_guest_python.integrations.sync import SyncVerserBroker

URL = f"http://{DOMAIN}/"


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    said = scope["query_string"]
    headers = [(b"server-timing", said.replace(b"%22", b'"'))] if said else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_it_is_what_the_host_has_measured(certs: Certificates) -> None:
    let_go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await let_go.wait()
        await app(scope, receive, send)

    records: dict[str, RequestRecord] = {}
    async with (
        host_at(certs, server_timing=True) as host,
        guest_at(host, certs, slow, lifespan="off", min_waiting_streams=1, limit_concurrency=1),
        broker_at(host, certs) as broker,
    ):
        host.on_request(lambda record: records.update({record.path: record}))
        await broker.wait_for_route(DOMAIN)
        first = asyncio.create_task(broker.get(f"{URL}slow"))
        await until(lambda: host.get_stats().idle_leases == 0 and host.get_stats().active_requests == 1)
        second = asyncio.create_task(broker.get(f"{URL}second"))
        await until(lambda: host.get_stats().queued_requests == 1)
        let_go.set()
        for call in (first, second):
            async with await call as response:
                assert response.headers["server-timing"].startswith("verser-lease;dur=")
                await response.read()
        await until(lambda: len(records) == 2)
        for path, call in (("/slow", first), ("/second", second)):
            assert call.result().lease_wait == pytest.approx(records[path].queued_seconds, abs=1e-6)
        assert (second.result().lease_wait or 0) > 0


async def test_an_app_can_say_it_only_where_the_host_does_not(certs: Certificates) -> None:
    async with broker_behind(app, certs) as broker:
        for said, wait in (("", None), ("verser-lease;dur=5", 0.005), ("verser-lease;dur=nan", None)):
            response = await broker.get(f"{URL}?{said}")
            assert response.lease_wait == wait
    async with (
        host_at(certs, server_timing=True) as host,
        guest_at(host, certs, app),
        broker_at(host, certs) as broker,
    ):
        response = await broker.get(f"{URL}?verser-lease;dur=5000,%22")
        assert response.headers.get_list("server-timing")[0] == 'verser-lease;dur=5000,"'
        assert response.lease_wait is not None
        assert response.lease_wait < 5


def test_a_thread_learns_it_too(certs: Certificates) -> None:
    with (
        threaded_stack(app, certs, server_timing=True) as stack,
        SyncVerserBroker(stack.broker()) as broker,
        broker.get(URL) as response,
    ):
        assert response.lease_wait is not None
        assert response.lease_wait >= 0


# --- Who waits in the Broker ----------------------------------------------------------------------


async def test_requests_in_an_outage_wait(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        assert broker.facts().waiting == 0
        host.refuse_registration(502, b"{}")
        await host.session.close(reason="gone")
        await until(lambda: not broker.connected)
        calls = [asyncio.create_task(broker.get(URL)) for _ in range(3)]
        opening = asyncio.create_task(broker.websocket(URL))
        await until(lambda: broker.facts().waiting == 4)
        for given_up in (calls.pop(), opening):
            given_up.cancel()
            await asyncio.wait([given_up])
        assert broker.facts().waiting == 2
        host.refusal = None
        for _ in calls:
            stream, _ = await host.accept_request()
            await answer(stream, 200)
        assert broker.facts().waiting == 0
        for call in calls:
            await (await call).aclose()


async def test_requests_for_a_degraded_route_wait(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        ((guest, domain),) = ROUTES
        await host.say_lifecycle(("degraded", guest, domain, "disconnected"))
        await until(lambda: not broker.has_route(domain, degraded=False))
        call = asyncio.create_task(broker.get(URL))
        await until(lambda: broker.facts().waiting == 1)
        await host.say_lifecycle(("changed", guest, domain, "restored"))
        stream, _ = await host.accept_request()
        assert broker.facts().waiting == 0
        await answer(stream, 200)
        await (await call).aclose()


async def test_requests_beyond_the_streams_that_the_host_allows_wait(certs: Certificates) -> None:
    few = SessionOptions(max_concurrent_streams=2)  # one is the control stream
    async with scripted(certs, options=few) as (host, broker):
        first = asyncio.create_task(broker.get(URL))
        stream, _ = await host.accept_request()
        second = asyncio.create_task(broker.get(URL))
        await until(lambda: broker.facts().waiting == 1)
        for call in (first, second):
            await answer(stream, 200)
            await (await call).aclose()
            if call is first:
                stream, _ = await host.accept_request()
        assert broker.facts().waiting == 0

"""The Broker against the Node Host and the Node Guest: requests, bodies, cookies, errors, routes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import NodeHost, NodePeer, node_guest, node_host
from verser2_guest_python import (
    InvalidRegistrationError,
    LeaseTimeoutError,
    LocalHandlerFailureError,
    MissingGuestError,
    StreamFailureError,
    VerserBroker,
    create_verser_broker,
)
from verser2_guest_python.broker import RouteChange

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"
MIB = 1 << 20


@asynccontextmanager
async def served(
    certs: Certificates, *, guest: dict[str, Any] | None = None, **host_options: Any
) -> AsyncIterator[tuple[VerserBroker, NodeHost, NodePeer]]:
    """A strict Host, a Guest for a.local.test, and a Broker that knows its route."""
    async with (
        node_host(certs, strict=True, **host_options) as host,
        node_guest(host.url, certs, **(guest or {})) as node,
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        yield broker, host, node
        assert host.violations == []


@pytest.mark.both_loops
async def test_a_get_has_status_headers_and_body(certs: Certificates) -> None:
    async with served(certs) as (broker, host, _guest):
        response = await broker.get(f"{URL}/plain?x=1")
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain"
        assert "date" in response.headers
        assert await response.text() == "Hello, World!"
        event = await host.event("request", requestId=response.request_id)
        assert (event["path"], event["source"], event["target"]) == ("/plain?x=1", "broker-a", "guest-a")


@pytest.mark.both_loops
@pytest.mark.parametrize("window", [None, 65_535])
async def test_bodies_both_ways_at_once(certs: Certificates, window: int | None) -> None:
    """16 uploads and 16 downloads of 4 MiB together; with the smallest windows of deployed Hosts too."""
    body = bytes(range(256)) * (4 * MIB // 256)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async def upload(broker: VerserBroker, source: Any) -> None:
        response = await broker.post(f"{URL}/sink", body=source)
        assert await response.text() == str(len(body))

    async def download(broker: VerserBroker) -> None:
        response = await broker.get(f"{URL}/big?4")
        assert sum([len(chunk) async for chunk in response.aiter_bytes(50_000)]) == 4 * MIB

    async with served(certs, initial_window=window) as (broker, _host, _guest), asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(upload(broker, body if number % 2 else pieces()))
            group.create_task(download(broker))


async def test_an_echo_of_a_stream_comes_back_as_it_went(certs: Certificates) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(20_000):
            yield b"%d\n" % number

    async with served(certs) as (broker, _host, _guest):
        response = await broker.put(f"{URL}/echo", body=numbers(), headers={"content-type": "text/plain"})
        digest = hashlib.sha256(await response.read()).hexdigest()
        assert digest == hashlib.sha256(b"".join([b"%d\n" % n for n in range(20_000)])).hexdigest()
        assert response.headers["content-type"] == "text/plain"


@pytest.mark.parametrize("arrays", [False, True])
async def test_cookies_stay_apart(certs: Certificates, arrays: bool) -> None:
    async with served(certs, keep_header_arrays=arrays) as (broker, _host, _guest):
        response = await broker.get(f"{URL}/cookies")
        assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
        assert await response.text() == "cookies"


async def test_headers_arrive_as_they_were_given(certs: Certificates) -> None:
    async with served(certs) as (broker, _host, _guest):
        headers = [
            ("X-One", "ünï"),
            ("x-two", "a"),
            ("x-two", "b"),
            ("te", "trailers"),
            ("connection", "close"),
        ]
        response = await broker.get(f"http://{DOMAIN}:8443/headers", headers=headers)
        assert await response.json() == {
            "host": DOMAIN,
            "x-forwarded-host": f"{DOMAIN}:8443",
            "x-one": "ünï",
            "x-two": "a,b",
        }


async def test_server_sent_events_come_one_by_one(certs: Certificates) -> None:
    async with served(certs) as (broker, _host, _guest):
        response = await broker.get(f"{URL}/sse?5")
        chunks = [chunk async for chunk in response.aiter_bytes()]
        assert b"".join(chunks) == b"".join([b"data: %d\n\n" % number for number in range(1, 6)])
        assert len(chunks) > 1, "they were not collected on the way"


async def test_head_requests(certs: Certificates) -> None:
    async with served(certs) as (broker, _host, _guest):
        response = await broker.head(f"{URL}/nowhere")
        assert (response.status, await response.read()) == (404, b"")


async def test_what_the_host_says(certs: Certificates) -> None:
    async with served(certs) as (broker, _host, _guest):
        with pytest.raises(LocalHandlerFailureError):
            await broker.get(f"{URL}/boom")
        with pytest.raises(MissingGuestError):
            await broker.get("http://other.local.test/")
        response = await broker.get(f"{URL}/nowhere")
        assert (response.status, response.ok, await response.text()) == (404, False, "Not Found")


async def test_no_lease_in_time(certs: Certificates) -> None:
    async with served(certs, guest={"max_leases": 1, "idle_leases": 1}) as (broker, _host, _guest):
        slow = asyncio.create_task(broker.get(f"{URL}/slow?500"))
        await asyncio.sleep(0)
        with pytest.raises(LeaseTimeoutError):
            await broker.get(f"{URL}/plain", lease_timeout=0.05)
        assert await (await slow).text() == "slow"


async def test_bodies_that_are_cut_off(certs: Certificates) -> None:
    async with served(certs) as (broker, _host, _guest):
        for path in ("/cut", "/cut?unsized"):
            response = await broker.get(f"{URL}{path}")
            with pytest.raises(StreamFailureError):
                await response.read()


async def test_a_taken_id(certs: Certificates) -> None:
    async with served(certs) as (_broker, host, _guest):
        other = create_verser_broker(host_url=host.url, broker_id="broker-a", tls_ca_file=certs.ca)
        with pytest.raises(InvalidRegistrationError) as caught:
            await other.connect()
        assert caught.value.taken


async def test_routes_come_degrade_return_and_go(certs: Certificates) -> None:
    changes: asyncio.Queue[tuple[str, str | None, list[bool]]] = asyncio.Queue()
    async with node_host(certs, degraded_timeout_ms=20_000) as host, broker_at(host, certs) as broker:

        def listener(change: RouteChange) -> None:
            degraded = [route.degraded for route in broker.get_routes()]
            changes.put_nowait((change.type, change.reason, degraded))

        broker.on_route_change(listener)
        async with node_guest(host.url, certs, reconnect=True) as guest:
            assert await changes.get() == ("added", "registered", [False])
            await host.command("drop", peer="guest-a")
            assert await changes.get() == ("degraded", "disconnected", [True])
            assert await changes.get() == ("changed", "restored", [False])
            await guest.command("revoke", domains=[DOMAIN])
            assert await changes.get() == ("removed", "revoked", [])


async def test_a_guest_that_does_not_return_is_removed(certs: Certificates) -> None:
    changes: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    async with node_host(certs, degraded_timeout_ms=50) as host, broker_at(host, certs) as broker:
        broker.on_route_change(lambda change: changes.put_nowait((change.type, change.reason)))
        async with node_guest(host.url, certs) as guest:
            guest.kill()
            assert [await changes.get() for _ in range(3)] == [
                ("added", "registered"),
                ("degraded", "disconnected"),
                ("removed", "timeout"),
            ]


async def test_two_guests_share_the_load(certs: Certificates) -> None:
    async with served(certs) as (broker, host, _guest):
        second = asyncio.Event()
        broker.on_route_change(lambda change: second.set())
        counts: dict[str, int] = {}

        async def some() -> None:
            for _ in range(25):
                response = await broker.get(f"{URL}/plain")
                await response.read()
                counts[response.target_id] = counts.get(response.target_id, 0) + 1

        async with node_guest(host.url, certs, guest_id="guest-b"):
            await second.wait()
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(some())
        assert sum(counts.values()) == 200
        assert set(counts) == {"guest-a", "guest-b"}


async def test_client_certificates(certs: Certificates) -> None:
    identity = {"tls_cert_file": certs.broker, "tls_key_file": certs.broker_key}
    async with (
        node_host(certs, client_ca=certs.ca) as host,
        node_guest(host.url, certs, identity=True),
        broker_at(host, certs, **identity) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!"

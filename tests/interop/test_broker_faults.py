"""The Broker when its counterparts fail: dropped, muted, reset, cancelled at any moment."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from verser2_guest_python import DisconnectedTargetError, VerserBroker, VerserError

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"


async def test_the_host_drops_the_connection(certs: Certificates) -> None:
    async with (
        node_host(certs) as host,
        node_guest(host.url, certs),
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        waiting = asyncio.create_task(broker.get(f"{URL}/slow?10000"))
        response = await broker.get(f"{URL}/sse?10000")
        await host.command("drop", peer="broker-a")
        with pytest.raises(DisconnectedTargetError):
            await waiting
        with pytest.raises(DisconnectedTargetError):
            await response.read()
        assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!", "on a new session"


async def test_the_guest_is_dropped_in_the_middle_of_an_answer(certs: Certificates) -> None:
    async with (
        node_host(certs) as host,
        node_guest(host.url, certs),
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        response = await broker.get(f"{URL}/big?64")
        await host.command("drop", peer="guest-a")
        with pytest.raises(VerserError) as caught:
            await response.read()
        assert caught.value.code in ("stream-failure", "disconnected-target")


async def test_the_host_closes(certs: Certificates) -> None:
    async with node_host(certs) as host, node_guest(host.url, certs), broker_at(host, certs) as broker:
        await broker.wait_for_route(DOMAIN)
        response = await broker.get(f"{URL}/sse?10000")
        await host.command("close")
        with pytest.raises(VerserError):
            await response.read()


async def test_leases_that_are_reset(certs: Certificates) -> None:
    async with node_host(certs) as host, node_guest(host.url, certs), broker_at(host, certs) as broker:
        await broker.wait_for_route(DOMAIN)
        waiting = asyncio.create_task(broker.get(f"{URL}/slow?10000"))
        response = await broker.get(f"{URL}/sse?10000")
        await host.command("reset-leases", peer="guest-a")
        for call in (waiting, response.read()):
            with pytest.raises(VerserError):
                await call
        assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!"


@pytest.mark.both_loops
async def test_requests_cancelled_at_random_moments_leave_nothing_behind(certs: Certificates) -> None:
    chance = random.Random(20)
    paths = ["/plain", "/big?1", "/slow?20", "/sse?3", "/echo", "/sink"]

    async def one(broker: VerserBroker, path: str) -> None:
        body = b"x" * 200_000 if path in ("/echo", "/sink") else None
        response = await broker.request("POST" if body else "GET", f"{URL}{path}", body=body)
        async with response:
            await response.read()

    async def some(broker: VerserBroker) -> None:
        for _ in range(18):
            call = asyncio.create_task(one(broker, chance.choice(paths)))
            await asyncio.wait([call], timeout=chance.choice([0, 0.001, 0.005, 0.02]))
            call.cancel()
            await asyncio.wait([call])
            if not call.cancelled():
                call.result()

    async with node_host(certs, quiet=True) as host, node_guest(host.url, certs) as guest:
        async with broker_at(host, certs) as broker:
            await broker.wait_for_route(DOMAIN)
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(some(broker))
            assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!"
            link = broker._keeper.link
            assert link is not None
            assert link.room.in_flight == 0
            assert link.session.unread_bytes == 0
            assert link.session.open_streams == 1, "the control stream alone"
        assert guest.all("error") == []

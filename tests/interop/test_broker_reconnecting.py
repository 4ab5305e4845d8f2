"""The Broker when its Host goes away, comes back, says goodbye, or falls silent: the Node Host."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from examples.bench_app import app
from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from verser2_guest_python import DisconnectedTargetError, VerserBroker, create_verser_guest

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"


async def plain(broker: VerserBroker) -> None:
    assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!"


@pytest.mark.both_loops
async def test_a_host_that_comes_back(certs: Certificates) -> None:
    """With all its routes gone at first: the Guest returns when it returns."""
    async with AsyncExitStack() as stack:
        async with node_host(certs) as host:
            port = host.port
            await stack.enter_async_context(node_guest(host.url, certs, reconnect=True))
            broker = await stack.enter_async_context(broker_at(host, certs))
            await plain(broker)
            under_way = asyncio.create_task(broker.get(f"{URL}/slow?10000"))
            response = await broker.get(f"{URL}/sse?10000")
            retried = asyncio.create_task(broker.get(f"{URL}/slow?50", retries=3))
            await host.event("request", path="/plain")
        for call in (under_way, response.read()):
            with pytest.raises(DisconnectedTargetError):
                await call
        waiting = [asyncio.create_task(plain(broker)) for _ in range(5)]
        await asyncio.sleep(0.3)
        assert not any(call.done() for call in waiting)
        async with node_host(certs, port=port):
            await asyncio.gather(*waiting)
            assert await (await retried).text() == "slow"
            assert [route.target_id for route in broker.get_routes()] == ["guest-a"]


async def test_goodbyes_under_load_lose_nothing(certs: Certificates) -> None:
    """GOAWAY to Broker and Guest at once, again and again: each request gets its one answer.

    A Guest opens no leases behind a GOAWAY, so it has many: else requests wait at the Host for 5 s.
    """
    guest = {"guest_id": "guest-a", "routed_domains": [DOMAIN], "tls_ca_file": certs.ca}
    guest["min_waiting_streams"] = 500
    seen: Counter[str] = Counter()

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen[scope["query_string"].decode()] += 1
        await app(scope, receive, send)

    async with (
        node_host(certs, quiet=True) as host,
        create_verser_guest(host_url=host.url, app=counting, **guest),
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        await host.event("registered", role="broker")
        going = True

        async def load(worker: int) -> int:
            count = 0
            while going:
                response = await broker.post(f"{URL}/echo?{worker}-{count}", body=b"x" * 1_000)
                assert len(await response.read()) == 1_000
                count += 1
            return count

        workers = [asyncio.create_task(load(worker)) for worker in range(16)]
        for _ in range(4):
            await asyncio.sleep(0.2)
            await host.command("goaway")
            await host.event("registered", role="broker")
        await asyncio.sleep(0.2)
        going = False
        counts = await asyncio.gather(*workers)
        assert sum(counts) == len(seen)
        assert set(seen.values()) == {1}, "none was served twice"


async def test_a_host_that_falls_silent(certs: Certificates) -> None:
    """It has the old session still: the new one registers under another id (protocol.md §13)."""
    async with (
        node_host(certs) as host,
        node_guest(host.url, certs),
        broker_at(host, certs, ping_interval=0.05, ping_timeout=1) as broker,
    ):
        await plain(broker)
        under_way = asyncio.create_task(broker.get(f"{URL}/slow?10000"))
        await host.command("mute", peer="broker-a", ms=3_000)
        with pytest.raises(DisconnectedTargetError, match="PING"):
            await under_way
        await plain(broker)
        names = [event["peer"] for event in host.all("registered", role="broker")]
        assert names[0] == "broker-a"
        assert names[-1] in ("broker-a", "broker-a~2")


async def test_stream_ids_run_out_under_load(certs: Certificates) -> None:
    from verser2_guest_python.http2 import SessionOptions

    async with (
        node_host(certs, quiet=True) as host,
        node_guest(host.url, certs),
        broker_at(host, certs, session_options=SessionOptions(last_stream_id=801)) as broker,
    ):
        await broker.wait_for_route(DOMAIN)

        async def some() -> None:
            for _ in range(100):
                await plain(broker)

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(some())
        assert len(host.all("registered", role="broker")) >= 5
        while len(host.all("disconnected", role="broker")) < len(host.all("registered", role="broker")) - 1:
            await host.event("disconnected", role="broker")

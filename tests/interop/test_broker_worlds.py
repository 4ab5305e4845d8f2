"""The Broker does the same with every Host and Guest: the Node ones and those of this project."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tests.interop.worlds import our_guest
from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from verser2_guest_python import (
    LocalHandlerFailureError,
    MissingGuestError,
    RequestTimeoutError,
    StreamFailureError,
    VerserBroker,
    create_verser_host,
)

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"
MIB = 1 << 20


@asynccontextmanager
async def strict_node_host(certs: Certificates) -> AsyncIterator[Any]:
    async with node_host(certs, strict=True) as host:
        yield host
        assert host.violations == []


def our_host(certs: Certificates) -> AbstractAsyncContextManager[Any]:
    return create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)


@asynccontextmanager
async def world(certs: Certificates, host: Any, guest: Any) -> AsyncIterator[VerserBroker]:
    async with (
        host(certs) as running,
        guest(running.url, certs),
        broker_at(running, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        yield broker
        assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!"
        link = broker._keeper.link
        assert link is not None
        assert link.room.in_flight == 0


everywhere = pytest.mark.parametrize(
    ("host", "guest"),
    [
        pytest.param(strict_node_host, node_guest, id="node-node"),
        pytest.param(strict_node_host, our_guest, id="node-ours"),
        pytest.param(our_host, node_guest, id="ours-node"),
        pytest.param(our_host, our_guest, id="ours-ours"),
    ],
)


@everywhere
@pytest.mark.both_loops
async def test_heads(certs: Certificates, host: Any, guest: Any) -> None:
    async with world(certs, host, guest) as broker:
        response = await broker.get(f"{URL}/plain?x=1")
        assert (response.status, response.reason, response.ok) == (200, "OK", True)
        assert response.headers["content-type"] == "text/plain"
        assert "date" in response.headers
        assert (response.url, response.target_id) == (f"{URL}/plain?x=1", "guest-a")
        assert await response.read() == b"Hello, World!"
        response = await broker.head(f"{URL}/plain")
        assert (response.status, await response.read()) == (200, b"")
        response = await broker.get(f"{URL}/nowhere")
        assert (response.status, response.ok, await response.text()) == (404, False, "Not Found")
        response = await broker.get(f"{URL}/cookies")
        assert response.cookies == {"a": "1", "b": "2"}
        await response.aclose()
        given = [
            ("X-One", "ünï"),
            ("x-two", "a"),
            ("x-two", "b"),
            ("te", "trailers"),
            ("connection", "x-one"),
        ]
        response = await broker.get(f"http://{DOMAIN}:8443/headers", headers=given)
        seen = await response.json()
        assert seen == {"host": DOMAIN, "x-forwarded-host": f"{DOMAIN}:8443", "x-two": "a,b"}


@everywhere
async def test_bodies(certs: Certificates, host: Any, guest: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(30_000):
            yield b"%d\n" % number

    whole = b"".join([b"%d\n" % number for number in range(30_000)])
    async with world(certs, host, guest) as broker:
        for body in (b"", b"x", whole, whole * 20, pieces()):
            expected = body if isinstance(body, bytes) else whole
            response = await broker.post(f"{URL}/echo", body=body, headers={"content-type": "text/x-test"})
            assert response.headers["content-type"] == "text/x-test"
            assert hashlib.sha256(await response.read()).digest() == hashlib.sha256(expected).digest()
        response = await broker.put(f"{URL}/sink", body=pieces())
        assert await response.read() == str(len(whole)).encode()
        async with await broker.get(f"{URL}/big?8") as response:
            assert sum([len(chunk) async for chunk in response.aiter_bytes(100_000)]) == 8 * MIB
        response = await broker.get(f"{URL}/sse?5")
        assert [line async for line in response.aiter_lines() if line] == [f"data: {n}" for n in range(1, 6)]


@everywhere
async def test_failures(certs: Certificates, host: Any, guest: Any) -> None:
    async with world(certs, host, guest) as broker:
        with pytest.raises(LocalHandlerFailureError):
            await broker.get(f"{URL}/boom")
        for path in ("/cut", "/cut?unsized"):
            response = await broker.get(f"{URL}{path}")
            with pytest.raises(StreamFailureError):
                await response.read()
        with pytest.raises(MissingGuestError):
            await broker.get("http://other.local.test/")
        with pytest.raises(RequestTimeoutError):
            await broker.get(f"{URL}/slow?10000", timeout=0.05)
        response = await broker.get(f"{URL}/sse?10000", total_timeout=2)
        with pytest.raises(RequestTimeoutError):
            await response.read()
        call = asyncio.create_task(broker.get(f"{URL}/slow?10000"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()


@everywhere
async def test_two_hundred_at_a_time(certs: Certificates, host: Any, guest: Any) -> None:
    async with world(certs, host, guest) as broker:

        async def one(number: int) -> None:
            body = bytes([number % 256]) * (number * 100)
            response = await broker.post(f"{URL}/echo", body=body)
            assert await response.read() == body

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(one(number))

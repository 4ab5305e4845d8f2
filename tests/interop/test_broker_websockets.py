"""WebSockets of the Broker through the Node Host and ours, with apps of the Node Guest and of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from verser2_guest_python import (
    VerserBroker,
    VerserWebSocketError,
    create_verser_guest,
    create_verser_host,
)
from verser2_guest_python.broker import VerserBrokerWebSocket

pytestmark = pytest.mark.interop

URL = f"ws://{DOMAIN}"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes; its paths do what they are called."""
    if scope["type"] != "websocket":
        raise NotImplementedError("WebSockets only")
    await receive()
    if scope["path"] == "/refuse":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/deny":
        if "websocket.http.response" in scope.get("extensions", {}):
            await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})
        return
    if scope["path"] == "/boom":
        raise ValueError("boom")
    subprotocols = scope["subprotocols"]
    headers = [(name, value) for name, value in scope["headers"] if name.startswith(b"x-")]
    await send(
        {
            "type": "websocket.accept",
            "subprotocol": subprotocols[-1] if subprotocols else None,
            "headers": headers,
        }
    )
    while (message := await receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        if text == "close":
            await send({"type": "websocket.close", "code": 3001, "reason": "dönë"})
            return
        if text == "fail":
            raise ValueError("fail")
        if text == "sleep":
            await asyncio.sleep(3600)
        body = {"text": text} if text is not None else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **body})


@asynccontextmanager
async def node_node(certs: Certificates) -> AsyncIterator[VerserBroker]:
    async with (
        node_host(certs, strict=True) as host,
        node_guest(host.url, certs),
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        yield broker
        assert host.violations == []


@asynccontextmanager
async def our_guest(host: Any, certs: Certificates) -> AsyncIterator[VerserBroker]:
    guest = create_verser_guest(
        host_url=host.url,
        guest_id="guest-a",
        app=app,
        routed_domains=[DOMAIN],
        tls_ca_file=certs.ca,
        timeout_graceful_shutdown=0.5,
    )
    async with guest, broker_at(host, certs) as broker:
        await broker.wait_for_route(DOMAIN)
        yield broker


@asynccontextmanager
async def node_ours(certs: Certificates) -> AsyncIterator[VerserBroker]:
    async with node_host(certs, strict=True) as host:
        async with our_guest(host, certs) as broker:
            yield broker
        assert host.violations == []


@asynccontextmanager
async def ours_ours(certs: Certificates) -> AsyncIterator[VerserBroker]:
    async with (
        create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key) as host,
        our_guest(host, certs) as broker,
    ):
        yield broker


@asynccontextmanager
async def ours_node(certs: Certificates) -> AsyncIterator[VerserBroker]:
    async with (
        create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key) as host,
        node_guest(host.url, certs),
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        yield broker


EVERYWHERE = pytest.mark.parametrize("served", [node_node, node_ours, ours_node, ours_ours])
NODE_APP = (node_node, ours_node)
OUR_APP = pytest.mark.parametrize("served", [node_ours, ours_ours])


@EVERYWHERE
@pytest.mark.both_loops
async def test_echo(certs: Certificates, served: Any) -> None:
    texts = ["hé", "", "x" * 500_000, "🎉\n\0"]
    async with served(certs) as broker, await broker.websocket(f"{URL}/room?x=1") as socket:
        for text in texts:
            await socket.send_text(text)
            assert await socket.receive() == {"type": "text", "data": text}
        for data in (b"", bytes(range(256)), b"x" * 700_000):
            await socket.send_bytes(data)
            assert await socket.receive() == {"type": "binary", "data": data}
        await socket.ping("there?")
        assert await socket.receive() == {"type": "pong", "data": "there?"}
        assert socket.buffered_amount == 0
    assert socket.close_code == 1000


@EVERYWHERE
async def test_a_thousand_messages_at_once(certs: Certificates, served: Any) -> None:
    async with served(certs) as broker, await broker.websocket(URL) as socket:

        async def send() -> None:
            for number in range(1_000):
                await socket.send_text(f"{number} {'x' * 2_000}")

        sending = asyncio.create_task(send())
        for number in range(1_000):
            message = await socket.receive()
            assert message == {"type": "text", "data": f"{number} {'x' * 2_000}"}
        await sending


@EVERYWHERE
async def test_the_app_closes(certs: Certificates, served: Any) -> None:
    async with served(certs) as broker:
        socket = await broker.websocket(URL)
        await socket.send_text("close 3001 done" if served in NODE_APP else "close")
        assert [message async for message in socket] == []
        assert (socket.close_code, socket.close_reason) == (3001, "done" if served in NODE_APP else "dönë")
        await socket.wait_closed()


@EVERYWHERE
async def test_one_subprotocol(certs: Certificates, served: Any) -> None:
    async with (
        served(certs) as broker,
        await broker.websocket(URL, protocol="chat.v1") as socket,
    ):
        assert socket.protocol == "chat.v1"


@EVERYWHERE
async def test_refused_by_the_app(certs: Certificates, served: Any) -> None:
    async with served(certs) as broker:
        with pytest.raises(VerserWebSocketError, match="unavailable") as caught:
            await broker.websocket(f"{URL}/refuse")
        assert caught.value.code == "missing-guest"
        with pytest.raises(VerserWebSocketError, match="No Guest serves"):
            await broker.websocket("ws://other.test/")
        async with await broker.websocket(URL) as socket:
            await socket.send_text("the next one opens")
            assert (await socket.receive())["type"] == "text"


@OUR_APP
async def test_the_app_fails(certs: Certificates, served: Any) -> None:
    async with served(certs) as broker:
        with pytest.raises(VerserWebSocketError) as caught:
            await broker.websocket(f"{URL}/boom")
        assert caught.value.code == "local-handler-failure"
        socket = await broker.websocket(URL)
        await socket.send_text("fail")
        assert [message async for message in socket] == []
        assert socket.close_code == 1011


async def test_what_hosts_of_this_project_add(certs: Certificates) -> None:
    async with ours_ours(certs) as broker:
        headers = {"X-One": "1", "authorization": "Bearer x"}
        async with await broker.websocket(URL, subprotocols=["a", "b"], headers=headers) as socket:
            assert socket.protocol == "b"
            assert socket.headers["x-one"] == "1"
        with pytest.raises(VerserWebSocketError) as caught:
            await broker.websocket(f"{URL}/deny")
        assert caught.value.status in (418, 404)


async def test_a_burst_of_sockets_waits_for_leases(certs: Certificates) -> None:
    """The Guest keeps two idle: the Host says that nobody has seen the others, so they are tried again."""
    async with ours_ours(certs) as broker:

        async def one(number: int) -> VerserBrokerWebSocket:
            socket = await broker.websocket(f"{URL}/{number}")
            await socket.send_text(str(number))
            assert await socket.receive() == {"type": "text", "data": str(number)}
            return socket

        sockets = await asyncio.gather(*[one(number) for number in range(40)])
        await asyncio.gather(*[socket.close() for socket in sockets])
        link = broker._keeper.link
        assert link is not None
        assert not link.sockets


@EVERYWHERE
async def test_closing_the_broker_says_1001(certs: Certificates, served: Any) -> None:
    async with served(certs) as broker:
        socket = await broker.websocket(URL)
        await broker.close()
        assert socket.close_code == 1001


@OUR_APP
async def test_an_app_that_does_not_read_slows_its_caller(certs: Certificates, served: Any) -> None:
    async with served(certs) as broker:
        socket = await broker.websocket(URL)
        await socket.send_text("sleep")
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await socket.send_bytes(b"x" * 100_000)
                sent += 1

        sending = asyncio.create_task(send())
        stuck = -1
        link = broker._keeper.link
        assert link is not None
        while stuck != sent:
            stuck = sent
            for _ in range(5):
                await link.session.ping()
                await asyncio.sleep(0.02)
        assert not sending.done()
        assert sent < 200
        assert socket.buffered_amount <= 1 << 20
        sending.cancel()
        socket.abort()
        await socket.wait_closed()
        await asyncio.wait([sending])

"""This Host between the Node Guest and the Node Broker: WebSockets (protocol.md §11)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.host.peers import DOMAIN, running_host
from tests.host.test_streaming import active
from tests.support.certificates import Certificates
from tests.support.node_peers import NodePeer, node_guest, node_websocket

pytestmark = pytest.mark.interop

URL = f"ws://{DOMAIN}"


@pytest.mark.both_loops
async def test_an_echo(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs),
        node_websocket(host.url, certs, f"{URL}/room", protocol="chat.v1") as socket,
    ):
        assert (await socket.event("open"))["protocol"] == "chat.v1"
        for text in ("hé", "", "x" * 100_000):
            await socket.write_line(text)
            assert (await socket.event("message"))["text"] == text
        await socket.write_line("ping n")
        assert (await socket.event("message"))["text"] == "pong n"
        socket.close_input()
        assert (await socket.event("close"))["code"] == 1000
        assert await socket.wait() == 0
        await active(host, 0)


async def test_the_guest_closes(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs),
        node_websocket(host.url, certs, f"{URL}/room") as socket,
    ):
        await socket.event("open")
        await socket.write_line("close 4001 enough")
        closed = await socket.event("close")
        assert (closed["code"], closed["reason"]) == (4001, "enough")
        await active(host, 0)


async def test_a_refusal(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs),
        node_websocket(host.url, certs, f"{URL}/refuse") as socket,
    ):
        assert await socket.wait() == 1
        assert "missing-guest" in socket.transcript()
        await active(host, 0)


async def test_many_at_a_time(certs: Certificates) -> None:
    """Two leases are idle at a time, and there is no queue: each opens before the next one asks."""
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs),
        contextlib.AsyncExitStack() as stack,
    ):
        sockets = []
        for number in range(6):
            socket = await stack.enter_async_context(node_websocket(host.url, certs, f"{URL}/{number}"))
            await socket.event("open")
            sockets.append(socket)

        async def talk(number: int, socket: NodePeer) -> None:
            for count in range(20):
                await socket.write_line(f"{number}: {count}")
                assert (await socket.event("message"))["text"] == f"{number}: {count}"
            socket.close_input()
            assert (await socket.event("close"))["code"] == 1000

        await asyncio.gather(*(talk(number, socket) for number, socket in enumerate(sockets)))
        await active(host, 0)


async def test_a_guest_that_is_killed(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs) as guest,
        node_websocket(host.url, certs, f"{URL}/room") as socket,
    ):
        await socket.event("open")
        guest.kill()
        assert (await socket.event("close"))["code"] == 1006
        await active(host, 0)

"""The Node.js peers work with each other, and the helpers that run them leave nothing behind."""

from __future__ import annotations

import os

import pytest

from tests.support.certificates import Certificates
from tests.support.node_peers import (
    PeerFailed,
    node_guest,
    node_host,
    node_load,
    node_request,
    node_routes,
    node_websocket,
)

pytestmark = pytest.mark.interop


@pytest.mark.both_loops
async def test_host_guest_and_load(certs: Certificates) -> None:
    async with node_host(certs, strict=True) as host, node_guest(host.url, certs) as guest:
        registered = await host.event("registered", peer="guest-a")
        assert registered["domains"] == ["a.local.test"]
        result = await node_load(host.url, certs, concurrency=4, seconds=0.2)
        assert result["requests"] > 0
        assert result["errors"] == {}
        assert result["unfinished"] == 0
        assert host.violations == []
        (route,) = (await host.ask("routes"))["routes"]
        assert (route["targetId"], route["domain"], route["state"]) == ("guest-a", "a.local.test", "active")
        await guest.command("close")
        await host.event("disconnected", peer="guest-a")
        assert await guest.wait() == 0


async def test_broker(certs: Certificates) -> None:
    async with node_host(certs) as host, node_guest(host.url, certs):
        answer = await node_request(host.url, certs, "http://a.local.test/echo", data="hello")
        assert (answer.status, answer.body) == (200, b"hello")
        failed = await node_request(host.url, certs, "http://a.local.test/boom")
        assert failed.error_code == "local-handler-failure"
        routes = await node_routes(host.url, certs)
        assert [(route["targetId"], route["domain"]) for route in routes] == [("guest-a", "a.local.test")]


async def test_websocket(certs: Certificates) -> None:
    async with (
        node_host(certs) as host,
        node_guest(host.url, certs),
        node_websocket(host.url, certs, "ws://a.local.test/room") as socket,
    ):
        await socket.event("open")
        await socket.write_line("hé")
        assert (await socket.event("message"))["text"] == "hé"
        await socket.write_line("close 4001 enough")
        assert (await socket.event("close"))["code"] == 4001
        socket.close_input()
        assert await socket.wait() == 0


@pytest.mark.both_loops
async def test_a_peer_is_stopped_when_the_test_fails(certs: Certificates) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with node_host(certs) as host:
            raise ZeroDivisionError
    assert "listening" in caught.value.__notes__[0]
    with pytest.raises(ProcessLookupError):
        os.kill(host.pid, 0)


async def test_a_peer_that_ends_early_is_told_with_what_it_said(certs: Certificates) -> None:
    async with node_host(certs) as host:
        nowhere = host.url
    with pytest.raises(PeerFailed, match="ECONNREFUSED"):
        async with node_guest(nowhere, certs):
            pass

"""This Host and the Node peers: routes, revocation, a Guest that goes and returns, refusals."""

from __future__ import annotations

import pytest

from tests.host.peers import DOMAIN, Broker, running_host
from tests.support.certificates import Certificates
from tests.support.node_peers import PeerFailed, node_guest, node_request, node_routes

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"


@pytest.mark.both_loops
async def test_a_broker_sees_the_routes(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs, domain=[DOMAIN, "b.local.test"]),
        node_guest(host.url, certs, guest_id="guest-b"),
    ):
        routes = [(route["targetId"], route["domain"]) for route in await node_routes(host.url, certs)]
        assert routes == [("guest-a", DOMAIN), ("guest-a", "b.local.test"), ("guest-b", DOMAIN)]


async def test_a_guest_revokes(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs, domain=[DOMAIN, "b.local.test"]) as guest,
    ):
        await guest.command("revoke", domains=[DOMAIN])
        answer = await guest.event("revoke-answer")
        assert (answer["http"], answer["status"]) == (200, "ack")
        await guest.command("revoke", domains=[DOMAIN, "b.local.test"])
        answer = await guest.event("revoke-answer")
        assert (answer["http"], answer["status"]) == (200, "partial")
        assert [entry["domain"] for entry in answer["failedDomains"]] == [DOMAIN]
        await guest.command("revoke", domains=[DOMAIN])
        assert (await guest.event("revoke-answer"))["http"] == 404
        await guest.command("revoke", domains=[])
        assert (await guest.event("revoke-answer"))["http"] == 400
        assert await node_routes(host.url, certs) == []
        async with Broker(host, certs) as broker:
            assert (await broker.fetch(path="/plain")).error["code"] == "missing-guest"


@pytest.mark.both_loops
async def test_a_guest_that_returns_in_time_gets_its_routes_back(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=30) as host, Broker(host, certs) as broker:
        async with node_guest(host.url, certs):
            assert (await broker.change())[0] == [("added", DOMAIN, "registered")]
            assert (await broker.fetch(path="/plain")).status == 200
        assert (await broker.change())[0] == [("degraded", DOMAIN, "disconnected")]
        assert (await broker.fetch(path="/plain")).error["code"] == "missing-guest"
        async with node_guest(host.url, certs):
            assert (await broker.change())[0] == [("changed", DOMAIN, "restored")]
            assert (await broker.fetch(path="/plain")).status == 200


async def test_a_guest_that_is_killed_is_replaced(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=0.1) as host, Broker(host, certs) as broker:
        async with node_guest(host.url, certs) as guest:
            await broker.change()
            guest.kill()
            assert (await broker.change())[0] == [("degraded", DOMAIN, "disconnected")]
            assert (await broker.change())[0] == [("removed", DOMAIN, "timeout")]
        async with node_guest(host.url, certs):
            assert (await broker.change())[0] == [("added", DOMAIN, "registered")]


async def test_a_taken_peer_id(certs: Certificates) -> None:
    async with running_host(certs) as host, node_guest(host.url, certs):
        async with node_guest(host.url, certs, ready=False) as second:
            error = await second.event("error")
            assert error["code"] == "invalid-registration"
            assert error["message"] == "Peer is already registered"
            assert await second.wait() == 1
        answer = await node_request(host.url, certs, f"{URL}/plain", broker_id="guest-a")
        assert answer.error_code == "invalid-registration"


async def test_a_guest_that_drains(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        node_guest(host.url, certs) as guest,
        Broker(host, certs) as broker,
    ):
        stream = broker.request(path="/slow?300")
        await broker.session.ping()
        while not (host.get_stats().active_requests):
            await broker.session.ping()
        await guest.command("close")
        answer = await broker.answer(stream)
        assert answer.body == b"slow" or answer.error["code"] in ("stream-failure", "disconnected-target")
        assert await guest.wait() == 0


async def test_a_host_that_closes_lets_the_guest_know(certs: Certificates) -> None:
    async with running_host(certs) as host, node_guest(host.url, certs) as guest:
        await host.close()
        await guest.event("closed")
        with pytest.raises(PeerFailed, match="ECONNREFUSED"):
            async with node_guest(host.url, certs):
                pass

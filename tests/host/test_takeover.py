"""A peer that comes back while its last session is registered: replaced when dead, refused when alive."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.host.crowd import Crowd
from tests.host.peers import DOMAIN, Answer, Broker, Guest, Peer, Watcher, running_host
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits, VerserHost

# A dead session is given up on after this time: short for tests in which it is dead
SOON = HostLimits(takeover_seconds=0.2)
# … and long where it is not
LATE = HostLimits(takeover_seconds=30.0)


def freeze(peer: Peer) -> None:
    """From now on this peer reads nothing, so that it answers nothing: as one whose machine is gone."""
    peer.session._transport._tcp.pause_reading()  # type: ignore[union-attr]


def thaw(peer: Peer) -> None:
    peer.session._transport._tcp.resume_reading()  # type: ignore[union-attr]


def registration(peer_id: str, role: str = "guest", *domains: str) -> bytes:
    return json.dumps({"peerId": peer_id, "role": role, "routedDomains": list(domains)}).encode()


async def register(peer: Peer, peer_id: str = "guest-a", role: str = "guest", *domains: str) -> Answer:
    return await peer.exchange("/verser/register", registration(peer_id, role, *domains))


def is_taken(answer: Answer) -> bool:
    if answer.status != 502:
        assert answer.json["status"] == "registered", answer
        return False
    assert answer.error["code"] == "invalid-registration"
    assert answer.error["message"] == "Peer is already registered"
    return True


async def pinged(host: VerserHost, peer_id: str = "guest-a") -> None:
    """Until the Host waits for the answer of this peer's old session."""
    assert host._run is not None
    takeover = host._run.core.takeover
    async with asyncio.timeout(10):
        while not any(peer.id == peer_id for peer in takeover._asked):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


@pytest.mark.both_loops
async def test_a_live_session_is_not_replaced(certs: Certificates) -> None:
    async with (
        running_host(certs, limits=LATE) as host,
        Guest(host, certs) as guest,
        Peer(host, certs) as other,
    ):
        for _ in range(3):
            assert is_taken(await register(other))
        await guest.lease()
        assert [route.target_id for route in host.get_routes()] == ["guest-a"]


@pytest.mark.both_loops
async def test_a_dead_session_is_replaced_and_its_routes_come_back(certs: Certificates) -> None:
    async with running_host(certs, limits=SOON) as host, Broker(host, certs) as broker:
        watcher = Watcher(host)
        async with Guest(host, certs) as old:
            await broker.change()
            await old.lease()
            await old.lease()
            freeze(old)
            async with Guest(host, certs) as new:
                assert [event.name for event in watcher.events if event.name != "route"] == [
                    "registered",
                    "disconnected",
                    "registered",
                ]
                assert "came back" in str((await watcher.wait("disconnected")).fields["reason"])
                routes = [("guest-a", DOMAIN)]
                assert await broker.change() == ([("degraded", DOMAIN, "disconnected")], routes)
                assert await broker.change() == ([("changed", DOMAIN, "restored")], routes)
                assert host.get_stats().idle_leases == 0
                lease = await new.lease()
                stream = broker.request()
                await lease.answer(await lease.request(), body=b"from the new one")
                assert (await broker.answer(stream)).body == b"from the new one"
            thaw(old)
            await old.session.wait_lost()


async def test_what_the_dead_session_had_fails(certs: Certificates) -> None:
    async with (
        running_host(certs, limits=SOON) as host,
        Broker(host, certs) as broker,
        Guest(host, certs) as old,
    ):
        lease = await old.lease()
        active = broker.request(path="/active")
        await lease.request()
        waiting = broker.request(path="/waiting", lease_timeout_ms=60_000)
        await broker.session.ping()
        assert host.get_stats().queued_requests == 1
        freeze(old)
        async with Guest(host, certs):
            answers = [await broker.answer(stream) for stream in (active, waiting)]
            assert [answer.error["code"] for answer in answers] == ["disconnected-target"] * 2
            assert [answer.error["context"]["stage"] for answer in answers] == ["sent", "queued"]
            assert host.get_stats().active_requests == 0
        thaw(old)


async def test_a_broker_that_comes_back(certs: Certificates) -> None:
    async with (
        running_host(certs, limits=SOON) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as old,
    ):
        freeze(old)
        async with Broker(host, certs) as new:
            lease = await guest.lease()
            stream = new.request()
            await lease.answer(await lease.request())
            assert (await new.answer(stream)).status == 200
        thaw(old)


async def test_another_role_or_identity_is_refused_at_once(crowd: Crowd) -> None:
    certs = crowd.certs
    async with (
        running_host(certs, client_ca_file=crowd.ca, limits=LATE) as host,
        Guest(host, certs, "alice-b", **crowd.show("alice")) as old,
    ):
        freeze(old)
        # A certificate for alice-b may have this id as well, but it is somebody else
        for shown in (crowd.show("alice-b"), crowd.show("alice", dns=("alice.test",))):
            async with Peer(host, certs, **shown) as other:
                assert is_taken(await register(other, "alice-b"))
        async with Peer(host, certs, **crowd.show("alice")) as other:
            assert is_taken(await register(other, "alice-b", "broker"))
        thaw(old)
        await old.session.ping()


async def test_who_may_not_register_cannot_end_anybodys_session(crowd: Crowd) -> None:
    certs = crowd.certs
    async with (
        running_host(certs, client_ca_file=crowd.ca, limits=SOON) as host,
        Guest(host, certs, "alice", **crowd.show("alice")) as old,
    ):
        freeze(old)
        answer = await crowd.register(host, "alice", "guest", **crowd.show("mallory"))
        assert answer is not None
        assert answer.status == 403
        assert host.get_stats().guests == 1
        thaw(old)
        await old.session.ping()


async def test_a_renewed_certificate_of_the_same_names_is_the_same_peer(crowd: Crowd) -> None:
    certs = crowd.certs
    async with (
        running_host(certs, client_ca_file=crowd.ca, limits=SOON) as host,
        Guest(host, certs, "alice", **crowd.show("alice")) as old,
    ):
        freeze(old)
        async with Guest(host, certs, "alice", **crowd.renew("alice")) as new:
            await new.lease()
        thaw(old)


async def test_the_session_answers_while_the_newcomer_waits(certs: Certificates) -> None:
    async with running_host(certs, limits=LATE) as host, Guest(host, certs) as old, Peer(host, certs) as new:
        freeze(old)
        waiting = asyncio.create_task(register(new))
        await pinged(host)
        thaw(old)
        assert is_taken(await waiting)
        await old.lease()


async def test_of_two_newcomers_one_comes_in(certs: Certificates) -> None:
    async with running_host(certs, limits=SOON) as host, Guest(host, certs) as old:
        freeze(old)
        async with Peer(host, certs) as first, Peer(host, certs) as second:
            answers = await asyncio.gather(register(first), register(second))
            assert sorted(map(is_taken, answers)) == [False, True]
            assert host.get_stats().guests == 1
        thaw(old)


async def test_a_newcomer_that_leaves_takes_nothing_along(certs: Certificates) -> None:
    limits = HostLimits(takeover_seconds=1.0)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as old:
        freeze(old)
        async with Peer(host, certs) as fickle:
            stream = fickle.open("/verser/register", {"content-type": "application/json"})
            await stream.write(registration("guest-a"), end=True)
            await pinged(host)
            stream.reset()
        async with Peer(host, certs) as gone:
            stream = gone.open("/verser/register", {"content-type": "application/json"})
            await stream.write(registration("guest-a"), end=True)
            await pinged(host)
        await answered(host)
        # Nobody waited when the time was up: the old session lives, and answers late
        thaw(old)
        await old.session.ping()
        assert host.get_stats().guests == 1
        await old.lease()


async def test_a_newcomer_that_leaves_does_not_keep_another_from_coming_in(certs: Certificates) -> None:
    limits = HostLimits(takeover_seconds=0.5)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as old:
        freeze(old)
        async with Peer(host, certs) as fickle, Peer(host, certs) as steady:
            stream = fickle.open("/verser/register", {"content-type": "application/json"})
            await stream.write(registration("guest-a"), end=True)
            await pinged(host)
            waiting = asyncio.create_task(register(steady))
            stream.reset()
            assert not is_taken(await waiting)
        thaw(old)


async def test_the_host_closes_while_a_newcomer_waits(certs: Certificates) -> None:
    async with running_host(certs, limits=LATE) as host:
        old = await Guest(host, certs).__aenter__()
        freeze(old)
        async with Peer(host, certs) as new:
            stream = new.open("/verser/register", {"content-type": "application/json"})
            await stream.write(registration("guest-a"), end=True)
            await pinged(host)
            await host.close(timeout=0)
            await new.session.wait_lost()
        thaw(old)
        await old.session.close()


async def answered(host: VerserHost) -> None:
    """Until no old session's answer is waited for any more."""
    assert host._run is not None
    takeover: Any = host._run.core.takeover
    async with asyncio.timeout(10):
        while takeover._asked:
            await asyncio.wait(
                [asyncio.ensure_future(asyncio.shield(one)) for one in takeover._asked.values()]
            )
            await asyncio.sleep(0)

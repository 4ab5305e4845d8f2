"""Waiting for a lease: the queue, its limits, and idle leases that go away (protocol.md §5)."""

from __future__ import annotations

import asyncio

import pytest

from tests.host.peers import WAIT_SECONDS, Broker, Guest, running_host
from tests.host.test_streaming import active
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits


@pytest.mark.both_loops
async def test_requests_wait_in_their_order(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        streams = [broker.request(path=f"/{number}") for number in range(3)]
        await active(host, 3)
        assert host.get_stats().queued_requests == 3
        for number, stream in enumerate(streams):
            lease = await guest.lease()
            head = await lease.request()
            assert head.path == f"/{number}"
            await lease.answer(head)
            assert (await broker.answer(stream)).status == 200
        assert host.get_stats().queued_requests == 0


async def test_a_request_waits_for_as_long_as_the_host_says(certs: Certificates) -> None:
    async with (
        running_host(certs, lease_timeout=0.05) as host,
        Guest(host, certs),
        Broker(host, certs) as broker,
    ):
        answer = await broker.fetch()
        assert answer.status == 502
        assert answer.error["code"] == "timeout"
        assert answer.error["context"] == {
            "targetId": "guest-a",
            "timeoutMs": 50,
            "stage": "queued",
            "requestId": "broker-a-1",
        }
        assert host.get_stats().active_requests == 0


async def test_a_request_waits_for_as_long_as_its_broker_says(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        for milliseconds in (0, 50):
            answer = await broker.fetch(lease_timeout_ms=milliseconds)
            assert answer.error["code"] == "timeout"
            assert answer.error["context"]["timeoutMs"] == milliseconds
        lease = await guest.lease()
        stream = broker.request(lease_timeout_ms=0)  # an idle lease is there: no wait
        await lease.answer(await lease.request())
        assert (await broker.answer(stream)).status == 200


async def test_nobody_may_wait_for_ever(certs: Certificates) -> None:
    limits = HostLimits(lease_wait_seconds=0.05)
    async with running_host(certs, limits=limits) as host, Guest(host, certs), Broker(host, certs) as broker:
        answer = await broker.fetch(lease_timeout_ms=2_000_000_000)
        assert answer.error["context"]["timeoutMs"] == 50


@pytest.mark.parametrize("limits", [HostLimits(queued_requests_per_guest=2), HostLimits(queued_requests=2)])
async def test_the_queue_has_an_end(certs: Certificates, limits: HostLimits) -> None:
    async with (
        running_host(certs, limits=limits) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        waiting = [broker.request(path=f"/{number}") for number in range(2)]
        answer = await broker.fetch()
        assert answer.error["code"] == "timeout"
        assert answer.error["context"]["stage"] == "queued"
        for stream in waiting:
            lease = await guest.lease()
            await lease.answer(await lease.request())
            assert (await broker.answer(stream)).status == 200
        # Places that became free are free.
        waiting = [broker.request(path=f"/{number}") for number in range(2)]
        await active(host, 2)
        waiting[0].reset()
        await active(host, 1)
        broker.request()
        await active(host, 2)
        assert host.get_stats().queued_requests == 2


async def test_what_waits_takes_a_bounded_number_of_bytes(certs: Certificates) -> None:
    limits = HostLimits(queued_bytes=25_000)
    large = {"x-large": "x" * 10_000}
    async with (
        running_host(certs, limits=limits) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        waiting = [broker.request(headers=large) for _ in range(2)]
        answer = await broker.fetch(headers=large)
        assert answer.error["code"] == "timeout"
        assert answer.error["message"] == "Too many requests wait for a lease of guest-a already"
        assert answer.error["context"]["stage"] == "queued"
        small = broker.request(path="/small")  # for which there is room
        await active(host, 3)
        for stream in (*waiting, small):
            lease = await guest.lease()
            await lease.answer(await lease.request())
            assert (await broker.answer(stream)).status == 200
        # Room that became free is free: served, given up, or too late.
        for _ in range(3):
            given_up = [broker.request(headers=large) for _ in range(2)]
            await active(host, 2)
            assert (await broker.fetch(headers=large)).error["code"] == "timeout"
            for stream in given_up:
                stream.reset()
            await active(host, 0)
        for _ in range(3):
            answer = await broker.fetch(headers=large, lease_timeout_ms=1)
            assert "came within" in answer.error["message"]


async def test_a_guest_may_have_so_many_idle_leases(certs: Certificates) -> None:
    limits = HostLimits(idle_leases_per_guest=2)
    async with (
        running_host(certs, limits=limits) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        first, _ = await guest.lease(), await guest.lease()
        answer = await guest.answer(guest.open_lease())
        assert answer.status == 502
        assert answer.error["code"] == "timeout"
        stream = broker.request()
        head = await first.request()
        await guest.lease()  # one became active: there is room
        await first.answer(head)
        assert (await broker.answer(stream)).status == 200


async def test_idle_leases_that_went_away_are_not_used(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        leases = [await guest.lease() for _ in range(4)]
        leases[0].stream.reset()
        await leases[1].stream.write(b"", end=True)
        leases[2].stream.reset()
        async with asyncio.timeout(WAIT_SECONDS):
            await guest.session.ping()
        assert host.get_stats().idle_leases == 1
        stream = broker.request()
        await leases[3].answer(await leases[3].request(), 200, {}, b"fourth")
        assert (await broker.answer(stream)).body == b"fourth"


async def test_many_idle_leases_that_come_and_go(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        leases = await asyncio.gather(*(guest.lease() for _ in range(1000)))
        assert host.get_stats().idle_leases == 1000
        for lease in leases[100:900]:
            lease.stream.reset()
        await guest.session.ping()
        assert host.get_stats().idle_leases == 200
        for lease in leases[:100] + leases[900:]:
            stream = broker.request()
            await lease.answer(await lease.request())
            assert (await broker.answer(stream)).status == 200

"""A Broker that reads slowly: it gets all changes, and costs the Host no memory to speak of."""

from __future__ import annotations

import asyncio

import pytest

from tests.host.peers import WAIT_SECONDS, Broker, Guest, Watcher, running_host
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits
from verser2_guest_python.http2 import SessionOptions

SMALL = SessionOptions(stream_window_bytes=65_535, connection_window_bytes=65_535)
MANY = [f"{number}.a-domain-with-a-long-name.local.test" for number in range(200)]


class Follower:
    """A Broker's table, from lifecycle lines alone and from routes lines alone."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.from_events: set[tuple[str, str]] = set()
        self.from_tables: set[tuple[str, str]] = set()
        self.lines = 0

    async def follow_until(self, size: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.from_tables) != size:
                line = await self.broker.line()
                self.lines += 1
                if line["type"] == "routes":
                    self.from_tables = {(row["targetId"], row["domain"]) for row in line["routes"]}
                    assert self.from_tables == self.from_events
                    continue
                for event in line["events"]:
                    key = (event["targetId"], event["domain"])
                    if event["type"] == "removed":
                        self.from_events.remove(key)
                    else:
                        self.from_events.add(key)


@pytest.mark.both_loops
async def test_a_slow_broker_gets_every_change_in_few_lines(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        Broker(host, certs, options=SMALL) as slow,
        Guest(host, certs, "guest-a", *MANY) as guest,
    ):
        for domain in MANY[:150]:
            assert (await guest.revoke([domain])).status == 200
        follower = Follower(slow)
        await follower.follow_until(50)
        # 151 changes, each with a table of many kilobytes, would be 302 lines.
        assert follower.lines < 60


async def test_a_broker_that_never_reads_is_closed(certs: Certificates) -> None:
    limits = HostLimits(unread_control_events=100)
    async with running_host(certs, limits=limits) as host:
        watcher = Watcher(host)
        async with (
            Broker(host, certs, options=SMALL) as deaf,
            Broker(host, certs, "broker-b") as healthy,
            Guest(host, certs, "guest-a", *MANY) as guest,
        ):
            await healthy.change()
            for domain in MANY[:150]:
                assert (await guest.revoke([domain])).status == 200
                await healthy.change()
            event = await watcher.wait("disconnected", peer="broker-a")
            assert event.fields["reason"] == "it does not read its control stream"
            assert deaf.session.lost is not None
            assert healthy.session.lost is None


async def test_a_table_larger_than_a_window_is_a_first_line_as_well(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        Guest(host, certs, "guest-a", *(f"{number}.{name}" for name in MANY[:100] for number in range(9))),
        Broker(host, certs, options=SMALL) as broker,
    ):
        assert len(broker.registered["routes"]) == 900


async def test_a_broker_may_give_its_control_stream_up(certs: Certificates) -> None:
    async with running_host(certs) as host, Broker(host, certs) as broker:
        broker.control.reset()
        await broker.session.ping()
        async with Guest(host, certs) as guest:
            lease = await guest.lease()
            stream = broker.request()
            await lease.answer(await lease.request())
            assert (await broker.answer(stream)).status == 200

"""Limits of a Host that are counted or timed, each lowered so that a test meets it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.host.peers import DOMAIN, Broker, Guest, Peer, Watcher, failed, running_host
from tests.host.test_streaming import active
from tests.http2.raw_peer import RawPeer
from tests.http2.sessions import client_tls
from tests.support.certificates import Certificates
from tests.support.clock import Clock
from verser2_guest_python.host import HostLimits
from verser2_guest_python.http2 import ConnectError, ErrorCode, SessionOptions

NO_RETURN = 1e-9  # of a ration, a second


async def knock(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """TCP, and not a word of TLS."""
    return await asyncio.open_connection("127.0.0.1", port)


async def ends(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


@contextlib.asynccontextmanager
async def silent_callers(port: int, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    calls = [await knock(port) for _ in range(count)]
    try:
        yield [reader for reader, _ in calls]
    finally:
        for _, writer in calls:
            writer.close()
        for _, writer in calls:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.mark.both_loops
async def test_an_address_that_connects_too_often(certs: Certificates) -> None:
    limits = HostLimits(connections_per_address=3, connections_per_address_and_second=NO_RETURN)
    async with running_host(certs, limits=limits) as host:
        watcher = Watcher(host)
        async with Guest(host, certs) as guest, Broker(host, certs) as broker:
            async with Peer(host, certs):
                pass
            for _ in range(3):
                with pytest.raises(ConnectError):
                    async with Peer(host, certs):
                        pass
            event = await watcher.wait("turned-away", limit="connections")
            assert event.fields["address"] == "127.0.0.1"
            assert event.fields["reason"] == "its address opens too many connections"
            assert len([one for one in watcher.events if one.name == "turned-away"]) == 1  # a second
            # Who is in, stays in.
            lease = await guest.lease()
            stream = broker.request()
            await lease.answer(await lease.request(), body=b"fine")
            assert (await broker.answer(stream)).body == b"fine"


@pytest.mark.both_loops
async def test_handshakes_that_are_never_finished(certs: Certificates) -> None:
    """They take the place of each other, and of nobody who means it."""
    async with running_host(certs, limits=HostLimits(handshakes=5)) as host:
        watcher = Watcher(host)
        async with silent_callers(host.port, 40) as readers:
            for reader in readers[:35]:
                await ends(reader)
            async with Guest(host, certs):
                await watcher.wait("registered", peer="guest-a")
            assert (await watcher.wait("turned-away", limit="handshakes")).fields["address"] == "127.0.0.1"


async def test_a_handshake_that_takes_too_long(certs: Certificates) -> None:
    async with running_host(certs, limits=HostLimits(handshake_seconds=0.1)) as host:
        watcher = Watcher(host)
        async with silent_callers(host.port, 2) as readers:
            for reader in readers:
                await ends(reader)
        reason = "the client did not finish the TLS handshake within 0.1 s"
        await watcher.wait("handshake-failed", reason=reason)
        peer = await RawPeer.dial(host.port, client_tls(certs))  # TLS, and not a word of HTTP/2
        assert (await watcher.wait("disconnected")).fields["limit"] == "handshake"
        await peer.gone()


async def test_a_session_that_does_not_register_is_named(certs: Certificates) -> None:
    async with running_host(certs, limits=HostLimits(registration_seconds=0.1)) as host:
        watcher = Watcher(host)
        async with Peer(host, certs) as peer:
            await peer.session.wait_lost()
            event = await watcher.wait("disconnected", limit="registration")
        assert event.fields["peer"] is None
        assert str(event.fields["address"]).startswith("127.0.0.1:")


@pytest.mark.both_loops
async def test_a_peer_that_falls_silent_is_asked_and_ended(certs: Certificates) -> None:
    limits = HostLimits(silence_seconds=0.1, ping_answer_seconds=1)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as guest:
        watcher = Watcher(host)
        async with Broker(host, certs) as broker:
            transport = broker.session._transport
            assert transport._tcp is not None
            transport._tcp.pause_reading()  # it hears no PING, and says nothing
            event = await watcher.wait("disconnected", peer="broker-a")
            assert event.fields["limit"] == "silence"
            assert event.fields["reason"] == "nothing came for 1.1 s, and no answer to a PING"
            transport._tcp.resume_reading()
        # The Guest has said nothing all the time, but has answered.
        assert guest.session.lost is None
        assert (await guest.revoke([DOMAIN])).status == 200


async def test_nobody_is_asked_where_silence_is_no_matter(certs: Certificates) -> None:
    limits = HostLimits(silence_seconds=0, ping_answer_seconds=0.01)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as guest:
        await asyncio.sleep(0.1)
        assert (await guest.revoke([DOMAIN])).status == 200


async def test_an_answer_that_its_broker_does_not_take_is_given_up(certs: Certificates) -> None:
    limits = HostLimits(stalled_answer_seconds=0.2)
    small = SessionOptions(stream_window_bytes=100_000)
    async with (
        running_host(certs, limits=limits) as host,
        Guest(host, certs) as guest,
        Broker(host, certs, options=small) as broker,
    ):
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), body=bytes(500_000))
        assert await failed(stream) in (ErrorCode.CANCEL, ErrorCode.INTERNAL_ERROR)
        await active(host, 0)
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), body=b"fine")
        assert (await broker.answer(stream)).body == b"fine"


async def test_an_answer_that_is_taken_slowly_is_not(certs: Certificates) -> None:
    """Nor is one whose Guest takes its time."""
    limits = HostLimits(stalled_answer_seconds=12)
    small = SessionOptions(stream_window_bytes=100_000)
    async with (
        running_host(certs, limits=limits) as host,
        Guest(host, certs) as guest,
        Broker(host, certs, options=small) as broker,
    ):
        lease = await guest.lease()
        stream = broker.request()
        answering = asyncio.create_task(lease.answer(await lease.request(), body=bytes(500_000), end=False))
        clock = Clock()
        for _ in range(5):
            taken = 0
            while taken < 100_000:  # all that there is room for: before the next, the Host has written more
                taken += len(await stream.read(100_000 - taken))
            await clock.forward(7.0)
        await answering
        await clock.forward(12.1)
        await lease.stream.write(b"at last", end=True)
        assert (await broker.answer(stream)).body == b"at last"


async def test_a_guest_with_too_many_leases_is_refused_and_not_ended(certs: Certificates) -> None:
    limits = HostLimits(idle_leases_per_guest=2, refusals_per_session=3)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as guest:
        for _ in range(2):
            await guest.lease()
        for _ in range(10):
            assert (await guest.answer(guest.open_lease())).error["code"] == "timeout"
        for _ in range(3):
            assert (await guest.exchange("/nowhere", b"")).error["code"] == "protocol-error"
        watcher = Watcher(host)
        guest.open("/nowhere", end=True)
        event = await watcher.wait("disconnected", peer="guest-a")
        assert event.fields["limit"] == "refusals"


async def test_more_streams_than_a_session_may_have(certs: Certificates) -> None:
    """The peer knows how many; beyond it, a stream is refused (RFC 9113 §5.1.2)."""
    limits = HostLimits(streams_per_session=5)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as guest:
        assert guest.session.peer_max_concurrent_streams == 5


async def test_what_the_limits_say_stands_before_the_options_of_sessions(certs: Certificates) -> None:
    async with (
        running_host(certs, session_options=SessionOptions(max_concurrent_streams=7)) as host,
        Guest(host, certs) as guest,
    ):
        assert guest.session.peer_max_concurrent_streams == HostLimits().streams_per_session

"""Who ends a session says why in its GOAWAY, and the other end repeats it, whatever it is, on one line."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from tests.guest.guests import Events, guest_at_scripted_host, hello, make_guest
from tests.host.peers import Peer, Watcher, running_host
from tests.support.brokers import scripted
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import VerserError, create_verser_broker
from verser2_guest_python.host import HostLimits
from verser2_guest_python.http2 import ErrorCode, FieldBlock, Session

FULL = 'ENHANCE_YOUR_CALM, "the Host has too many sessions"'
NASTY = b'\x1b[2J\r\nlevel=error "gone" \\ \xff' + "\u202eok".encode() + b"a" * 5_000
NASTY_WORDS = "\\x1b[2J\\r\\nlevel=error 'gone' \\\\ \ufffd\\u202eok"


def say_goaway(session: Session, debug: bytes, code: int = ErrorCode.ENHANCE_YOUR_CALM) -> None:
    """A GOAWAY with debug data past all rules; open streams stay."""
    payload = (2**31 - 1).to_bytes(4, "big") + code.to_bytes(4, "big") + debug
    session.engine.put(len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload)
    session.wrote()


@pytest.mark.both_loops
async def test_a_host_that_is_full_says_so(certs: Certificates) -> None:
    async with running_host(certs, limits=HostLimits(sessions=1)) as host, Peer(host, certs):
        broker = create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, reconnect=False)
        guest = make_guest(host, certs, hello)
        for connect in (broker.connect, guest.connect):
            with pytest.raises(VerserError) as failure:
                await connect()
            assert FULL in str(failure.value)
        await guest.close()


async def test_a_guest_comes_back_to_a_host_that_was_full_or_had_its_id(certs: Certificates) -> None:
    limits = HostLimits(sessions=2)
    async with running_host(certs, limits=limits) as host, Peer(host, certs) as first:
        other = make_guest(host, certs, hello)
        guest = make_guest(host, certs, hello, reconnect_max_delay=0.05)
        events = Events(guest)
        await other.connect()
        serving = asyncio.create_task(guest.serve_forever())
        await events.wait("reconnecting", 3)
        told = [one.fields for one in events.find("reconnecting")]
        assert {one["cause"] for one in told} == {"busy"}
        assert all(FULL in str(one["reason"]) for one in told)
        await first.session.close()  # now there is room, and the other Guest has the id
        await until(lambda: any(one.fields["cause"] == "refused" for one in events.find("reconnecting")))
        refused = next(one for one in events.find("reconnecting") if one.fields["cause"] == "refused")
        assert "already registered" in str(refused.fields["reason"])
        await other.close()
        await events.wait("registered")
        await guest.close()
        await serving


async def test_a_broker_takes_the_next_host_where_the_first_is_full(certs: Certificates) -> None:
    async with (
        running_host(certs, limits=HostLimits(sessions=1)) as full,
        running_host(certs) as other,
        Peer(full, certs),
        create_verser_broker(host_url=[full.url, other.url], tls_ca_file=certs.ca) as broker,
    ):
        session = broker.facts().session
        assert session is not None
        assert session.host == other.url


async def test_a_broker_comes_back_to_a_host_that_had_become_full(certs: Certificates) -> None:
    async with (
        running_host(certs, limits=HostLimits(sessions=2)) as host,
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, reconnect_max_delay=0.05) as broker,
    ):
        run = host._run
        assert run is not None
        core = run.core
        roomy, core.limits = core.limits, replace(core.limits, sessions=0)
        link = broker._keeper._link
        assert link is not None
        link.session.abort("the test says so")
        await until(lambda: broker.facts().reconnects.get("busy", 0) >= 2)
        core.limits = roomy
        await until(lambda: broker.connected)


async def test_a_session_beyond_a_limit_is_told_what_the_log_says(certs: Certificates) -> None:
    limits = HostLimits(registration_seconds=0.1, streams_before_registration=2)
    async with running_host(certs, limits=limits) as host:
        watcher = Watcher(host)
        async with Peer(host, certs) as peer:
            await peer.session.wait_lost()
            event = await watcher.wait("disconnected", limit="registration")
            assert str(peer.session.farewell) == f'ENHANCE_YOUR_CALM, "{event.fields["reason"]}"'
            assert str(peer.session.lost).endswith(f"and said why: {peer.session.farewell}")
    async with running_host(certs, limits=HostLimits(header_bytes=500)) as host:
        watcher = Watcher(host)
        async with Peer(host, certs) as peer:
            peer.session.open(FieldBlock([(b":method", b"POST"), (b"x", bytes(1_000))]))
            await peer.session.wait_lost()
            await watcher.wait("disconnected", limit="headers")
            assert peer.session.farewell is not None
            assert peer.session.farewell.words.startswith("the peer sent too large headers")


async def test_what_a_bad_host_says_to_a_guest(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        serving = asyncio.create_task(guest.serve_forever())
        say_goaway(host.session, NASTY)
        await host.session.ping()
        host.session.abort("the test says so")
        await events.wait("reconnecting")
        reason = events.find("reconnecting")[0].fields["reason"]
        assert f'ENHANCE_YOUR_CALM, "{NASTY_WORDS}aaa' in reason
        assert reason.isprintable()
        assert len(reason) < 400
        serving.cancel()
        await asyncio.wait([serving])


async def test_what_a_bad_host_says_to_a_broker(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted(certs) as (host, broker):
        with caplog.at_level(logging.INFO, "verser2_guest_python.broker"):
            first = host.session
            say_goaway(first, NASTY)
            await first.wait_lost()  # it has moved to another session
            assert broker.connected
        said = [line for line in caplog.messages if "ENHANCE_YOUR_CALM" in line]
        assert said
        assert all(line.isprintable() and NASTY_WORDS in line and len(line) < 400 for line in said)


async def test_what_a_bad_peer_says_to_a_host(certs: Certificates) -> None:
    async with running_host(certs) as host:
        watcher = Watcher(host)
        async with Peer(host, certs) as peer:
            say_goaway(peer.session, NASTY, 0xDEAD)
            await peer.session.ping()
            peer.session.abort("the test says so")
            reason = (await watcher.wait("disconnected")).fields["reason"]
        assert isinstance(reason, str)
        assert f'said why: 0xdead, "{NASTY_WORDS}aaa' in reason
        assert reason.isprintable()
        assert len(reason) < 400

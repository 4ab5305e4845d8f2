"""Peers that take what the Host says byte by byte, or not at all: nobody waits for ever."""

from __future__ import annotations

import pytest

from tests.host.peers import DOMAIN, Broker, Guest, Peer, failed, running_host
from tests.host.test_streaming import Upload, active
from tests.host.test_websockets import fields_of, websocket, websocket_lease
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits
from verser2_guest_python.http2 import ErrorCode, SessionOptions, StreamReset
from verser2_guest_python.wire.vws import Accept, Open

NOTHING = SessionOptions(stream_window_bytes=0)
BYTE_BY_BYTE = SessionOptions(stream_window_bytes=16)
IMPATIENT = HostLimits(exchange_seconds=0.05)


@pytest.mark.both_loops
async def test_an_answer_that_trickles_away(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        Guest(host, certs, options=BYTE_BY_BYTE) as guest,
        Broker(host, certs, options=BYTE_BY_BYTE) as broker,
    ):
        assert guest.registered["status"] == "registered"
        assert broker.registered["routes"] == [{"targetId": "guest-a", "domain": DOMAIN}]
        assert (await broker.fetch(target="nobody")).error["code"] == "missing-guest"
        assert (await guest.revoke(["b.test"])).status == 404
        lease = await websocket_lease(guest)
        stream = websocket(broker)
        assert await lease.hear() == Open(DOMAIN, "/room?x=1", "", None)
        await lease.say(Accept())
        assert (await fields_of(stream))[b":status"] == b"200"
        stream.reset()


async def test_an_answer_that_nobody_takes(certs: Certificates) -> None:
    async with (
        running_host(certs, limits=IMPATIENT) as host,
        Peer(host, certs, options=NOTHING) as peer,
    ):
        stream = peer.open("/nowhere", end=True)
        assert (await fields_of(stream))[b":status"] == b"502"
        assert await failed(stream) == ErrorCode.CANCEL
        given_up = peer.open("/nowhere", end=True)
        await fields_of(given_up)
        given_up.reset()
        await peer.session.ping()


async def test_a_revocation_that_does_not_end(certs: Certificates) -> None:
    async with running_host(certs, limits=IMPATIENT) as host, Guest(host, certs) as guest:
        stream = guest.open("/verser/guest/revoke", {"x-verser-peer-id": "guest-a"})
        await stream.write(b'{"domains":')
        assert await failed(stream) == ErrorCode.CANCEL
        assert len(host.get_routes()) == 1


async def test_a_head_that_finds_no_window_is_not_sent_in_part(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        Guest(host, certs, options=BYTE_BY_BYTE) as guest,
        Broker(host, certs) as broker,
    ):
        lease = await guest.lease()
        stream = broker.request()
        await active(host, 1)
        await guest.session.ping()
        assert lease.stream.unread == 0
        stream.reset()
        await active(host, 0)
        assert await failed(lease.stream) == ErrorCode.CANCEL


@pytest.mark.parametrize("stuck", [False, True])
async def test_a_guest_that_has_answered_and_wants_no_more(certs: Certificates, stuck: bool) -> None:
    """NO_ERROR behind a whole answer ends the upload, and leaves the answer valid (RFC 9113 §8.1)."""
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        await stream.write(b"begun")
        head = await lease.request()
        upload = Upload(stream)
        if stuck:
            await upload.until_stuck()
        await lease.answer(head, 200, {}, b"enough")
        lease.stream.reset(ErrorCode.NO_ERROR)
        assert (await broker.answer(stream)).body == b"enough"
        with pytest.raises(StreamReset):
            await upload.done()
        assert stream.error is None
        await active(host, 0)

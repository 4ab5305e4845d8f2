"""Frames and TLS records as they are on the wire (protocol.md §12.1 to §12.3, §12.5, §12.6)."""

from __future__ import annotations

import asyncio

import pytest

from tests.http2 import frames as h2f
from tests.http2.raw_peer import RawPeer
from tests.http2.sessions import REQUEST_BLOCK, RESPONSE_BLOCK, client_and_raw, server_and_raw
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import FieldBlock, HeadTooLarge, SessionOptions, Stream

pytestmark = pytest.mark.limit(20)

MIB = 1 << 20


def check_wire(peer: RawPeer) -> None:
    """protocol.md §12.2: no frame too large, none across two records."""
    assert all(record.whole for record in peer.records)
    assert max(len(record.data) for record in peer.records) <= h2f.MAX_RECORD_BYTES
    assert max(len(one.payload) for one in peer.frames) <= h2f.MAX_PAYLOAD_BYTES


async def still_short(peer: RawPeer, stream_id: int) -> None:
    """Nothing has come on the stream although the other end has had its chance."""
    await peer.sync()
    assert peer.of_kind(h2f.DATA, stream_id) == []


SETTINGS = [{}, {h2f.MAX_FRAME_SIZE: 16_384}, {h2f.MAX_FRAME_SIZE: MIB}, {h2f.INITIAL_WINDOW_SIZE: 4 * MIB}]


@pytest.mark.both_loops
@pytest.mark.parametrize("settings", SETTINGS)
async def test_no_frame_of_a_server_straddles_a_record(certs: Certificates, settings: dict[int, int]) -> None:
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet(settings, window=8 * MIB)
        peer.auto_credit()
        bodies = {
            peer.request(end=True): bytes([65 + n]) * size for n, size in enumerate([1, 16_375, 16_376, MIB])
        }

        async def answer(stream: Stream) -> None:
            stream.send_fields(RESPONSE_BLOCK, [(b"x-big", b"v" * (20_000 if stream.id == 1 else 5))])
            body = bodies[stream.id]
            for start in range(0, len(body), 300_001):
                await stream.write(
                    body[start : start + 300_001], head=5 if start == 0 and len(body) > 5 else 0
                )
            await stream.write(b"", end=True)

        await asyncio.gather(*[answer(await inbox.next()) for _ in bodies])
        await peer.until(lambda: all(peer.answer(one).ended for one in bodies))
        assert {one: peer.answer(one).data for one in bodies} == bodies
        assert len(peer.of_kind(h2f.CONTINUATION)) > 0
        check_wire(peer)


@pytest.mark.both_loops
@pytest.mark.parametrize("settings", SETTINGS)
async def test_no_frame_of_a_client_straddles_a_record(certs: Certificates, settings: dict[int, int]) -> None:
    async with client_and_raw(certs, settings=settings, window=8 * MIB) as (session, peer):
        peer.auto_credit()
        bodies = [bytes([65 + n]) * size for n, size in enumerate([1, 16_375, 16_376, 33_000, MIB, MIB])]

        async def upload(body: bytes) -> Stream:
            stream = session.open(REQUEST_BLOCK, [(b"x-long", b"v" * (len(body) % 17_000))])
            await stream.write(body, end=True, head=min(len(body), 16_375))
            return stream

        streams = await asyncio.gather(*[upload(body) for body in bodies])
        await peer.until(lambda: all(peer.answer(one.id).ended for one in streams))
        assert [peer.answer(one.id).data for one in streams] == bodies
        check_wire(peer)


@pytest.mark.parametrize("head", [1, 5_000, 16_375])
@pytest.mark.parametrize("scarce", ["stream", "connection"])
async def test_a_head_waits_until_its_window_has_room_for_all_of_it(
    certs: Certificates, head: int, scarce: str
) -> None:
    """protocol.md §12.1: it is never split, however slowly the window grows."""
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet({h2f.INITIAL_WINDOW_SIZE: 0 if scarce == "stream" else 65_535})
        if scarce == "connection":
            filler_id = peer.request(end=True)
            filler = await inbox.next()
            filler.send_fields(RESPONSE_BLOCK)
            await filler.write(bytes(65_535))
            await peer.until(lambda: len(peer.answer(filler_id).data) == 65_535)
        stream_id = peer.request(end=True)
        where = stream_id if scarce == "stream" else 0
        stream = await inbox.next()
        stream.send_fields(RESPONSE_BLOCK)
        assert not stream.write_now(b"h" * head, head=head)
        writing = asyncio.create_task(stream.write(b"h" * head + b"b" * 20_000, head=head, end=True))
        for part in (head // 2, head - head // 2 - 1):
            if part:
                peer.send(h2f.window_update(where, part))
            await still_short(peer, stream_id)
        peer.send(h2f.window_update(where, 1))
        await peer.until(lambda: peer.of_kind(h2f.DATA, stream_id))
        assert len(peer.of_kind(h2f.DATA, stream_id)[0].payload) == head
        peer.send(h2f.window_update(where, 20_000))
        await writing
        await peer.until(lambda: peer.answer(stream_id).ended)
        assert peer.answer(stream_id).data == b"h" * head + b"b" * 20_000
        check_wire(peer)


async def test_a_head_too_large_for_a_frame_is_refused(certs: Certificates) -> None:
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet({h2f.MAX_FRAME_SIZE: MIB}, window=MIB)
        peer.request(end=True)
        stream = await inbox.next()
        stream.send_fields(RESPONSE_BLOCK)
        with pytest.raises(HeadTooLarge) as caught:
            await stream.write(bytes(16_376), head=16_376)
        assert caught.value.size == 16_376
        with pytest.raises(HeadTooLarge):
            stream.write_now(bytes(16_376), head=16_376)
        await stream.write(b"unharmed", head=8, end=True)
        await peer.until(lambda: peer.answer(1).data == b"unharmed")


async def test_heads_go_before_bodies_when_the_connection_window_is_scarce(certs: Certificates) -> None:
    """protocol.md §12.5; and while a head waits, no body takes what it needs."""
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet({h2f.INITIAL_WINDOW_SIZE: MIB})
        for _ in range(4):
            peer.request(end=True)
        streams = [await inbox.next() for _ in range(4)]
        for stream in streams:
            stream.send_fields(RESPONSE_BLOCK)
        bodies = [asyncio.create_task(one.write(bytes(100_000), end=True)) for one in streams[:2]]
        await peer.until(lambda: sum(len(one.payload) for one in peer.of_kind(h2f.DATA)) == 65_535)
        seen = len(peer.of_kind(h2f.DATA))
        heads = [
            asyncio.create_task(one.write(b"h" * 3_000 + b"body", head=3_000, end=True))
            for one in streams[2:]
        ]
        await peer.sync()
        for _ in range(6):
            peer.send(h2f.window_update(0, 1_000))
            await peer.sync()
        came = peer.of_kind(h2f.DATA)[seen:]
        assert [(one.stream_id, len(one.payload)) for one in came[:2]] == [(5, 3_000), (7, 3_000)]
        peer.send(h2f.window_update(0, MIB))
        await asyncio.gather(*bodies, *heads)
        await peer.until(lambda: all(peer.answer(one.id).ended for one in streams))
        check_wire(peer)


async def test_windows_are_advertised_large(certs: Certificates) -> None:
    """protocol.md §12.3."""
    async with client_and_raw(certs) as (_, peer):
        first = peer.frames[0]
        assert first.kind == h2f.SETTINGS
        pairs = [first.payload[n : n + 6] for n in range(0, len(first.payload), 6)]
        values = {int.from_bytes(one[:2], "big"): int.from_bytes(one[2:], "big") for one in pairs}
        assert values[h2f.INITIAL_WINDOW_SIZE] >= MIB
        assert values[h2f.ENABLE_PUSH] == 0
        await peer.until(lambda: peer.of_kind(h2f.WINDOW_UPDATE, 0))
        assert 65_535 + peer.of_kind(h2f.WINDOW_UPDATE, 0)[0].number >= 16 * MIB


@pytest.mark.both_loops
async def test_a_burst_of_small_answers_leaves_in_one_record(certs: Certificates) -> None:
    """protocol.md §12.5: one turn of the loop, one write; head, body and end are one DATA frame."""
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        count = 150
        ids = [peer.request(end=True) for _ in range(count)]
        streams = [await inbox.next() for _ in range(count)]
        await peer.sync()
        before = len(peer.records)
        for stream in streams:
            stream.send_fields(RESPONSE_BLOCK)
            await stream.write(b"head" + b"body" * 5, head=4, end=True)
        await peer.until(lambda: all(peer.answer(one).ended for one in ids))
        assert len(peer.records) - before == 1
        assert all(len(peer.of_kind(h2f.DATA, one)) == 1 for one in ids)
        assert session.open_streams == 0


async def test_response_fields_that_are_large_and_end_the_stream(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        peer.request(end=True)
        stream = await inbox.next()
        stream.send_fields(FieldBlock([(b":status", b"204")]), [(b"x", b"v" * 50_000)], end=True)
        await peer.until(lambda: peer.answer(1).fields)
        assert peer.answer(1).fields == [[(b":status", b"204"), (b"x", b"v" * 50_000)]]
        assert peer.answer(1).ended
        assert session.open_streams == 0
        check_wire(peer)


# --- SETTINGS that change in the middle (protocol.md §12.6) -------------------------------


async def test_a_window_that_shrinks_below_zero_and_grows_again(certs: Certificates) -> None:
    """RFC 9113 §6.9.2: a negative window sends nothing until updates have made it positive."""
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet(window=MIB)
        stream_id = peer.request(end=True)
        stream = await inbox.next()
        stream.send_fields(RESPONSE_BLOCK)
        writing = asyncio.create_task(stream.write(bytes(200_000), end=True))
        await peer.until(lambda: len(peer.answer(stream_id).data) == 65_535)
        peer.send(h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 1_000}))
        peer.send(h2f.window_update(stream_id, 64_535))  # back to zero
        await peer.sync()
        assert len(peer.answer(stream_id).data) == 65_535
        peer.send(h2f.window_update(stream_id, 10))
        await peer.until(lambda: len(peer.answer(stream_id).data) == 65_545)
        peer.send(h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 0}))
        peer.send(h2f.window_update(stream_id, 999))
        await peer.sync()
        assert len(peer.answer(stream_id).data) == 65_545
        peer.send(h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 500_000}))
        await writing
        await peer.until(lambda: peer.answer(stream_id).ended)
        check_wire(peer)


async def test_a_new_initial_window_wakes_writers_and_binds_new_streams(certs: Certificates) -> None:
    async with client_and_raw(certs, settings={h2f.INITIAL_WINDOW_SIZE: 0}, window=MIB) as (session, peer):
        first = session.open(REQUEST_BLOCK)
        writing = asyncio.create_task(first.write(b"x" * 100, end=True))
        await peer.until(lambda: peer.answer(1).fields)
        await still_short(peer, 1)
        peer.send(h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 40}))
        await peer.until(lambda: len(peer.answer(1).data) == 40)
        second = session.open(REQUEST_BLOCK)
        assert second.write_now(b"y" * 40)
        assert not second.write_now(b"y")
        assert second.write_now(b"", end=True)
        peer.send(h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 100}))
        await writing
        await peer.until(lambda: peer.answer(1).ended and peer.answer(3).ended)


async def test_a_peer_may_use_the_default_window_until_it_knows_a_smaller_one(certs: Certificates) -> None:
    """RFC 9113 §6.9.3: what is under way when SETTINGS arrive is no error."""
    options = SessionOptions(stream_window_bytes=16_384)
    async with server_and_raw(certs, options) as (session, inbox, peer):
        peer.send(h2f.PREFACE, h2f.settings_frame())  # no ACK: our SETTINGS have not been read yet
        stream_id = peer.request()
        stream = await inbox.next()
        peer.send(h2f.data_frames(stream_id, bytes(60_000)))
        await peer.sync()
        assert session.lost is None
        assert len(stream.take()) == 60_000
        peer.send(h2f.SETTINGS_ACK)
        await peer.sync()
        credit = sum(one.number for one in peer.of_kind(h2f.WINDOW_UPDATE, stream_id))
        assert credit == 60_000
        peer.send(h2f.data_frames(stream_id, bytes(16_384 + 1)))
        await peer.until(lambda: peer.of_kind(h2f.GOAWAY))
        assert peer.of_kind(h2f.GOAWAY)[0].payload[4:] == b"\0\0\0\3"

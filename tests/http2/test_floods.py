"""What a session may bring that only costs: exactly so much, and never what an honest peer sends."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence

import pytest

from tests.http2 import frames as h2f
from tests.http2.frames import Hpack
from tests.http2.memory import MemorySession, advance, run, turns
from tests.http2.sessions import server_and_raw
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import ErrorCode, FieldBlock, FloodLimits, Pace, SessionOptions

LIMITS = FloodLimits(resets=Pace(5, 1), pings=Pace(5, 1), settings=Pace(5, 1), idle_frames=Pace(2_000, 100))
OPTIONS = SessionOptions(floods=LIMITS)
RESPONSE = FieldBlock([(b":status", b"200")])


def server(options: SessionOptions = OPTIONS) -> MemorySession:
    """A server with stream 1 open. Its peer's first SETTINGS are one of those that it may send."""
    one = MemorySession(is_client=False, options=options)
    one.feed(h2f.PREFACE + h2f.settings_frame({}) + h2f.SETTINGS_ACK)
    one.feed(h2f.headers_frames(1, Hpack().encode(h2f.REQUEST)))
    return one


def ended_for(one: MemorySession) -> str | None:
    """The limit for which the session was ended; the peer is told to be calm."""
    if one.session.lost is None:
        return None
    goaways = [frame for frame in one.written() if frame.kind == h2f.GOAWAY]
    assert [int.from_bytes(frame.payload[4:8], "big") for frame in goaways] == [ErrorCode.ENHANCE_YOUR_CALM]
    return one.session.lost.limit


@pytest.mark.parametrize(
    ("frame", "limit", "allowed"),
    [
        (h2f.ping(), "pings", 5),
        (h2f.settings_frame({}), "settings", 4),
        (h2f.rst_stream(1, 8), "resets", 5),
    ],
)
def test_so_many_and_no_more(frame: bytes, limit: str, allowed: int) -> None:
    async def body() -> None:
        one = server()
        one.feed(frame * allowed)
        assert ended_for(one) is None
        await advance(1)
        one.feed(frame)
        await advance(0.5)
        assert ended_for(one) is None
        one.feed(frame)
        assert ended_for(one) == limit

    run(body)


@pytest.mark.parametrize(
    ("frame", "weight"),
    [
        (h2f.data_frame(1, b""), 1),
        (h2f.data_frame(1, b"", padding=3), 1),
        (h2f.window_update(0, 1), 1),
        (h2f.window_update(1, 1), 1),
        (h2f.goaway(0), 1),
        (h2f.frame(h2f.PRIORITY, 1, bytes(5)), 4),
        (h2f.frame(0xAB, 1, b"what"), 4),
        (h2f.ping(ack=True), 4),
    ],
)
def test_frames_that_move_nothing(frame: bytes, weight: int) -> None:
    async def body() -> None:
        one = server()
        one.feed(frame * (1_900 // weight))
        assert ended_for(one) is None
        one.feed(frame * (1_100 // weight))
        assert ended_for(one) == "idle_frames"

    run(body)


def test_frames_on_a_stream_that_is_over() -> None:
    async def body() -> None:
        hpack = Hpack()
        for frame, number in (
            (h2f.data_frame(1, b"late"), 3_000),
            (h2f.headers_frames(1, hpack.encode(h2f.REQUEST)), 300),
        ):
            one = server()
            one.feed(h2f.rst_stream(1, 8))
            one.feed(frame * number)
            assert ended_for(one) == "idle_frames"
        one = server()
        one.feed(h2f.rst_stream(1, 8))
        for _ in range(5_000):  # an upload that was under way
            one.feed(h2f.data_frame(1, bytes(1_000)))
        assert ended_for(one) is None

    run(body)


def test_streams_that_the_peer_makes_us_reset() -> None:
    async def body() -> None:
        one = server()
        block = Hpack().encode(h2f.REQUEST[:1])  # malformed
        for stream_id in range(3, 13, 2):
            one.feed(h2f.headers_frames(stream_id, block))
        assert ended_for(one) is None
        one.feed(h2f.headers_frames(13, block))
        assert ended_for(one) == "resets"

    run(body)


def test_who_reads_much_may_send_many_window_updates() -> None:
    async def body() -> None:
        one = server()
        stream = one.opened[0]
        stream.send_fields(RESPONSE)
        for _ in range(200):
            await stream.write(bytes(16_384))
            for _ in range(32):  # more often than any peer known to us
                one.feed(h2f.window_update(0, 512) + h2f.window_update(1, 512))
            await turns()
        assert ended_for(one) is None
        one.feed(h2f.window_update(0, 1) * 60_000)
        assert ended_for(one) == "idle_frames"

    run(body)


def test_without_limits_nobody_is_ended() -> None:
    async def body() -> None:
        one = server(SessionOptions())
        one.feed((h2f.ping() + h2f.settings_frame({}) + h2f.rst_stream(1, 8)) * 3_000)
        assert ended_for(one) is None
        await one.session.close()

    run(body)


@pytest.mark.parametrize("size", [2, 50])
async def test_bodies_in_crumbs_take_little_more_room_than_their_bytes(size: int) -> None:
    one = server()
    crumb = bytes(range(size))
    count = 20_000
    tracemalloc.start()
    try:
        for _ in range(10):
            one.feed(h2f.data_frame(1, crumb) * (count // 10))
            one.transport.records.clear()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stream = one.opened[0]
    assert stream.unread == count * size
    assert used < 1.5 * count * size + 20_000
    first = await stream.read(10_000)
    assert isinstance(first, bytes)
    assert 0 < len(first) <= 10_000
    frame = stream.take_frame()
    assert isinstance(frame, bytes)
    assert first + frame + stream.take() == crumb * count
    await one.session.close()


async def test_silence_is_seen_and_broken() -> None:
    one = server()
    session = one.session
    assert session.heard
    session.heard = False
    session.probe()
    await asyncio.sleep(0)
    (ping,) = [frame for frame in one.written() if frame.kind == h2f.PING]
    assert not session.heard
    one.feed(h2f.ping(ping.payload, ack=True))
    assert session.heard
    await session.close()
    session.probe()  # which has no effect any more


@pytest.mark.both_loops
async def test_who_sends_without_end_lets_others_have_their_turn(certs: Certificates) -> None:
    """By itself uvloop reads up to 32 times from one connection before it looks at the next."""
    async with server_and_raw(certs) as (session, _inbox, peer):
        peer.greet()
        await peer.sync()
        turn = 0
        large: list[int] = []  # in which turn each large read came
        received = session.records_received

        def count_turns() -> None:
            nonlocal turn
            turn += 1
            counting[0] = session.loop.call_soon(count_turns)

        def note(records: Sequence[bytes]) -> None:
            if sum(map(len, records)) > 100_000:
                large.append(turn)
            received(records)

        counting = [session.loop.call_soon(count_turns)]
        try:
            session.records_received = note  # type: ignore[method-assign]
            for _ in range(100):
                peer.send(h2f.frame(0xAB, 0, bytes(10_000)) * 10)
            await peer.sync()
        finally:
            counting[0].cancel()
        assert len(large) > 2
        assert len(set(large)) == len(large)

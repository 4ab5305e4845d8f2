"""Resets within the ration (protocol.md §12.10), and stream ids that run out (§12.11)."""

from __future__ import annotations

import asyncio

import pytest

from tests.http2 import frames as h2f
from tests.http2.memory import MemorySession, advance, run, turns
from tests.http2.sessions import REQUEST_BLOCK, assert_idle, session_pair
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import (
    ErrorCode,
    SessionClosing,
    SessionOptions,
    Stream,
    StreamReset,
    TooManyStreams,
)
from verser2_guest_python.http2.ration import Ration


def resets(one: MemorySession) -> list[tuple[int, int]]:
    return [(sent.stream_id, sent.number) for sent in one.written() if sent.kind == h2f.RST_STREAM]


def ready(options: SessionOptions) -> MemorySession:
    one = MemorySession(is_client=True, options=options)
    one.feed(h2f.settings_frame({}) + h2f.SETTINGS_ACK)
    return one


def test_a_ration_is_a_burst_and_then_so_many_a_second() -> None:
    ration = Ration(burst=3, per_second=2.0, now=100.0)
    assert [ration.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert ration.wait_seconds(100.0) == pytest.approx(0.5)
    assert not ration.take(100.4)
    assert ration.take(100.5)
    assert not ration.take(100.5)
    assert not ration.take(99.0)  # a clock that jumps back gives nothing
    assert [ration.take(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_the_defaults_stay_below_what_ends_a_session_with_a_deployed_host() -> None:
    async def body() -> None:
        one = ready(SessionOptions())
        streams = [one.session.open(REQUEST_BLOCK) for _ in range(1_100)]
        for stream in streams:
            stream.reset()
        await turns()
        at_once = len(resets(one))
        assert 900 <= at_once < 930  # a machine that is slow gives the ration time to grow
        await advance(1, step=0.1)
        assert 29 <= len(resets(one)) - at_once < 60
        await advance(10)
        assert len(resets(one)) == 1_100
        assert_idle(one.session)
        await one.session.close()

    run(body)


def test_beyond_the_ration_a_stream_counts_as_reset_and_is_reset_later() -> None:
    async def body() -> None:
        one = ready(SessionOptions(reset_burst=1, resets_per_second=1.0))
        first, second, third = (one.session.open(REQUEST_BLOCK) for _ in range(3))
        first.reset()
        waiting = asyncio.create_task(second.read())
        writing = asyncio.create_task(second.write(bytes(100_000)))
        await turns()
        second.reset(ErrorCode.INTERNAL_ERROR)
        third.reset(ErrorCode.INTERNAL_ERROR)
        third.reset(ErrorCode.CANCEL)
        for task in (waiting, writing):
            with pytest.raises(StreamReset):
                await task
        with pytest.raises(StreamReset):
            second.write_now(b"x")
        assert second.closed
        await second.wait_closed()
        await turns()
        assert resets(one) == [(1, 8)]
        await advance(1.1)
        assert resets(one) == [(1, 8), (3, 2)]
        await advance(1.1)
        assert resets(one) == [(1, 8), (3, 2), (5, 2)]
        assert_idle(one.session)
        await one.session.close()

    run(body)


def test_a_stream_that_ends_before_its_late_reset_needs_none() -> None:
    async def body() -> None:
        one = ready(SessionOptions(reset_burst=0, resets_per_second=1.0))
        ended, reset, last = (one.session.open(REQUEST_BLOCK, end=True) for _ in range(3))
        for stream in (ended, reset, last):
            stream.reset()
        one.feed(h2f.headers_frames(1, h2f.Hpack().encode(h2f.RESPONSE), end=True) + h2f.rst_stream(3, 8))
        assert one.session.open_streams == 1
        await advance(1.1)
        assert resets(one) == [(5, 8)]
        assert_idle(one.session)
        await one.session.close()

    run(body)


def test_until_its_late_reset_a_stream_is_credited_and_dropped() -> None:
    """It may end by itself, however much it sends; and nobody hears of it any more."""

    async def body() -> None:
        options = SessionOptions(
            reset_burst=0, resets_per_second=0.01, stream_window_bytes=65_535, connection_window_bytes=65_535
        )
        one = ready(options)
        stream = one.session.open(REQUEST_BLOCK, end=True)
        heard: list[Stream] = []
        stream.listener = heard.append
        one.feed(h2f.headers_frames(1, h2f.Hpack().encode(h2f.RESPONSE)) + h2f.data_frame(1, bytes(1_000)))
        assert heard == [stream]
        stream.reset()
        for _ in range(40):
            one.feed(h2f.data_frames(1, bytes(30_000)))
            await turns()
        assert one.session.unread_bytes == 0
        assert one.session.lost is None
        for place in (0, 1):
            updates = [sent for sent in one.written() if (sent.kind, sent.stream_id) == (8, place)]
            assert sum(sent.number for sent in updates) > 1_150_000
        one.feed(h2f.data_frame(1, b"", end=True))
        assert one.session.open_streams == 0
        assert heard == [stream]
        await one.session.close()

    run(body)


def test_the_end_of_a_session_leaves_no_late_reset_behind() -> None:
    async def body() -> None:
        one = ready(SessionOptions(reset_burst=0, resets_per_second=1.0))
        stream = one.session.open(REQUEST_BLOCK)
        stream.reset()
        await one.session.close()
        await advance(5)
        assert isinstance(stream.error, StreamReset)
        assert resets(one) == []

    run(body)


# --- Ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "count"), [(7, 4), (8, 4), (1, 1), (0, 0)])
async def test_ids_run_out_where_the_options_say(certs: Certificates, last: int, count: int) -> None:
    async with session_pair(certs, SessionOptions(last_stream_id=last)) as pair:
        for left in range(count, 0, -1):
            assert pair.client.ids_left == left
            pair.client.open(REQUEST_BLOCK, end=True)
        assert pair.client.ids_left == 0
        with pytest.raises(SessionClosing, match="used up"):
            pair.client.open(REQUEST_BLOCK)
        streams = [await pair.inbox.next() for _ in range(count)]
        assert [stream.id for stream in streams] == [1, 3, 5, 7][:count]
        assert not pair.client.closing  # what is open goes on
        await pair.client.ping()


def test_by_default_ids_end_well_before_http2_does() -> None:
    assert SessionOptions().last_stream_id == 2**31 - 2**20


# --- Limits of the peer -------------------------------------------------------------------


async def test_the_peers_limit_of_streams_is_kept_also_when_it_changes(certs: Certificates) -> None:
    async with session_pair(certs, server_options=SessionOptions(max_concurrent_streams=2)) as pair:
        assert pair.client.peer_max_concurrent_streams == 2
        first, _ = pair.client.open(REQUEST_BLOCK), pair.client.open(REQUEST_BLOCK)
        with pytest.raises(TooManyStreams):
            pair.client.open(REQUEST_BLOCK)
        first.reset()
        third = pair.client.open(REQUEST_BLOCK)
        for _ in range(3):
            await pair.inbox.next()
        assert third.error is None
        assert pair.server.open_streams == 2


def test_a_limit_that_falls_below_what_is_open() -> None:
    async def body() -> None:
        one = ready(SessionOptions())
        streams = [one.session.open(REQUEST_BLOCK) for _ in range(3)]
        one.feed(h2f.settings_frame({h2f.MAX_CONCURRENT_STREAMS: 1}))
        with pytest.raises(TooManyStreams):
            one.session.open(REQUEST_BLOCK)
        assert all(stream.write_now(b"x") for stream in streams)
        for stream in streams:
            stream.reset()
        assert one.session.open(REQUEST_BLOCK).id == 7
        await one.session.close()

    run(body)

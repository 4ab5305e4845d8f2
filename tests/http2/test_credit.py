"""Flow-control credit (protocol.md §12.4): who may send how much, and who has to wait for whom."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2 import frames as h2f
from tests.http2.memory import MemorySession, advance, run, turns
from tests.http2.sessions import REQUEST_BLOCK, RESPONSE_BLOCK, assert_idle, server_and_raw, session_pair
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import ErrorCode, SessionOptions, Stream, StreamReset

KIB = 1 << 10
SMALL = SessionOptions(
    stream_window_bytes=64 * KIB,
    connection_window_bytes=128 * KIB,
    max_unread_bytes=200 * KIB,
    stalled_read_seconds=30.0,
)


class Uploads(MemorySession):
    """A server, and a client that opens streams and sends on them."""

    def __init__(self, options: SessionOptions = SMALL) -> None:
        super().__init__(is_client=False, options=options)
        self.hpack = h2f.Hpack()
        self.feed(h2f.PREFACE + h2f.settings_frame({}) + h2f.SETTINGS_ACK)
        self.sent: dict[int, int] = {}

    def stream(self, *, end: bool = False) -> Stream:
        stream_id = 2 * len(self.opened) + 1
        self.feed(h2f.headers_frames(stream_id, self.hpack.encode(h2f.REQUEST), end=end))
        return self.opened[-1]

    def send(self, stream: Stream, size: int, *, end: bool = False) -> None:
        self.sent[stream.id] = self.sent.get(stream.id, 0) + size
        self.feed(h2f.data_frames(stream.id, bytes(size), end=end))

    async def credit(self, stream_id: int = 0) -> int:
        """What was credited up to now, on a stream or on the connection."""
        await turns()
        updates = [
            one for one in self.written() if one.kind == h2f.WINDOW_UPDATE and one.stream_id == stream_id
        ]
        total = sum(one.number for one in updates)
        return total if stream_id else total - (self.session.options.connection_window_bytes - 65_535)

    async def window(self, stream_id: int = 0) -> int:
        """What the peer may still send."""
        if stream_id:
            start, sent = self.session.options.stream_window_bytes, self.sent.get(stream_id, 0)
        else:
            start, sent = self.session.options.connection_window_bytes, sum(self.sent.values())
        return start - sent + await self.credit(stream_id)


def test_stream_credit_follows_consumption_and_connection_credit_receipt() -> None:
    async def body() -> None:
        one = Uploads()
        stream = one.stream()
        one.send(stream, 60 * KIB)
        assert await one.credit(stream.id) == 0
        assert await one.credit() >= 32 * KIB
        assert one.session.unread_bytes == 60 * KIB
        assert len(await stream.read(20 * KIB)) == 16 * KIB
        assert await one.credit(stream.id) == 16 * KIB
        assert len(stream.take()) == 44 * KIB
        assert await one.window(stream.id) > 48 * KIB
        assert one.session.unread_bytes == 0
        await one.session.close()

    run(body)


def test_nothing_is_credited_on_a_stream_that_has_ended() -> None:
    async def body() -> None:
        one = Uploads()
        stream = one.stream()
        one.send(stream, 60 * KIB, end=True)
        assert len(stream.take()) == 60 * KIB
        assert await one.credit(stream.id) == 0
        await one.session.close()

    run(body)


def test_above_the_limit_connection_credit_follows_consumption() -> None:
    async def body() -> None:
        one = Uploads()
        streams = [one.stream() for _ in range(6)]
        while await one.window() > 0:
            stream = next(stream for stream in streams if one.sent.get(stream.id, 0) < 64 * KIB)
            one.send(stream, min(8 * KIB, await one.window()))
        # As much as the limit and one window, and no more.
        assert 200 * KIB < one.session.unread_bytes <= 328 * KIB
        first = streams[0]
        while data := first.take_frame():
            assert len(data) <= 16 * KIB
        assert await one.window() > 16 * KIB
        for stream in streams:
            stream.take()
        assert one.session.unread_bytes == 0
        assert await one.window() > 96 * KIB
        await one.session.close()

    run(body)


def test_what_nobody_will_read_is_credited_and_dropped_at_once() -> None:
    async def body() -> None:
        one = Uploads()
        stream = one.stream()
        one.send(stream, 60 * KIB)
        stream.discard()
        assert one.session.unread_bytes == 0
        for _ in range(100):
            one.send(stream, min(20 * KIB, await one.window(stream.id), await one.window()))
        assert one.sent[stream.id] > 1_500 * KIB
        assert one.session.unread_bytes == 0
        assert await stream.read() == b""
        one.send(stream, 0, end=True)
        assert stream.ended
        await one.session.close()

    run(body)


def test_a_discarded_stream_gives_credit_also_above_the_limit() -> None:
    async def body() -> None:
        one = Uploads()
        full = [one.stream() for _ in range(4)]
        for stream in full:
            one.send(stream, min(64 * KIB, await one.window()))
        assert one.session.unread_bytes > 200 * KIB
        dropped = one.stream()
        dropped.discard()
        for _ in range(50):
            one.send(dropped, min(10 * KIB, await one.window(dropped.id), await one.window()))
        assert one.sent[dropped.id] > 400 * KIB
        await one.session.close()

    run(body)


# --- Stalled readers ----------------------------------------------------------------------


async def fill(one: Uploads) -> list[Stream]:
    """Streams that nobody reads, up to above the limit."""
    streams = []
    while one.session.unread_bytes <= 200 * KIB:
        streams.append(one.stream())
        one.send(streams[-1], min(64 * KIB, await one.window()))
    return streams


def reset_code(stream: Stream) -> int | None:
    return stream.error.code if isinstance(stream.error, StreamReset) else None


def test_above_the_limit_a_stream_that_nobody_reads_is_reset() -> None:
    async def body() -> None:
        one = Uploads()
        streams = await fill(one)
        told: list[Stream] = []
        for stream in streams:
            stream.listener = told.append
        waiting = asyncio.create_task(streams[0].wait_error())
        await advance(29)
        assert [reset_code(stream) for stream in streams] == [None] * len(streams)
        await advance(10)
        assert [reset_code(stream) for stream in streams] == [ErrorCode.CANCEL] * len(streams)
        assert isinstance(await waiting, StreamReset)
        assert told == streams
        assert one.session.unread_bytes == 0
        assert await one.window() > 96 * KIB
        assert_idle(one.session)
        await one.session.close()

    run(body)


def test_below_the_limit_nobody_is_hurried() -> None:
    async def body() -> None:
        one = Uploads()
        stream = one.stream()
        one.send(stream, 60 * KIB)
        await advance(200, step=5)
        assert len(stream.take()) == 60 * KIB
        await one.session.close()

    run(body)


def test_a_slow_reader_is_not_a_stalled_one() -> None:
    """Above the limit all the time: one reads a little every 20 s, the others nothing."""

    async def body() -> None:
        one = Uploads(SessionOptions(**{**SMALL_VALUES, "max_unread_bytes": 10 * KIB}))
        slow, stalled = one.stream(), one.stream()
        one.send(slow, 60 * KIB)
        one.send(stalled, 60 * KIB)
        for _ in range(6):
            await advance(20)
            assert await slow.read(KIB)
        assert slow.error is None
        assert reset_code(stalled) == ErrorCode.CANCEL
        await one.session.close()

    run(body)


SMALL_VALUES = {name: getattr(SMALL, name) for name in SessionOptions.__slots__}


def test_a_stream_that_gets_its_first_bytes_under_pressure_has_its_whole_time() -> None:
    """Idle for long, or opened only now: nobody can read what has not come yet."""

    async def body() -> None:
        one = Uploads(SessionOptions(**{**SMALL_VALUES, "max_unread_bytes": 10 * KIB}))
        idle, busy = one.stream(), one.stream()
        one.send(busy, 60 * KIB)
        for _ in range(10):
            await advance(10)
            assert await busy.read(KIB)
        new = one.stream()
        one.send(idle, KIB)
        one.send(new, KIB)
        await advance(15)
        assert await busy.read(KIB)
        assert idle.error is None
        assert new.error is None
        assert len(idle.take()) == KIB
        await advance(24)
        assert await busy.read(KIB)
        assert reset_code(new) == ErrorCode.CANCEL
        await one.session.close()

    run(body)


def test_a_stream_read_between_two_times_of_pressure_starts_anew() -> None:
    async def body() -> None:
        one = Uploads(SessionOptions(**{**SMALL_VALUES, "max_unread_bytes": 70 * KIB}))
        first, second = one.stream(), one.stream()
        one.send(first, 60 * KIB)
        one.send(second, 20 * KIB)  # above the limit
        await advance(7)
        second.take()  # below
        assert await first.read(KIB)
        one.send(second, 20 * KIB)  # above again
        await advance(26)
        assert first.error is None
        await advance(12)
        assert reset_code(first) == ErrorCode.CANCEL
        await one.session.close()

    run(body)


def test_a_stream_read_long_after_a_time_of_pressure_is_not_stalled_in_the_next() -> None:
    async def body() -> None:
        one = Uploads(SessionOptions(**{**SMALL_VALUES, "max_unread_bytes": 70 * KIB}))
        first, second = one.stream(), one.stream()
        one.send(first, 60 * KIB)
        one.send(second, 20 * KIB)  # above the limit, and looked at
        await advance(8)
        second.take()  # below
        await advance(40)
        assert await first.read(KIB)
        one.send(second, 20 * KIB)  # above again
        await advance(20)
        assert first.error is None
        await advance(20)
        assert reset_code(first) == ErrorCode.CANCEL
        await one.session.close()

    run(body)


def test_whole_messages_that_nobody_reads_do_not_stop_the_session_for_ever() -> None:
    """Both sides of these streams have ended: there is nothing left to reset, but their bytes to drop."""

    async def body() -> None:
        one = MemorySession(is_client=True, options=SMALL)
        one.feed(h2f.settings_frame({}) + h2f.SETTINGS_ACK)
        hpack = h2f.Hpack()
        streams = [one.session.open(REQUEST_BLOCK, end=True) for _ in range(5)]
        for stream in streams:
            one.feed(h2f.headers_frames(stream.id, hpack.encode(h2f.RESPONSE)))
            one.feed(h2f.data_frames(stream.id, bytes(50 * KIB), end=True))
        assert one.session.open_streams == 0
        assert one.session.unread_bytes == 250 * KIB
        assert len(await streams[0].read(KIB)) == KIB
        await advance(60, step=1)
        assert one.session.unread_bytes <= 200 * KIB
        with pytest.raises(StreamReset):  # never a short body that looks whole
            await streams[0].read()
        for stream in streams[1:]:
            assert len(stream.take()) in (0, 50 * KIB)
        updates = [sent.number for sent in one.written() if sent.kind == h2f.WINDOW_UPDATE]
        assert 65_535 + sum(updates) - 250 * KIB > 96 * KIB
        await one.session.close()

    run(body)


def test_a_whole_message_that_is_given_up_is_dropped() -> None:
    async def body() -> None:
        one = MemorySession(is_client=True, options=SMALL)
        one.feed(h2f.settings_frame({}) + h2f.SETTINGS_ACK)
        stream = one.session.open(REQUEST_BLOCK, end=True)
        one.feed(h2f.headers_frames(1, h2f.Hpack().encode(h2f.RESPONSE)))
        one.feed(h2f.data_frames(1, bytes(50 * KIB), end=True))
        assert len(await stream.read(KIB)) == KIB
        stream.reset()
        assert one.session.unread_bytes == 0
        with pytest.raises(StreamReset):
            await stream.read()
        await turns()
        assert not [sent for sent in one.written() if sent.kind == h2f.RST_STREAM]
        await one.session.close()

    run(body)


# --- Any order of everything --------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(0, 3), st.sampled_from([0, 1, 5_000, 16_384, 40_000, 65_535])),
        st.tuples(st.just("padded"), st.integers(0, 3), st.integers(0, 200)),
        st.tuples(st.just("read"), st.integers(0, 3), st.sampled_from([1, 10_000, 65_536])),
        st.tuples(st.sampled_from(["take", "frame", "end"]), st.integers(0, 3), st.just(0)),
        st.tuples(st.sampled_from(["discard", "reset", "peer reset"]), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("wait"), st.just(0), st.sampled_from([1, 9, 40])),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, limit=st.sampled_from([0, 20_000, 100_000, 1 << 20]))
def test_credit_is_neither_lost_nor_invented(steps: list[tuple[str, int, int]], limit: int) -> None:
    async def body() -> None:
        one = Uploads(SessionOptions(**{**SMALL_VALUES, "max_unread_bytes": limit}))
        session = one.session
        streams = [one.stream() for _ in range(4)]
        over: set[int] = set()
        for kind, index, size in steps:
            stream = streams[index]
            room = max(0, min(await one.window(), await one.window(stream.id)))
            if kind == "wait":
                await advance(size, step=1)
            elif kind in ("data", "padded", "end", "peer reset"):
                if stream.id in over:
                    continue
                if kind == "data":
                    one.send(stream, min(size, room))
                elif kind == "padded" and room > 2 * size + 1:
                    one.sent[stream.id] = one.sent.get(stream.id, 0) + 2 * size + 1
                    one.feed(h2f.data_frame(stream.id, bytes(size), padding=size))
                elif kind == "end":
                    one.send(stream, 0, end=True)
                    over.add(stream.id)
                elif kind == "peer reset":
                    one.feed(h2f.rst_stream(stream.id, 8))
                    over.add(stream.id)
            elif kind == "read" and stream.unread:
                assert 0 < len(await stream.read(size)) <= size
            elif kind == "take":
                stream.take()
            elif kind == "frame":
                stream.take_frame()
            elif kind == "discard":
                stream.discard()
            elif kind == "reset":
                stream.reset()
            assert session.unread_bytes == sum(stream.unread for stream in streams)
            # Unread bytes stay within the limit and a window.
            assert session.unread_bytes <= limit + 128 * KIB
            # Only too much unread data may stop the connection.
            if session.unread_bytes <= limit:
                assert await one.window() > 96 * KIB - 1
            assert await one.window() <= 128 * KIB
            for each in streams:
                assert await one.window(each.id) <= 64 * KIB
        for stream in streams:
            stream.take()
        assert session.unread_bytes == 0
        assert await one.window() >= 96 * KIB
        for stream in streams:
            if stream.id not in over and stream.error is None:
                assert await one.window(stream.id) >= 48 * KIB
        assert session.lost is None
        await session.close()

    run(body)


# --- Over the network ---------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_slow_reader_slows_its_own_sender_and_nobody_else(certs: Certificates) -> None:
    async with session_pair(certs, server_options=SMALL) as pair:
        slow_ours, slow = await pair.stream()
        stuck = asyncio.create_task(slow_ours.write(bytes(1 << 20), end=True))
        for _ in range(3):
            ours, theirs = await pair.stream()
            writing = asyncio.create_task(ours.write(bytes(1 << 20), end=True))
            size = 0
            while data := await theirs.read():
                size += len(data)
            await writing
            assert size == 1 << 20
            theirs.send_fields(RESPONSE_BLOCK, end=True)
        assert not stuck.done()
        assert slow.unread <= 64 * KIB
        assert pair.server.unread_bytes == slow.unread
        size = 0
        while data := await slow.read(1_000):
            size += len(data)
        assert size == 1 << 20
        await stuck
        slow.send_fields(RESPONSE_BLOCK, end=True)
        await slow_ours.wait_closed()
        assert_idle(pair.client, pair.server)


async def test_request_heads_get_through_while_slow_readers_hold_all_they_may(certs: Certificates) -> None:
    """protocol.md §12.4: a few slow readers must not stop everyone's request heads."""
    async with server_and_raw(certs, SMALL) as (session, inbox, peer):
        peer.greet()
        slow = [peer.request() for _ in range(3)]
        for stream_id in slow:
            peer.send(h2f.data_frames(stream_id, bytes(64 * KIB)))
            await peer.sync()
        assert session.unread_bytes == 192 * KIB
        credit = sum(one.number for one in peer.of_kind(h2f.WINDOW_UPDATE, 0))
        assert 65_535 + credit - 192 * KIB >= 96 * KIB
        peer.request()
        for _ in range(4):
            stream = await inbox.next()
        peer.send(h2f.data_frame(stream.id, b"a head", end=True))
        assert await stream.read() == b"a head"

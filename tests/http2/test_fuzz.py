"""Anything a peer may send ends in order: served, or a `ConnectionLost`, never in another exception."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2 import frames as h2f
from tests.http2.frames import Hpack
from tests.http2.memory import MemorySession, run, turns
from tests.http2.sessions import REQUEST_BLOCK, RESPONSE_BLOCK
from verser2_guest_python.http2 import Http2Error, SessionOptions, Stream

OPTIONS = SessionOptions(max_concurrent_streams=20, max_unread_bytes=40_000, reset_burst=3)

NUMBERS = st.sampled_from([0, 1, 8, 100, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1])
IDS = st.sampled_from([1, 3, 5, 7, 9, 11])
ODD_IDS = st.sampled_from([0, 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1])
NEVER_INDEXED = [(*one, True) for one in h2f.REQUEST]
FIELDS = [h2f.REQUEST, h2f.RESPONSE, h2f.RESPONSE, [(b":status", b"100")], [(b"x-trailer", b"1")], []]


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Valid HPACK that leaves the table alone."""
    names = st.sampled_from([b"x", b"content-length", b"te", b"x-long" * 20])
    extra = draw(st.lists(st.tuples(names, st.sampled_from([b"1", b"a b", b" ", b"v" * 200])), max_size=2))
    fields = draw(st.sampled_from(FIELDS))
    return Hpack().encoder.encode([((*one, True)) for one in (*fields, *extra)])


@st.composite
def legal(draw: st.DrawFn) -> bytes:
    """A frame, or a few that belong together, as a peer might send them at the right time."""
    stream_id = draw(IDS)
    end = draw(st.booleans())
    padding = draw(st.sampled_from([None, None, None, 0, 7]))
    kind = draw(st.sampled_from([0, 0, 0, 1, 1, 1, 1, 2, 3, 4, 6, 7, 8, 8, 0xAB]))
    if kind == h2f.HEADERS:
        pieces, priority = draw(st.sampled_from([1, 1, 1, 2, 5])), draw(st.booleans())
        block = draw(blocks())
        return h2f.headers_frames(
            stream_id, block, end=end, padding=padding, priority=priority, pieces=pieces
        )
    if kind == h2f.DATA:
        return h2f.data_frame(
            stream_id, bytes(draw(st.sampled_from([0, 1, 900, 16_000]))), end=end, padding=padding
        )
    if kind == h2f.RST_STREAM:
        return h2f.rst_stream(stream_id, draw(NUMBERS))
    if kind == h2f.SETTINGS:
        codes = st.sampled_from([1, 3, 4, 8, 99])
        return h2f.settings_frame(
            draw(st.dictionaries(codes, st.sampled_from([0, 1, 50, 16_384]), max_size=3))
        )
    if kind == h2f.GOAWAY:
        return h2f.goaway(draw(st.sampled_from([0, 1, 5, 2**31 - 1])), draw(NUMBERS))
    if kind == h2f.WINDOW_UPDATE:
        return h2f.window_update(
            draw(st.sampled_from([0, stream_id])), draw(st.sampled_from([1, 900, 65_535]))
        )
    if kind == h2f.PING:
        return h2f.ping(ack=end)
    return h2f.frame(kind, stream_id, bytes(5))


@st.composite
def wrong(draw: st.DrawFn) -> bytes:
    """A frame with something wrong in it."""
    made = bytearray(draw(legal()))
    what = draw(st.integers(0, 4))
    if what == 0:
        made[3] = draw(st.integers(0, 255))
    elif what == 1:
        made[4] = draw(st.integers(0, 255))
    elif what == 2:
        made[5:9] = draw(st.one_of(ODD_IDS, st.integers(0, 2**32 - 1))).to_bytes(4, "big")
    elif what == 3:
        kind = draw(st.integers(0, 9))
        payload = draw(st.one_of(st.binary(max_size=50), NUMBERS.map(lambda one: one.to_bytes(4, "big"))))
        made = bytearray(h2f.frame(kind, draw(st.one_of(IDS, ODD_IDS)), payload, draw(st.integers(0, 255))))
    else:
        position = draw(st.integers(0, len(made) - 1))
        made[position] ^= 1 << draw(st.integers(0, 7))
    return bytes(made)


@st.composite
def programs(draw: st.DrawFn) -> list[bytes]:
    """Mostly legal frames with a wrong one now and then: those that are all wrong end at once."""
    parts = [draw(legal()) for _ in range(draw(st.integers(0, 15)))]
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(
            draw(st.integers(0, len(parts))), draw(st.one_of(wrong(), wrong(), st.binary(max_size=40)))
        )
    return parts


def use(stream: Stream, number: int) -> None:
    """What a caller might do with a stream, while the peer does what it likes."""
    with contextlib.suppress(Http2Error, RuntimeError):  # what callers are told they may get
        if number % 5 == 0:
            stream.reset()
        elif number % 5 == 1:
            stream.discard()
        elif number % 5 == 2:
            if not stream.session.is_client and stream.listener is None:
                stream.listener = lambda one: None
                stream.send_fields(RESPONSE_BLOCK)
            stream.write_now(b"some bytes", end=number % 2 == 0)
        elif number % 5 == 3:
            stream.take()


def check(one: MemorySession, streams: list[Stream]) -> None:
    """What must hold whatever came."""
    session = one.session
    assert session.unread_bytes >= 0
    assert session.unread_bytes == sum(stream.unread for stream in streams)
    assert session.open_streams <= OPTIONS.max_concurrent_streams + OPTIONS.reset_burst
    if session.lost is not None:
        assert session.open_streams == 0
        assert one.transport.closing
        goaways = [sent for sent in one.written() if sent.kind == h2f.GOAWAY]
        assert len(goaways) == 1
        assert goaways[0].payload[4:] != bytes(4)
        assert all(stream.error is not None or stream.closed for stream in streams)


async def play(is_client: bool, program: list[bytes], cuts: int) -> None:
    one = MemorySession(is_client=is_client, options=OPTIONS)
    streams = one.opened
    if is_client:
        streams = [one.session.open(REQUEST_BLOCK, end=number % 2 == 0) for number in range(4)]
        await turns(1)
    else:
        one.feed(h2f.PREFACE)
        for stream_id in (1, 3, 5):
            one.feed(h2f.headers_frames(stream_id, Hpack().encoder.encode(NEVER_INDEXED), end=stream_id == 5))
    for number, data in enumerate(program):
        cut = min(len(data), cuts)
        one.feed(data[:cut])
        one.feed(data[cut:])
        for position, stream in enumerate(list(streams)):
            use(stream, number * 7 + position)
        await turns(2)
        check(one, streams)
    await one.session.close()
    assert one.session.lost is not None
    await turns()
    assert all(stream.error is not None or stream.closed for stream in streams)


@settings(max_examples=200, deadline=None)
@given(programs(), st.integers(0, 12))
def test_a_server_survives_any_client(program: list[bytes], cuts: int) -> None:
    run(lambda: play(False, [h2f.settings_frame({}), *program], cuts))


@settings(max_examples=200, deadline=None)
@given(programs(), st.integers(0, 12))
def test_a_client_survives_any_server(program: list[bytes], cuts: int) -> None:
    run(lambda: play(True, [h2f.settings_frame({}), *program], cuts))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_a_server_survives_what_is_no_preface(data: bytes) -> None:
    async def body() -> None:
        one = MemorySession(is_client=False)
        for start in range(0, len(data), 7):
            one.feed(data[start : start + 7])
        if not h2f.PREFACE.startswith(data[: len(h2f.PREFACE)]):
            assert one.session.lost is not None
        await one.session.close()

    run(body)


@pytest.mark.parametrize(
    ("what", "times"),
    [
        (h2f.ping(), 5_000),
        (h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 5}), 2_000),
        (h2f.frame(h2f.PRIORITY, 1, bytes(5)), 5_000),
        (h2f.frame(0xAB, 1, bytes(1_000)), 5_000),
        (h2f.data_frame(1, b""), 5_000),
        (h2f.data_frame(1, b"", padding=0), 5_000),
        (h2f.rst_stream(3, 8), 5_000),
        (h2f.window_update(1, 1), 5_000),
        (h2f.SETTINGS_ACK, 5_000),
    ],
)
async def test_floods_leave_nothing_behind(what: bytes, times: int) -> None:
    one = MemorySession(is_client=False)
    one.feed(h2f.PREFACE + h2f.settings_frame({}))
    hpack = Hpack()
    one.feed(
        h2f.headers_frames(1, hpack.encode(h2f.REQUEST)) + h2f.headers_frames(3, hpack.encode(h2f.REQUEST))
    )
    for _ in range(10):
        one.feed(what)
    await turns()
    one.transport.records.clear()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(times // 100 + 1):
            one.feed(what * min(100, times))
            await turns(2)
            one.transport.records.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert one.session.lost is None
    assert after - before < 60_000
    await one.session.close()


async def test_settings_that_nobody_knows_take_no_room() -> None:
    one = MemorySession(is_client=False)
    one.feed(h2f.PREFACE + h2f.settings_frame({}))
    tracemalloc.start()
    try:
        for first in range(100, 12_100, 2_000):
            one.feed(h2f.settings_frame(dict.fromkeys(range(first, first + 2_000), 1)))
            await turns(2)
            one.transport.records.clear()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert one.session.lost is None
    assert size < 300_000
    await one.session.close()

"""The same bytes, cut anywhere, mean the same to a session and to plain h2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2 import frames as h2f
from tests.http2.frames import Hpack
from tests.http2.memory import MemorySession, run, turns
from tests.http2.sessions import REQUEST_BLOCK
from verser2_guest_python.http2 import Stream, StreamReset

Fields = list[tuple[bytes, bytes]]

EXTRA = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"x-b", b"accept", b"cookie"]),
        st.sampled_from([b"", b"1", b"v" * 300, b"\xe9\xff", b"a b"]),
    ),
    max_size=3,
)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([0, 1, 30]),
        "pieces": st.integers(1, 4),
        "priority": st.booleans(),
    },
)
ANYTIME = st.sampled_from(
    [
        h2f.ping(),
        h2f.ping(ack=True),
        h2f.settings_frame({}),
        h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 100, 0xABC: 7}),
        h2f.settings_frame({h2f.HEADER_TABLE_SIZE: 0}),
        h2f.SETTINGS_ACK,
        h2f.window_update(0, 1_000),
        h2f.frame(0xAB, 3, b"unknown"),
        h2f.frame(h2f.PRIORITY, 77, bytes(4) + b"\x05"),
    ]
)


@dataclass
class Seen:
    """What came on one stream."""

    fields: Fields | None = None
    data: bytes = b""
    ended: bool = False
    reset: int | None = None


@dataclass
class Writer:
    """Writes legal frames of one peer, stream by stream, in any order."""

    answers: bool
    hpack: Hpack = field(default_factory=Hpack)
    open: dict[int, bool] = field(default_factory=dict)
    sent: dict[int, int] = field(default_factory=dict)
    next_id: int = 1

    def step(self, draw: st.DrawFn) -> bytes:
        kinds = ["data", "data", "end", "trailers", "reset", "any", "window", "table"]
        kind = draw(st.sampled_from(["begin", "begin", *kinds] if not self.answers else ["answer", *kinds]))
        if kind == "any":
            return draw(ANYTIME)
        if kind == "table":  # the next block announces it
            if not self.hpack.encoder.header_table.resized:  # hpack gets two changes at once wrong
                self.hpack.encoder.header_table_size = draw(st.sampled_from([0, 100, 4_096]))
            return b""
        if kind == "begin":
            return self._begin(draw)
        ready = [one for one, begun in self.open.items() if begun == (kind != "answer")]
        if not ready:
            return b""
        stream_id = draw(st.sampled_from(ready))
        if kind == "answer":
            return self._answer(draw, stream_id)
        if kind == "window":
            return h2f.window_update(stream_id, 500)
        if kind == "data":
            size = draw(st.sampled_from([0, 1, 700, 3_000]))
            self.sent[stream_id] = self.sent.get(stream_id, 0) + size + 40
            if sum(self.sent.values()) > 60_000:
                return b""
            # hyperframe refuses padding of an empty payload, though it is legal
            padding = draw(st.sampled_from([None, None, 0, 30])) if size else None
            return h2f.data_frame(stream_id, b"d" * size, padding=padding)
        del self.open[stream_id]
        if kind == "end":
            return h2f.data_frame(stream_id, b"", end=True)
        if kind == "trailers":
            trailers = self.hpack.encode([(b"x-trailer", b"1"), *draw(EXTRA)])
            return h2f.headers_frames(stream_id, trailers, end=True, **draw(SHAPES))
        return h2f.rst_stream(stream_id, draw(st.sampled_from([0, 2, 8, 99])))

    def _begin(self, draw: st.DrawFn) -> bytes:
        stream_id = self.next_id
        self.next_id += draw(st.sampled_from([2, 2, 2, 6]))
        end = draw(st.booleans())
        if not end:
            self.open[stream_id] = True
        block = self.hpack.encode([*h2f.REQUEST, *draw(EXTRA)])
        return h2f.headers_frames(stream_id, block, end=end, **draw(SHAPES))

    def _answer(self, draw: st.DrawFn, stream_id: int) -> bytes:
        if draw(st.integers(0, 3)) == 0:
            early = self.hpack.encode([(b":status", b"103"), *draw(EXTRA)])
            return h2f.headers_frames(stream_id, early, **draw(SHAPES))
        end = draw(st.booleans())
        del self.open[stream_id]
        if not end:
            self.open[stream_id] = True
        block = self.hpack.encode([(b":status", b"200"), *draw(EXTRA)])
        return h2f.headers_frames(stream_id, block, end=end, **draw(SHAPES))


@st.composite
def pieces_of(draw: st.DrawFn, wire: bytes) -> list[bytes]:
    """The bytes in pieces, cut at up to eight places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    return [wire[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


@st.composite
def clients(draw: st.DrawFn) -> list[bytes]:
    writer = Writer(answers=False)
    wire = (
        h2f.PREFACE
        + h2f.settings_frame({})
        + b"".join(writer.step(draw) for _ in range(draw(st.integers(1, 25))))
    )
    return draw(pieces_of(wire))


@st.composite
def servers(draw: st.DrawFn) -> list[bytes]:
    writer = Writer(answers=True, open={1: False, 3: False, 5: False, 7: False})
    steps = [writer.step(draw) for _ in range(draw(st.integers(1, 25)))]
    return draw(pieces_of(h2f.settings_frame({}) + b"".join(steps)))


def as_h2_sees_it(wire: bytes, *, requests: list[bool] | None) -> tuple[dict[int, Seen], bytes]:
    """What plain h2 makes of the bytes: its events by stream, and the answers that it gives by itself."""
    config = h2.config.H2Configuration(
        client_side=requests is not None, header_encoding=None, normalize_inbound_headers=False
    )
    reference = h2.connection.H2Connection(config)
    reference.initiate_connection()
    for number, end in enumerate(requests or []):
        reference.send_headers(number * 2 + 1, h2f.REQUEST, end_stream=end)
    reference.data_to_send()
    seen: dict[int, Seen] = {}
    for event in reference.receive_data(wire):
        take(seen, event)
    return seen, reference.data_to_send()


def take(seen: dict[int, Seen], event: Any) -> None:
    stream_id = getattr(event, "stream_id", 0) or 0
    if stream_id == 0:
        return
    one = seen.setdefault(stream_id, Seen())
    if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
        one.fields = [(bytes(name), bytes(value)) for name, value in event.headers]
    elif isinstance(event, h2.events.DataReceived):
        one.data += event.data
    elif isinstance(event, h2.events.StreamEnded):
        one.ended = True
    elif isinstance(event, h2.events.StreamReset):
        one.reset = int(event.error_code)


def compare(streams: list[Stream], expected: dict[int, Seen]) -> None:
    assert {one.id for one in streams} >= {key for key, one in expected.items() if one.fields is not None}
    for stream in streams:
        wanted = expected.get(stream.id, Seen())
        assert (list(stream.fields) if stream.fields is not None else None) == wanted.fields
        if wanted.reset is not None:
            assert isinstance(stream.error, StreamReset)
            assert stream.error.code == wanted.reset
        else:
            assert stream.error is None
            assert stream.ended == wanted.ended
            assert stream.take() == wanted.data


def answers(frames: list[h2f.Frame]) -> list[tuple[int, int, bytes]]:
    """What must be answered by any engine: PING and SETTINGS."""
    kinds = (h2f.PING, h2f.SETTINGS)
    return [(one.kind, one.flags, one.payload) for one in frames if one.kind in kinds and one.flags & h2f.ACK]


@settings(max_examples=200, deadline=None)
@given(clients())
def test_a_server_understands_a_client_as_h2_does(pieces: list[bytes]) -> None:
    expected, written = as_h2_sees_it(b"".join(pieces), requests=None)

    async def body() -> None:
        one = MemorySession(is_client=False)
        for piece in pieces:
            one.feed(piece)
        await turns()
        assert one.session.lost is None
        compare(one.opened, expected)
        assert answers(one.written()) == answers(h2f.split_frames(written)[0])
        assert one.session.unread_bytes == 0
        await one.session.close()

    run(body)


@settings(max_examples=200, deadline=None)
@given(servers(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_client_understands_a_server_as_h2_does(pieces: list[bytes], ends: list[bool]) -> None:
    expected, written = as_h2_sees_it(b"".join(pieces), requests=ends)

    async def body() -> None:
        one = MemorySession(is_client=True)
        streams = [one.session.open(REQUEST_BLOCK, end=end) for end in ends]
        await turns()
        for piece in pieces:
            one.feed(piece)
        await turns()
        assert one.session.lost is None
        compare(streams, expected)
        assert answers(one.written()) == answers(h2f.split_frames(written)[0])
        assert one.session.unread_bytes == 0
        await one.session.close()

    run(body)

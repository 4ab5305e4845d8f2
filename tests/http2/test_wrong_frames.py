"""What ends a connection (RFC 9113 §5.4.1): GOAWAY with the right code, and the reason in words."""

from __future__ import annotations

import pytest

from tests.http2 import frames as h2f
from tests.http2.memory import MemorySession, turns
from tests.http2.sessions import REQUEST_BLOCK
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, SessionOptions

OPTIONS = SessionOptions(stream_window_bytes=70_000, connection_window_bytes=100_000, max_unread_bytes=1_000)


def block(fields: h2f.Fields) -> bytes:
    return h2f.Hpack().encode(fields)


LIST_TOO_LARGE = block([*h2f.REQUEST, *[(b"x", b"v" * 15_000)] * 5])

# Sent on a connection where streams 1 and 3 are open, and 5 has been closed.
EITHER_ROLE = {
    "DATA on an idle stream": (h2f.data_frame(99, b"x"), ErrorCode.PROTOCOL_ERROR),
    "padded DATA on an idle stream": (h2f.data_frame(99, b"x", padding=1), ErrorCode.PROTOCOL_ERROR),
    "DATA on stream 0": (h2f.data_frame(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (h2f.window_update(99, 1), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (h2f.rst_stream(99, 8), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on stream 0": (h2f.rst_stream(0, 8), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of a wrong size": (h2f.frame(h2f.RST_STREAM, 1, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "an empty WINDOW_UPDATE": (h2f.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window beyond 2^31": (h2f.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "an overrun stream": (h2f.data_frames(1, bytes(70_001)), ErrorCode.FLOW_CONTROL_ERROR),
    "an overrun connection": (
        h2f.data_frames(1, bytes(60_000)) + h2f.data_frames(3, bytes(60_000)),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a frame that is too large": (h2f.data_frame(1, bytes(16_385)), ErrorCode.FRAME_SIZE_ERROR),
    "padding beyond the frame": (h2f.frame(h2f.DATA, 1, b"\x05abcd", h2f.PADDED), ErrorCode.PROTOCOL_ERROR),
    "padding without its length": (h2f.frame(h2f.DATA, 1, b"", h2f.PADDED), ErrorCode.PROTOCOL_ERROR),
    "HEADERS without their priority": (
        h2f.frame(h2f.HEADERS, 1, bytes(4), h2f.PRIORITY_FLAG | h2f.END_HEADERS),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "CONTINUATION of nothing": (h2f.frame(h2f.CONTINUATION, 1, b"", 4), ErrorCode.PROTOCOL_ERROR),
    "DATA in a header block": (
        h2f.frame(h2f.HEADERS, 1, b"\x82") + h2f.data_frame(1, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "RST_STREAM in a header block": (
        h2f.frame(h2f.HEADERS, 1, b"\x82") + h2f.rst_stream(3, 8),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "PING in a header block": (h2f.frame(h2f.HEADERS, 1, b"\x82") + h2f.ping(), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        h2f.frame(h2f.HEADERS, 1, b"\x82") + h2f.frame(h2f.CONTINUATION, 3, b"", 4),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION without end": (
        h2f.frame(h2f.HEADERS, 1, b"") + h2f.frame(h2f.CONTINUATION, 1, b"") * 1_000,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a header list that is too large": (
        h2f.headers_frames(1, LIST_TOO_LARGE, pieces=5),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "HPACK that refers to nothing": (h2f.headers_frames(1, b"\xff\xff\x7f"), ErrorCode.COMPRESSION_ERROR),
    "HPACK that is cut short": (h2f.headers_frames(1, b"\x00\x05ab"), ErrorCode.COMPRESSION_ERROR),
    "HPACK with a table that is too large": (
        h2f.headers_frames(1, b"\x3f\xe2\x1f\x82"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "SETTINGS of a wrong size": (h2f.frame(h2f.SETTINGS, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (h2f.frame(h2f.SETTINGS, 1, bytes(6)), ErrorCode.PROTOCOL_ERROR),
    "a window setting beyond 2^31": (h2f.settings_frame({4: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame size that is too small": (h2f.settings_frame({5: 100}), ErrorCode.PROTOCOL_ERROR),
    "PING of a wrong size": (h2f.frame(h2f.PING, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "PUSH_PROMISE": (h2f.frame(h2f.PUSH_PROMISE, 1, bytes(3) + b"\x02\x82", 4), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY that is too short": (h2f.frame(h2f.GOAWAY, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
}


def established(*, is_client: bool) -> MemorySession:
    one = MemorySession(is_client=is_client, options=OPTIONS)
    if is_client:
        one.feed(h2f.settings_frame({}) + h2f.SETTINGS_ACK)
        streams = [one.session.open(REQUEST_BLOCK) for _ in range(3)]
        for stream in streams:
            one.feed(h2f.headers_frames(stream.id, block([(b":status", b"200")])))
        one.opened.extend(streams)
    else:
        one.feed(h2f.PREFACE + h2f.settings_frame({}) + h2f.SETTINGS_ACK)
        for stream_id in (1, 3, 5):
            one.feed(h2f.headers_frames(stream_id, block(h2f.REQUEST)))
    one.feed(h2f.rst_stream(5, 8))
    return one


async def check(one: MemorySession, wire: bytes, code: ErrorCode) -> None:
    one.feed(wire)
    await turns()
    session = one.session
    assert isinstance(session.lost, ConnectionLost)
    last = one.written()[-1]
    assert last.kind == h2f.GOAWAY
    assert int.from_bytes(last.payload[4:8], "big") == code
    assert one.transport.closing
    assert all(stream.error is not None for stream in one.opened)
    assert session.unread_bytes == 0
    one.feed(h2f.ping())  # nothing is understood any more
    await session.close()


@pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("what", EITHER_ROLE)
async def test_what_neither_role_may_send(what: str, is_client: bool) -> None:
    wire, code = EITHER_ROLE[what]
    await check(established(is_client=is_client), wire, code)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (h2f.headers_frames(8, block(h2f.REQUEST)), ErrorCode.PROTOCOL_ERROR),
        (h2f.headers_frames(0, block(h2f.REQUEST)), ErrorCode.PROTOCOL_ERROR),
        (h2f.settings_frame({h2f.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    ],
)
async def test_what_a_client_may_not_send(wire: bytes, code: ErrorCode) -> None:
    await check(established(is_client=False), wire, code)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (h2f.headers_frames(2, block(h2f.RESPONSE)), ErrorCode.PROTOCOL_ERROR),
        (h2f.headers_frames(7, block(h2f.RESPONSE)), ErrorCode.PROTOCOL_ERROR),
        (h2f.settings_frame({h2f.ENABLE_PUSH: 1}), ErrorCode.PROTOCOL_ERROR),
        (h2f.headers_frames(1, block([(b":status", b"103")])), ErrorCode.PROTOCOL_ERROR),
    ],
)
async def test_what_a_server_may_not_send(wire: bytes, code: ErrorCode) -> None:
    await check(established(is_client=True), wire, code)


@pytest.mark.parametrize(
    "preface", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\n\n", b"\x16\x03\x01"]
)
async def test_what_is_no_preface(preface: bytes) -> None:
    one = MemorySession(is_client=False)
    for byte in preface:
        one.feed(bytes((byte,)))
    await turns()
    assert one.session.lost is not None
    assert one.written()[-1].kind == h2f.GOAWAY
    await one.session.close()


async def test_far_too_many_streams_end_the_connection() -> None:
    """Refusals are rationed: a peer that goes on beyond them is stopped."""
    options = SessionOptions(max_concurrent_streams=2, reset_burst=3, resets_per_second=0.001)
    one = MemorySession(is_client=False, options=options)
    one.feed(h2f.PREFACE + h2f.settings_frame({}))
    hpack = h2f.Hpack()
    for number in range(20):
        one.feed(h2f.headers_frames(number * 2 + 1, hpack.encode(h2f.REQUEST)))
        assert one.session.open_streams <= 5
    assert len(one.opened) == 2
    await turns()
    assert one.session.lost is not None
    assert int.from_bytes(one.written()[-1].payload[4:8], "big") == ErrorCode.ENHANCE_YOUR_CALM
    await one.session.close()

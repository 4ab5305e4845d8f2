"""HTTP/2 frames as bytes, made and read here by hand: independent of the code under test, and of h2."""

from __future__ import annotations

from dataclasses import dataclass

from hpack import Decoder, Encoder

DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES = 9
MAX_PAYLOAD_BYTES = 16_375  # protocol.md §12.2
MAX_RECORD_BYTES = 16_384

REQUEST = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost:1"), (b":path", b"/x")]
RESPONSE = [(b":status", b"200"), (b"content-type", b"text/plain")]

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Frame:
    """One frame as it was on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def end_stream(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def number(self) -> int:
        """The first 32 bits of the payload: an error code, or an increment."""
        return int.from_bytes(self.payload[:4], "big")

    def __repr__(self) -> str:
        return f"<kind {self.kind} flags {self.flags:#x} stream {self.stream_id}, {len(self.payload)} bytes>"


def frame(kind: int, stream_id: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + bytes(payload)
    )


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The frames in `data`, and the rest that is not a whole frame."""
    frames = []
    position = 0
    while len(data) - position >= FRAME_HEADER_BYTES:
        end = position + FRAME_HEADER_BYTES + int.from_bytes(data[position : position + 3], "big")
        if end > len(data):
            break
        stream_id = int.from_bytes(data[position + 5 : position + 9], "big")
        payload = bytes(data[position + FRAME_HEADER_BYTES : end])
        frames.append(Frame(data[position + 3], data[position + 4], stream_id, payload))
        position = end
    return frames, data[position:]


def data_frame(stream_id: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    flags = END_STREAM if end else 0
    if padding is not None:
        flags |= PADDED
        payload = bytes((padding,)) + payload + bytes(padding)
    return frame(DATA, stream_id, payload, flags)


def data_frames(stream_id: int, payload: bytes, *, end: bool = False, size: int = 16_384) -> bytes:
    """The payload in frames of at most `size` bytes."""
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = len(pieces) - 1
    return b"".join(data_frame(stream_id, one, end=end and n == last) for n, one in enumerate(pieces))


def headers_frames(
    stream_id: int,
    block: bytes,
    *,
    end: bool = False,
    padding: int | None = None,
    priority: bool = False,
    pieces: int = 1,
) -> bytes:
    """A header block in HEADERS and, with more than one piece, CONTINUATION."""
    step = max(1, -(-len(block) // pieces))
    parts = [block[start : start + step] for start in range(0, len(block), step)] or [b""]
    parts += [b""] * (pieces - len(parts))
    flags = END_STREAM if end else 0
    first = parts[0]
    if priority:
        flags |= PRIORITY_FLAG
        first = bytes(4) + b"\x0f" + first
    if padding is not None:
        flags |= PADDED
        first = bytes((padding,)) + first + bytes(padding)
    out = frame(HEADERS, stream_id, first, flags | (END_HEADERS if len(parts) == 1 else 0))
    for number, part in enumerate(parts[1:], 2):
        out += frame(CONTINUATION, stream_id, part, END_HEADERS if number == len(parts) else 0)
    return out


def settings_frame(values: dict[int, int] | None = None) -> bytes:
    payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in (values or {}).items())
    return frame(SETTINGS, 0, payload)


SETTINGS_ACK = frame(SETTINGS, 0, b"", ACK)


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, stream_id, increment.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def ping(opaque: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, 0, opaque, ACK if ack else 0)


class Hpack:
    """The HPACK tables of one end."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = Decoder()

    def encode(self, fields: Fields) -> bytes:
        encoded: bytes = self.encoder.encode(fields)
        return encoded

    def decode(self, block: bytes) -> Fields:
        return [(bytes(name), bytes(value)) for name, value in self.decoder.decode(block, raw=True)]

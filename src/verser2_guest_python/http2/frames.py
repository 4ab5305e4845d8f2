"""The layout of frames (RFC 9113 §4.1, §6), and what an engine and its session say to each other."""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from .backend import H2Stream
from .fields import Fields

HEADER = Struct(">LBL")
"""Length << 8 | type, flags, stream id."""
UINT32 = Struct(">L")

DATA = 0x0
HEADERS = 0x1
RST_STREAM = 0x3
SETTINGS = 0x4
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20

PREFACE_BYTES = 24
MAX_FRAME_BYTES = 16_384
"""Largest payload of a peer's frame; the default, which we never raise (RFC 9113 §4.2)."""
MAX_WINDOW = 2**31 - 1
ID_MASK = 0x7FFF_FFFF


class EngineError(Exception):
    """The connection cannot go on (RFC 9113 §5.4.1); a GOAWAY that says why is in the output.

    `limit` names the limit that the peer has exceeded, where it is that.
    """

    def __init__(self, code: int, reason: str, limit: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.limit = limit


class EngineStream(Protocol):
    """What the engine needs of a stream object."""

    id: int
    h2: H2Stream

    def on_fields(self, fields: Fields, ended: bool) -> None: ...
    def on_data(self, data: bytes, flow_bytes: int, ended: bool) -> None: ...
    def on_end(self) -> None: ...
    def on_reset(self, code: int, farewell: str = "") -> None: ...
    def on_window(self) -> None: ...


class EngineEvents(Protocol):
    """What the engine tells the session."""

    def stream_opened(self, stream_id: int, h2_stream: H2Stream) -> EngineStream: ...
    def data_dropped(self, flow_bytes: int) -> None: ...
    def stream_broken(self, stream: EngineStream, code: int) -> None: ...
    def connection_window_opened(self) -> None: ...
    def settings_received(self) -> None: ...
    def ping_answered(self, opaque: bytes) -> None: ...
    def costly(self, what: str, count: int) -> None: ...
    def goaway_received(self, last_stream_id: int, code: int, debug: bytes) -> None: ...

"""HTTP/2 frames in and out: h2, with a fast lane for the frames that every request consists of.

h2 keeps the truth: its stream state machines, windows, settings and HPACK tables. DATA, HEADERS and
WINDOW_UPDATE of live streams are parsed and written here, against that state, because h2's own way
(frame objects, event objects, flag sets, a walk over all streams) costs several times as much.
Everything else, SETTINGS and PING above all, goes through h2 itself, one frame at a time. GOAWAY is
the exception: h2 refuses to go on after one, a session that drains must not. What comes in is parsed
in `inbound`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .backend import (
    AllowedStreamIDs,
    ConnectionInputs,
    H2Configuration,
    H2Connection,
    H2Stream,
    SettingCodes,
    Settings,
    StreamClosedBy,
    StreamInputs,
    StreamState,
)
from .errors import ErrorCode
from .fields import BlockEncoder, FieldBlock, Fields
from .frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER,
    HEADERS,
    MAX_FRAME_BYTES,
    PREFACE_BYTES,
    RST_STREAM,
    UINT32,
    WINDOW_UPDATE,
    EngineError,
    EngineEvents,
    EngineStream,
)
from .goaway import write_words
from .inbound import Inbound
from .options import DEFAULT_WINDOW_BYTES, MAX_PAYLOAD_BYTES, SessionOptions

_SEND_HEADERS = StreamInputs.SEND_HEADERS
_SEND_DATA = StreamInputs.SEND_DATA
_SEND_END = StreamInputs.SEND_END_STREAM
_CLOSED = StreamState.CLOSED

# RFC 9113 §6.5.2, said to the engine because jh2 begins with values of its own for both ends
_DEFAULT_SETTINGS: Final[dict[SettingCodes, int]] = {
    SettingCodes.HEADER_TABLE_SIZE: 4_096,
    SettingCodes.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW_BYTES,
    SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
}


class Engine:
    """One end of an HTTP/2 connection, without I/O: bytes in through `feed`, frames out in `out`."""

    def __init__(self, is_client: bool, options: SessionOptions, events: EngineEvents) -> None:
        self.is_client = is_client
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.live: dict[int, EngineStream] = {}
        self.lingering: dict[int, EngineStream] = {}  # ended normally in this read: a reset may follow (§7)
        self.highest_id = 0  # of the streams that the client opened
        self.options = options
        self.events = events
        self.settled = False  # h2 knows that the connection is open
        self.goaway_sent = False
        self.h2 = H2Connection(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(client=is_client, initial_values=self._settings())
        self.h2.remote_settings = Settings(client=not is_client, initial_values=_DEFAULT_SETTINGS)
        self.h2.encoder.header_table_size = _DEFAULT_SETTINGS[SettingCodes.HEADER_TABLE_SIZE]
        self.h2.decoder.max_allowed_table_size = _DEFAULT_SETTINGS[SettingCodes.HEADER_TABLE_SIZE]
        self.h2.decoder.max_header_list_size = options.max_header_list_bytes
        self._encoder = BlockEncoder(self.h2.encoder)
        self._inbound = Inbound(self)

    def _settings(self) -> dict[SettingCodes, int]:
        values = {
            **_DEFAULT_SETTINGS,
            SettingCodes.INITIAL_WINDOW_SIZE: self.options.stream_window_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: self.options.max_header_list_bytes,
        }
        if self.is_client:
            values[SettingCodes.ENABLE_PUSH] = 0
        else:
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = self.options.max_concurrent_streams
        return values

    # --- Connection -----------------------------------------------------------------------

    def start(self) -> None:
        """The preface, SETTINGS, and the large connection window (protocol.md §12.3)."""
        self.h2.initiate_connection()
        self.collect()
        more = self.options.connection_window_bytes - DEFAULT_WINDOW_BYTES
        if more > 0:
            self.credit_connection(more)

    @property
    def connection_window(self) -> int:
        """Bytes of DATA that the peer takes now, on all streams together."""
        return self.h2.outbound_flow_control_window

    @property
    def max_payload(self) -> int:
        """Largest payload of a frame that we send."""
        return min(MAX_PAYLOAD_BYTES, self.h2.max_outbound_frame_size)

    @property
    def peer_max_concurrent_streams(self) -> int:
        """How many streams the peer lets us open at a time."""
        return self.h2.remote_settings.max_concurrent_streams

    def ping(self, opaque: bytes) -> None:
        """A PING with eight bytes of ours."""
        self.h2.ping(opaque)
        self.collect()

    def goaway(self, code: int, words: str = "") -> None:
        """A GOAWAY, after which open streams go on, and no stream of the peer's is begun any more."""
        debug = write_words(words)
        self.goaway_sent = True
        last = self.h2.highest_inbound_stream_id
        head = HEADER.pack(8 + len(debug) << 8 | GOAWAY, 0, 0)
        self.put(head + UINT32.pack(last) + UINT32.pack(code) + debug)

    def settings_changed(self) -> None:
        """The peer's SETTINGS are in force; HPACK's table may have another size."""
        if self.is_client and self.h2.remote_settings.get(SettingCodes.ENABLE_PUSH):  # jh2 lets it pass
            raise EngineError(ErrorCode.PROTOCOL_ERROR, "a server may not ask for pushes (RFC 9113 §6.5.2)")
        self._encoder.resized()
        self.events.settings_received()

    def credit_connection(self, size: int) -> None:
        """Lets the peer send so many bytes more on the connection."""
        self.h2._inbound_flow_control_window_manager.window_opened(size)
        self.put(HEADER.pack(4 << 8 | WINDOW_UPDATE, 0, 0) + UINT32.pack(size))

    def take_output(self) -> list[bytes]:
        """The frames that are ready to leave, each whole."""
        frames = self.out
        self.out = []
        self.out_bytes = 0
        return frames

    def put(self, frame: bytes) -> None:
        """Adds one whole frame to the output."""
        self.out.append(frame)
        self.out_bytes += len(frame)

    def collect(self) -> None:
        """Adds what h2 itself wants to send."""
        data = self.h2.data_to_send()
        while data:  # one element a frame: the packer must not cut one
            end = 9 + (data[0] << 16 | data[1] << 8 | data[2]) if data[:3] != b"PRI" else PREFACE_BYTES
            self.put(data[:end])
            data = data[end:]

    # --- Streams: sending -----------------------------------------------------------------

    def next_stream_id(self) -> int:
        """The id of the stream that the next `open` opens."""
        return self.h2.get_next_available_stream_id()

    def open(self, block: FieldBlock, extra: Fields, secret: Fields, end: bool) -> H2Stream:
        """Opens a stream with request fields; the caller puts its object into `live`."""
        if not self.settled:
            self.h2.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
            self.settled = True
        stream_id = self.h2.get_next_available_stream_id()
        stream = self.h2._begin_new_stream(stream_id, AllowedStreamIDs.ODD)
        stream.request_method = b"HEAD"  # else h2 counts bodies, and fails the connection (protocol.md §7)
        self.highest_id = stream_id
        self._send_block(stream, self._encoder.encode(block, extra, secret), end)
        return stream

    def send_fields(self, stream: EngineStream, block: FieldBlock, extra: Fields, end: bool) -> None:
        """The response fields of a stream that the peer opened."""
        self._send_block(stream.h2, self._encoder.encode(block, extra), end)
        if end:
            self.release_if_closed(stream)

    def _send_block(self, stream: H2Stream, block: bytes, end: bool) -> None:
        machine = stream.state_machine
        machine.process_input(_SEND_HEADERS)
        flags = 0
        if end:
            machine.process_input(_SEND_END)
            flags = END_STREAM
        size = len(block)
        if size <= MAX_PAYLOAD_BYTES:
            self.put(HEADER.pack(size << 8 | HEADERS, flags | END_HEADERS, stream.stream_id) + block)
            return
        kind = HEADERS
        for start in range(0, size, MAX_PAYLOAD_BYTES):
            part = block[start : start + MAX_PAYLOAD_BYTES]
            if start + MAX_PAYLOAD_BYTES >= size:
                flags |= END_HEADERS
            self.put(HEADER.pack(len(part) << 8 | kind, flags, stream.stream_id) + part)
            kind, flags = CONTINUATION, 0

    def send_data(self, stream: EngineStream, payload: bytes | memoryview, end: bool) -> None:
        """One DATA frame, for which the caller has seen to windows and size."""
        h2_stream = stream.h2
        machine = h2_stream.state_machine
        machine.process_input(_SEND_DATA)
        size = len(payload)
        h2_stream.outbound_flow_control_window -= size
        self.h2.outbound_flow_control_window -= size
        frame = b"".join((HEADER.pack(size << 8 | DATA, END_STREAM if end else 0, stream.id), payload))
        self.out.append(frame)
        self.out_bytes += size + 9
        if end:
            machine.process_input(_SEND_END)
            self.release_if_closed(stream)

    def credit_stream(self, stream: EngineStream, size: int) -> None:
        """Lets the peer send so many bytes more on a stream."""
        stream.h2._inbound_window_manager.window_opened(size)
        self.put(HEADER.pack(4 << 8 | WINDOW_UPDATE, 0, stream.id) + UINT32.pack(size))

    def reset(self, stream: EngineStream, code: int) -> None:
        """RST_STREAM; whatever still comes for the stream is dropped."""
        machine = stream.h2.state_machine
        if machine.state is not _CLOSED:  # h2 closes the streams whose rules the peer has broken
            machine.process_input(StreamInputs.SEND_RST_STREAM)
        self.put(HEADER.pack(4 << 8 | RST_STREAM, 0, stream.id) + UINT32.pack(code))
        self.release(stream, StreamClosedBy.SEND_RST_STREAM)

    def forget(self, stream: EngineStream) -> None:
        """The peer has said that it does not serve this stream."""
        self.release(stream, StreamClosedBy.RECV_RST_STREAM)

    def release_if_closed(self, stream: EngineStream) -> None:
        """Frees a stream whose both sides have ended."""
        if stream.h2.state_machine.state is _CLOSED:
            self.release(stream, None)

    def release(self, stream: EngineStream, closed_by: StreamClosedBy | None) -> None:
        """h2 frees closed streams only in a walk over all of them: do it here (h2 keeps resets in mind)."""
        self.live.pop(stream.id, None)
        self.h2.streams.pop(stream.id, None)
        if closed_by is not None:
            self.h2._closed_streams[stream.id] = closed_by
        else:
            self.lingering[stream.id] = stream

    # --- Receiving ------------------------------------------------------------------------

    def feed(self, records: Sequence[bytes]) -> None:
        """Takes what the transport brought; raises EngineError when the connection cannot go on."""
        self._inbound.feed(records)

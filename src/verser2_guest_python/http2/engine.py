"""HTTP/2 frames in and out: h2, with a fast lane for the frames that every request consists of.

h2 keeps the truth: its stream state machines, windows, settings and HPACK tables. DATA, HEADERS and
WINDOW_UPDATE of live streams are parsed and written here, against that state, because h2's own way
(frame objects, event objects, flag sets, a walk over all streams) costs several times as much.
Everything else, CONTINUATION, padding, SETTINGS, PING and errors included, goes through h2 itself,
one frame at a time. GOAWAY is the exception: h2 refuses to go on after one, a session that drains
must not. This is the only module that knows h2.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Protocol

import h2.events
from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection
from h2.exceptions import H2Error, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamClosedBy, StreamInputs, StreamState
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack.exceptions import HPACKError, OversizedHeaderListError

from .errors import ErrorCode
from .fields import BlockDecoder, BlockEncoder, FieldBlock, Fields
from .options import DEFAULT_WINDOW_BYTES, MAX_PAYLOAD_BYTES, SessionOptions

_HEADER = Struct(">LBL")  # length << 8 | type, flags, stream id (RFC 9113 §4.1)
_UINT32 = Struct(">L")

_DATA = 0x0
_HEADERS = 0x1
_RST_STREAM = 0x3
_PUSH_PROMISE = 0x5
_GOAWAY = 0x7
_WINDOW_UPDATE = 0x8
_CONTINUATION = 0x9

_END_STREAM = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_PRIORITY = 0x20

_PREFACE_BYTES = 24
_MAX_FRAME_BYTES = 16_384  # of a peer's frames; the default that we never raise (RFC 9113 §4.2)
_MAX_WINDOW = 2**31 - 1
_ID_MASK = 0x7FFF_FFFF

_SEND_HEADERS = StreamInputs.SEND_HEADERS
_SEND_DATA = StreamInputs.SEND_DATA
_SEND_END = StreamInputs.SEND_END_STREAM
_RECV_HEADERS = StreamInputs.RECV_HEADERS
_RECV_DATA = StreamInputs.RECV_DATA
_RECV_END = StreamInputs.RECV_END_STREAM
_CLOSED = StreamState.CLOSED

_REQUEST = HeaderValidationFlags(is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False)
_RESPONSE = HeaderValidationFlags(is_client=True, is_trailer=False, is_response_header=True, is_push_promise=False)


class EngineError(Exception):
    """The connection cannot go on (RFC 9113 §5.4.1); a GOAWAY that says why is in the output."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class EngineStream(Protocol):
    """What the engine needs of a stream object."""

    id: int
    h2: H2Stream

    def on_fields(self, fields: Fields, ended: bool) -> None: ...
    def on_data(self, data: bytes, flow_bytes: int, ended: bool) -> None: ...
    def on_end(self) -> None: ...
    def on_reset(self, code: int) -> None: ...
    def on_window(self) -> None: ...


class EngineEvents(Protocol):
    """What the engine tells the session."""

    def stream_opened(self, stream_id: int, h2_stream: H2Stream) -> EngineStream: ...
    def data_dropped(self, flow_bytes: int) -> None: ...
    def fields_malformed(self, stream: EngineStream) -> None: ...
    def connection_window_opened(self) -> None: ...
    def settings_received(self) -> None: ...
    def ping_answered(self, opaque: bytes) -> None: ...
    def goaway_received(self, last_stream_id: int, code: int) -> None: ...


class Engine:
    """One end of an HTTP/2 connection, without I/O: bytes in through `feed`, frames out in `out`."""

    def __init__(self, is_client: bool, options: SessionOptions, events: EngineEvents) -> None:
        self.is_client = is_client
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.live: dict[int, EngineStream] = {}
        self.lingering: dict[int, EngineStream] = {}  # ended normally in this read: a reset may follow (§7)
        self.highest_id = 0  # of the streams that the client opened
        self._options = options
        self._events = events
        self._buffer = b""
        self._in_header_block = False
        self._preface_seen = is_client
        self._settled = False  # h2 knows that the connection is open
        self._h2 = H2Connection(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self._h2.local_settings = Settings(client=is_client, initial_values=self._settings())
        self._h2.decoder.max_header_list_size = options.max_header_list_bytes
        self._encoder = BlockEncoder(self._h2.encoder)
        self._decoder = BlockDecoder(self._h2.decoder)
        self._validation = _RESPONSE if is_client else _REQUEST
        self._peer_parity = AllowedStreamIDs.EVEN if is_client else AllowedStreamIDs.ODD

    def _settings(self) -> dict[SettingCodes | int, int]:
        values: dict[SettingCodes | int, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: self._options.stream_window_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: self._options.max_header_list_bytes,
        }
        if self.is_client:
            values[SettingCodes.ENABLE_PUSH] = 0
        else:
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = self._options.max_concurrent_streams
        return values

    # --- Connection -----------------------------------------------------------------------

    def start(self) -> None:
        """The preface, SETTINGS, and the large connection window (protocol.md §12.3)."""
        self._h2.initiate_connection()
        self._collect()
        more = self._options.connection_window_bytes - DEFAULT_WINDOW_BYTES
        if more > 0:
            self.credit_connection(more)

    @property
    def connection_window(self) -> int:
        """Bytes of DATA that the peer takes now, on all streams together."""
        return self._h2.outbound_flow_control_window

    @property
    def max_payload(self) -> int:
        """Largest payload of a frame that we send."""
        return min(MAX_PAYLOAD_BYTES, self._h2.max_outbound_frame_size)

    @property
    def peer_max_concurrent_streams(self) -> int:
        """How many streams the peer lets us open at a time."""
        return self._h2.remote_settings.max_concurrent_streams

    def ping(self, opaque: bytes) -> None:
        """A PING with eight bytes of ours."""
        self._h2.ping(opaque)
        self._collect()

    def goaway(self, code: int) -> None:
        """A GOAWAY, after which open streams go on."""
        last = self._h2.highest_inbound_stream_id
        self._put(_HEADER.pack(8 << 8 | _GOAWAY, 0, 0) + _UINT32.pack(last) + _UINT32.pack(code))

    def credit_connection(self, size: int) -> None:
        """Lets the peer send so many bytes more on the connection."""
        self._h2._inbound_flow_control_window_manager.window_opened(size)
        self._put(_HEADER.pack(4 << 8 | _WINDOW_UPDATE, 0, 0) + _UINT32.pack(size))

    def take_output(self) -> list[bytes]:
        """The frames that are ready to leave, each whole."""
        frames = self.out
        self.out = []
        self.out_bytes = 0
        return frames

    def _put(self, frame: bytes) -> None:
        self.out.append(frame)
        self.out_bytes += len(frame)

    def _collect(self) -> None:
        data = self._h2.data_to_send()
        while data:  # one element a frame: the packer must not cut one
            end = 9 + (data[0] << 16 | data[1] << 8 | data[2]) if data[:3] != b"PRI" else _PREFACE_BYTES
            self._put(data[:end])
            data = data[end:]

    # --- Streams: sending -----------------------------------------------------------------

    def next_stream_id(self) -> int:
        """The id of the stream that the next `open` opens."""
        return self._h2.get_next_available_stream_id()

    def open(self, block: FieldBlock, extra: Fields, secret: Fields, end: bool) -> H2Stream:
        """Opens a stream with request fields; the caller puts its object into `live`."""
        if not self._settled:
            self._h2.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
            self._settled = True
        stream_id = self._h2.get_next_available_stream_id()
        stream = self._h2._begin_new_stream(stream_id, AllowedStreamIDs.ODD)
        stream.request_method = b"HEAD"  # else h2 counts bodies, and fails the connection (protocol.md §7)
        self.highest_id = stream_id
        self._send_block(stream, self._encoder.encode(block, extra, secret), end)
        return stream

    def send_fields(self, stream: EngineStream, block: FieldBlock, extra: Fields, end: bool) -> None:
        """The response fields of a stream that the peer opened."""
        self._send_block(stream.h2, self._encoder.encode(block, extra), end)
        if end:
            self._release_if_closed(stream)

    def _send_block(self, stream: H2Stream, block: bytes, end: bool) -> None:
        machine = stream.state_machine
        machine.process_input(_SEND_HEADERS)
        flags = 0
        if end:
            machine.process_input(_SEND_END)
            flags = _END_STREAM
        size = len(block)
        if size <= MAX_PAYLOAD_BYTES:
            self._put(_HEADER.pack(size << 8 | _HEADERS, flags | _END_HEADERS, stream.stream_id) + block)
            return
        kind = _HEADERS
        for start in range(0, size, MAX_PAYLOAD_BYTES):
            part = block[start : start + MAX_PAYLOAD_BYTES]
            if start + MAX_PAYLOAD_BYTES >= size:
                flags |= _END_HEADERS
            self._put(_HEADER.pack(len(part) << 8 | kind, flags, stream.stream_id) + part)
            kind, flags = _CONTINUATION, 0

    def send_data(self, stream: EngineStream, payload: bytes | memoryview, end: bool) -> None:
        """One DATA frame, for which the caller has seen to windows and size."""
        h2_stream = stream.h2
        machine = h2_stream.state_machine
        machine.process_input(_SEND_DATA)
        size = len(payload)
        h2_stream.outbound_flow_control_window -= size
        self._h2.outbound_flow_control_window -= size
        frame = b"".join((_HEADER.pack(size << 8 | _DATA, _END_STREAM if end else 0, stream.id), payload))
        self.out.append(frame)
        self.out_bytes += size + 9
        if end:
            machine.process_input(_SEND_END)
            self._release_if_closed(stream)

    def credit_stream(self, stream: EngineStream, size: int) -> None:
        """Lets the peer send so many bytes more on a stream."""
        stream.h2._inbound_window_manager.window_opened(size)
        self._put(_HEADER.pack(4 << 8 | _WINDOW_UPDATE, 0, stream.id) + _UINT32.pack(size))

    def reset(self, stream: EngineStream, code: int) -> None:
        """RST_STREAM; whatever still comes for the stream is dropped."""
        stream.h2.state_machine.process_input(StreamInputs.SEND_RST_STREAM)
        self._put(_HEADER.pack(4 << 8 | _RST_STREAM, 0, stream.id) + _UINT32.pack(code))
        self._release(stream, StreamClosedBy.SEND_RST_STREAM)

    def forget(self, stream: EngineStream) -> None:
        """The peer has said that it does not serve this stream."""
        self._release(stream, StreamClosedBy.RECV_RST_STREAM)

    def _release_if_closed(self, stream: EngineStream) -> None:
        if stream.h2.state_machine.state is _CLOSED:
            self._release(stream, None)

    def _release(self, stream: EngineStream, closed_by: StreamClosedBy | None) -> None:
        """h2 frees closed streams only in a walk over all of them: do it here (h2 keeps resets in mind)."""
        self.live.pop(stream.id, None)
        self._h2.streams.pop(stream.id, None)
        if closed_by is not None:
            self._h2._closed_streams[stream.id] = closed_by
        else:
            self.lingering[stream.id] = stream

    # --- Receiving ------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Takes what the transport brought; raises EngineError when the connection cannot go on."""
        try:
            self._feed(data)
        except EngineError as error:
            self.goaway(error.code)
            raise
        except H2Error as error:
            code = int(getattr(error, "error_code", ErrorCode.PROTOCOL_ERROR))
            self._h2.clear_outbound_data_buffer()
            self.goaway(code)
            raise EngineError(code, f"the peer broke HTTP/2: {error}") from error

    def _feed(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        position = 0
        end = len(data)
        if not self._preface_seen:
            if end < _PREFACE_BYTES and b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".startswith(data):
                self._buffer = data
                return
            self._h2.receive_data(data[:_PREFACE_BYTES])
            self._preface_seen = True
            position = _PREFACE_BYTES
        unpack = _HEADER.unpack_from
        live = self.live
        while end - position >= 9:
            word, flags, stream_id = unpack(data, position)
            size, kind = word >> 8, word & 0xFF
            if size > _MAX_FRAME_BYTES:
                raise EngineError(ErrorCode.FRAME_SIZE_ERROR, f"the peer sent a frame of {size} bytes")
            start = position + 9
            stop = start + size
            if stop > end:
                break
            stream_id &= _ID_MASK
            if self._in_header_block:
                self._through_h2(data[position:stop], kind, flags, stream_id)
            elif kind == _DATA and not flags & _PADDED:
                stream = live.get(stream_id)
                if stream is None:
                    self._late_data(stream_id, size)
                else:
                    self._data(stream, data[start:stop], size, flags & _END_STREAM)
            elif kind == _HEADERS and flags & (_END_HEADERS | _PADDED | _PRIORITY) == _END_HEADERS:
                self._headers(data[start:stop], stream_id, bool(flags & _END_STREAM))
            elif kind == _WINDOW_UPDATE and size == 4:
                self._window_update(_UINT32.unpack_from(data, start)[0] & _ID_MASK, stream_id)
            elif kind == _GOAWAY and size >= 8 and stream_id == 0:
                last, code = _UINT32.unpack_from(data, start)[0], _UINT32.unpack_from(data, start + 4)[0]
                self._events.goaway_received(last & _ID_MASK, code)
            else:
                self._through_h2(data[position:stop], kind, flags, stream_id)
            position = stop
        self._buffer = data[position:] if position < end else b""

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id == 0 or stream_id % 2 == 0 or stream_id > self.highest_id

    def _data(self, stream: EngineStream, data: bytes, size: int, end: int) -> None:
        h2_stream = stream.h2
        self._consume_connection_window(size)
        window = h2_stream._inbound_window_manager
        window.current_window_size -= size
        if window.current_window_size < 0:
            raise EngineError(ErrorCode.FLOW_CONTROL_ERROR, f"the peer overran the window of stream {stream.id}")
        machine = h2_stream.state_machine
        try:
            machine.process_input(_RECV_DATA)
        except StreamClosedError:  # DATA behind its own END_STREAM
            self._events.data_dropped(size)
            self._put(_HEADER.pack(4 << 8 | _RST_STREAM, 0, stream.id) + _UINT32.pack(ErrorCode.STREAM_CLOSED))
            self._release(stream, StreamClosedBy.SEND_RST_STREAM)
            stream.on_reset(ErrorCode.STREAM_CLOSED)
            return
        if end:
            machine.process_input(_RECV_END)
            stream.on_data(data, size, True)
            self._release_if_closed(stream)
        else:
            stream.on_data(data, size, False)

    def _late_data(self, stream_id: int, size: int) -> None:
        """DATA for a stream that is closed already (RFC 9113 §5.1): it only counts for the window."""
        if self._is_idle(stream_id):
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer sent DATA on idle stream {stream_id}")
        self._consume_connection_window(size)
        self._events.data_dropped(size)

    def _consume_connection_window(self, size: int) -> None:
        window = self._h2._inbound_flow_control_window_manager
        window.current_window_size -= size
        if window.current_window_size < 0:
            raise EngineError(ErrorCode.FLOW_CONTROL_ERROR, "the peer overran the connection window")

    def _headers(self, block: bytes, stream_id: int, end: bool) -> None:
        fields = self._decoder.remembered(block)
        well_formed = True
        if fields is None:
            fields, well_formed = self._decode(block)
        stream = self.live.get(stream_id)
        if stream is None:
            if not self._is_idle(stream_id):
                return  # closed meanwhile
            stream = self._begin(stream_id)
        machine = stream.h2.state_machine
        if self.is_client and well_formed and fields[0][1][:1] == b"1" and fields[0][0] == b":status":
            machine.process_input(StreamInputs.RECV_INFORMATIONAL_HEADERS)
            return
        trailers = machine.headers_received
        machine.process_input(_RECV_HEADERS)
        if end:
            machine.process_input(_RECV_END)
        if trailers:
            if not end:
                raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer sent trailers without END_STREAM")
            stream.on_end()
        elif not well_formed:
            self._events.fields_malformed(stream)
            return
        else:
            stream.on_fields(fields, end)
        if end:
            self._release_if_closed(stream)

    def _decode(self, block: bytes) -> tuple[Fields, bool]:
        try:
            fields, keep = self._decoder.decode(block)
        except OversizedHeaderListError as error:
            raise EngineError(ErrorCode.ENHANCE_YOUR_CALM, f"the peer sent too large headers: {error}") from error
        except HPACKError as error:
            raise EngineError(ErrorCode.COMPRESSION_ERROR, f"the peer broke HPACK: {error}") from error
        try:
            for _ in validate_headers(fields, self._validation):
                pass
        except ProtocolError:
            return fields, False  # trailers look malformed here, and are dropped without being read
        if keep:
            self._decoder.remember(block, fields)
        return fields, True

    def _begin(self, stream_id: int) -> EngineStream:
        """The peer opens a stream."""
        if self.is_client:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer opened stream {stream_id}")
        if not self._settled:
            self._h2.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
            self._settled = True
        if len(self.live) >= self._options.max_concurrent_streams:
            raise EngineError(ErrorCode.ENHANCE_YOUR_CALM, "the peer opened too many streams")
        h2_stream = self._h2._begin_new_stream(stream_id, self._peer_parity)
        return self._adopt(stream_id, h2_stream)

    def _adopt(self, stream_id: int, h2_stream: H2Stream) -> EngineStream:
        self.highest_id = max(self.highest_id, stream_id)
        h2_stream.request_method = b"HEAD"
        stream = self.live[stream_id] = self._events.stream_opened(stream_id, h2_stream)
        return stream

    def _window_update(self, increment: int, stream_id: int) -> None:
        if increment == 0:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer sent an empty window update")
        if stream_id == 0:
            self._h2.outbound_flow_control_window += increment
            if self._h2.outbound_flow_control_window > _MAX_WINDOW:
                raise EngineError(ErrorCode.FLOW_CONTROL_ERROR, "the peer's connection window is too large")
            self._events.connection_window_opened()
            return
        stream = self.live.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer sent WINDOW_UPDATE on idle stream {stream_id}")
            return
        stream.h2.outbound_flow_control_window += increment
        if stream.h2.outbound_flow_control_window > _MAX_WINDOW:
            raise EngineError(ErrorCode.FLOW_CONTROL_ERROR, f"the peer's window of stream {stream_id} is too large")
        stream.on_window()

    # --- Everything else ------------------------------------------------------------------

    def _through_h2(self, frame: bytes, kind: int, flags: int, stream_id: int) -> None:
        if kind in (_HEADERS, _CONTINUATION, _PUSH_PROMISE):
            self._in_header_block = not flags & _END_HEADERS
        elif kind == _RST_STREAM:
            self._reset_received(frame, stream_id)
            return
        elif kind == _DATA and stream_id not in self.live:
            self._late_data(stream_id, len(frame) - 9)
            return
        for event in self._h2.receive_data(frame):
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        self._collect()

    def _reset_received(self, frame: bytes, stream_id: int) -> None:
        if len(frame) != 13 or self._is_idle(stream_id):
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer sent a wrong RST_STREAM for stream {stream_id}")
        code = _UINT32.unpack_from(frame, 9)[0]
        stream = self.live.get(stream_id)
        if stream is not None:
            stream.h2.state_machine.process_input(StreamInputs.RECV_RST_STREAM)
            self._release(stream, StreamClosedBy.RECV_RST_STREAM)
        else:
            stream = self.lingering.pop(stream_id, None)
        if stream is not None:
            stream.on_reset(code)

    def _on_headers(self, event: h2.events.RequestReceived | h2.events.ResponseReceived) -> None:
        stream_id = event.stream_id
        h2_stream = self._h2.streams[stream_id]
        h2_stream._expected_content_length = None
        stream = self.live.get(stream_id)
        if stream is None:
            if len(self.live) >= self._options.max_concurrent_streams:
                raise EngineError(ErrorCode.ENHANCE_YOUR_CALM, "the peer opened too many streams")
            self._settled = True
            stream = self._adopt(stream_id, h2_stream)
        stream.on_fields(tuple(event.headers), event.stream_ended is not None)
        self._release_if_closed(stream)

    def _on_padded_data(self, event: h2.events.DataReceived) -> None:
        stream = self.live.get(event.stream_id)
        if stream is None:
            self._events.data_dropped(event.flow_controlled_length)
            return
        stream.on_data(bytes(event.data), event.flow_controlled_length, event.stream_ended is not None)
        self._release_if_closed(stream)

    def _on_trailers(self, event: h2.events.TrailersReceived) -> None:
        stream = self.live.get(event.stream_id)
        if stream is not None:
            stream.on_end()
            self._release_if_closed(stream)

    def _on_remote_settings(self, event: h2.events.RemoteSettingsChanged) -> None:
        self._events.settings_received()

    def _on_ping_ack(self, event: h2.events.PingAckReceived) -> None:
        self._events.ping_answered(event.ping_data)


_HANDLERS: dict[type, Callable[[Engine, object], None]] = {
    h2.events.RequestReceived: Engine._on_headers,  # type: ignore[dict-item]
    h2.events.ResponseReceived: Engine._on_headers,  # type: ignore[dict-item]
    h2.events.TrailersReceived: Engine._on_trailers,  # type: ignore[dict-item]
    h2.events.DataReceived: Engine._on_padded_data,  # type: ignore[dict-item]
    h2.events.RemoteSettingsChanged: Engine._on_remote_settings,  # type: ignore[dict-item]
    h2.events.PingAckReceived: Engine._on_ping_ack,  # type: ignore[dict-item]
}

"""Frames that come in: a fast lane for those of every request, h2 itself for all others.

The other half of `engine`. What HTTP/2 forbids ends in `EngineError` here, or in an error of one
stream where RFC 9113 says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from .backend import (
    AllowedStreamIDs,
    ConnectionInputs,
    H2Error,
    HeaderValidationFlags,
    HPACKError,
    OversizedHeaderListError,
    ProtocolError,
    SettingCodes,
    StreamClosedBy,
    StreamClosedError,
    StreamInputs,
    events,
    validate_headers,
)
from .errors import ErrorCode
from .fields import BlockDecoder, Fields
from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER,
    HEADERS,
    ID_MASK,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE_BYTES,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    UINT32,
    WINDOW_UPDATE,
    EngineError,
    EngineStream,
)
from .header_block import HeaderBlock, without_priority
from .options import DEFAULT_WINDOW_BYTES

if TYPE_CHECKING:
    from .engine import Engine

_RECV_HEADERS = StreamInputs.RECV_HEADERS
_RECV_DATA = StreamInputs.RECV_DATA
_RECV_END = StreamInputs.RECV_END_STREAM

_REQUEST = HeaderValidationFlags(
    is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
)
_RESPONSE = HeaderValidationFlags(
    is_client=True, is_trailer=False, is_response_header=True, is_push_promise=False
)


_ILLEGAL_IN_VALUE = re.compile(rb"[\x00\r\n]").search  # RFC 9113 §8.2.1
_FIELD_BYTES = 32  # beside its name and value (RFC 9113 §10.5.1), which jh2 leaves out
_COUNTED_TOGETHER = 1_000  # idle frames, see `floods`
_SMALL_BYTES = 256  # a late DATA frame of less is no use to anybody
# What an idle frame costs, beside an empty DATA frame
_RARE_WEIGHT = 4
_LATE_FIELDS_WEIGHT = 10


class Inbound:
    """Parses what the peer sends, and keeps h2's state in step."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._h2 = engine.h2
        self._events = engine.events
        self._options = engine.options
        self._live = engine.live
        self._is_client = engine.is_client
        self._buffer = b""
        self._block: HeaderBlock | None = None  # that is not whole yet
        self._settings_acknowledged = False
        self._preface_seen = engine.is_client
        self._idle_frames = 0
        self._decoder = BlockDecoder(engine.h2.decoder)
        self._validation = _RESPONSE if engine.is_client else _REQUEST
        self._peer_parity = AllowedStreamIDs.EVEN if engine.is_client else AllowedStreamIDs.ODD

    def feed(self, data: bytes) -> None:
        """Takes what the transport brought; raises EngineError when the connection cannot go on."""
        try:
            self._feed(data)
        except EngineError as error:
            self._engine.goaway(error.code)
            raise
        except H2Error as error:
            code = int(getattr(error, "error_code", ErrorCode.PROTOCOL_ERROR))
            self._h2.clear_outbound_data_buffer()
            self._engine.goaway(code)
            raise EngineError(code, f"the peer broke HTTP/2: {error}") from error

    def _feed(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        position = 0
        end = len(data)
        if not self._preface_seen:
            if end < PREFACE_BYTES and b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".startswith(data):
                self._buffer = data
                return
            self._h2.receive_data(data[:PREFACE_BYTES])
            self._preface_seen = True
            position = PREFACE_BYTES
        unpack = HEADER.unpack_from
        live = self._live
        while end - position >= 9:
            word, flags, stream_id = unpack(data, position)
            size, kind = word >> 8, word & 0xFF
            if size > MAX_FRAME_BYTES:
                raise EngineError(ErrorCode.FRAME_SIZE_ERROR, f"the peer sent a frame of {size} bytes")
            start = position + 9
            stop = start + size
            if stop > end:
                break
            stream_id &= ID_MASK
            if self._block is not None:
                self._continuation(self._block, data[start:stop], kind, flags, stream_id)
            elif kind == DATA and not flags & PADDED:
                stream = live.get(stream_id)
                if stream is None:
                    self._late_data(stream_id, size)
                else:
                    self._data(stream, data[start:stop], size, flags & END_STREAM)
            elif kind == HEADERS and flags & (END_HEADERS | PADDED | PRIORITY) == END_HEADERS:
                self._headers(data[start:stop], stream_id, bool(flags & END_STREAM))
            elif kind == WINDOW_UPDATE and size == 4:
                self._window_update(UINT32.unpack_from(data, start)[0] & ID_MASK, stream_id)
            elif kind == GOAWAY and size >= 8 and stream_id == 0:
                last, code = UINT32.unpack_from(data, start)[0], UINT32.unpack_from(data, start + 4)[0]
                self._idle_frames += 1
                self._events.goaway_received(last & ID_MASK, code)
            else:
                self._rare(data[position:stop], kind, flags, stream_id)
            position = stop
        self._buffer = data[position:] if position < end else b""
        if self._idle_frames >= _COUNTED_TOGETHER:
            count, self._idle_frames = self._idle_frames, 0
            self._events.costly("idle_frames", count)

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id == 0 or stream_id % 2 == 0 or stream_id > self._engine.highest_id

    def _data(self, stream: EngineStream, data: bytes, size: int, end: int) -> None:
        h2_stream = stream.h2
        self._consume_connection_window(size)
        window = h2_stream._inbound_window_manager
        window.current_window_size -= size
        if window.current_window_size < 0 and window.current_window_size < self._overdraft():
            raise EngineError(
                ErrorCode.FLOW_CONTROL_ERROR, f"the peer overran the window of stream {stream.id}"
            )
        machine = h2_stream.state_machine
        try:
            machine.process_input(_RECV_DATA)
        except StreamClosedError:  # DATA behind its own END_STREAM
            self._events.data_dropped(size)
            self._broken(stream, ErrorCode.STREAM_CLOSED)
            return
        if end:
            machine.process_input(_RECV_END)
            stream.on_data(data, size, True)
            self._engine.release_if_closed(stream)
        else:
            if not data:
                self._idle_frames += 1
            stream.on_data(data, size, False)

    def _broken(self, stream: EngineStream, code: int) -> None:
        """The peer makes us reset a stream, which costs as much as a reset of its own."""
        self._events.costly("resets", 1)
        self._events.stream_broken(stream, code)

    def _overdraft(self) -> int:
        """A peer that has not seen our SETTINGS yet may use the default window (RFC 9113 §6.9.3)."""
        if self._settings_acknowledged:
            return 0
        return self._options.stream_window_bytes - DEFAULT_WINDOW_BYTES

    def _late_data(self, stream_id: int, size: int) -> None:
        """DATA for a stream that is closed already (RFC 9113 §5.1): it only counts for the window."""
        if self._is_idle(stream_id):
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer sent DATA on idle stream {stream_id}")
        if size < _SMALL_BYTES:
            self._idle_frames += 1
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
        wrong = 0 if well_formed else ErrorCode.PROTOCOL_ERROR
        stream = self._live.get(stream_id)
        if stream is None:
            if not self._is_idle(stream_id):
                self._idle_frames += _LATE_FIELDS_WEIGHT
                return  # closed meanwhile
            stream = self._begin(stream_id)
            if stream is None:
                return
            if len(self._live) > self._options.max_concurrent_streams:
                wrong = ErrorCode.REFUSED_STREAM
        machine = stream.h2.state_machine
        if self._is_client and well_formed and fields[0][1][:1] == b"1" and fields[0][0] == b":status":
            if end:
                self._broken(stream, ErrorCode.PROTOCOL_ERROR)
            else:
                machine.process_input(StreamInputs.RECV_INFORMATIONAL_HEADERS)
            return
        trailers = machine.headers_received
        try:
            machine.process_input(_RECV_HEADERS)
        except StreamClosedError:  # fields behind their own END_STREAM
            self._broken(stream, ErrorCode.STREAM_CLOSED)
            return
        if trailers:
            if not end:
                self._broken(stream, ErrorCode.PROTOCOL_ERROR)
                return
            machine.process_input(_RECV_END)
            stream.on_end()
        elif wrong:
            self._broken(stream, wrong)
            return
        else:
            if end:
                machine.process_input(_RECV_END)
            stream.on_fields(fields, end)
        if end:
            self._engine.release_if_closed(stream)

    def _decode(self, block: bytes) -> tuple[Fields, bool]:
        try:
            fields, keep = self._decoder.decode(block)
            if len(fields) * _FIELD_BYTES > self._options.max_header_list_bytes:
                raise OversizedHeaderListError("too many fields")
        except OversizedHeaderListError as error:
            raise EngineError(
                ErrorCode.ENHANCE_YOUR_CALM, f"the peer sent too large headers: {error}", limit="headers"
            ) from error
        except HPACKError as error:
            raise EngineError(ErrorCode.COMPRESSION_ERROR, f"the peer broke HPACK: {error}") from error
        try:
            for _ in validate_headers(fields, self._validation):
                pass
        except ProtocolError:
            return fields, False  # trailers look malformed here, and are dropped without being read
        if any(_ILLEGAL_IN_VALUE(value) for _, value in fields):  # which jh2 lets through
            return fields, False
        if keep:
            self._decoder.remember(block, fields)
        return fields, True

    def _begin(self, stream_id: int) -> EngineStream | None:
        """The peer opens a stream; None when it comes behind our GOAWAY (RFC 9113 §6.8)."""
        if self._is_client:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer opened stream {stream_id}")
        engine = self._engine
        if not engine.settled:
            self._h2.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
            engine.settled = True
        if engine.goaway_sent and stream_id % 2:
            engine.highest_id = stream_id
            return None
        # Refused streams wait here for their resets, which are rationed.
        if len(self._live) >= self._options.max_concurrent_streams + self._options.reset_burst:
            raise EngineError(
                ErrorCode.ENHANCE_YOUR_CALM, "the peer opened too many streams", limit="streams"
            )
        h2_stream = self._h2._begin_new_stream(stream_id, self._peer_parity)
        h2_stream.request_method = b"HEAD"
        engine.highest_id = stream_id
        stream = self._live[stream_id] = self._events.stream_opened(stream_id, h2_stream)
        return stream

    def _window_update(self, increment: int, stream_id: int) -> None:
        self._idle_frames += 1
        if stream_id == 0:
            if increment == 0:
                raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer sent an empty window update")
            self._h2.outbound_flow_control_window += increment
            if self._h2.outbound_flow_control_window > MAX_WINDOW:
                raise EngineError(ErrorCode.FLOW_CONTROL_ERROR, "the peer's connection window is too large")
            self._events.connection_window_opened()
            return
        stream = self._live.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise EngineError(
                    ErrorCode.PROTOCOL_ERROR, f"the peer sent WINDOW_UPDATE on idle stream {stream_id}"
                )
            return
        if increment == 0:
            self._broken(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.h2.outbound_flow_control_window += increment
        if stream.h2.outbound_flow_control_window > MAX_WINDOW:
            self._broken(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        stream.on_window()

    # --- Everything else ------------------------------------------------------------------

    def _rare(self, frame: bytes, kind: int, flags: int, stream_id: int) -> None:
        if kind == HEADERS:
            self._header_block(self._unpad(frame, flags), flags, stream_id)
        elif kind == DATA:
            self._padded_data(self._unpad(frame, flags), len(frame) - 9, flags, stream_id)
        elif kind == RST_STREAM:
            self._reset_received(frame, stream_id)
        elif kind == CONTINUATION:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer continued a header block that has ended")
        else:
            if kind == PING and not flags & ACK:
                self._events.costly("pings", 1)
            elif kind == SETTINGS and not flags & ACK:
                self._events.costly("settings", 1)
            else:
                self._idle_frames += _RARE_WEIGHT
            for event in self._h2.receive_data(frame):
                handler = _HANDLERS.get(type(event))
                if handler is not None:
                    handler(self, event)
            self._engine.collect()

    @staticmethod
    def _unpad(frame: bytes, flags: int) -> bytes:
        """The payload of a frame without its padding (RFC 9113 §6.1)."""
        if not flags & PADDED:
            return frame[9:]
        padding = frame[9] if len(frame) > 9 else len(frame)
        if padding >= len(frame) - 9:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer padded a frame with more than it holds")
        return frame[10 : len(frame) - padding]

    def _padded_data(self, payload: bytes, size: int, flags: int, stream_id: int) -> None:
        stream = self._live.get(stream_id)
        if stream is None:
            self._late_data(stream_id, size)
        else:
            self._data(stream, payload, size, flags & END_STREAM)

    def _header_block(self, block: bytes, flags: int, stream_id: int) -> None:
        """HEADERS that are padded, have a priority, or are continued."""
        block = without_priority(block, flags)
        if flags & END_HEADERS:
            self._headers(block, stream_id, bool(flags & END_STREAM))
        else:
            self._block = HeaderBlock(block, flags, stream_id, self._options.max_header_list_bytes)

    def _continuation(self, block: HeaderBlock, part: bytes, kind: int, flags: int, stream_id: int) -> None:
        whole = block.add(part, kind, flags, stream_id)
        if whole is not None:
            self._block = None
            self._headers(whole, stream_id, block.ends)

    def _reset_received(self, frame: bytes, stream_id: int) -> None:
        if len(frame) != 13:
            raise EngineError(ErrorCode.FRAME_SIZE_ERROR, "the peer sent RST_STREAM of a wrong size")
        if self._is_idle(stream_id):
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer reset stream {stream_id}, which is idle")
        self._events.costly("resets", 1)
        code = UINT32.unpack_from(frame, 9)[0]
        stream = self._live.get(stream_id)
        if stream is not None:
            stream.h2.state_machine.process_input(StreamInputs.RECV_RST_STREAM)
            self._engine.release(stream, StreamClosedBy.RECV_RST_STREAM)
        else:
            stream = self._engine.lingering.pop(stream_id, None)
        if stream is not None:
            stream.on_reset(code)

    def _on_remote_settings(self, event: events.RemoteSettingsChanged) -> None:
        for code in event.changed_settings:
            if not isinstance(code, SettingCodes):
                del self._h2.remote_settings[code]  # h2 would keep 65,536 of them
        self._engine.settings_changed()

    def _on_settings_ack(self, event: events.SettingsAcknowledged) -> None:
        self._settings_acknowledged = True

    def _on_ping_ack(self, event: events.PingAckReceived) -> None:
        self._events.ping_answered(event.ping_data)


_HANDLERS: dict[type, Callable[[Inbound, object], None]] = {
    events.RemoteSettingsChanged: Inbound._on_remote_settings,  # type: ignore[dict-item]
    events.SettingsAcknowledged: Inbound._on_settings_ack,  # type: ignore[dict-item]
    events.PingAckReceived: Inbound._on_ping_ack,  # type: ignore[dict-item]
}

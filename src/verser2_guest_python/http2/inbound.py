"""Frames that come in: a fast lane for those of every request; `rare_frames.py` takes all others.

The other half of `engine`. What HTTP/2 forbids ends in `EngineError` here, or in an error of one
stream where RFC 9113 says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .backend import (
    AllowedStreamIDs,
    ConnectionInputs,
    H2Error,
    HPACKError,
    OversizedHeaderListError,
    StreamClosedError,
    StreamInputs,
)
from .errors import ErrorCode
from .fields import BlockDecoder, Fields
from .frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    ID_MASK,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PADDED,
    PREFACE_BYTES,
    PRIORITY,
    UINT32,
    WINDOW_UPDATE,
    EngineError,
    EngineStream,
)
from .header_block import HeaderBlock
from .options import DEFAULT_WINDOW_BYTES
from .rare_frames import RareFrames
from .well_formed import is_request, is_response

if TYPE_CHECKING:
    from .engine import Engine

_RECV_HEADERS = StreamInputs.RECV_HEADERS
_RECV_DATA = StreamInputs.RECV_DATA
_RECV_END = StreamInputs.RECV_END_STREAM

_FIELD_BYTES = 32  # beside its name and value (RFC 9113 §10.5.1), which jh2 leaves out
_JOINED_BYTES = 8_192  # records of less are taken together; of more, it costs less to take each alone
_COUNTED_TOGETHER = 1_000  # idle frames, see `floods`
_SMALL_BYTES = 256  # a late DATA frame of less is no use to anybody
_LATE_FIELDS_WEIGHT = 10  # what they cost, beside an empty DATA frame


class Inbound:
    """Parses what the peer sends, and keeps h2's state in step.

    Attributes:
        block: A header block that is not whole yet: nothing else may come before its end.
        idle_frames: What came and moved nothing, to be counted; see `floods`.
        settings_acknowledged: The peer knows our SETTINGS.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._h2 = engine.h2
        self._events = engine.events
        self._options = engine.options
        self._live = engine.live
        self._is_client = engine.is_client
        self._buffer = b""
        self.block: HeaderBlock | None = None
        self.settings_acknowledged = False
        self._preface_seen = engine.is_client
        self.idle_frames = 0
        self._rare = RareFrames(self, engine)
        self._decoder = BlockDecoder(engine.h2.decoder)
        self._is_well_formed = is_response if engine.is_client else is_request
        self._peer_parity = AllowedStreamIDs.EVEN if engine.is_client else AllowedStreamIDs.ODD

    def feed(self, records: Sequence[bytes]) -> None:
        """Takes what the transport brought; raises EngineError when the connection cannot go on."""
        if len(records) > 1 and len(records[0]) < _JOINED_BYTES:
            records = (b"".join(records),)
        try:
            for data in records:
                self._feed(data)
        except EngineError as error:
            self._engine.goaway(error.code, error.reason if error.limit else "")
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
            if self.block is not None:
                self._rare.continuation(self.block, data[start:stop], kind, flags, stream_id)
            elif kind == DATA and not flags & PADDED:
                stream = live.get(stream_id)
                if stream is None:
                    self.late_data(stream_id, size)
                else:
                    self.data(stream, data[start:stop], size, flags & END_STREAM)
            elif kind == HEADERS and flags & (END_HEADERS | PADDED | PRIORITY) == END_HEADERS:
                self.headers(data[start:stop], stream_id, bool(flags & END_STREAM))
            elif kind == WINDOW_UPDATE and size == 4:
                self._window_update(UINT32.unpack_from(data, start)[0] & ID_MASK, stream_id)
            else:
                self._rare.take(data[position:stop], kind, flags, stream_id)
            position = stop
        self._buffer = data[position:] if position < end else b""
        if self.idle_frames >= _COUNTED_TOGETHER:
            count, self.idle_frames = self.idle_frames, 0
            self._events.costly("idle_frames", count)

    def is_idle(self, stream_id: int) -> bool:
        """Whether nobody has opened that stream yet."""
        return stream_id == 0 or stream_id % 2 == 0 or stream_id > self._engine.highest_id

    def data(self, stream: EngineStream, data: bytes, size: int, end: int) -> None:
        """DATA without its padding; `size` is what it takes of the windows."""
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
                self.idle_frames += 1
            stream.on_data(data, size, False)

    def _broken(self, stream: EngineStream, code: int) -> None:
        """The peer makes us reset a stream, which costs as much as a reset of its own."""
        self._events.costly("resets", 1)
        self._events.stream_broken(stream, code)

    def _overdraft(self) -> int:
        """A peer that has not seen our SETTINGS yet may use the default window (RFC 9113 §6.9.3)."""
        if self.settings_acknowledged:
            return 0
        return self._options.stream_window_bytes - DEFAULT_WINDOW_BYTES

    def late_data(self, stream_id: int, size: int) -> None:
        """DATA for a stream that is closed already (RFC 9113 §5.1): it only counts for the window."""
        if self.is_idle(stream_id):
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer sent DATA on idle stream {stream_id}")
        if size < _SMALL_BYTES:
            self.idle_frames += 1
        self._consume_connection_window(size)
        self._events.data_dropped(size)

    def _consume_connection_window(self, size: int) -> None:
        window = self._h2._inbound_flow_control_window_manager
        window.current_window_size -= size
        if window.current_window_size < 0:
            raise EngineError(ErrorCode.FLOW_CONTROL_ERROR, "the peer overran the connection window")

    def headers(self, block: bytes, stream_id: int, end: bool) -> None:
        """A header block that is whole."""
        fields = self._decoder.remembered(block)
        well_formed = True
        if fields is None:
            fields, well_formed = self._decode(block)
        wrong = 0 if well_formed else ErrorCode.PROTOCOL_ERROR
        stream = self._live.get(stream_id)
        if stream is None:
            if not self.is_idle(stream_id):
                self.idle_frames += _LATE_FIELDS_WEIGHT
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
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of jh2's decoder, in Rust, which some blocks break
                raise
            raise EngineError(ErrorCode.COMPRESSION_ERROR, "the peer broke HPACK") from error
        if not self._is_well_formed(fields):
            return fields, False  # trailers look malformed here, and are dropped without being read
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
        self.idle_frames += 1
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
            if self.is_idle(stream_id):
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

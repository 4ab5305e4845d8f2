"""Frames that come now and then: padded, continued, resets, GOAWAY; h2 reads SETTINGS, PING and the rest.

Apart from `inbound.py` because those of every request are read there, and nothing may slow them down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .backend import SettingCodes, StreamClosedBy, StreamInputs, events
from .errors import ErrorCode
from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    ID_MASK,
    PADDED,
    PING,
    RST_STREAM,
    SETTINGS,
    UINT32,
    EngineError,
)
from .header_block import HeaderBlock, without_priority

if TYPE_CHECKING:
    from .engine import Engine
    from .inbound import Inbound

_GOAWAY_BYTES = 17  # its head, the last stream and the code
_WEIGHT = 4  # what a frame that moves nothing costs here, beside an empty DATA frame


class RareFrames:
    """Takes what the fast lane of `inbound` does not."""

    def __init__(self, inbound: Inbound, engine: Engine) -> None:
        self._inbound = inbound
        self._engine = engine
        self._h2 = engine.h2
        self._events = engine.events

    def take(self, frame: bytes, kind: int, flags: int, stream_id: int) -> None:
        """One whole frame, with its head."""
        if kind == HEADERS:
            self._header_block(self._unpad(frame, flags), flags, stream_id)
        elif kind == DATA:
            self._padded_data(self._unpad(frame, flags), len(frame) - 9, flags, stream_id)
        elif kind == RST_STREAM:
            self._reset_received(frame, stream_id)
        elif kind == GOAWAY and len(frame) >= _GOAWAY_BYTES and stream_id == 0:
            self._goaway_received(frame)
        elif kind == CONTINUATION:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer continued a header block that has ended")
        else:
            if kind == PING and not flags & ACK:
                self._events.costly("pings", 1)
            elif kind == SETTINGS and not flags & ACK:
                self._events.costly("settings", 1)
            else:
                self._inbound.idle_frames += _WEIGHT
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
        stream = self._engine.live.get(stream_id)
        if stream is None:
            self._inbound.late_data(stream_id, size)
        else:
            self._inbound.data(stream, payload, size, flags & END_STREAM)

    def _header_block(self, block: bytes, flags: int, stream_id: int) -> None:
        """HEADERS that are padded, have a priority, or are continued."""
        block = without_priority(block, flags)
        if flags & END_HEADERS:
            self._inbound.headers(block, stream_id, bool(flags & END_STREAM))
        else:
            self._inbound.block = HeaderBlock(
                block, flags, stream_id, self._engine.options.max_header_list_bytes
            )

    def continuation(self, block: HeaderBlock, part: bytes, kind: int, flags: int, stream_id: int) -> None:
        """The frame behind a header block that is not whole: it must go on with that."""
        whole = block.add(part, kind, flags, stream_id)
        if whole is not None:
            self._inbound.block = None
            self._inbound.headers(whole, stream_id, block.ends)

    def _goaway_received(self, frame: bytes) -> None:
        self._inbound.idle_frames += 1
        last, code = UINT32.unpack_from(frame, 9)[0] & ID_MASK, UINT32.unpack_from(frame, 13)[0]
        self._events.goaway_received(last, code, frame[_GOAWAY_BYTES:])

    def _reset_received(self, frame: bytes, stream_id: int) -> None:
        if len(frame) != 13:
            raise EngineError(ErrorCode.FRAME_SIZE_ERROR, "the peer sent RST_STREAM of a wrong size")
        if self._inbound.is_idle(stream_id):
            raise EngineError(ErrorCode.PROTOCOL_ERROR, f"the peer reset stream {stream_id}, which is idle")
        self._events.costly("resets", 1)
        code = UINT32.unpack_from(frame, 9)[0]
        stream = self._engine.live.get(stream_id)
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
        self._inbound.settings_acknowledged = True

    def _on_ping_ack(self, event: events.PingAckReceived) -> None:
        self._events.ping_answered(event.ping_data)


_HANDLERS: dict[type, Callable[[RareFrames, object], None]] = {
    events.RemoteSettingsChanged: RareFrames._on_remote_settings,  # type: ignore[dict-item]
    events.SettingsAcknowledged: RareFrames._on_settings_ack,  # type: ignore[dict-item]
    events.PingAckReceived: RareFrames._on_ping_ack,  # type: ignore[dict-item]
}

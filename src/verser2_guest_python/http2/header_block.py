"""A header block that comes in several frames, and how large one may grow (RFC 9113 §6.10).

Apart from the parser of frames because nothing else may come before its end, and because a block without
end is how a peer would fill our memory (CVE-2024-27316).
"""

from __future__ import annotations

from .errors import ErrorCode
from .frames import CONTINUATION, END_HEADERS, END_STREAM, PRIORITY, EngineError

_MAX_CONTINUATIONS = 64
_PRIORITY_BYTES = 5


def without_priority(block: bytes, flags: int) -> bytes:
    """What HEADERS carry behind their priority, which is ignored (RFC 9113 §5.3.2)."""
    if not flags & PRIORITY:
        return block
    if len(block) < _PRIORITY_BYTES:
        raise EngineError(ErrorCode.FRAME_SIZE_ERROR, "the peer sent HEADERS without their priority")
    return block[_PRIORITY_BYTES:]


class HeaderBlock:
    """A block of `stream_id` that is not whole yet; `ends` tells whether it ends the stream."""

    __slots__ = ("_block", "_frames", "_limit", "ends", "stream_id")

    def __init__(self, block: bytes, flags: int, stream_id: int, limit: int) -> None:
        self.stream_id = stream_id
        self.ends = bool(flags & END_STREAM)
        self._block = block
        self._frames = 0
        self._limit = limit

    def add(self, part: bytes, kind: int, flags: int, stream_id: int) -> bytes | None:
        """More of it; the whole block, once it is whole."""
        if kind != CONTINUATION or stream_id != self.stream_id:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, "the peer did not end a header block")
        self._block += part
        self._frames += 1
        if self._frames > _MAX_CONTINUATIONS or len(self._block) > self._limit:
            raise EngineError(ErrorCode.ENHANCE_YOUR_CALM, "the peer sent too large headers", limit="headers")
        return self._block if flags & END_HEADERS else None

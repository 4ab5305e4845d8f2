"""Limits and windows of one HTTP/2 session, in one frozen object.

Apart from the session because callers choose these values and tests lower them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .floods import FloodLimits

MIB = 1 << 20

DEFAULT_WINDOW_BYTES = 65_535
"""What every window is before anybody says otherwise (RFC 9113 §6.9.2)."""

MAX_RECORD_BYTES = 16_384
"""Plaintext that one TLS record carries (RFC 8446 §5.1)."""

FRAME_HEADER_BYTES = 9

MAX_PAYLOAD_BYTES = MAX_RECORD_BYTES - FRAME_HEADER_BYTES
"""Largest payload of a frame that shares a record with its header (protocol.md §12.2)."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What one end of a session allows and promises.

    Windows and limits are in bytes, times in seconds. The defaults are those of protocol.md §12.
    """

    stream_window_bytes: int = 1 * MIB
    """Receive window of each stream (§12.3)."""

    connection_window_bytes: int = 16 * MIB
    """Receive window of the whole connection (§12.3)."""

    max_unread_bytes: int = 64 * MIB
    """Up to here connection credit follows receipt, above it consumption (§12.4)."""

    stalled_read_seconds: float = 30.0
    """Above `max_unread_bytes`, a stream that nobody has read from for so long is reset (§12.4)."""

    max_concurrent_streams: int = 100_000
    """What a server lets its peer open at a time."""

    max_header_list_bytes: int = 65_536
    """Largest decoded header list that is accepted."""

    handshake_timeout_seconds: float = 10.0
    """How long a server waits for a TLS handshake and the HTTP/2 preface."""

    close_timeout_seconds: float = 1.0
    """How long a close waits for the other end to close as well (§12.8)."""

    reset_burst: int = 900
    """RST_STREAM frames that may leave at once (§12.10)."""

    resets_per_second: float = 30.0
    """RST_STREAM frames a second after a burst (§12.10)."""

    last_stream_id: int = 2**31 - 2**20
    """No stream is opened beyond this id (§12.11)."""

    write_buffer_bytes: int = 256 * 1024
    """DATA that one turn of the loop may produce before it has to leave."""

    max_backlog_bytes: int = 8 * MIB
    """Bytes that may wait for a peer that does not read, before the session is given up."""

    floods: FloodLimits | None = None
    """How many frames that only cost a peer may send; None holds it to nothing."""

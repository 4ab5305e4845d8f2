"""What can go wrong with an HTTP/2 session, as one tree of exceptions.

    Http2Error
    ├── CredentialsError            a certificate, key or CA file cannot be used
    ├── ConnectError                there never was a session
    │   ├── HostUnreachable         no name, no route, nobody listens
    │   ├── TlsTrustError           we do not trust the other end's certificate
    │   ├── CertificateRefused      the other end does not trust ours, or misses it
    │   ├── AlpnError               TLS, but not HTTP/2
    │   ├── HandshakeFailed         somebody dialled us, and it came to nothing
    │   └── ConnectTimeout
    ├── ConnectionLost              the session is gone
    ├── SessionClosing              the session opens no further streams
    ├── TooManyStreams              … not now
    ├── HeadTooLarge                a head that no single frame can carry
    └── StreamReset                 one stream was reset, by either end

They are apart from the code that raises them because every floor above catches them, and because no
exception of h2 or ssl may leave this floor: there would be two ways to catch each failure.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

TrustProblem = Literal["issuer", "name", "time", "other"]


class ErrorCode(IntEnum):
    """Codes of RST_STREAM and GOAWAY (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD

    @classmethod
    def name_of(cls, code: int) -> str:
        """The name of any code; codes that RFC 9113 does not know are shown as numbers (§7 allows them)."""
        return cls(code).name if code in cls._value2member_map_ else f"0x{code:x}"


class Http2Error(Exception):
    """Anything that this floor raises; `str()` is a sentence for people."""


class CredentialsError(Http2Error):
    """A certificate, key or CA file cannot be used: `path` says which, `reason` why and what to do."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class ConnectError(Http2Error):
    """There never was a session with `address`."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(message)
        self.address = address


class HostUnreachable(ConnectError):
    """The name does not resolve, there is no route, or nobody listens there."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, f"Cannot reach {address}: {reason}")
        self.reason = reason


class TlsTrustError(ConnectError):
    """The certificate of the other end was not accepted here, or TLS itself failed.

    `problem` is what is wrong with it: its issuer, its name, its time, or something else.
    """

    def __init__(self, address: str, reason: str, problem: TrustProblem = "other") -> None:
        super().__init__(address, f"Cannot trust {address}: {reason}")
        self.reason = reason
        self.problem = problem


class CertificateRefused(ConnectError):
    """The other end wants a client certificate: it got none, or one that it does not trust.

    Under TLS 1.3 this shows only at the first read, after a handshake that looked complete.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, f"{address} refused the client certificate: {reason}")
        self.reason = reason


class AlpnError(ConnectError):
    """TLS is up, but the other end did not select `h2` (protocol.md §1); `selected` is what it chose."""

    def __init__(self, address: str, selected: str | None) -> None:
        chosen = f"selected {selected!r}" if selected else "selected no protocol"
        super().__init__(address, f"{address} does not speak HTTP/2: it {chosen} in TLS ALPN, not 'h2'")
        self.selected = selected


class HandshakeFailed(ConnectError):
    """Somebody at `address` dialled us, and there was no session."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, f"{address}: {reason}")
        self.reason = reason


class ConnectTimeout(ConnectError):
    """There was no session after `seconds`."""

    def __init__(self, address: str, seconds: float) -> None:
        super().__init__(address, f"No answer from {address} within {seconds:g} s")
        self.seconds = seconds


class ConnectionLost(Http2Error):
    """The session is gone, whoever ended it; the same from every read, write, ping and open.

    `limit` names the limit that the peer exceeded, where this end gave the session up for that.
    """

    def __init__(self, reason: str, limit: str = "") -> None:
        super().__init__(f"The connection is lost: {reason}")
        self.reason = reason
        self.limit = limit


class SessionClosing(Http2Error):
    """The session opens no further streams: GOAWAY came or went, or its stream ids are used up."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The session takes no new streams: {reason}")
        self.reason = reason


class TooManyStreams(Http2Error):
    """As many streams are open as the other end allows (SETTINGS_MAX_CONCURRENT_STREAMS)."""

    def __init__(self, message: str = "The other end allows no more streams at once") -> None:
        super().__init__(message)


class HeadTooLarge(Http2Error):
    """A message head of `size` bytes does not fit into one frame in one TLS record (protocol.md §12.1)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"A head of {size:,} bytes is too large for one frame")
        self.size = size


class StreamReset(Http2Error):
    """The stream was reset with `code`; `remote` tells whether the other end did it, or this one.

    `farewell` is what the other end said when it ended the session without taking the stream, else empty.
    """

    def __init__(self, code: int, remote: bool, farewell: str = "") -> None:
        by = "by the other end" if remote else "here"
        said = f": it sent GOAWAY ({farewell})" if farewell else ""
        super().__init__(f"The stream was reset {by} ({ErrorCode.name_of(code)}){said}")
        self.code = code
        self.remote = remote
        self.farewell = farewell

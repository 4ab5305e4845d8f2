"""One HTTP/2 session over TLS as asyncio streams; it knows nothing of what they carry."""

from __future__ import annotations

from .connecting import Listener, connect, listen, why
from .contexts import client_context, server_context
from .door import DoorLimits
from .errors import (
    AlpnError,
    CertificateRefused,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    CredentialsError,
    ErrorCode,
    HandshakeFailed,
    HeadTooLarge,
    HostUnreachable,
    Http2Error,
    SessionClosing,
    StreamReset,
    TlsTrustError,
    TooManyStreams,
)
from .fields import FieldBlock, Fields
from .floods import FloodLimits, Pace
from .goaway import Goaway
from .options import SessionOptions
from .ration import Ration
from .session import Session
from .stream import Stream

__all__ = [
    "AlpnError",
    "CertificateRefused",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "CredentialsError",
    "DoorLimits",
    "ErrorCode",
    "FieldBlock",
    "Fields",
    "FloodLimits",
    "Goaway",
    "HandshakeFailed",
    "HeadTooLarge",
    "HostUnreachable",
    "Http2Error",
    "Listener",
    "Pace",
    "Ration",
    "Session",
    "SessionClosing",
    "SessionOptions",
    "Stream",
    "StreamReset",
    "TlsTrustError",
    "TooManyStreams",
    "client_context",
    "connect",
    "listen",
    "server_context",
    "why",
]

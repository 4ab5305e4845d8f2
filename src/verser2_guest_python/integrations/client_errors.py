"""What a failed request is called in httpx2 and httpx.

Apart because it is a table: who catches a client's exceptions decides by their class whether to try
again, so a request that no app has seen must fail with another class than one that may have been seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    CertificateVerificationError,
    ConnectFailure,
    DisconnectedTargetError,
    InvalidRegistrationError,
    LeaseTimeoutError,
    LocalHandlerFailureError,
    MissingGuestError,
    RequestHeadTooLargeError,
    RequestTimeoutError,
    RouteLoopError,
    StreamFailureError,
    UpstreamUnavailableError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserProtocolError,
    VerserTimeoutError,
    VerserUsageError,
)
from verser2_guest_python.wire.names import STAGE_KEY, STAGE_QUEUED

from .client_library import ClientLibrary

_CONNECT_TIMEOUT: Final = "ConnectTimeout"
_CONNECT_ERROR: Final = "ConnectError"
_LOCAL_PROTOCOL_ERROR: Final = "LocalProtocolError"

# The first of a class's bases that is here counts.
_NAMES: Final[Mapping[type[BaseException], str]] = MappingProxyType(
    {
        VerserConnectionError: _CONNECT_ERROR,
        VerserConfigurationError: _CONNECT_ERROR,
        InvalidRegistrationError: _CONNECT_ERROR,
        CertificateVerificationError: _CONNECT_ERROR,
        MissingGuestError: _CONNECT_ERROR,
        UpstreamUnavailableError: _CONNECT_ERROR,
        AuthorizationDeniedError: "ProxyError",
        RouteLoopError: "ProxyError",
        LeaseTimeoutError: "PoolTimeout",
        VerserTimeoutError: "ReadTimeout",
        DisconnectedTargetError: "ReadError",
        StreamFailureError: "RemoteProtocolError",
        LocalHandlerFailureError: "RemoteProtocolError",
        VerserProtocolError: "RemoteProtocolError",
        RequestHeadTooLargeError: _LOCAL_PROTOCOL_ERROR,
        VerserUsageError: _LOCAL_PROTOCOL_ERROR,
        VerserError: "TransportError",
    }
)
# An error of the Broker that has no session names the Broker; one of a request names the request.
_BROKER_ID: Final = "brokerId"
_REQUEST_ID: Final = "requestId"


class ClientTimeout(RequestTimeoutError):
    """One of the client's own timeouts ran out; `phase` says which."""

    def __init__(self, message: str, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


def client_error(
    library: ClientLibrary, error: VerserError, *, connected: bool = True, unsayable: bool = False
) -> Exception:
    """The exception of the library for what went wrong; raise it `from error`.

    `connected`: there is a session with the Host now. `unsayable`: the request itself breaks the rules.
    """
    return library.error(_name(error, connected=connected, unsayable=unsayable), error.message)


def _name(error: VerserError, *, connected: bool, unsayable: bool) -> str:
    if isinstance(error, ClientTimeout):
        return f"{error.phase.capitalize()}Timeout"
    if isinstance(error, VerserConnectionError) and error.reason is ConnectFailure.TIMEOUT:
        return _CONNECT_TIMEOUT
    if isinstance(error, VerserUsageError) and not connected:
        return _CONNECT_ERROR
    if isinstance(error, VerserProtocolError) and unsayable:
        return _LOCAL_PROTOCOL_ERROR
    if isinstance(error, DisconnectedTargetError) and _not_seen(error):
        return _CONNECT_ERROR
    return next(_NAMES[base] for base in type(error).__mro__ if base in _NAMES)


def _not_seen(error: DisconnectedTargetError) -> bool:
    """Whether no app can have seen the request: it never left, or waited at the Host (protocol.md §14)."""
    if error.context.get(STAGE_KEY) == STAGE_QUEUED:
        return True
    return _BROKER_ID in error.context and _REQUEST_ID not in error.context

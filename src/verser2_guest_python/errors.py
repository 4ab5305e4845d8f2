"""Every error that this library raises on purpose, in one tree.

    RuntimeError
    └── VerserError                             any of them; `code`, `message`, `context`
        ├── MissingGuestError                   missing-guest
        ├── DisconnectedTargetError             disconnected-target
        ├── VerserTimeoutError                  timeout
        │   ├── LeaseTimeoutError                 the Host found no free lease in time
        │   └── RequestTimeoutError               our own limit ran out
        ├── StreamFailureError                  stream-failure
        ├── VerserProtocolError                 protocol-error
        │   └── RequestHeadTooLargeError          a request head over 16,375 bytes (HTTP 431)
        ├── LocalHandlerFailureError            local-handler-failure
        ├── InvalidRegistrationError            invalid-registration
        ├── CertificateVerificationError        certificate-verification-failure
        ├── UpstreamUnavailableError            upstream-unavailable
        ├── RouteLoopError                      route-loop
        ├── AuthorizationDeniedError            authorization-denied
        ├── UnsafeRetryError                    unsafe-retry
        ├── RevocationFailedError               revocation-failed
        ├── VerserWebSocketError                websocket-negotiation-failed, or what kept it from opening
        ├── VerserConnectionError               disconnected-target or certificate-verification-failure
        ├── VerserConfigurationError            configuration-error (never on the wire)
        └── VerserUsageError                    usage-error (never on the wire)

The codes are those of protocol.md §8: match on `code` or on the class, never on the text. This
module stands below every floor, so that each of them raises from the same tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

ErrorContext: TypeAlias = dict[str, str | int | float | bool]
"""Facts about an error: identifiers, paths, limits. Never a secret."""


class VerserError(RuntimeError):
    """Something in the Verser world failed; the base of every error here.

    It is raised as such only for a code that this version does not know.

    Args:
        message: one sentence: what failed, where, and what to do next.
        code: a code of protocol.md §8; by default the code of the class.
        context: facts about the error.

    Example:
        try:
            response = await broker.get("http://a.local.test/items")
        except VerserError as error:
            print(error.code, error.message, error.context.get("targetId"))
    """

    default_code: ClassVar[str] = "error"

    code: str
    message: str
    context: dict[str, str | int | float | bool]

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        context: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = type(self).default_code if code is None else code
        self.context = dict(context) if context else {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r}, context={self.context!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, to another process, whatever its class is made from."""
        return _restored, (type(self), self.args, vars(self))


def _restored(error_class: type[VerserError], args: tuple[Any, ...], state: dict[str, Any]) -> VerserError:
    error = error_class.__new__(error_class, *args)
    vars(error).update(state)
    return error


class MissingGuestError(VerserError):
    """Code `missing-guest`: no such Guest, or it has no such active route.

    Seen by who sends a request to a domain that nobody serves just now. No app has seen the
    request, so it may be sent again.
    """

    default_code = "missing-guest"


class DisconnectedTargetError(VerserError):
    """Code `disconnected-target`: the session of the Guest or of the Broker went away first.

    Seen when a session is lost during a request. It does not tell whether the app had begun with
    the request: `context["stage"]` does, where a Host says it (protocol.md §14).
    """

    default_code = "disconnected-target"


class VerserTimeoutError(VerserError):
    """Code `timeout`: something did not happen in time. Its children say whose patience ended."""

    default_code = "timeout"


class LeaseTimeoutError(VerserTimeoutError):
    """Code `timeout`, said by the Host: no lease, or no WebSocket lease, came free in time.

    Seen when the Guests of a domain are all busy. No app has seen the request.
    """


class RequestTimeoutError(VerserTimeoutError):
    """Code `timeout`, said by this process: the `timeout` of a call ran out.

    Seen when an answer, or the next piece of one, takes too long. The request was cancelled; its
    app may have seen it.
    """


class StreamFailureError(VerserError):
    """Code `stream-failure`: a stream was reset or closed before the exchange was complete.

    Seen instead of a body that was cut off: a short body is never returned as if it were whole.
    """

    default_code = "stream-failure"


class VerserProtocolError(VerserError):
    """Code `protocol-error`: a malformed registration, envelope, header, path or line.

    Seen when the other end breaks the wire contract, or when a caller asks for something that the
    wire cannot carry, such as a line break in a header.
    """

    default_code = "protocol-error"


class RequestHeadTooLargeError(VerserProtocolError):
    """Code `protocol-error`: the headers and the path of a request are too large together.

    Seen by who sends a request whose head exceeds 16,375 bytes, since a head travels in one piece
    (protocol.md §12.1). A Host answers it with HTTP 431.
    """


class LocalHandlerFailureError(VerserError):
    """Code `local-handler-failure`: the Guest's app failed before it answered.

    Seen by who sent the request; the reason is in the log of the Guest. A Guest also raises it for
    response headers over 16,375 bytes, which the wire cannot carry.
    """

    default_code = "local-handler-failure"


class InvalidRegistrationError(VerserError):
    """Code `invalid-registration`: the Host refused to register this Guest or Broker.

    Seen when the peer id is missing or already taken, or when the role is unknown.
    """

    default_code = "invalid-registration"

    @property
    def taken(self) -> bool:
        """Whether the Host says that the peer id is registered already (protocol.md §2).

        That often passes by itself: a Host keeps the registration of a vanished peer for a while.
        """
        return "already registered" in self.message.lower()


class CertificateVerificationError(VerserError):
    """Code `certificate-verification-failure`: TLS trust or pinning failed.

    Seen when a Host reports that one of the certificates on the way is not trusted.
    """

    default_code = "certificate-verification-failure"


class UpstreamUnavailableError(VerserError):
    """Code `upstream-unavailable`: a federated route has no usable next Host.

    Seen by who sends a request to a domain behind another Host that is away.
    """

    default_code = "upstream-unavailable"


class RouteLoopError(VerserError):
    """Code `route-loop`: a federated route would visit a Host a second time.

    Seen when federated Hosts point at each other; whoever runs them has to change that.
    """

    default_code = "route-loop"


class AuthorizationDeniedError(VerserError):
    """Code `authorization-denied`: the Host's policy refused the peer or the request.

    Seen at registration, and by a Broker that may not call a domain or use a method.
    """

    default_code = "authorization-denied"


class UnsafeRetryError(VerserError):
    """Code `unsafe-retry`: sending the request again might do its work twice.

    Reserved by protocol.md §8; seen only if a Host says it.
    """

    default_code = "unsafe-retry"


class RevocationFailedError(VerserError):
    """Code `revocation-failed`: a route revocation was refused, or its answer was malformed.

    Seen by a Guest that takes routes back. The routes may still be served.
    """

    default_code = "revocation-failed"


class VerserWebSocketError(VerserError):
    """A WebSocket did not open, or it broke. Code `websocket-negotiation-failed` or the cause's.

    Seen by who opens a WebSocket. `status` is the HTTP status with which the app or the Host
    refused it, or None where nobody said one.
    """

    default_code = "websocket-negotiation-failed"

    status: int | None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        context: Mapping[str, str | int | float | bool] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, code=code, context=context)
        self.status = status


class ConnectFailure(Enum):
    """Why a Host could not be reached."""

    UNREACHABLE = "unreachable"
    """The name, the network, the port or the proxy did not lead to a Host."""
    TRUST = "trust"
    """The Host's certificate is from an unknown CA, for another name, or not valid now."""
    CERTIFICATE_REFUSED = "certificate-refused"
    """The Host refused our certificate, or wants one that was not given."""
    ALPN = "alpn"
    """The other end speaks TLS but not HTTP/2."""
    TIMEOUT = "timeout"
    """Nothing answered in time."""


class VerserConnectionError(VerserError):
    """A Host was never reached: there was no session in which anything could fail.

    Its code is `certificate-verification-failure` where certificates are the reason, else
    `disconnected-target`. Seen by `connect()`; `reason` says which of the possible causes it is.
    """

    default_code = "disconnected-target"

    reason: ConnectFailure

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        context: Mapping[str, str | int | float | bool] | None = None,
        reason: ConnectFailure = ConnectFailure.UNREACHABLE,
    ) -> None:
        if code is None and reason in (ConnectFailure.TRUST, ConnectFailure.CERTIFICATE_REFUSED):
            code = CertificateVerificationError.default_code
        super().__init__(message, code=code, context=context)
        self.reason = reason


class VerserConfigurationError(VerserError):
    """Code `configuration-error`, never on the wire: a setting, a file or an app does not work.

    Seen at start; trying again without a change cannot help. Commands end with exit code 78.
    """

    default_code = "configuration-error"


class VerserUsageError(VerserError):
    """Code `usage-error`, never on the wire: a call or a command was asked for the impossible.

    Seen for a bad URL, a bad value, or a request before `connect()`. Commands end with exit code 2.
    """

    default_code = "usage-error"


_CLASS_OF_CODE: Final[Mapping[str, type[VerserError]]] = MappingProxyType(
    {
        "timeout": LeaseTimeoutError,
        **{
            error_class.default_code: error_class
            for error_class in (
                MissingGuestError,
                DisconnectedTargetError,
                StreamFailureError,
                VerserProtocolError,
                LocalHandlerFailureError,
                InvalidRegistrationError,
                CertificateVerificationError,
                UpstreamUnavailableError,
                RouteLoopError,
                AuthorizationDeniedError,
                UnsafeRetryError,
                RevocationFailedError,
                VerserWebSocketError,
            )
        },
    }
)

WIRE_CODES: Final[frozenset[str]] = frozenset(_CLASS_OF_CODE)
"""The codes that may be said on the wire (protocol.md §8)."""


def error_for(
    code: str,
    message: str,
    context: Mapping[str, str | int | float | bool] | None = None,
) -> VerserError:
    """The error for a code that came over the wire.

    A `timeout` is a `LeaseTimeoutError`, since only a Host says it. An unknown code gives a plain
    `VerserError` that carries it.

    Example:
        raise error_for("missing-guest", "No Guest serves a.local.test.", {"domain": "a.local.test"})
    """
    error_class = _CLASS_OF_CODE.get(code, VerserError)
    if error_class is VerserWebSocketError:
        status = context.get("status") if context else None
        known = status if isinstance(status, int) and not isinstance(status, bool) else None
        return VerserWebSocketError(message, code=code, context=context, status=known)
    return error_class(message, code=code, context=context)

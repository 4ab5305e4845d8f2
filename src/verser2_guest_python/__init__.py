"""Verser2 for Python: serve an ASGI app through a Host, call it through a Broker.

Everything public is imported from here. A name loads its module on first use, so that importing the
package is cheap and a Guest does not pay for the Broker or the Host::

    from verser2_guest_python import create_verser_guest

    async with create_verser_guest(
        host_url="https://localhost:8443", guest_id="guest-a", app=app, routed_domains=["a.local.test"]
    ) as guest:
        await guest.serve_forever()
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

TYPE_CHECKING = False  # what type checkers take for true, without the price of importing `typing`
if TYPE_CHECKING:
    from typing import Any, Final

    from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
    from verser2_guest_python.asgi.types import ASGIApp
    from verser2_guest_python.broker.body import Body, Readable
    from verser2_guest_python.broker.broker import VerserBroker, create_verser_broker
    from verser2_guest_python.broker.changes import RouteChanges
    from verser2_guest_python.broker.facts import BrokerFacts
    from verser2_guest_python.broker.headers import ResponseHeaders
    from verser2_guest_python.broker.listeners import RouteChange, RouteListener
    from verser2_guest_python.broker.request import RequestHeaders, RequestOptions
    from verser2_guest_python.broker.response import VerserBrokerResponse, VerserStatusError
    from verser2_guest_python.broker.routes import BrokerRoute
    from verser2_guest_python.broker.websocket import (
        VerserBrokerWebSocket,
        WebSocketBinary,
        WebSocketClose,
        WebSocketMessage,
        WebSocketPong,
        WebSocketText,
    )
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
        RevocationFailedError,
        RouteLoopError,
        StreamFailureError,
        UnsafeRetryError,
        UpstreamUnavailableError,
        VerserConfigurationError,
        VerserConnectionError,
        VerserError,
        VerserProtocolError,
        VerserTimeoutError,
        VerserUsageError,
        VerserWebSocketError,
    )
    from verser2_guest_python.guest.direct import DispatchedResponse
    from verser2_guest_python.guest.facts import GuestFacts
    from verser2_guest_python.guest.guest import create_verser_guest
    from verser2_guest_python.guest.lifecycle import GuestEvent, LifecycleType
    from verser2_guest_python.guest.verser_guest import GuestState, VerserGuest
    from verser2_guest_python.host.authorization import Applicant, Authorization, Grant
    from verser2_guest_python.host.events import HostEvent, RequestRecord
    from verser2_guest_python.host.host import VerserHost, create_verser_host
    from verser2_guest_python.host.identity import Identity
    from verser2_guest_python.host.limits import HostLimits
    from verser2_guest_python.host.policy import Permissions, PolicyEntry, PolicyFunction
    from verser2_guest_python.host.stats import GuestStats, HostStats
    from verser2_guest_python.http2.floods import FloodLimits, Pace
    from verser2_guest_python.http2.options import SessionOptions
    from verser2_guest_python.peer.facts import SessionFacts
    from verser2_guest_python.wire.routes import Generation, Route

VERSER2_GUEST_PYTHON_PACKAGE_NAME: Final = "@signicode/verser2-guest-python"
"""Name of this package in an npm workspace; the Python distribution is `verser2-guest-python`."""

_DISTRIBUTION: Final = "verser2-guest-python"

__all__ = [
    "VERSER2_GUEST_PYTHON_PACKAGE_NAME",
    "ASGIApp",
    "Applicant",
    "Authorization",
    "AuthorizationDeniedError",
    "Body",
    "BrokerFacts",
    "BrokerRoute",
    "CertificateVerificationError",
    "ConnectFailure",
    "DisconnectedTargetError",
    "DispatchedResponse",
    "FloodLimits",
    "Generation",
    "Grant",
    "GuestEvent",
    "GuestFacts",
    "GuestState",
    "GuestStats",
    "HostEvent",
    "HostLimits",
    "HostStats",
    "Identity",
    "InvalidRegistrationError",
    "LeaseTimeoutError",
    "LifecycleType",
    "LifespanStartupFailed",
    "LocalHandlerFailureError",
    "MissingGuestError",
    "Pace",
    "Permissions",
    "PolicyEntry",
    "PolicyFunction",
    "Readable",
    "RequestHeadTooLargeError",
    "RequestHeaders",
    "RequestOptions",
    "RequestRecord",
    "RequestTimeoutError",
    "ResponseHeaders",
    "RevocationFailedError",
    "Route",
    "RouteChange",
    "RouteChanges",
    "RouteListener",
    "RouteLoopError",
    "SessionFacts",
    "SessionOptions",
    "StreamFailureError",
    "UnsafeRetryError",
    "UpstreamUnavailableError",
    "VerserBroker",
    "VerserBrokerResponse",
    "VerserBrokerWebSocket",
    "VerserConfigurationError",
    "VerserConnectionError",
    "VerserError",
    "VerserGuest",
    "VerserHost",
    "VerserProtocolError",
    "VerserStatusError",
    "VerserTimeoutError",
    "VerserUsageError",
    "VerserWebSocketError",
    "WebSocketBinary",
    "WebSocketClose",
    "WebSocketMessage",
    "WebSocketPong",
    "WebSocketText",
    "__version__",
    "create_verser_broker",
    "create_verser_guest",
    "create_verser_host",
]

# Where a name lives when it is not an error
_MODULES: Final = MappingProxyType(
    {
        "ASGIApp": "asgi.types",
        "Applicant": "host.authorization",
        "Authorization": "host.authorization",
        "Body": "broker.body",
        "BrokerFacts": "broker.facts",
        "BrokerRoute": "broker.routes",
        "DispatchedResponse": "guest.direct",
        "FloodLimits": "http2.floods",
        "Generation": "wire.routes",
        "Grant": "host.authorization",
        "GuestEvent": "guest.lifecycle",
        "GuestFacts": "guest.facts",
        "GuestState": "guest.verser_guest",
        "GuestStats": "host.stats",
        "HostEvent": "host.events",
        "HostLimits": "host.limits",
        "HostStats": "host.stats",
        "Identity": "host.identity",
        "LifecycleType": "guest.lifecycle",
        "LifespanStartupFailed": "asgi.lifespan",
        "Pace": "http2.floods",
        "Permissions": "host.policy",
        "PolicyEntry": "host.policy",
        "PolicyFunction": "host.policy",
        "Readable": "broker.body",
        "RequestHeaders": "broker.request",
        "RequestOptions": "broker.request",
        "RequestRecord": "host.events",
        "ResponseHeaders": "broker.headers",
        "Route": "wire.routes",
        "RouteChange": "broker.listeners",
        "RouteChanges": "broker.changes",
        "RouteListener": "broker.listeners",
        "SessionFacts": "peer.facts",
        "SessionOptions": "http2.options",
        "VerserBroker": "broker.broker",
        "VerserBrokerResponse": "broker.response",
        "VerserBrokerWebSocket": "broker.websocket",
        "VerserGuest": "guest.verser_guest",
        "VerserHost": "host.host",
        "VerserStatusError": "broker.response",
        "WebSocketBinary": "broker.websocket",
        "WebSocketClose": "broker.websocket",
        "WebSocketMessage": "broker.websocket",
        "WebSocketPong": "broker.websocket",
        "WebSocketText": "broker.websocket",
        "create_verser_broker": "broker.broker",
        "create_verser_guest": "guest.guest",
        "create_verser_host": "host.host",
    }
)


def __getattr__(name: str) -> Any:  # PEP 562: called once a name, then it is an ordinary attribute
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version(_DISTRIBUTION)
    elif name in __all__:
        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

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
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker, create_verser_broker
    from verser2_guest_python.broker.headers import ResponseHeaders
    from verser2_guest_python.broker.listeners import RouteChange
    from verser2_guest_python.broker.response import VerserBrokerResponse, VerserStatusError
    from verser2_guest_python.broker.routes import BrokerRoute
    from verser2_guest_python.broker.websocket import VerserBrokerWebSocket
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
    from verser2_guest_python.guest.guest import create_verser_guest
    from verser2_guest_python.guest.lifecycle import GuestEvent
    from verser2_guest_python.guest.verser_guest import VerserGuest
    from verser2_guest_python.host.authorization import Applicant, Authorization
    from verser2_guest_python.host.events import HostEvent
    from verser2_guest_python.host.host import VerserHost, create_verser_host
    from verser2_guest_python.host.identity import Identity
    from verser2_guest_python.host.limits import HostLimits
    from verser2_guest_python.host.policy import Permissions, PolicyEntry

VERSER2_GUEST_PYTHON_PACKAGE_NAME: Final = "@signicode/verser2-guest-python"
"""Name of this package in an npm workspace; the Python distribution is `verser2-guest-python`."""

_DISTRIBUTION: Final = "verser2-guest-python"

__all__ = [
    "VERSER2_GUEST_PYTHON_PACKAGE_NAME",
    "Applicant",
    "Authorization",
    "AuthorizationDeniedError",
    "BrokerRoute",
    "CertificateVerificationError",
    "ConnectFailure",
    "DisconnectedTargetError",
    "DispatchedResponse",
    "GuestEvent",
    "HostEvent",
    "HostLimits",
    "Identity",
    "InvalidRegistrationError",
    "LeaseTimeoutError",
    "LocalHandlerFailureError",
    "MissingGuestError",
    "Permissions",
    "PolicyEntry",
    "RequestHeadTooLargeError",
    "RequestTimeoutError",
    "ResponseHeaders",
    "RevocationFailedError",
    "RouteChange",
    "RouteLoopError",
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
    "__version__",
    "create_verser_broker",
    "create_verser_guest",
    "create_verser_host",
]

# Where a name lives when it is not an error
_MODULES: Final = MappingProxyType(
    {
        "Applicant": "host.authorization",
        "Authorization": "host.authorization",
        "BrokerRoute": "broker.routes",
        "DispatchedResponse": "guest.direct",
        "GuestEvent": "guest.lifecycle",
        "HostEvent": "host.events",
        "HostLimits": "host.limits",
        "Identity": "host.identity",
        "Permissions": "host.policy",
        "PolicyEntry": "host.policy",
        "ResponseHeaders": "broker.headers",
        "RouteChange": "broker.listeners",
        "VerserBroker": "broker.broker",
        "VerserBrokerResponse": "broker.response",
        "VerserBrokerWebSocket": "broker.websocket",
        "VerserGuest": "guest.verser_guest",
        "VerserHost": "host.host",
        "VerserStatusError": "broker.response",
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

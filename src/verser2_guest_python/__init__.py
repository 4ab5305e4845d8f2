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
    from verser2_guest_python.broker.response import VerserBrokerResponse
    from verser2_guest_python.errors import (
        AuthorizationDeniedError,
        CertificateVerificationError,
        DisconnectedTargetError,
        InvalidRegistrationError,
        LeaseTimeoutError,
        LocalHandlerFailureError,
        MissingGuestError,
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
    from verser2_guest_python.guest.guest import VerserGuest, create_verser_guest
    from verser2_guest_python.host.host import VerserHost, create_verser_host

VERSER2_GUEST_PYTHON_PACKAGE_NAME: Final = "@signicode/verser2-guest-python"
"""Name of this package in an npm workspace; the Python distribution is `verser2-guest-python`."""

_DISTRIBUTION: Final = "verser2-guest-python"

__all__ = [
    "VERSER2_GUEST_PYTHON_PACKAGE_NAME",
    "AuthorizationDeniedError",
    "CertificateVerificationError",
    "DisconnectedTargetError",
    "InvalidRegistrationError",
    "LeaseTimeoutError",
    "LocalHandlerFailureError",
    "MissingGuestError",
    "RequestTimeoutError",
    "RevocationFailedError",
    "RouteLoopError",
    "StreamFailureError",
    "UnsafeRetryError",
    "UpstreamUnavailableError",
    "VerserBroker",
    "VerserBrokerResponse",
    "VerserConfigurationError",
    "VerserConnectionError",
    "VerserError",
    "VerserGuest",
    "VerserHost",
    "VerserProtocolError",
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
        "VerserBroker": "broker.broker",
        "VerserBrokerResponse": "broker.response",
        "VerserGuest": "guest.guest",
        "VerserHost": "host.host",
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

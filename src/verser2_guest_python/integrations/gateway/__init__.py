"""The gateway: HTTP/1.1 and WebSockets in, a Broker out. An ASGI app that any ASGI server runs.

    scope ── checks ── routing ── forwarding ── http_cycle / websocket_cycle ── Broker
               └──────────┴── refusal ── pages

Example, for `uvicorn mygateway:app --interface asgi3`::

    from verser2_guest_python import create_verser_broker
    from verser2_guest_python.integrations.gateway import create_gateway

    broker = create_verser_broker(host_url="https://localhost:8443", tls_ca_file="ca.pem")
    app = create_gateway(broker, maps={"shop.example.com": "shop.local.test"})
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .app import Gateway, create_gateway
    from .limits import GatewayLimits
    from .record import GatewayRecord

__all__ = ["Gateway", "GatewayLimits", "GatewayRecord", "create_gateway"]

# Loaded on first use: the command line knows the limits, and must not wait for the rest
_MODULES: Final = MappingProxyType(
    {"Gateway": "app", "create_gateway": "app", "GatewayLimits": "limits", "GatewayRecord": "record"}
)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)

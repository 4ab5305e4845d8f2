"""The Broker role: requests to apps behind Guests, and their answers."""

from __future__ import annotations

from verser2_guest_python.broker.broker import VerserBroker, create_verser_broker
from verser2_guest_python.broker.changes import RouteChanges
from verser2_guest_python.broker.headers import ResponseHeaders
from verser2_guest_python.broker.listeners import RouteChange, RouteListener
from verser2_guest_python.broker.response import VerserBrokerResponse, VerserStatusError
from verser2_guest_python.broker.routes import BrokerRoute
from verser2_guest_python.broker.websocket import VerserBrokerWebSocket, WebSocketMessage

__all__ = [
    "BrokerRoute",
    "ResponseHeaders",
    "RouteChange",
    "RouteChanges",
    "RouteListener",
    "VerserBroker",
    "VerserBrokerResponse",
    "VerserBrokerWebSocket",
    "VerserStatusError",
    "WebSocketMessage",
    "create_verser_broker",
]

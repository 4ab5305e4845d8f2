"""From a Broker's WebSocket fields to a bridge: which Guest, may it, and is one of its leases idle.

Apart from the bridge because everything here is decided before a lease is touched (stage `queued`).
A WebSocket does not wait for a lease: there is no queue (protocol.md §11).
"""

from __future__ import annotations

from verser2_guest_python.errors import VerserError, VerserWebSocketError
from verser2_guest_python.host.answers import ERROR_STATUS
from verser2_guest_python.host.bridge import Bridge
from verser2_guest_python.host.events import NOTHING
from verser2_guest_python.host.forwarding import Forwarder, forwarded_headers
from verser2_guest_python.host.observed import ObservedBridge, start_of
from verser2_guest_python.host.observing import ExchangeEnd
from verser2_guest_python.host.peers import Broker
from verser2_guest_python.host.services import ExchangeServices, staged
from verser2_guest_python.http2 import Fields, Stream
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.names import STAGE_QUEUED
from verser2_guest_python.wire.vws import Open
from verser2_guest_python.wire.websocket_request import parse_websocket_request

METHOD = "WEBSOCKET"
"""What policies and records know a WebSocket by, since it has no method of its own."""


class WebSocketForwarder:
    """Takes Brokers' WebSockets."""

    def __init__(self, forwarder: Forwarder, services: ExchangeServices) -> None:
        self._forwarder = forwarder
        self._services = services
        self._count = 0

    def forward(self, broker: Broker, stream: Stream, fields: Fields) -> None:
        """Forwards one WebSocket, or answers with what is wrong with it."""
        self._count += 1
        request_id = f"ws-{self._count}"
        known = BrokerRequest(request_id, broker.id, "", None, METHOD, "", {})
        try:
            asked = parse_websocket_request(fields)
            known = BrokerRequest(
                request_id,
                asked.source_id,
                asked.target_id,
                asked.domain,
                METHOD,
                asked.path,
                asked.headers or {},
            )
            guest, route = self._forwarder.target(broker, known)
            lease = guest.websockets.take()
            if lease is None:
                context = {"targetId": guest.id, "domain": route.domain}
                message = f"Guest {guest.id} has no idle WebSocket lease."
                raise VerserWebSocketError(message, context=context)
        except VerserError as error:
            services = self._services
            services.answers.send_error(stream, staged(error, STAGE_QUEUED, request_id))
            watch = services.observation.begin(start_of(known, known.route_domain, websocket=True))
            if watch is not None:
                watch.ended(ExchangeEnd(ERROR_STATUS, error.code, 0, 0, error.message))
            if services.records:
                noted = NOTHING if watch is None else watch.noted
                services.record(
                    known, domain=known.route_domain, status=ERROR_STATUS, error=error.code, noted=noted
                )
            return
        headers = asked.headers
        watch = None
        if self._services.observation.observers:
            start = start_of(known, route.domain, websocket=True, protocol=asked.protocol)
            watch = self._services.observation.begin(start)
            if watch is not None and (told := watch.told):
                headers = {**(headers or {}), **told}
        if headers is not None:
            headers = forwarded_headers(headers, route.domain)
        opening = Open(route.domain, asked.path, asked.protocol, headers)
        if watch is None:
            Bridge(self._services, stream, lease, known, opening).start()
        else:
            ObservedBridge(watch, self._services, stream, lease, known, opening).start()

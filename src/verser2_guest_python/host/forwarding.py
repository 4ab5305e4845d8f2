"""From a Broker's request fields to an exchange: which Guest, may it, and what the Guest will read.

Apart from the exchange because everything here is decided before a lease is touched: what fails here
no app has seen (stage `queued`, protocol.md §14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    MissingGuestError,
    RequestHeadTooLargeError,
    VerserError,
)
from verser2_guest_python.host.answers import ERROR_STATUS, HEAD_TOO_LARGE_STATUS
from verser2_guest_python.host.events import NOTHING
from verser2_guest_python.host.exchange import Exchange
from verser2_guest_python.host.observed import ObservedExchange, start_of
from verser2_guest_python.host.observing import ExchangeEnd
from verser2_guest_python.host.peers import Broker, Guest
from verser2_guest_python.host.registry import Registry
from verser2_guest_python.host.services import ExchangeServices, staged
from verser2_guest_python.http2 import Fields, Stream
from verser2_guest_python.wire.broker_request import BrokerRequest, parse_broker_request
from verser2_guest_python.wire.domains import normalize_domain
from verser2_guest_python.wire.envelopes import RequestHead, encode_request
from verser2_guest_python.wire.names import REQUEST_ID_FIELD, STAGE_QUEUED
from verser2_guest_python.wire.routes import Route

_MAX_SHOWN_ID_BYTES = 255


class Forwarder:
    """Takes Brokers' requests."""

    def __init__(
        self,
        registry: Registry,
        services: ExchangeServices,
        lease_seconds: float,
        on_denied: Callable[[Broker, BrokerRequest, str], None],
    ) -> None:
        self._registry = registry
        self._services = services
        self._lease_seconds = lease_seconds
        self._on_denied = on_denied
        self._made_up = 0

    def forward(self, broker: Broker, stream: Stream, fields: Fields) -> None:
        """Forwards one request, or answers with what is wrong with it."""
        request: BrokerRequest | None = None
        try:
            request = parse_broker_request(fields)
            if not request.request_id:  # deployed Hosts make one up as well (protocol.md §7)
                self._made_up += 1
                request = replace(request, request_id=f"req-{self._made_up}")
            guest, route = self.target(broker, request)
            head = self._head(broker, request, route)
        except VerserError as error:
            self._refuse(stream, error, request, fields)
            return
        wait = self._lease_seconds
        if request.lease_timeout_ms is not None:
            wait = min(request.lease_timeout_ms / 1000, self._services.limits.lease_wait_seconds)
        services = self._services
        watch = None
        if services.observation.observers:
            watch = services.observation.begin(start_of(request, route.domain))
        if watch is None:
            Exchange(services, stream, guest.pool, request, route.domain, head).start(wait)
        else:
            if told := watch.told:
                head = self._told(broker, request, route, told, head)
            ObservedExchange(watch, services, stream, guest.pool, request, route.domain, head).start(wait)

    def target(self, broker: Broker, request: BrokerRequest) -> tuple[Guest, Route]:
        """The Guest and the route that a request is for; raises a `VerserError` where it may not go there."""
        if request.source_id != broker.id:
            reason = "Another Broker has registered on this session."
            self._on_denied(broker, request, reason)
            raise AuthorizationDeniedError(reason)
        target_id = request.target_id
        authority = request.route_domain
        if authority is None:
            authority = request.headers.get("host")
        route = self._registry.routes.find(target_id, authority)
        guest = self._registry.guest(target_id)
        self._check_permission(broker, request, route, authority)
        if route is None or guest is None:
            context: dict[str, str | int | float | bool] = {"targetId": target_id}
            if authority is not None:
                context["domain"] = authority
            raise MissingGuestError(
                f"Guest {target_id} has no active route for {authority or 'this request'}.", context=context
            )
        return guest, route

    def _check_permission(
        self, broker: Broker, request: BrokerRequest, route: Route | None, authority: str | None
    ) -> None:
        """Before anything is said of the route: who may not call a domain must not learn that it is there."""
        if route is not None:
            domain = route.domain
        elif authority is not None:
            domain = normalize_domain(authority)
        else:
            return
        target_id = request.target_id
        reason = broker.grant.refuse_request(target_id, domain, request.method)
        if reason is None:
            return
        self._on_denied(broker, request, reason)
        if authority is None and not broker.grant.shows_route(target_id, domain):
            raise MissingGuestError(
                f"Guest {target_id} has no active route for this request.", context={"targetId": target_id}
            )
        raise AuthorizationDeniedError(reason, context={"targetId": target_id, "domain": domain})

    def _head(self, broker: Broker, request: BrokerRequest, route: Route) -> bytes:
        """The request envelope; raises `RequestHeadTooLargeError` for what no frame carries (§12.1)."""
        headers = forwarded_headers(request.headers, route.domain)
        return encode_request(
            RequestHead(
                request.request_id, broker.id, request.target_id, request.method, request.path, headers
            )
        )

    def _told(
        self, broker: Broker, request: BrokerRequest, route: Route, told: dict[str, str], head: bytes
    ) -> bytes:
        """The request envelope with what an observer has to tell; as it is, where that cannot be said."""
        try:
            return self._head(broker, replace(request, headers={**request.headers, **told}), route)
        except VerserError:
            return head

    def _refuse(
        self, stream: Stream, error: VerserError, request: BrokerRequest | None, fields: Fields
    ) -> None:
        request_id = request.request_id if request is not None else _given_id(fields)
        status = HEAD_TOO_LARGE_STATUS if isinstance(error, RequestHeadTooLargeError) else ERROR_STATUS
        services = self._services
        services.answers.send_error(stream, staged(error, STAGE_QUEUED, request_id), status)
        if services.records or services.observation.observers:
            known = request if request is not None else BrokerRequest(request_id, "", "", None, "", "", {})
            watch = services.observation.begin(start_of(known, known.route_domain))
            if watch is not None:
                watch.ended(ExchangeEnd(status, error.code, 0, 0, error.message))
            services.record(
                known,
                domain=known.route_domain,
                status=status,
                error=error.code,
                noted=NOTHING if watch is None else watch.noted,
            )


def forwarded_headers(given: dict[str, str], domain: str) -> dict[str, str]:
    """The request headers as the Guest reads them: `host` is the route's domain (protocol.md §6)."""
    authority = given.get("host")
    if authority == domain:
        return given
    headers = {**given, "host": domain}
    if authority is not None and authority.lower() != domain:
        headers.setdefault("x-forwarded-host", authority)
    return headers


def _given_id(fields: Fields) -> str:
    """The request id of fields that were refused, so that the Broker can tell which request it was."""
    for name, value in fields:
        if name == REQUEST_ID_FIELD:
            return value[:_MAX_SHOWN_ID_BYTES].decode("latin-1")
    return ""

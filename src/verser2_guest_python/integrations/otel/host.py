"""A Host's spans: each request and WebSocket that it carries, and within it the wait for a lease.

Apart from the other roles because a Host is only watched: its spans begin and end with what it tells. They
are the parents of the Guests' spans, also where a Broker knows nothing of traces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time_ns
from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Tracer, TracerProvider

from verser2_guest_python.errors import DisconnectedTargetError, LeaseTimeoutError
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.host.observing import ExchangeEnd, ExchangeObserver, ExchangeStart, Side
from verser2_guest_python.integrations.otel.common import (
    CANCELLED,
    RESPONSE_STARTED,
    http_attributes,
    ids_of,
    parent_in,
    path_of,
    set_error,
    set_status,
    tracer_of,
    websocket_attributes,
)
from verser2_guest_python.wire.vws import Message

WAITING: Final = "wait for a lease"
_SERVER_ERROR: Final = 500
_MS_NS: Final = 1_000_000
_WAITED: Final = frozenset({CANCELLED, LeaseTimeoutError.default_code, DisconnectedTargetError.default_code})
"""How requests end that had to wait, and got no lease; all others are refused at once."""


def trace_host(host: VerserHost, *, tracer_provider: TracerProvider | None = None) -> Callable[[], None]:
    """Gives each request that `host` carries a span, and one within it for the wait for a lease.

    What is returned ends that.

    Example:
        stop = trace_host(host)
    """
    return host.observe(_HostTracer(tracer_of(tracer_provider)))


class _HostTracer:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def began(self, start: ExchangeStart) -> ExchangeObserver:
        return _TracedExchange(self._tracer, start)


class _TracedExchange:
    def __init__(self, tracer: Tracer, start: ExchangeStart) -> None:
        path, authority = path_of(start.path), start.headers.get("host", start.domain or "")
        if start.websocket:
            name, attributes = websocket_attributes(path, authority)
        else:
            name, attributes = http_attributes(start.method, path, authority)
        attributes["verser.request_id"] = start.request_id
        attributes["verser.source_id"] = start.source_id
        attributes["verser.target_id"] = start.target_id
        attributes["verser.route_domain"] = start.domain or ""
        self._began = time_ns()
        parent = parent_in(start.headers)
        self._span = span = tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            start_time=self._began,
        )
        self.noted = ids_of(span)
        told: dict[str, str] = {}
        propagate.inject(told, trace.set_span_in_context(span, parent))
        self.told = {name: value for name, value in told.items() if start.headers.get(name) != value}
        self._tracer = tracer
        self._target = start.path
        self._answered = False
        self._may_wait = not start.websocket  # there is no queue of WebSockets (protocol.md §11)

    def leased(self) -> None:
        if self._may_wait:
            self._waited()

    def _waited(self) -> None:
        self._may_wait = False
        if not self._span.is_recording():
            return
        now = time_ns()
        self._span.set_attribute("verser.lease_wait_ms", (now - self._began) / _MS_NS)
        within = trace.set_span_in_context(self._span)
        self._tracer.start_span(WAITING, context=within, start_time=self._began).end(now)

    def request_body(self, data: bytes) -> None:
        """Not told."""

    def uploaded(self) -> None:
        """Not told."""

    def answered(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._answered = True
        set_status(self._span, status, error_from=_SERVER_ERROR)
        self._span.add_event(RESPONSE_STARTED)

    def response_body(self, data: bytes) -> None:
        """Not told."""

    def message(self, side: Side, message: Message) -> None:
        """Not told."""

    def ended(self, end: ExchangeEnd) -> None:
        if self._may_wait and end.error in _WAITED:
            self._waited()
        if end.error is not None:
            set_error(self._span, end.error, end.message, self._target)
        if end.status is not None and not self._answered:
            self._span.set_attribute("http.response.status_code", end.status)
        self._span.end()

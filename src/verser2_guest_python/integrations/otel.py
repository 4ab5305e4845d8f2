"""OpenTelemetry (extra `otel`): one trace from a caller through gateway, Broker and Host to the app.

Apart from the roles because none of them knows tracing: an app, a Broker and a Host are wrapped, and
what is not wrapped pays nothing. Contexts travel in the headers that the global propagators write
(`traceparent`, `tracestate`, `baggage`: W3C). Queries, bodies and other headers are in no span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from json import loads
from time import perf_counter
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send
from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.broker.delivery import Deliver
from verser2_guest_python.broker.request import Request
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.errors import VerserError
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.host.observing import ExchangeEnd, ExchangeObserver, ExchangeStart, Side
from verser2_guest_python.wire.json_text import dump_ascii
from verser2_guest_python.wire.limits import MAX_HEAD_BYTES
from verser2_guest_python.wire.vws import Message as WebSocketMessage

_NAME: Final = "verser2_guest_python"
_SERVER_ERROR: Final = 500
_ENVELOPE_BYTES: Final = 512  # what a Host needs in a request head beside path and headers


def traced_app(app: ASGIApp, *, tracer_provider: TracerProvider | None = None) -> ASGIApp:
    """The same app, with a server span for each request and WebSocket; it ends when the app call does.

    The context of the caller is its parent, and current while the app runs: spans and baggage of the app
    belong to it. Without `tracer_provider` the global one counts.

    Example:
        guest = create_verser_guest(app=traced_app(app), …)
    """
    return _TracedApp(app, _tracer(tracer_provider))


def trace_broker(broker: VerserBroker, *, tracer_provider: TracerProvider | None = None) -> None:
    """Gives each request of `broker` a client span, until the answer's head, and tells the app of it."""
    tracer = _tracer(tracer_provider)
    broker.intercept(lambda deliver: _TracedDelivery(deliver, tracer))


def trace_host(host: VerserHost, *, tracer_provider: TracerProvider | None = None) -> Callable[[], None]:
    """Gives each request that `host` carries a span, and one within it for the wait for a lease.

    What is returned ends that.
    """
    return host.observe(_HostTracer(_tracer(tracer_provider)))


def _tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer(_NAME, tracer_provider=provider)


def _extract(headers: Mapping[str, str]) -> context.Context:
    return propagate.extract(headers)


class _TracedApp:
    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        fields = propagate.get_global_textmap().fields
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.decode("latin-1") in fields or name == b"host"
        }
        method = scope.get("method", "WEBSOCKET")
        token = context.attach(_extract(headers))
        try:
            with self._tracer.start_as_current_span(
                method,
                kind=SpanKind.SERVER,
                attributes=_attributes(
                    method, scope["path"], headers.get("host", ""), scope.get("extensions", {}).get("verser")
                ),
            ) as span:
                await self._app(scope, receive, _watching(span, send))
        finally:
            context.detach(token)


def _watching(span: Span, send: Send) -> Send:
    async def watching(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            _set_status(span, message["status"])
            span.add_event(kind)
        elif kind == "websocket.accept":
            span.add_event(kind)
        await send(message)

    return watching


def _attributes(method: str, path: str, host: str, verser: Mapping[str, Any] | None) -> dict[str, str]:
    found = {"http.request.method": method, "url.path": path, "server.address": host}
    for name, value in (verser or {}).items():
        if isinstance(value, str):
            found[f"verser.{name}"] = value
    return found


def _set_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= _SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))


class _TracedDelivery:
    def __init__(self, deliver: Deliver, tracer: Tracer) -> None:
        self._deliver = deliver
        self._tracer = tracer

    async def fetch(
        self,
        request: Request,
        retries: int,
        max_redirects: int,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> VerserBrokerResponse:
        target = request.target
        path = target.path.partition("?")[0]
        attributes = _attributes(request.method, path, target.domain, None)
        with self._tracer.start_as_current_span(
            request.method, kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            try:
                response = await self._deliver.fetch(
                    _told(request), retries, max_redirects, timeout, deadline
                )
            except VerserError as error:
                span.set_attribute("error.type", error.code)
                raise
            span.set_attribute("http.response.status_code", response.status)
            span.set_attribute("verser.request_id", response.request_id)
            span.set_attribute("verser.target_id", response.target_id)
            if response.lease_wait is not None:
                span.set_attribute("verser.lease_wait_ms", response.lease_wait * 1_000)
            if not response.ok:
                span.set_status(Status(StatusCode.ERROR))
            return response


def _told(request: Request) -> Request:
    """The request with the context of now in its headers; as it was, where they have no room for that."""
    headers: dict[str, str] = loads(request.head)
    propagate.inject(headers)
    head = dump_ascii(headers).encode("ascii")
    if len(head) + len(request.target.path) > MAX_HEAD_BYTES - _ENVELOPE_BYTES:
        return request
    return replace(request, head=head)


class _HostTracer:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def began(self, start: ExchangeStart) -> ExchangeObserver:
        return _TracedExchange(self._tracer, start)


class _TracedExchange:
    def __init__(self, tracer: Tracer, start: ExchangeStart) -> None:
        self._span = tracer.start_span(
            start.method,
            context=_extract(start.headers),
            kind=SpanKind.INTERNAL,
            attributes={
                **_attributes(start.method, start.path.partition("?")[0], start.domain or "", None),
                "verser.request_id": start.request_id,
                "verser.source_id": start.source_id,
                "verser.target_id": start.target_id,
            },
        )
        within = trace.set_span_in_context(self._span)
        self._waiting: Span | None = tracer.start_span("wait for a lease", context=within)
        self._began = perf_counter()

    def leased(self) -> None:
        self._span.set_attribute("verser.lease_wait_ms", (perf_counter() - self._began) * 1_000)
        self._end_waiting()

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.end()
            self._waiting = None

    def request_body(self, data: bytes) -> None:
        """Not told."""

    def uploaded(self) -> None:
        """Not told."""

    def answered(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        _set_status(self._span, status)

    def response_body(self, data: bytes) -> None:
        """Not told."""

    def message(self, side: Side, message: WebSocketMessage) -> None:
        """Not told."""

    def ended(self, end: ExchangeEnd) -> None:
        self._end_waiting()
        if end.error is not None:
            self._span.set_attribute("error.type", end.error)
            self._span.set_status(Status(StatusCode.ERROR, end.message or None))
        self._span.end()

"""A Broker's spans: one for each try of a request, and one for a WebSocket until it is open.

Apart from the other roles because here contexts are sent. As OpenTelemetry's conventions for HTTP have it,
each try is a client span of its own (those after the first say `http.request.resend_count`), there is none
around them, and it ends with the head of the answer: nobody knows whether its body will ever be read.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from json import loads
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.broker.delivery import Deliver, Dispatch
from verser2_guest_python.broker.dispatch import NotSent, dispatch
from verser2_guest_python.broker.link import Link
from verser2_guest_python.broker.opening import OpenWebSocket
from verser2_guest_python.broker.request import Request
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.broker.routes import RouteEntry
from verser2_guest_python.broker.target import Target
from verser2_guest_python.broker.websocket import VerserBrokerWebSocket
from verser2_guest_python.broker.websocket_wish import WebSocketWish
from verser2_guest_python.errors import VerserError
from verser2_guest_python.integrations.otel.common import (
    SWITCHING_PROTOCOLS,
    Attributes,
    http_attributes,
    kind_of,
    parent_here_or_in,
    path_of,
    set_error,
    set_status,
    tracer_of,
    websocket_attributes,
    write_into,
)
from verser2_guest_python.wire.json_text import dump_ascii
from verser2_guest_python.wire.limits import MAX_BROKER_HEADER_BLOCK_BYTES, MAX_HEAD_BYTES

_CLIENT_ERROR: Final = 400
_HTTP_PORT: Final = 80
_ENVELOPE_BYTES: Final = 512  # what a Host needs in a request head beside path and headers
_OTHER_FIELDS_BYTES: Final = 2_048  # those of a WebSocket's stream beside the headers


def trace_broker(broker: VerserBroker, *, tracer_provider: TracerProvider | None = None) -> None:
    """Gives each try of a request of `broker`, and each WebSocket it opens, a client span; tells apps of it.

    The parent is the context of the caller; where that is in no trace, what the request's headers say.
    """
    tracer = tracer_of(tracer_provider)
    broker._intercept(lambda deliver: _TracedDelivery(deliver, tracer))
    broker._intercept_websockets(lambda opener: _TracedOpener(opener, tracer))


class _TracedDelivery:
    def __init__(self, deliver: Deliver, tracer: Tracer) -> None:
        self._deliver = deliver
        self._tracer = tracer

    async def fetch(
        self,
        request: Request,
        retries: int,
        max_redirects: int,
        timeout: float | None,
        total_timeout: float | None,
        send: Dispatch = dispatch,
    ) -> VerserBrokerResponse:
        tries = _Tries(self._tracer, request, send)
        try:
            return await self._deliver.fetch(
                request, retries, max_redirects, timeout, total_timeout, tries.send
            )
        except BaseException as error:
            tries.failed(error)
            raise


class _Tries:
    """The spans of one request: the first begins with it, and each other one when it is sent again."""

    def __init__(self, tracer: Tracer, request: Request, send: Dispatch) -> None:
        self._tracer = tracer
        self._send = send
        self._parent = parent_here_or_in(loads(request.head))
        self._count = 0
        self._target = request.target
        self._span: Span | None = self._begin(request)

    def _begin(self, request: Request) -> Span:
        self._target = request.target
        name, attributes = _attributes(request.target, request.method)
        if self._count:
            attributes["http.request.resend_count"] = self._count
        return self._tracer.start_span(
            name, context=self._parent, kind=SpanKind.CLIENT, attributes=attributes
        )

    async def send(
        self,
        link: Link,
        request: Request,
        entry: RouteEntry,
        request_id: str,
        timeout: float | None,
        deadline: float | None,
    ) -> VerserBrokerResponse:
        """One try. What was not sent is none; and `failed` knows whether what is cancelled is out of time."""
        if self._span is None:
            self._span = self._begin(request)
        span = self._span
        span.set_attribute("verser.request_id", request_id)
        span.set_attribute("verser.target_id", entry.guest.target_id)
        with _current(span):
            try:
                response = await self._send(link, _told(request), entry, request_id, timeout, deadline)
            except NotSent:
                raise
            except Exception as error:
                self._count += 1
                self.failed(error)
                raise
        self._count += 1
        set_status(span, response.status, error_from=_CLIENT_ERROR)
        if response.lease_wait is not None:
            span.set_attribute("verser.lease_wait_ms", response.lease_wait * 1_000)
        self._end(span)
        return response

    def failed(self, error: BaseException) -> None:
        """The request, or a try of it, has failed: so has the span that is open, if there is one."""
        span = self._span
        if span is not None:
            _set_failure(span, error, self._target)
            self._end(span)

    def _end(self, span: Span) -> None:
        self._span = None
        span.end()


class _TracedOpener:
    def __init__(self, opener: OpenWebSocket, tracer: Tracer) -> None:
        self._opener = opener
        self._tracer = tracer

    async def open(self, wish: WebSocketWish) -> VerserBrokerWebSocket:
        name, attributes = _attributes(wish.target)
        span = self._tracer.start_span(
            name, context=parent_here_or_in(wish.headers), kind=SpanKind.CLIENT, attributes=attributes
        )
        try:
            with _current(span):
                socket = await self._opener.open(_told_to_websocket(wish))
            span.set_attribute("verser.target_id", socket.target_id)
            set_status(span, SWITCHING_PROTOCOLS, error_from=_CLIENT_ERROR)
            return socket
        except BaseException as error:
            _set_failure(span, error, wish.target)
            raise
        finally:
            span.end()


def _current(span: Span) -> AbstractContextManager[Span]:
    """The span as the one of now; what is raised within is told by us, without the query it may name."""
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def _attributes(target: Target, method: str | None = None) -> tuple[str, Attributes]:
    """Name and first attributes of a span; without a method it is a WebSocket's."""
    path = path_of(target.path)
    if method is None:
        scheme = "ws"
        name, found = websocket_attributes(path, target.authority, port=_HTTP_PORT)
    else:
        scheme = "http"
        name, found = http_attributes(method, path, target.authority, port=_HTTP_PORT)
    found["url.scheme"] = scheme
    found["url.full"] = f"{scheme}://{target.authority}{path if path != '*' else ''}"
    found["verser.route_domain"] = target.domain
    return name, found


def _set_failure(span: Span, error: BaseException, target: Target) -> None:
    status = error.context.get("status") if isinstance(error, VerserError) else None
    if isinstance(status, int) and not isinstance(status, bool):
        span.set_attribute("http.response.status_code", status)
    set_error(span, kind_of(error), error.message if isinstance(error, VerserError) else "", target.path)


def _told(request: Request) -> Request:
    """The request with the context of now in its headers; as it was, where they have no room for that."""
    headers: dict[str, str] = loads(request.head)
    write_into(headers)
    head = dump_ascii(headers).encode("ascii")
    size = len(head) + len(request.target.path)
    return replace(request, head=head) if size <= MAX_HEAD_BYTES - _ENVELOPE_BYTES else request


def _told_to_websocket(wish: WebSocketWish) -> WebSocketWish:
    """Likewise; the context stays apart from headers that the caller has asked for."""
    context: dict[str, str] = {}
    write_into(context)
    headers = {name: value for name, value in wish.headers.items() if name != "tracestate"}
    head = dump_ascii({**headers, **context}).encode("ascii")
    size = len(head) + len(wish.target.path) + len(wish.offer)
    if size > MAX_BROKER_HEADER_BLOCK_BYTES - _OTHER_FIELDS_BYTES:
        return wish
    return replace(wish, headers=headers, context=context)

"""Server spans of an ASGI app: the app of a Guest, or a gateway.

Apart from the other roles because any ASGI app may be wrapped: all that it needs is in scope and messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context, propagate
from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send
from verser2_guest_python.integrations.otel.common import (
    CANCELLED,
    RESPONSE_ENDED,
    RESPONSE_STARTED,
    SWITCHING_PROTOCOLS,
    Attributes,
    http_attributes,
    ids_of,
    kind_of,
    parent_in,
    path_of,
    set_error,
    set_status,
    tracer_of,
    websocket_attributes,
)

_SERVER_ERROR: Final = 500
_REFUSED: Final = 403  # as ASGI says of a WebSocket that is closed before it is accepted
_DENIAL: Final = "websocket.http.response.start"


def traced_app(app: ASGIApp, *, tracer_provider: TracerProvider | None = None) -> ASGIApp:
    """The same app, with a server span for each request and WebSocket; it ends when the app call does.

    The context of the caller is its parent, and current while the app runs: spans and baggage of the app
    belong to it. Without `tracer_provider` the global one counts. In a Guest `trace_id` and `span_id` are in
    `scope["extensions"]["verser"]` too, for its log.

    Example:
        app = traced_app(app)
    """
    return _TracedApp(app, tracer_of(tracer_provider))


class _TracedApp:
    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        name, attributes = _attributes(scope, headers)
        token = context.attach(parent_in(headers))
        try:
            with self._tracer.start_as_current_span(
                name, kind=SpanKind.SERVER, attributes=attributes
            ) as span:
                scope.get("extensions", {}).get("verser", {}).update(ids_of(span))
                call = _Call(span, receive, send)
                try:
                    await self._app(scope, call.receive, call.send)
                except BaseException as error:
                    span.set_attribute("error.type", kind_of(error))
                    if not isinstance(error, Exception):
                        set_error(span, CANCELLED)
                    raise
                finally:
                    _set_route(span, name, scope)
                call.returned(scope["type"])
        finally:
            context.detach(token)


class _Call:
    """What an app says and hears, as its span tells it."""

    def __init__(self, span: Span, receive: Receive, send: Send) -> None:
        self._span = span
        self._receive = receive
        self._send = send
        self._complete = False
        self._gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        span, kind = self._span, message["type"]
        if kind in (RESPONSE_STARTED, _DENIAL):
            set_status(span, message["status"], error_from=_SERVER_ERROR)
            span.add_event(kind)
        elif kind == "websocket.accept":
            self._complete = True
            set_status(span, SWITCHING_PROTOCOLS, error_from=_SERVER_ERROR)
            span.add_event(kind)
        elif kind == "websocket.close" and not self._complete:
            self._complete = True
            set_status(span, _REFUSED, error_from=_SERVER_ERROR)
        await self._send(message)
        if kind == "http.response.body" and not message.get("more_body") and not self._complete:
            self._complete = True
            span.add_event(RESPONSE_ENDED)

    def returned(self, kind: str) -> None:
        """The app has returned, maybe before it has answered: because the caller left, or by mistake."""
        if kind == "http" and not self._complete:
            set_error(self._span, CANCELLED if self._gone else "incomplete")


def _headers(scope: Scope) -> dict[str, str]:
    """The headers that a span is made of; several of one name are one list (RFC 9110 §5.3)."""
    wanted = {*propagate.get_global_textmap().fields, "host", "x-forwarded-host"}
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name in wanted:
            value = raw_value.decode("latin-1")
            found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _attributes(scope: Scope, headers: Mapping[str, str]) -> tuple[str, Attributes]:
    authority = headers.get("x-forwarded-host", headers.get("host", "")).partition(",")[0].strip()
    raw_path: bytes | None = scope.get("raw_path")
    path = path_of(scope["path"] if raw_path is None else raw_path.decode("latin-1"))
    if scope["type"] == "websocket":
        name, found = websocket_attributes(path, authority)
    else:
        name, found = http_attributes(scope["method"], path, authority)
    found["url.scheme"] = scope.get("scheme", "http")
    verser: Mapping[str, Any] | None = scope.get("extensions", {}).get("verser")
    if verser is None:
        found["network.protocol.version"] = scope.get("http_version", "1.1")
    else:  # nothing is known of the protocol that its caller speaks
        found.update((f"verser.{key}", value) for key, value in verser.items() if isinstance(value, str))
    return name, found


def _set_route(span: Span, name: str, scope: Scope) -> None:
    """The route that the framework has found, where it says so in the scope, as FastAPI does."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str) and scope["type"] == "http":
        route = scope.get("root_path", "") + route
        span.set_attribute("http.route", route)
        span.update_name(f"{name} {route}")

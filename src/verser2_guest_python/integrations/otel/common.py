"""What the spans of all roles have in common, by OpenTelemetry's conventions for HTTP.

Apart from the roles, which say when a span begins and ends: here is how it is worded, in all of them alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, TypeAlias

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider

from verser2_guest_python.errors import VerserError

SWITCHING_PROTOCOLS: Final = 101
CANCELLED: Final = "cancelled"
"""The `error.type` of what somebody gave up."""
WEBSOCKET: Final = "WEBSOCKET"
"""What spans of WebSockets are called, as they are in logs and policies; the conventions know no name."""
RESPONSE_STARTED: Final = "http.response.start"
RESPONSE_ENDED: Final = "http.response.end"

_LIBRARY: Final = "verser2_guest_python"
_METHODS_VARIABLE: Final = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"
_METHODS: Final = "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,TRACE"

Attributes: TypeAlias = dict[str, str | int]


def tracer_of(provider: TracerProvider | None) -> Tracer:
    """What makes spans of this library."""
    return trace.get_tracer(_LIBRARY, tracer_provider=provider)


def ids_of(span: Span) -> dict[str, str]:
    """`trace_id` and `span_id` in hex, as W3C Trace Context writes them; nothing of a span that is none."""
    found = span.get_span_context()
    if not found.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(found.trace_id),
        "span_id": trace.format_span_id(found.span_id),
    }


def current_ids() -> dict[str, str]:
    """The same of the span that this code runs in."""
    return ids_of(trace.get_current_span())


def parent_in(headers: Mapping[str, str]) -> context.Context:
    """The context that a caller has written into these headers, and no other."""
    return propagate.extract(headers)


def parent_here_or_in(headers: Mapping[str, str]) -> context.Context:
    """The context of now; where that is in no trace, the one that somebody has written into these headers."""
    here = context.get_current()
    if trace.get_current_span(here).get_span_context().is_valid:
        return here
    return propagate.extract(headers, here)


def write_into(headers: dict[str, str]) -> None:
    """Writes the context of now into these headers."""
    headers.pop("tracestate", None)  # it belongs to the context that was there
    propagate.inject(headers)


def http_attributes(
    method: str, path: str, authority: str, *, port: int | None = None
) -> tuple[str, Attributes]:
    """The name of a span and its first attributes; `port` is the server's where `authority` names none."""
    known = method in os.environ.get(_METHODS_VARIABLE, _METHODS).split(",")
    found: Attributes = {"http.request.method": method if known else "_OTHER"}
    if not known and method:
        found["http.request.method_original"] = method
    found["url.path"] = path
    found.update(_server(authority, port))
    return (method if known else "HTTP"), found


def websocket_attributes(path: str, authority: str, *, port: int | None = None) -> tuple[str, Attributes]:
    """Likewise of a WebSocket, which begins as a GET (RFC 6455 §4.1)."""
    _, found = http_attributes("GET", path, authority, port=port)
    found["network.protocol.name"] = "websocket"
    return WEBSOCKET, found


def _server(authority: str, port: int | None) -> Attributes:
    """`server.address` and `server.port` of an authority, which may be anything that somebody sent."""
    if not authority:
        return {}
    name, colon, digits = authority.rpartition(":")
    if not colon or "]" in digits or (":" in name and not name.endswith("]")):
        name, digits = authority, ""
    found: Attributes = {"server.address": name.removeprefix("[").removesuffix("]")}
    if digits.isascii() and digits.isdigit() and len(digits) <= 5:
        found["server.port"] = int(digits)
    elif port is not None:
        found["server.port"] = port
    return found


def path_of(target: str) -> str:
    """A request target without its query, which no span shows."""
    return target.partition("?")[0]


def set_status(span: Span, status: int, *, error_from: int) -> None:
    """The status of an answer; from `error_from` on it is an error: 500 for a server, 400 for a client."""
    span.set_attribute("http.response.status_code", status)
    if status >= error_from:
        set_error(span, str(status))


def set_error(span: Span, kind: str, message: str = "", target: str = "") -> None:
    """That it failed, and how; of `message` the query of `target` is left out."""
    query = target.partition("?")[2]
    if query and query in message:
        message = message.replace(f"?{query}", "").replace(query, "…")
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, message or None))


def kind_of(error: BaseException) -> str:
    """An error in a word: its code, or the name of its class."""
    if isinstance(error, VerserError):
        return error.code
    if isinstance(error, Exception):
        return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return CANCELLED  # a task that was cancelled, or a program that ends

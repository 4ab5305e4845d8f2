"""A Host, a Guest, a Broker and a gateway that are traced, and what their spans were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import (
    VerserBroker,
    VerserHost,
    create_verser_broker,
    create_verser_guest,
    create_verser_host,
)
from verser2_guest_python.integrations.gateway import create_gateway
from verser2_guest_python.integrations.otel import trace_broker, trace_host, traced_app
from verser2_guest_python.service.gateway_server.server import GatewayServer

DOMAIN = "a.local.test"
OTHER = "b.local.test"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WAITING = "wait for a lease"


class Counter(SpanProcessor):
    """How many spans are open."""

    def __init__(self) -> None:
        self.open = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.open += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.open -= 1


@dataclass
class Traces:
    """What there is, and what its app has seen.

    Attributes:
        entered: Set once the app has begun with `/slow` or `/stream`.
        go_on: Lets them go on.
    """

    provider: TracerProvider
    exporter: InMemorySpanExporter
    counter: Counter
    host: VerserHost
    broker: VerserBroker = field(init=False)
    seen: list[dict[str, Any]] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def spans(self, kind: SpanKind | None = None, name: str = "") -> list[ReadableSpan]:
        """What has ended, in order of their beginnings; the waits for a lease only if asked for."""
        spans = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [
            span
            for span in spans
            if (kind is None or span.kind is kind) and (span.name == name if name else span.name != WAITING)
        ]

    def one(self, kind: SpanKind, name: str = "") -> ReadableSpan:
        (span,) = self.spans(kind, name)
        return span

    async def all_ended(self) -> None:
        """Until no span is open: the app's and the Host's end behind the answer."""
        await until(lambda: self.counter.open == 0)

    @property
    def opened(self) -> bool:
        return bool(self.counter.open)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append({"baggage": dict(baggage.get_all()), "headers": headers})
        if scope["type"] == "websocket":
            await receive()
            if scope["path"] == "/refuses":
                await send({"type": "websocket.close"})
                return
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        status, body, more = 200, b"hello", [(b"x-app", b"1")]
        if scope["path"] == "/fails":
            raise ValueError("no")
        if scope["path"] == "/busy":
            status = 503
        if scope["path"] == "/missing":
            status = 404
        if scope["path"] == "/moved":
            status, more = 307, [(b"location", f"http://{OTHER}/there?token=secret".encode())]
        if scope["path"] == "/slow":
            self.entered.set()
            if not await self._may_go_on(receive):
                return
        with trace.get_tracer("app", tracer_provider=self.provider).start_as_current_span("of the app"):
            await send({"type": "http.response.start", "status": status, "headers": more})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            self.entered.set()
            await self.go_on.wait()
        await send({"type": "http.response.body", "body": body})

    async def _may_go_on(self, receive: Any) -> bool:
        """Whether it may, or its caller has left."""

        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        waiting = [asyncio.ensure_future(left()), asyncio.ensure_future(self.go_on.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return self.go_on.is_set()

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[GatewayServer]:
        """A traced gateway before the Broker, on a port."""
        app = traced_app(create_gateway(self.broker), tracer_provider=self.provider)
        async with GatewayServer(app, listen="127.0.0.1:0", timeout_graceful_shutdown=1.0) as server:
            yield server


@asynccontextmanager
async def tracing(
    certs: Certificates,
    *,
    guest: dict[str, Any] | None = None,
    app: Any = None,
    traced_broker: bool = True,
    **host_options: Any,
) -> AsyncIterator[Traces]:
    """All of it; `app` instead of the one of `Traces`."""
    exporter, counter, provider = InMemorySpanExporter(), Counter(), TracerProvider()
    provider.add_span_processor(counter)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    host = create_verser_host(
        port=0, tls_cert_file=certs.host, tls_key_file=certs.host_key, allow_anonymous=True, **host_options
    )
    async with host:
        traces = Traces(provider, exporter, counter, host)
        trace_host(host, tracer_provider=provider)
        serving = create_verser_guest(
            host_url=host.url,
            guest_id="guest-a",
            routed_domains=[DOMAIN, OTHER],
            app=traced_app(app or traces.app, tracer_provider=provider),
            lifespan="off",
            tls_ca_file=certs.ca,
            **(guest or {}),
        )
        traces.broker = create_verser_broker(
            host_url=host.url, broker_id="broker-a", tls_ca_file=certs.ca, timeout=30.0
        )
        if traced_broker:
            trace_broker(traces.broker, tracer_provider=provider)
        async with serving, traces.broker:
            await traces.broker.wait_for_route(DOMAIN)
            yield traces
    provider.shutdown()


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def trace_ids(traces: Traces) -> set[str]:
    """Of all spans."""
    return {f"{span.get_span_context().trace_id:032x}" for span in traces.exporter.get_finished_spans()}


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def events_of(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


def told(traces: Traces) -> str:
    """Everything that spans say."""
    return repr(
        [
            (
                span.name,
                dict(span.attributes or {}),
                span.status.description,
                [(event.name, dict(event.attributes or {})) for event in span.events],
            )
            for span in traces.exporter.get_finished_spans()
        ]
    )

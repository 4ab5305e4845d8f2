"""Traces through real Host, Guest and Broker, kept in the SDK's own memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.certificates import Certificates
from verser2_guest_python import (
    LocalHandlerFailureError,
    VerserBroker,
    VerserHost,
    create_verser_broker,
    create_verser_guest,
    create_verser_host,
)
from verser2_guest_python.integrations.gateway import create_gateway
from verser2_guest_python.integrations.otel import trace_broker, trace_host, traced_app

DOMAIN = "a.local.test"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Traces:
    provider: TracerProvider
    exporter: InMemorySpanExporter
    broker: VerserBroker
    host: VerserHost
    seen: list[dict[str, Any]]

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """What has ended, in order of their beginnings."""
        spans = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in spans if kind is None or span.kind is kind]

    def one(self, kind: SpanKind) -> ReadableSpan:
        (span,) = (span for span in self.spans(kind) if span.name != "wait for a lease")
        return span


@asynccontextmanager
async def tracing(certs: Certificates, **host_options: Any) -> AsyncIterator[Traces]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen.append({"baggage": dict(baggage.get_all()), "headers": headers})
        if scope["path"] == "/fails":
            raise ValueError("no")
        with trace.get_tracer("app", tracer_provider=provider).start_as_current_span("of the app"):
            status = 503 if scope["path"] == "/busy" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    host = create_verser_host(
        port=0, tls_cert_file=certs.host, tls_key_file=certs.host_key, allow_anonymous=True, **host_options
    )
    async with host:
        trace_host(host, tracer_provider=provider)
        guest = create_verser_guest(
            host_url=host.url,
            guest_id="guest-a",
            routed_domains=[DOMAIN],
            app=traced_app(app, tracer_provider=provider),
            lifespan="off",
            tls_ca_file=certs.ca,
        )
        broker = create_verser_broker(host_url=host.url, broker_id="broker-a", tls_ca_file=certs.ca)
        trace_broker(broker, tracer_provider=provider)
        async with guest, broker:
            await broker.wait_for_route(DOMAIN)
            yield Traces(provider, exporter, broker, host, seen)
    provider.shutdown()


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


async def finished(traces: Traces, count: int) -> None:
    """Until so many spans have ended: the app's and the Host's end behind the answer."""
    while len(traces.exporter.get_finished_spans()) < count:  # noqa: ASYNC110 - exporters set no events
        await asyncio.sleep(0.01)


async def test_one_trace_crosses_broker_host_guest_and_app(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        response = await traces.broker.get(f"http://{DOMAIN}/items?token=secret")
        assert await response.read() == b"hello"
        await finished(traces, 5)
        client, server = traces.one(SpanKind.CLIENT), traces.one(SpanKind.SERVER)
        of_app = next(span for span in traces.spans() if span.name == "of the app")
        of_host = next(
            span for span in traces.spans() if span.name == "GET" and span.kind is SpanKind.INTERNAL
        )
        waiting = next(span for span in traces.spans() if span.name == "wait for a lease")
        assert len({span.get_span_context().trace_id for span in traces.spans()}) == 1
        assert client.parent is None
        parents = {span: span.parent.span_id for span in (server, of_app, of_host, waiting) if span.parent}
        assert parents == {
            server: id_of(client),
            of_host: id_of(client),
            of_app: id_of(server),
            waiting: id_of(of_host),
        }
        for span in (client, server, of_host):
            attributes = dict(span.attributes or {})
            assert attributes["http.response.status_code"] == 200
            assert attributes["url.path"] == "/items"
            assert attributes["server.address"] == DOMAIN
            assert attributes["verser.request_id"] == response.request_id
            assert "secret" not in repr(attributes)
        assert float(str((of_host.attributes or {})["verser.lease_wait_ms"])) >= 0
        assert "verser.lease_wait_ms" not in (client.attributes or {})


async def test_the_broker_tells_how_long_the_host_says_that_a_request_waited(certs: Certificates) -> None:
    async with tracing(certs, server_timing=True) as traces:
        response = await traces.broker.get(f"http://{DOMAIN}/")
        await response.read()
        await finished(traces, 5)
        (attributes,) = (span.attributes or {} for span in traces.spans(SpanKind.CLIENT))
        assert response.lease_wait is not None
        assert attributes["verser.lease_wait_ms"] == pytest.approx(response.lease_wait * 1_000)


async def test_baggage_passes_through_and_a_context_from_outside_is_the_parent(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        from opentelemetry import context

        token = context.attach(baggage.set_baggage("user", "ann"))
        try:
            await (await traces.broker.get(f"http://{DOMAIN}/")).read()
        finally:
            context.detach(token)
        assert traces.seen[0]["baggage"] == {"user": "ann"}
        assert traces.seen[0]["headers"]["traceparent"].startswith("00-")


async def test_a_gateway_joins_the_trace_of_its_client(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        gateway = traced_app(create_gateway(traces.broker), tracer_provider=traces.provider)
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", DOMAIN.encode()), (b"traceparent", PARENT.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return waiting.pop() if waiting else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await gateway(scope, receive, send)
        assert sent[0]["status"] == 200
        await finished(traces, 6)
        outer, inner = traces.spans(SpanKind.SERVER)
        client = traces.one(SpanKind.CLIENT)
        assert outer.parent is not None
        assert f"{outer.parent.span_id:016x}" in PARENT
        assert f"{inner.get_span_context().trace_id:032x}" in PARENT
        assert client.parent is not None
        assert inner.parent is not None
        assert (client.parent.span_id, inner.parent.span_id) == (id_of(outer), id_of(client))


async def test_what_fails_is_seen_to_have_failed(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        with pytest.raises(LocalHandlerFailureError):
            await traces.broker.get(f"http://{DOMAIN}/fails")
        await finished(traces, 4)
        for kind in (SpanKind.CLIENT, SpanKind.SERVER, SpanKind.INTERNAL):
            assert traces.one(kind).status.status_code is StatusCode.ERROR
        assert (traces.one(SpanKind.CLIENT).attributes or {})["error.type"] == "local-handler-failure"
        traces.exporter.clear()
        await (await traces.broker.get(f"http://{DOMAIN}/busy")).read()
        await finished(traces, 5)
        assert traces.one(SpanKind.SERVER).status.status_code is StatusCode.ERROR


async def test_a_websocket_has_its_span_too(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        async with await traces.broker.websocket(f"ws://{DOMAIN}/room") as socket:
            async for _ in socket:
                pass
        while not traces.spans(SpanKind.SERVER):
            await finished(traces, len(traces.spans()) + 1)
        assert traces.one(SpanKind.SERVER).name == "WEBSOCKET"


async def test_what_has_no_room_for_a_context_is_sent_without(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        headers = {"x-long": "a" * 16_200}
        assert await (await traces.broker.get(f"http://{DOMAIN}/", headers=headers)).read() == b"hello"

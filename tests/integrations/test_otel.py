"""Traces through real gateway, Broker, Host and Guest, kept in the SDK's own memory."""

from __future__ import annotations

import asyncio
import logging

import httpx2
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from websockets.asyncio.client import connect

from tests.broker.test_websockets import scripted
from tests.integrations.traces import (
    DOMAIN,
    OTHER,
    PARENT,
    WAITING,
    attributes_of,
    events_of,
    id_of,
    parent_of,
    told,
    trace_ids,
    tracing,
)
from tests.support.certificates import Certificates
from tests.support.scripted_host import send_head
from tests.support.waiting import until
from verser2_guest_python import (
    LeaseTimeoutError,
    LocalHandlerFailureError,
    MissingGuestError,
    RequestTimeoutError,
    VerserWebSocketError,
    create_verser_broker,
)
from verser2_guest_python.integrations.otel import trace_broker
from verser2_guest_python.integrations.sync import SyncVerserBroker
from verser2_guest_python.wire.websocket_request import parse_websocket_request

URL = f"http://{DOMAIN}"
TRACE_ID = PARENT.split("-")[1]
UNSAMPLED = f"{PARENT[:-2]}00"


# --- One request ------------------------------------------------------------------------------


async def test_one_trace_crosses_gateway_broker_host_guest_and_app(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            answer = await client.get(
                "/items/a%20b?token=secret", headers={"host": f"{DOMAIN}:8080", "traceparent": PARENT}
            )
        assert answer.content == b"hello"
        await traces.all_ended()
        gateway, guest = traces.spans(SpanKind.SERVER)
        broker = traces.one(SpanKind.CLIENT)
        host, of_app = traces.one(SpanKind.INTERNAL, "GET"), traces.one(SpanKind.INTERNAL, "of the app")
        waiting = traces.one(SpanKind.INTERNAL, WAITING)
        assert trace_ids(traces) == {TRACE_ID}
        assert f"{parent_of(gateway):016x}" == PARENT.split("-")[2]
        assert [parent_of(span) for span in (broker, host, guest, waiting, of_app)] == [
            id_of(gateway),
            id_of(broker),
            id_of(host),
            id_of(host),
            id_of(guest),
        ]
        assert len(traces.exporter.get_finished_spans()) == 6
        for span in (gateway, broker, host, guest):
            attributes = attributes_of(span)
            assert span.name == attributes["http.request.method"] == "GET"
            assert (attributes["url.path"], attributes["http.response.status_code"]) == ("/items/a%20b", 200)
            assert (attributes["server.address"], attributes["server.port"]) == (DOMAIN, 8080)
            assert "error.type" not in attributes
            assert span.status.status_code is StatusCode.UNSET
        ids = {attributes_of(span)["verser.request_id"] for span in (broker, host, guest)}
        assert ids == {"broker-a-1"}
        assert attributes_of(broker)["url.full"] == f"http://{DOMAIN}:8080/items/a%20b"
        assert {attributes_of(span).get("verser.route_domain") for span in (broker, host, guest)} == {DOMAIN}
        assert attributes_of(gateway)["network.protocol.version"] == "1.1"
        assert attributes_of(host)["verser.lease_wait_ms"] >= 0
        assert "verser.lease_wait_ms" not in attributes_of(broker)  # nobody tells it
        assert events_of(guest) == events_of(gateway) == ["http.response.start", "http.response.end"]
        assert "secret" not in told(traces)


async def test_the_broker_tells_how_long_the_host_says_that_a_request_waited(certs: Certificates) -> None:
    async with tracing(certs, server_timing=True) as traces:
        response = await traces.broker.get(URL)
        await response.read()
        await traces.all_ended()
        assert response.lease_wait is not None
        said = attributes_of(traces.one(SpanKind.CLIENT))["verser.lease_wait_ms"]
        assert said == pytest.approx(response.lease_wait * 1_000)


async def test_baggage_passes_through(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        token = context.attach(baggage.set_baggage("user", "ann"))
        try:
            await (await traces.broker.get(URL)).read()
        finally:
            context.detach(token)
        assert traces.seen[0]["baggage"] == {"user": "ann"}
        assert traces.seen[0]["headers"]["traceparent"].startswith("00-")
        headers = [
            ("host", DOMAIN),
            ("traceparent", PARENT),
            ("tracestate", "one=1"),
            ("tracestate", "two=2"),
        ]
        headers += [("baggage", "user=eve"), ("baggage", "shop=7")]  # a list may come in several fields
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            await client.get("/", headers=headers)
        assert traces.seen[1]["baggage"] == {"user": "eve", "shop": "7"}
        assert traces.seen[1]["headers"]["tracestate"].replace(" ", "") == "one=1,two=2"


async def test_what_records_nothing_decides_so_for_all(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            await client.get("/", headers={"host": DOMAIN, "traceparent": UNSAMPLED})
        await (await traces.broker.get(URL, headers={"traceparent": UNSAMPLED})).read()
        socket = await traces.broker.websocket(f"ws://{DOMAIN}/", headers={"traceparent": UNSAMPLED})
        await socket.close()
        for seen in traces.seen:
            version, trace_id, _, flags = seen["headers"]["traceparent"].split("-")
            assert (version, trace_id, flags) == ("00", TRACE_ID, "00")
        assert len(traces.seen) == 3
        await traces.all_ended()
        assert traces.exporter.get_finished_spans() == ()


async def test_headers_of_a_request_are_its_parent_where_the_caller_is_in_no_trace(
    certs: Certificates,
) -> None:
    async with tracing(certs) as traces:
        headers = {"traceparent": PARENT, "tracestate": "one=1", "baggage": "user=ann"}
        await (await traces.broker.get(URL, headers=headers)).read()
        await traces.all_ended()
        assert trace_ids(traces) == {TRACE_ID}
        assert traces.seen[0]["headers"]["tracestate"] == "one=1"
        assert traces.seen[0]["baggage"] == {"user": "ann"}
        with trace.get_tracer("t", tracer_provider=traces.provider).start_as_current_span("caller") as caller:
            await (await traces.broker.get(URL, headers=headers)).read()
        await traces.all_ended()
        assert parent_of(traces.spans(SpanKind.CLIENT)[1]) == caller.get_span_context().span_id
        assert "tracestate" not in traces.seen[1]["headers"]  # it was that of the other trace


async def test_a_broker_that_knows_nothing_of_traces_is_behind_none(certs: Certificates) -> None:
    async with tracing(certs, traced_broker=False) as traces:
        await (await traces.broker.get(URL)).read()
        await (await traces.broker.websocket(f"ws://{DOMAIN}/")).close()
        await (await traces.broker.get(URL, headers={"traceparent": PARENT, "baggage": "user=ann"})).read()
        await traces.all_ended()
        of_host = [*traces.spans(SpanKind.INTERNAL, "GET"), traces.one(SpanKind.INTERNAL, "WEBSOCKET")]
        of_guest = [*traces.spans(SpanKind.SERVER, "GET"), traces.one(SpanKind.SERVER, "WEBSOCKET")]
        assert [parent_of(span) for span in of_guest] == [id_of(span) for span in of_host]
        assert parent_of(of_host[0]) is parent_of(of_host[2]) is None
        assert f"{parent_of(of_host[1]):016x}" == PARENT.split("-")[2]
        assert [seen["baggage"] for seen in traces.seen] == [{}, {}, {"user": "ann"}]
        assert traces.seen[1]["headers"]["host"] == DOMAIN


async def test_a_synchronous_caller_is_the_parent_too(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        inner = create_verser_broker(host_url=traces.host.url, broker_id="broker-b", tls_ca_file=certs.ca)
        trace_broker(inner, tracer_provider=traces.provider)
        tracer = trace.get_tracer("t", tracer_provider=traces.provider)

        def call() -> int:
            with SyncVerserBroker(inner) as broker, tracer.start_as_current_span("caller") as caller:
                broker.wait_for_route(DOMAIN)
                assert broker.get(URL).read() == b"hello"
                with broker.websocket(f"ws://{DOMAIN}/"):
                    return caller.get_span_context().span_id

        caller_id = await asyncio.to_thread(call)
        await traces.all_ended()
        assert [parent_of(span) for span in traces.spans(SpanKind.CLIENT)] == [caller_id] * 2


async def test_an_answer_that_streams(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        async with (
            httpx2.AsyncClient(base_url=server.url, trust_env=False) as client,
            client.stream("GET", "/stream", headers={"host": DOMAIN}) as answer,
        ):
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"first"
            ended = {(span.kind, span.name) for span in traces.spans()}
            assert ended == {(SpanKind.CLIENT, "GET"), (SpanKind.INTERNAL, "of the app")}
            traces.go_on.set()
            assert b"".join([piece async for piece in pieces]) == b"hello"
        await traces.all_ended()
        gateway, guest = traces.spans(SpanKind.SERVER)
        host, broker = traces.one(SpanKind.INTERNAL, "GET"), traces.one(SpanKind.CLIENT)
        for span in (gateway, guest, host):
            assert (span.end_time or 0) > (broker.end_time or 0)
            assert events_of(span)[0] == "http.response.start"
        assert gateway.events[1].timestamp > gateway.events[0].timestamp


async def test_what_has_no_room_for_a_context_is_sent_without(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        headers = {"x-long": "a" * 16_200}
        assert await (await traces.broker.get(URL, headers=headers)).read() == b"hello"
        assert "traceparent" not in traces.seen[0]["headers"]
        for size, kept in ((16_200, True), (62_450, False)):
            traces.exporter.clear()
            headers = {"x-long": "a" * size}
            await (await traces.broker.websocket(f"ws://{DOMAIN}/", headers=headers)).close()
            await traces.all_ended()
            assert (parent_of(traces.one(SpanKind.INTERNAL)) is not None) is kept


# --- What fails -------------------------------------------------------------------------------


async def test_what_fails_is_seen_to_have_failed(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        with pytest.raises(LocalHandlerFailureError):
            await traces.broker.get(f"{URL}/fails")
        await traces.all_ended()
        for kind in (SpanKind.CLIENT, SpanKind.SERVER, SpanKind.INTERNAL):
            assert traces.one(kind).status.status_code is StatusCode.ERROR
        assert attributes_of(traces.one(SpanKind.CLIENT))["error.type"] == "local-handler-failure"
        assert attributes_of(traces.one(SpanKind.INTERNAL))["error.type"] == "local-handler-failure"
        assert attributes_of(traces.one(SpanKind.SERVER))["error.type"] == "ValueError"


@pytest.mark.parametrize(("path", "status", "server_fails"), [("/busy", 503, True), ("/missing", 404, False)])
async def test_a_status_that_says_so(
    certs: Certificates, path: str, status: int, *, server_fails: bool
) -> None:
    async with tracing(certs) as traces:
        await (await traces.broker.get(f"{URL}{path}")).read()
        await traces.all_ended()
        client, server = traces.one(SpanKind.CLIENT), traces.one(SpanKind.SERVER)
        host = traces.one(SpanKind.INTERNAL, "GET")
        for span in (client, server, host):
            fails = server_fails or span is client  # 4xx is the caller's mistake
            assert attributes_of(span)["http.response.status_code"] == status
            assert attributes_of(span).get("error.type") == (str(status) if fails else None)
            assert span.status.status_code is (StatusCode.ERROR if fails else StatusCode.UNSET)


async def test_nobody_serves_the_domain(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            answer = await client.get("/?token=secret", headers={"host": "nobody.test"})
        assert answer.status_code == 404
        with pytest.raises(MissingGuestError):
            await traces.broker.get("http://nobody.test/?token=secret")
        await traces.all_ended()
        gateway = traces.one(SpanKind.SERVER)
        assert attributes_of(gateway)["http.response.status_code"] == 404
        client_span = traces.spans(SpanKind.CLIENT)[-1]
        assert attributes_of(client_span)["error.type"] == "missing-guest"
        assert client_span.status.status_code is StatusCode.ERROR
        assert client_span.status.description
        assert traces.spans(name=WAITING) == []
        assert "secret" not in told(traces)


async def test_a_request_out_of_time(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        call = asyncio.ensure_future(traces.broker.get(f"{URL}/slow?token=secret", timeout=1.0))
        await traces.entered.wait()
        with pytest.raises(RequestTimeoutError):
            await call
        await traces.all_ended()
        kinds = (SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.SERVER)
        found = {kind: attributes_of(traces.one(kind)).get("error.type") for kind in kinds}
        assert found == {
            SpanKind.CLIENT: "timeout",
            SpanKind.INTERNAL: "cancelled",
            SpanKind.SERVER: "cancelled",
        }
        assert "within 1 s" in (traces.one(SpanKind.CLIENT).status.description or "")
        assert "secret" not in told(traces)


async def test_a_request_that_is_cancelled(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        call = asyncio.ensure_future(traces.broker.get(f"{URL}/slow"))
        await traces.entered.wait()
        assert traces.opened
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await traces.all_ended()
        for kind in (SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.SERVER):
            assert attributes_of(traces.one(kind))["error.type"] == "cancelled"


async def test_a_client_of_the_gateway_that_leaves(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            call = asyncio.ensure_future(client.get("/slow", headers={"host": DOMAIN}))
            await traces.entered.wait()
            call.cancel()
            await asyncio.wait([call])
        await traces.all_ended()
        spans = [*traces.spans(SpanKind.SERVER), *traces.spans(SpanKind.CLIENT)]
        assert [attributes_of(span)["error.type"] for span in spans] == ["cancelled"] * 3
        assert {span.status.status_code for span in spans} == {StatusCode.ERROR}


# --- What is sent again -----------------------------------------------------------------------


async def test_a_redirect_has_a_span_for_each_try(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        with trace.get_tracer("t", tracer_provider=traces.provider).start_as_current_span("caller") as caller:
            answer = await traces.broker.get(f"{URL}/moved")
            await answer.read()
        assert answer.status == 200
        await traces.all_ended()
        tries = traces.spans(SpanKind.CLIENT)
        assert [parent_of(span) for span in tries] == [caller.get_span_context().span_id] * 2
        assert [attributes_of(span)["http.response.status_code"] for span in tries] == [307, 200]
        assert [attributes_of(span)["server.address"] for span in tries] == [DOMAIN, OTHER]
        assert [attributes_of(span).get("http.request.resend_count") for span in tries] == [None, 1]
        of_host = traces.spans(SpanKind.INTERNAL, "GET")
        assert [parent_of(span) for span in of_host] == [id_of(one) for one in tries]
        assert [parent_of(span) for span in traces.spans(SpanKind.SERVER)] == [id_of(one) for one in of_host]
        assert {span.status.status_code for span in tries} == {StatusCode.UNSET}
        assert "secret" not in told(traces)


async def test_retries_and_waits_for_leases_have_spans(certs: Certificates) -> None:
    one_at_a_time = {"limit_concurrency": 1, "min_waiting_streams": 1}
    async with tracing(certs, guest=one_at_a_time) as traces:
        busy = asyncio.ensure_future(traces.broker.get(f"{URL}/slow"))
        await traces.entered.wait()
        with pytest.raises(LeaseTimeoutError):
            await traces.broker.get(URL, retries=1, lease_timeout=0.05)
        failed = traces.spans(SpanKind.CLIENT)
        assert [attributes_of(span)["error.type"] for span in failed] == ["timeout", "timeout"]
        assert [attributes_of(span).get("http.request.resend_count") for span in failed] == [None, 1]
        waits = [span for span in traces.spans(name=WAITING) if (span.end_time or 0) > (span.start_time or 0)]
        of_host = [
            span for span in traces.spans(SpanKind.INTERNAL, "GET") if "error.type" in attributes_of(span)
        ]
        assert [parent_of(span) for span in of_host] == [id_of(span) for span in failed]
        for span, waiting in zip(of_host, waits[-2:], strict=True):
            assert parent_of(waiting) == id_of(span)
            assert attributes_of(span)["verser.lease_wait_ms"] >= 40
        traces.go_on.set()
        await (await busy).read()


# --- WebSockets -------------------------------------------------------------------------------


async def test_a_websocket_is_one_trace_from_gateway_to_app(certs: Certificates) -> None:
    async with tracing(certs) as traces, traces.gateway() as server:
        url, headers = f"ws://{DOMAIN}/room?token=secret", {"traceparent": PARENT, "baggage": "user=ann"}
        address = {"host": "127.0.0.1", "port": server.port}
        async with connect(url, additional_headers=headers, proxy=None, **address) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            await until(lambda: bool(traces.spans(SpanKind.CLIENT)))  # it is open
        await traces.all_ended()
        gateway, guest = traces.spans(SpanKind.SERVER)
        broker, host = traces.one(SpanKind.CLIENT), traces.one(SpanKind.INTERNAL)
        assert trace_ids(traces) == {TRACE_ID}
        parents = [parent_of(span) for span in (broker, host, guest)]
        assert parents == [id_of(gateway), id_of(broker), id_of(host)]
        assert traces.seen[0]["baggage"] == {"user": "ann"}
        for span in (gateway, broker, host, guest):
            attributes = attributes_of(span)
            assert span.name == "WEBSOCKET"
            assert attributes["http.request.method"] == "GET"
            assert attributes["http.response.status_code"] == 101
            assert attributes["network.protocol.name"] == "websocket"
            assert (attributes["url.path"], attributes["server.address"]) == ("/room", DOMAIN)
            assert attributes.get("url.scheme", "ws") == "ws"
            assert span.status.status_code is StatusCode.UNSET
        assert "secret" not in told(traces)


async def test_a_websocket_that_is_refused(certs: Certificates) -> None:
    async with tracing(certs) as traces:
        with pytest.raises(VerserWebSocketError):
            await traces.broker.websocket(f"ws://{DOMAIN}/refuses?token=secret")
        with pytest.raises(VerserWebSocketError):
            await traces.broker.websocket("ws://nobody.test/?token=secret")
        await traces.all_ended()
        refused, unknown = traces.spans(SpanKind.CLIENT)
        assert attributes_of(refused)["error.type"] == "missing-guest"
        for span in (refused, traces.one(SpanKind.SERVER)):
            assert attributes_of(span)["http.response.status_code"] == 403
        assert attributes_of(unknown)["error.type"] == "missing-guest"
        assert parent_of(traces.one(SpanKind.INTERNAL)) == id_of(refused)
        assert "secret" not in told(traces)


async def test_a_websocket_that_finds_no_lease_is_in_its_trace(certs: Certificates) -> None:
    async with tracing(certs, guest={"max_websocket_streams": 1}) as traces:
        first = await traces.broker.websocket(f"ws://{DOMAIN}/")
        with pytest.raises(VerserWebSocketError):
            await traces.broker.websocket(f"ws://{DOMAIN}/", lease_timeout=0.05)
        failed = traces.spans(SpanKind.CLIENT)[1]
        assert attributes_of(failed)["error.type"] == "websocket-negotiation-failed"
        tries = traces.spans(SpanKind.INTERNAL)
        assert {parent_of(span) for span in tries} == {id_of(failed)}  # one span, however many tries
        await first.close()


async def test_a_host_that_takes_no_headers_gets_none_and_nobody_is_warned(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider()
    async with scripted(certs, extensions=[]) as (host, broker):
        trace_broker(broker, tracer_provider=provider)
        opening = asyncio.ensure_future(broker.websocket("ws://a.local.test/"))
        stream = await host.accept("/verser/websocket")
        assert parse_websocket_request(await stream.wait_fields()).headers is None
        send_head(stream, 200, {})
        (await opening).abort()
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    provider.shutdown()


# --- Names ------------------------------------------------------------------------------------


async def test_methods_that_are_none_of_https(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tracing(certs) as traces:
        await (await traces.broker.request("PURGE", URL)).read()
        await traces.all_ended()
        for span in (traces.one(SpanKind.CLIENT), traces.one(SpanKind.SERVER)):
            assert span.name == "HTTP"
            assert attributes_of(span)["http.request.method"] == "_OTHER"
            assert attributes_of(span)["http.request.method_original"] == "PURGE"
        traces.exporter.clear()
        monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET,PURGE")
        await (await traces.broker.request("PURGE", URL)).read()
        await traces.all_ended()
        assert traces.one(SpanKind.CLIENT).name == "PURGE"


async def test_the_route_of_a_framework_is_in_the_name(certs: Certificates) -> None:
    from fastapi import APIRouter, FastAPI

    app, router = FastAPI(), APIRouter(prefix="/shop")

    @router.get("/items/{number}")
    def item(number: int) -> int:
        return number

    app.include_router(router)
    async with tracing(certs, app=app) as traces:
        assert await (await traces.broker.get(f"{URL}/shop/items/7")).read() == b"7"
        await (await traces.broker.get(f"{URL}/nothing")).read()
        await traces.all_ended()
        found, unknown = traces.spans(SpanKind.SERVER)
        assert found.name == "GET /shop/items/{number}"
        assert attributes_of(found)["http.route"] == "/shop/items/{number}"
        assert (unknown.name, "http.route" in attributes_of(unknown)) == ("GET", False)

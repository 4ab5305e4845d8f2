"""The gateway's own answers: which status for which trouble, on a page for people or as JSON."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.gateway.gateways import PUBLIC, gateway_at, gateway_before
from tests.gateway.raw import connected, statuses
from tests.integrations.apps import BLOCK, Diary, make_app
from tests.integrations.stacks import DOMAIN, broker_behind, guest_at, host_at
from tests.support.certificates import Certificates
from tests.support.clock import Clock
from tests.support.waiting import until
from verser2_guest_python import create_verser_broker
from verser2_guest_python.errors import WIRE_CODES, error_for
from verser2_guest_python.integrations.gateway import GatewayLimits
from verser2_guest_python.integrations.gateway.pages import page
from verser2_guest_python.integrations.gateway.refusal import Refusal, refusal_for


async def test_an_unknown_name(certs: Certificates) -> None:
    async with gateway_at(certs) as place, place.client("nobody.test") as client:
        response = await client.get("/", headers={"accept": "text/html,*/*"})
        assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "nobody.test" in response.text
        assert response.headers["x-request-id"] in response.text
        assert DOMAIN not in response.text
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        response = await client.get("/")
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        assert (error["code"], error["requestId"]) == ("missing-guest", response.headers["x-request-id"])
        assert DOMAIN not in response.text
        response = await client.head("/")
        assert (response.status_code, response.content) == (404, b"")
        sizes = [record.bytes_out for record in await place.recorded(3)]
        assert sizes[0] > sizes[1] > sizes[2] == 0


async def test_routes_are_listed_only_if_asked_for(certs: Certificates) -> None:
    names: dict[str, Any] = {"maps": {PUBLIC: DOMAIN, "x.test": "away.test"}, "list_routes": True}
    async with gateway_at(certs, **names) as place, place.client("nobody.test") as client:
        assert DOMAIN in (await client.get("/", headers={"accept": "text/html"})).text
        assert (await client.get("/")).json()["error"]["routes"] == [DOMAIN, PUBLIC]
    async with gateway_at(certs, only_mapped=True, **names) as place, place.client("nobody.test") as client:
        assert (await client.get("/")).json()["error"]["routes"] == [PUBLIC]
        assert (await client.get("/", headers={"host": DOMAIN})).status_code == 404
        assert (await client.get("/", headers={"host": PUBLIC})).status_code == 200
        assert (await client.get("/", headers={"host": "x.test"})).status_code == 503


def test_pages_escape_what_the_client_said() -> None:
    refusal = Refusal(404, "missing-guest", "<script>alert(1)</script>", request_id='"><b>')
    _, body = page(refusal, b"text/html", ["<i>"])
    for tag in (b"<script", b"<b>", b"<i>"):
        assert tag not in body


@pytest.mark.parametrize("code", sorted(WIRE_CODES))
def test_each_error_of_the_host_has_its_status(code: str) -> None:
    expected = {"missing-guest": 503, "timeout": 503, "authorization-denied": 403}
    refusal = refusal_for(error_for(code, "secret names", {"requestId": "broker-1"}), "a.test")
    assert refusal.status == expected.get(code, 502)
    assert (refusal.request_id, refusal.detail) == ("broker-1", "secret names")
    assert "secret" not in refusal.sentence
    assert ("retry-after" in refusal.headers) == (refusal.status == 503)


async def test_an_app_that_fails_and_an_app_that_is_cut_off(certs: Certificates) -> None:
    async with gateway_at(certs, app=_failing) as place, place.client() as client:
        response = await client.get("/fail")
        assert (response.status_code, response.json()["error"]["code"]) == (502, "local-handler-failure")
        for path in ("/cut", "/cut-unsized"):
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(path)
        records = await place.recorded(3)
        assert [record.status for record in records] == [502, 200, 200]
        assert all(record.reason and record.request_id for record in records)


async def _failing(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] != "/fail":
        headers = [(b"content-length", b"10000000")] if scope["path"] == "/cut" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BLOCK * 64, "more_body": True})
    raise RuntimeError("the app failed")


async def test_busy_and_late_apps(certs: Certificates) -> None:
    diary = Diary()
    async with (
        host_at(certs) as host,
        guest_at(host, certs, make_app(diary), limit_concurrency=1, min_waiting_streams=1),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, lease_timeout=0.05) as broker,
        gateway_before(broker, limits=GatewayLimits(timeout=1.0)) as place,
        place.client() as client,
    ):
        first = asyncio.create_task(client.get("/wait"))
        await until(lambda: diary.events == ["waiting"])
        busy = await client.get("/")
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
        late = await first
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")


async def test_only_so_many_at_a_time(certs: Certificates) -> None:
    async with (
        gateway_at(certs, limits=GatewayLimits(limit_concurrency=1)) as place,
        place.client() as client,
    ):
        first = asyncio.create_task(client.get("/wait"))
        await until(lambda: place.diary.events == ["waiting"])
        response = await client.get("/")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "gateway-busy")
        place.diary.go_on.set()
        assert (await first).status_code == 200
        assert (await client.get("/")).status_code == 200


async def test_bodies_that_are_too_long(certs: Certificates) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(200):
            yield BLOCK

    limits = GatewayLimits(max_body_bytes=3 * len(BLOCK))
    async with gateway_at(certs, limits=limits) as place, place.client() as client:
        assert (await client.post("/count", content=BLOCK * 3)).text == str(3 * len(BLOCK))
        response = await client.post("/count", content=BLOCK * 3 + b"x")
        assert (response.status_code, response.headers["connection"]) == (413, "close")
        response = await client.post("/count", content=pieces())
        assert response.status_code == 413
        assert (await client.get("/")).status_code == 200
        await until(lambda: place.diary.active == 0)


async def test_heads_that_are_too_large(certs: Certificates) -> None:
    head = f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n".encode()
    end = b"Connection: close\r\n\r\n"
    async with gateway_at(certs, limits=GatewayLimits(max_header_bytes=8_192)) as place:
        assert await statuses(place.port, head + b"Cookie: " + b"x" * 7_000 + b"\r\n" + end) == [200]
        for long in (
            head + b"Cookie: " + b"x" * 9_000 + b"\r\n" + end,
            head + b"X: y\r\n" * 2_000 + end,
            head + b"Cookie: " + b"x" * 500_000,  # without an end
            head.replace(b"GET /", b"GET /" + b"x" * 9_000) + end,
            b"GET /" + b"x" * 500_000,
        ):
            assert await statuses(place.port, long) == [431]
        chunked = (
            head.replace(b"GET /", b"POST /count") + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        )
        assert await statuses(place.port, chunked + b"X: y\r\n" * 2_000 + b"\r\n") == [431]
        assert await statuses(place.port, chunked + b"X: " + b"y" * 500_000) == [431]
    async with gateway_at(certs, limits=GatewayLimits(max_header_bytes=60_000)) as place:
        assert await statuses(place.port, head + b"Cookie: " + b"x" * 20_000 + b"\r\n" + end) == [431]


async def test_slow_clients(certs: Certificates) -> None:
    head = f"POST /count HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 9\r\n".encode()
    async with gateway_at(certs, limits=GatewayLimits(head_timeout=0.2, read_timeout=0.2)) as place:
        assert await statuses(place.port, head) == [408]
        assert await statuses(place.port, b"") == []
        assert await statuses(place.port, head + b"\r\nhalf") == [408]
        await until(lambda: place.diary.active == 0)


async def test_an_app_has_its_time_from_the_last_piece_of_the_request(certs: Certificates) -> None:
    head = f"POST /describe/ HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 6\r\n\r\n".encode()
    async with gateway_at(certs, limits=GatewayLimits(timeout=12.0)) as place, connected(place.port) as raw:
        clock = Clock()
        raw.say(head + b"abc")
        await until(lambda: place.diary.active == 1)
        await clock.forward(12.1)
        raw.say(b"def")
        status, body = await raw.answer()
        assert (status, b'"text":"abcdef"' in body) == (200, True)


async def test_a_request_that_is_cut_off_by_the_end_is_told_so(certs: Certificates) -> None:
    async with AsyncExitStack() as clients:
        async with gateway_at(certs) as place:
            raw = await clients.enter_async_context(connected(place.port))
            raw.say(b"GET /wait HTTP/1.1\r\nHost: " + DOMAIN.encode() + b"\r\n\r\n")
            await until(lambda: place.diary.active == 1)
        status, body = await raw.answer()
        [record] = await place.recorded(1)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["requestId"]) == (502, "gateway-stopped", record.request_id)
    assert (record.status, record.code) == (502, "gateway-stopped")
    assert record.reason == "The gateway was stopped before the app had answered."


async def test_a_host_that_is_away(certs: Certificates) -> None:
    names = {"maps": {PUBLIC: DOMAIN}}
    async with broker_behind(make_app(), certs) as broker, gateway_before(broker, **names) as place:
        await broker.close()
        async with place.client(PUBLIC) as client:
            assert (await client.get("/")).status_code == 502

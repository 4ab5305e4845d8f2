"""Requests as they leave: fields, URLs, headers, sizes, limits of time and of streams (protocol.md §7)."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.clock import Clock
from tests.support.scripted_host import ScriptedHost, allow_streams, answer, read_all, send_head
from verser2_guest_python import (
    RequestTimeoutError,
    VerserBroker,
    VerserError,
    VerserProtocolError,
    VerserUsageError,
    create_verser_broker,
)
from verser2_guest_python.errors import RequestHeadTooLargeError
from verser2_guest_python.http2 import ErrorCode, SessionOptions, StreamReset
from verser2_guest_python.wire.broker_request import BrokerRequest

URL = f"http://{DOMAIN}/"


async def seen(
    host: ScriptedHost, broker: VerserBroker, method: str, url: str, **options: Any
) -> BrokerRequest:
    """The request as it arrives at the Host."""
    call = asyncio.create_task(broker.request(method, url, **options))
    stream, request = await host.accept_request()
    await read_all(stream)
    await answer(stream, 204)
    await (await call).read()
    return request


@pytest.mark.both_loops
async def test_the_fields_of_a_request(certs: Certificates) -> None:
    async with scripted(certs, broker={"broker_id": " broker-a "}) as (host, broker):
        call = asyncio.create_task(broker.get(f"https://{DOMAIN}/items?q=1", headers={"X-One": "1"}))
        stream = await host.accept("/verser/request")
        fields = dict(stream.fields or ())
        assert fields.pop(b":authority") == f"localhost:{host.port}".encode()
        assert json.loads(fields.pop(b"x-verser-headers")) == {"host": DOMAIN, "x-one": "1"}
        assert fields == {
            b":method": b"POST",
            b":scheme": b"https",
            b":path": b"/verser/request",
            b"x-verser-request-id": b"broker-a-1",
            b"x-verser-source-id": b"broker-a",
            b"x-verser-target-id": b"guest-a",
            b"x-verser-route-domain": DOMAIN.encode(),
            b"x-verser-method": b"GET",
            b"x-verser-path": b"/items?q=1",
        }
        await answer(stream, 200, {"x-two": "2"}, b"body")
        response = await call
        assert (response.status, response.reason, response.ok) == (200, "OK", True)
        assert (response.request_id, response.target_id) == ("broker-a-1", "guest-a")


@pytest.mark.parametrize(
    ("method", "given"),
    [(name, name.upper()) for name in ("get", "post", "put", "patch", "delete", "head", "options")],
)
async def test_methods(certs: Certificates, method: str, given: str) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(getattr(broker, method)(URL, headers={"a": "b"}, timeout=5))
        stream, request = await host.accept_request()
        assert (request.method, request.headers["a"]) == (given, "b")
        await answer(stream, 200)
        await (await call).read()
        assert (await seen(host, broker, "purge", URL)).method == "PURGE"


@pytest.mark.parametrize(
    ("url", "path", "host_header"),
    [
        (f"http://{DOMAIN}", "/", DOMAIN),
        (f"{DOMAIN}/a/b?c=d&e", "/a/b?c=d&e", DOMAIN),
        (f"HTTPS://{DOMAIN}?q=http://x/", "/?q=http://x/", DOMAIN),
        (f"{DOMAIN}/go?to=https://x.test/#top", "/go?to=https://x.test/", DOMAIN),
        (f"http://{DOMAIN}:8443/", "/", f"{DOMAIN}:8443"),
        ("http://A.Local.Test./x", "/x", "A.Local.Test."),
        (f"http://{DOMAIN}/grün/a b?ä=ß", "/gr%C3%BCn/a%20b?%C3%A4=%C3%9F", DOMAIN),
        (f"http://{DOMAIN}/%2F%e4/100%", "/%2F%e4/100%", DOMAIN),
        (f'http://{DOMAIN}/<a>"\\^`{{|}}', "/%3Ca%3E%22%5C%5E%60%7B%7C%7D", DOMAIN),
        (f"http://{DOMAIN}/a\nb\x7f", "/a%0Ab%7F", DOMAIN),
        (f"http://{DOMAIN}/a;b@c:d/[1]!$&'()*+,=~", "/a;b@c:d/[1]!$&'()*+,=~", DOMAIN),
    ],
)
async def test_urls(certs: Certificates, url: str, path: str, host_header: str) -> None:
    async with scripted(certs) as (host, broker):
        request = await seen(host, broker, "GET", url)
        assert (request.path, request.headers["host"]) == (path, host_header)
        assert request.route_domain == DOMAIN


async def test_international_domains(certs: Certificates) -> None:
    async with scripted(certs, routes=[("guest-a", "xn--bcher-kva.example")]) as (host, broker):
        request = await seen(host, broker, "GET", "http://Bücher.example:80/ü")
        assert request.headers["host"] == "xn--bcher-kva.example:80"
        assert request.path == "/%C3%BC"
        await broker.wait_for_route("bücher.example")


@pytest.mark.parametrize(
    "url",
    [
        "", "/path", "http://", "http:///x", "ftp://a.local.test/", "http://user:secret@a.local.test/",
        "http://a b.test/", "http://a.test:port/", "http://[::1/", "http://a.test\r\n/", "http://\ud800.test/",
        "http://a.local.test/\ud800",
    ],
)  # fmt: skip
async def test_urls_that_are_none(certs: Certificates, url: str) -> None:
    async with scripted(certs) as (_host, broker):
        with pytest.raises(VerserUsageError) as caught:
            await broker.get(url)
        assert "secret" not in caught.value.message


async def test_a_route_domain_of_its_own(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        request = await seen(host, broker, "GET", "http://www.example.test/x", route_domain=DOMAIN)
        assert (request.route_domain, request.headers["host"]) == (DOMAIN, "www.example.test")
        request = await seen(host, broker, "GET", "/x?y", route_domain=DOMAIN)
        assert (request.path, request.headers["host"]) == ("/x?y", DOMAIN)
        request = await seen(host, broker, "OPTIONS", "*", route_domain=DOMAIN)
        assert request.path == "*"


async def test_headers_in_all_forms(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        expected = {"host": DOMAIN, "x-list": "a,b", "cookie": "c=1; d=2", "x-latin": "é"}
        given = {"X-List": ["a", "b"], "Cookie": ["c=1", "d=2"], "x-latin": "é"}
        assert (await seen(host, broker, "GET", URL, headers=given)).headers == expected
        pairs = [("x-list", "a"), ("cookie", "c=1"), ("X-List", " b "), ("cookie", "d=2"), ("x-latin", "é")]
        assert (await seen(host, broker, "GET", URL, headers=pairs)).headers == expected
        assert (await seen(host, broker, "GET", URL, headers={"Host": "other"})).headers["host"] == "other"


async def test_hop_by_hop_headers_do_not_leave(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        headers = {"Connection": "keep-alive, X-Mine", "Keep-Alive": "5", "Upgrade": "x", "TE": "trailers"}
        headers |= {"X-Mine": "1", "Transfer-Encoding": "chunked", "X-Kept": "1"}
        assert (await seen(host, broker, "GET", URL, headers=headers)).headers == {
            "host": DOMAIN,
            "x-kept": "1",
        }


@pytest.mark.parametrize(
    "headers",
    [
        {"bad name": "x"}, {"": "x"}, {"x": "a\r\nb: c"}, {"x": "\0"}, {"x": "€"}, {"x": 5}, {"x": None},
        {5: "x"}, [("a", "b", "c")], ["ab", "c"], {"x": [1]},
    ],
)  # fmt: skip
async def test_headers_that_cannot_be_said(certs: Certificates, headers: Any) -> None:
    async with scripted(certs) as (host, broker):
        with pytest.raises((VerserUsageError, VerserProtocolError)):
            await broker.get(URL, headers=headers)
        assert host.session.open_streams == 1


@pytest.mark.parametrize("options", [{"headers": {"x": "y" * 66_000}}, {"headers": {"x": "é" * 12_000}}])
async def test_a_head_that_is_too_large_does_not_leave(certs: Certificates, options: dict[str, Any]) -> None:
    async with scripted(certs) as (host, broker):
        with pytest.raises(RequestHeadTooLargeError, match="shorter"):
            await broker.get(URL, **options)
        with pytest.raises(RequestHeadTooLargeError, match="shorter"):
            await broker.get(f"{URL}{'x' * 66_000}")
        request = await seen(host, broker, "GET", URL, headers={"x": "y" * 60_000})
        assert len(request.headers["x"]) == 60_000


async def test_a_guest_whose_id_is_not_ascii_cannot_be_called(certs: Certificates) -> None:
    async with scripted(certs, routes=[("gäst", DOMAIN)]) as (host, broker):
        with pytest.raises(VerserProtocolError, match="ASCII"):
            await broker.get(URL)
        assert broker.connected
        assert host.session.open_streams == 1


async def test_lease_timeout(certs: Certificates) -> None:
    async with scripted(certs, broker={"lease_timeout": 2.5}) as (host, broker):
        assert (await seen(host, broker, "GET", URL)).lease_timeout_ms == 2_500
        assert (await seen(host, broker, "GET", URL, lease_timeout=0.0001)).lease_timeout_ms == 1
        with pytest.raises(VerserUsageError, match="lease_timeout"):
            await broker.get(URL, lease_timeout=0)


async def test_an_answer_that_does_not_come_in_time(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL, timeout=0.3))
        stream = await host.accept("/verser/request")
        with pytest.raises(RequestTimeoutError, match=r"within 0\.3 s"):
            await call
        error = await stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL


async def test_the_time_limit_holds_between_two_pieces_of_a_body(certs: Certificates) -> None:
    async with scripted(certs, broker={"timeout": 12.0}) as (host, broker):
        clock = Clock()
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        send_head(stream, 200)
        await stream.write(b"first")
        reading = asyncio.create_task((await call).read())
        await clock.forward(0)  # it reads now
        await clock.forward(12.1)
        with pytest.raises(RequestTimeoutError, match="next piece"):
            await reading
        assert isinstance(await stream.wait_error(), StreamReset)


@pytest.mark.both_loops
async def test_a_limit_for_all_of_it(certs: Certificates) -> None:
    async with scripted(certs, broker={"total_timeout": 1.5}) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        with pytest.raises(RequestTimeoutError, match=r"within 1\.5 s"):
            await call
        call = asyncio.create_task(broker.get(URL, timeout=60))
        stream = await host.accept("/verser/request")
        send_head(stream, 200)
        response = await call

        async def drip() -> None:
            while True:
                await stream.write(b"x")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        with pytest.raises(RequestTimeoutError, match="not complete within its total_timeout"):
            await response.read()
        assert isinstance(await stream.wait_error(), StreamReset)
        await asyncio.wait([dripping])
        dripping.exception()


async def test_limits_may_be_lifted_for_one_request(certs: Certificates) -> None:
    limits = {"timeout": 0.01, "total_timeout": 0.01}
    async with scripted(certs, broker=limits) as (host, broker):
        call = asyncio.create_task(broker.get(URL, timeout=math.inf, total_timeout=math.inf))
        stream = await host.accept("/verser/request")
        await asyncio.sleep(0.05)
        send_head(stream, 200)
        response = await call
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0.05)
        await stream.write(b"late", end=True)
        assert await reading == b"late"
        for wrong in ({"timeout": 0}, {"total_timeout": -1}):
            with pytest.raises(VerserUsageError, match="timeout"):
                await broker.get(URL, **wrong)


async def test_a_timeout_error_of_the_callers_body_stays_what_it_is(certs: Certificates) -> None:
    async def body() -> Any:
        yield b"x"
        raise TimeoutError("of the body")

    async with scripted(certs) as (_host, broker):
        with pytest.raises(TimeoutError, match="of the body"):
            await broker.post(URL, body=body(), timeout=30)


@pytest.mark.parametrize("stage", ["before the headers", "in the body"])
async def test_cancelling_the_caller_cancels_the_request(certs: Certificates, stage: str) -> None:
    async with scripted(certs) as (host, broker):

        async def fetch() -> bytes:
            return await (await broker.get(URL)).read()

        call = asyncio.create_task(fetch())
        stream = await host.accept("/verser/request")
        if stage == "in the body":
            send_head(stream, 200)
            await stream.write(b"half")
            await host.session.ping()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        error = await stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL


async def test_requests_wait_for_room_where_the_host_allows_few_streams(certs: Certificates) -> None:
    few = SessionOptions(max_concurrent_streams=3)  # the control stream is one of them
    async with scripted(certs, options=few) as (host, broker):

        async def fetch(number: int) -> bytes:
            return await (await broker.get(f"{URL}{number}")).read()

        calls = [asyncio.create_task(fetch(number)) for number in range(20)]
        held = [await host.accept_request(), await host.accept_request()]
        given_up = calls.pop(5)
        given_up.cancel()
        await asyncio.wait([given_up])
        for waiting in range(len(calls) - len(held), -len(held), -1):
            stream, request = held.pop(0)
            await answer(stream, 200, (), request.path.encode())
            if waiting > 0:
                held.append(await host.accept_request())
        assert await asyncio.gather(*calls) == [b"/%d" % number for number in range(20) if number != 5]


async def test_requests_that_wait_leave_when_the_host_allows_more_streams(certs: Certificates) -> None:
    """As it may at any time (protocol.md §12.6): no other request has to end for that."""
    async with scripted(certs) as (host, broker):
        allow_streams(host.session, 2)  # the control stream is one of them
        await host.session.ping()
        calls = [asyncio.create_task(broker.get(f"{URL}{number}")) for number in range(4)]
        held = [await host.accept_request()]
        await host.session.ping()
        assert host.session.open_streams == 2
        allow_streams(host.session, 4)
        held += [await host.accept_request(), await host.accept_request()]
        await host.session.ping()
        assert host.session.open_streams == 4
        allow_streams(host.session, 100)
        held.append(await host.accept_request())
        assert [request.path for _, request in held] == ["/0", "/1", "/2", "/3"]
        for stream, _ in held:
            await answer(stream, 200)
        for call in calls:
            assert (await call).status == 200


async def test_no_room_at_all_is_an_error(certs: Certificates) -> None:
    async with scripted(certs, options=SessionOptions(max_concurrent_streams=1)) as (_host, broker):
        with pytest.raises(VerserError, match="no more streams"):
            await broker.get(URL)


async def test_requests_need_a_session(certs: Certificates) -> None:
    broker = create_verser_broker(host_url="https://localhost:1", tls_ca_file=certs.ca)
    with pytest.raises(VerserUsageError, match="connect"):
        await broker.get(URL)
    with pytest.raises(VerserUsageError, match="connect"):
        await broker.wait_for_route(DOMAIN)
    async with scripted(certs) as (_host, broker):
        await broker.close()
        with pytest.raises(VerserUsageError, match="closed"):
            await broker.get(URL)

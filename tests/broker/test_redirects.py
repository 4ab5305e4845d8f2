"""307 and 308 to a domain with a route are followed; all else is the caller's business."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.clock import Clock
from tests.support.scripted_host import ScriptedHost, answer, answer_error, read_all, send_head
from verser2_guest_python import MissingGuestError, RequestTimeoutError, VerserUsageError
from verser2_guest_python.http2 import StreamReset
from verser2_guest_python.wire.broker_request import BrokerRequest

URL = f"http://{DOMAIN}/dir/start?x=1"
ROUTES = [("guest-a", DOMAIN), ("guest-b", "b.test")]
BOTH = pytest.mark.parametrize("status", [307, 308])


async def redirect(host: ScriptedHost, location: str, status: int = 307) -> BrokerRequest:
    """Answers the next request with a redirect; the request."""
    stream, request = await host.accept_request()
    await read_all(stream)
    await answer(stream, status, {"location": location}, b"moved")
    return request


async def followed(host: ScriptedHost, call: asyncio.Task[Any]) -> tuple[BrokerRequest, bytes]:
    """The request that arrives next, and its body; answered with 200."""
    stream, request = await host.accept_request()
    body = await read_all(stream)
    await answer(stream, 200, (), b"arrived")
    response = await call
    assert await response.read() == b"arrived"
    return request, body


@BOTH
@pytest.mark.parametrize(
    ("location", "domain", "path"),
    [
        ("http://b.test/there?y#fragment", "b.test", "/there?y"),
        ("https://B.Test./there", "b.test", "/there"),
        ("//b.test:8443/x", "b.test", "/x"),
        ("/there", DOMAIN, "/there"),
        ("there", DOMAIN, "/dir/there"),
        ("../up", DOMAIN, "/up"),
        ("?y=2", DOMAIN, "/dir/start?y=2"),
        (f"http://{DOMAIN}/there", DOMAIN, "/there"),
        ("/grün".encode().decode("latin-1"), DOMAIN, "/gr%C3%BCn"),
        ("/caf\xe9", DOMAIN, "/caf%C3%A9"),
    ],
)
async def test_where_a_redirect_leads(
    certs: Certificates, status: int, location: str, domain: str, path: str
) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"again"))
        first = await redirect(host, location, status)
        request, body = await followed(host, call)
        assert (request.method, request.route_domain, request.path) == ("POST", domain, path)
        assert (body, request.headers["content-length"]) == (b"again", "5")
        assert request.target_id == ("guest-b" if domain == "b.test" else "guest-a")
        assert request.request_id != first.request_id
        assert call.result().url == f"http://{request.headers['host']}{path}"


@BOTH
@pytest.mark.parametrize(
    "location",
    [
        "http://elsewhere.test/", "ftp://b.test/", "mailto:somebody", "http://user:word@b.test/", "",
        "http://[b.test/", "http:///x", "https://", "http://b.test:port/", f"/{'x' * 70_000}"[:60_000],
    ],
)  # fmt: skip
async def test_what_leads_elsewhere_is_an_answer(certs: Certificates, status: int, location: str) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL, headers={"x": "y" * 5_000}))
        await redirect(host, location, status)
        response = await call
        assert (response.status, await response.read()) == (status, b"moved")
        assert response.url == URL


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 200, 201])
async def test_other_statuses_are_answers(certs: Certificates, status: int) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream, _ = await host.accept_request()
        await answer(stream, status, {"location": "http://b.test/"})
        async with await call as response:
            assert response.status == status


async def test_a_redirect_without_location_is_an_answer(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream, _ = await host.accept_request()
        await answer(stream, 307)
        assert await (await call).read() == b""


@pytest.mark.parametrize(("limit", "hops"), [(None, 3), (0, 0), (1, 1), (5, 5)])
async def test_how_many(certs: Certificates, limit: int | None, hops: int) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        options = {} if limit is None else {"max_redirects": limit}
        call = asyncio.create_task(broker.get(URL, **options))
        for number in range(hops + 1):
            await redirect(host, f"/{number}")
        response = await call
        assert (response.status, response.url) == (307, f"http://{DOMAIN}/{hops - 1}" if hops else URL)
        await response.aclose()


async def test_switched_off_for_a_broker(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES, broker={"max_redirects": 0}) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await redirect(host, "/there")
        assert await (await call).read() == b"moved"
        call = asyncio.create_task(broker.get(URL, max_redirects=1))
        await redirect(host, "/there")
        await followed(host, call)
        with pytest.raises(VerserUsageError, match="max_redirects"):
            await broker.get(URL, max_redirects=-1)


@pytest.mark.parametrize("size", [16 * 1024, 16 * 1024 + 1])
async def test_small_bodies_are_sent_again(certs: Certificates, size: int) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.put(URL, body=b"x" * size))
        await redirect(host, "/there")
        if size > 16 * 1024:
            assert (await call).status == 307
            await call.result().aclose()
        else:
            assert (await followed(host, call))[1] == b"x" * size


async def test_a_body_that_is_gone_is_not(certs: Certificates) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"gone"

    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.put(URL, body=once()))
        await redirect(host, "/there")
        assert await (await call).read() == b"moved"


SECRETS = {"Authorization": "Bearer x", "Cookie": "a=1", "X-Kept": "1"}


async def test_secrets_stay_with_their_domain(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL, headers=SECRETS))
        await redirect(host, "/same")
        await redirect(host, "http://b.test/other")
        request = await redirect(host, f"http://{DOMAIN}/back")
        assert request.headers == {"host": "b.test", "x-kept": "1"}
        request, _ = await followed(host, call)
        assert request.headers == {"host": DOMAIN, "x-kept": "1"}


async def test_secrets_go_along_within_a_domain(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL, headers=SECRETS))
        await redirect(host, f"https://{DOMAIN}:8443/same")
        request, _ = await followed(host, call)
        assert request.headers["authorization"] == "Bearer x"
        assert request.headers["cookie"] == "a=1"
        assert request.headers["host"] == f"{DOMAIN}:8443"


async def test_a_route_domain_of_its_own_stays(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(
            broker.get("http://www.example.test/a", route_domain=DOMAIN, headers=SECRETS)
        )
        await redirect(host, "http://www.example.test/b")
        request, _ = await followed(host, call)
        assert (request.route_domain, request.path) == (DOMAIN, "/b")
        assert request.headers["host"] == "www.example.test"
        assert request.headers["authorization"] == "Bearer x"
        call = asyncio.create_task(
            broker.get("http://www.example.test/a", route_domain=DOMAIN, headers=SECRETS)
        )
        await redirect(host, f"http://{DOMAIN}/b")
        request, _ = await followed(host, call)
        assert "authorization" not in request.headers


async def test_the_body_of_a_redirect_is_given_up(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream, _ = await host.accept_request()
        send_head(stream, 307, {"location": "/there"})
        await stream.write(b"endless")
        await followed(host, call)
        assert isinstance(await stream.wait_error(), StreamReset)


async def test_failures_and_limits_behind_a_redirect(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await redirect(host, "http://b.test/")
        stream, _ = await host.accept_request()
        await answer_error(stream, "missing-guest")
        with pytest.raises(MissingGuestError):
            await call
        clock = Clock()
        call = asyncio.create_task(broker.get(URL, timeout=12.0))
        await redirect(host, "http://b.test/")
        await host.accept_request()
        await clock.forward(12.1)
        with pytest.raises(RequestTimeoutError):
            await call


async def test_asterisk(certs: Certificates) -> None:
    async with scripted(certs, routes=ROUTES) as (host, broker):
        call = asyncio.create_task(broker.options("*", route_domain=DOMAIN))
        await redirect(host, "there")
        request, _ = await followed(host, call)
        assert (request.method, request.path) == ("OPTIONS", "/there")
        assert json.dumps(request.headers) == json.dumps({"host": DOMAIN})

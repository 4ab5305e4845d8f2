"""A body that was cut off is never returned as if it were whole (protocol.md §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import Stream, answer, raw_reset, send_head
from verser2_guest_python import (
    DisconnectedTargetError,
    StreamFailureError,
    VerserBroker,
    VerserBrokerResponse,
    VerserProtocolError,
)
from verser2_guest_python.http2 import ErrorCode

URL = f"http://{DOMAIN}/"


async def collect(response: VerserBrokerResponse) -> bytes:
    return b"".join([chunk async for chunk in response.aiter_bytes()])


READERS = [pytest.param(VerserBrokerResponse.read, id="read"), pytest.param(collect, id="aiter_bytes")]


async def started(host: object, broker: VerserBroker, method: str = "GET") -> tuple[Stream, asyncio.Task]:
    call = asyncio.create_task(broker.request(method, URL))
    stream = await host.accept("/verser/request")
    return stream, call


@pytest.mark.both_loops
@pytest.mark.parametrize("reader", READERS)
async def test_reset_in_the_middle_of_the_body(certs: Certificates, reader: Callable) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        send_head(stream, 200)
        await stream.write(b"half of it")
        response = await call
        body = asyncio.create_task(reader(response))
        await host.session.ping()
        stream.reset(ErrorCode.INTERNAL_ERROR)
        with pytest.raises(StreamFailureError, match="INTERNAL_ERROR"):
            await body


@pytest.mark.parametrize("reader", READERS)
async def test_end_of_stream_with_a_reset_right_behind_it(certs: Certificates, reader: Callable) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        send_head(stream, 200)
        stream.write_now(b"looks whole", end=True)
        raw_reset(stream, ErrorCode.INTERNAL_ERROR)
        response = await call
        with pytest.raises(StreamFailureError):
            await reader(response)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("body", [b"", b"abc"])
async def test_fewer_bytes_than_declared(certs: Certificates, reader: Callable, body: bytes) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        await answer(stream, 200, {"content-length": "5"}, body)
        response = await call
        with pytest.raises(StreamFailureError, match=f"{len(body)} of 5 bytes"):
            await reader(response)


@pytest.mark.parametrize("reader", READERS)
async def test_more_bytes_than_declared_fail_that_stream_alone(certs: Certificates, reader: Callable) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        other_stream, other = await started(host, broker)
        await answer(stream, 200, {"content-length": "5"}, b"abcdef")
        response = await call
        with pytest.raises(VerserProtocolError, match="longer than its content-length"):
            await reader(response)
        await answer(other_stream, 200, {"content-length": "2"}, b"ok")
        assert await (await other).read() == b"ok"


@pytest.mark.parametrize("declared", ["abc", "-1", "5,6", "1e3", ""])
async def test_a_content_length_that_is_no_number(certs: Certificates, declared: str) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        await answer(stream, 200, {"content-length": declared}, b"abcde")
        with pytest.raises(VerserProtocolError, match="content-length"):
            await call


async def test_the_same_content_length_twice_is_one(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        await answer(stream, 200, {"content-length": "2, 2"}, b"ok")
        assert await (await call).read() == b"ok"


@pytest.mark.parametrize("waits", [True, False])
async def test_no_error_in_place_of_the_end_behind_a_whole_body(certs: Certificates, waits: bool) -> None:
    """What a Node.js Host sends now and then when it is busy; `content-length` tells that all is there."""
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        send_head(stream, 200, {"content-length": "5"})
        await stream.write(b"whole")
        response = await call
        reading = asyncio.create_task(response.read()) if waits else None
        if reading is not None:
            await host.session.ping()  # it has read what there is, and waits for more
        raw_reset(stream, ErrorCode.NO_ERROR)
        await host.session.ping()
        assert await (reading or response.read()) == b"whole"


@pytest.mark.parametrize(
    ("declared", "code"),
    [("6", ErrorCode.NO_ERROR), (None, ErrorCode.NO_ERROR), ("5", ErrorCode.INTERNAL_ERROR)],
)
async def test_no_other_reset_looks_like_the_end_of_a_body(
    certs: Certificates, declared: str | None, code: ErrorCode
) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        send_head(stream, 200, {"content-length": declared} if declared else {})
        await stream.write(b"whole")
        response = await call
        raw_reset(stream, code)
        with pytest.raises(StreamFailureError):
            await response.read()


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_answers_without_a_body_may_declare_a_length(
    certs: Certificates, method: str, status: int
) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker, method)
        send_head(stream, status, {"content-length": "1234"})
        await stream.write(b"", end=True)
        response = await call
        assert (response.status, await response.read()) == (status, b"")
        assert response.headers["content-length"] == "1234"


async def test_a_reset_before_the_headers(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        stream.reset(ErrorCode.REFUSED_STREAM)
        with pytest.raises(StreamFailureError, match="REFUSED_STREAM") as caught:
            await call
        assert caught.value.context["targetId"] == "guest-a"


async def test_an_end_without_headers_is_not_an_answer(certs: Certificates) -> None:
    """The client side of HTTP/2 cannot take DATA before HEADERS: the request fails, never hangs."""
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        raw_reset(stream, ErrorCode.NO_ERROR)
        with pytest.raises(StreamFailureError):
            await call


async def test_a_lost_session_fails_requests_and_bodies(certs: Certificates) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        stream, call = await started(host, broker)
        send_head(stream, 200)
        await stream.write(b"half")
        response = await call
        _, waiting = await started(host, broker)
        host.session.abort("the test says so")
        with pytest.raises(DisconnectedTargetError):
            await response.read()
        with pytest.raises(DisconnectedTargetError):
            await waiting
        with pytest.raises(DisconnectedTargetError):
            await broker.get(URL)


async def test_a_short_body_in_a_502_that_may_be_an_error(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, call = await started(host, broker)
        send_head(stream, 502, {"content-type": "application/json"})
        await stream.write(b'{"error":{"code":"time')
        stream.reset(ErrorCode.CANCEL)
        with pytest.raises(StreamFailureError):
            await call

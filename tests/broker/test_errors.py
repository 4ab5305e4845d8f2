"""What is an error of the Host, and what an app's answer (protocol.md §8, §14)."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import answer, answer_error, raw_reset, send_head
from verser2_guest_python import (
    AuthorizationDeniedError,
    LeaseTimeoutError,
    LocalHandlerFailureError,
    MissingGuestError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.errors import WIRE_CODES, RequestHeadTooLargeError
from verser2_guest_python.http2 import ErrorCode

URL = f"http://{DOMAIN}/"
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("code", sorted(WIRE_CODES))
async def test_every_code_of_the_contract_raises(certs: Certificates, code: str) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        await answer_error(stream, code, "it did not work", domain="b.local.test")
        with pytest.raises(VerserError, match="it did not work") as caught:
            await call
        assert caught.value.code == code
        assert caught.value.context["requestId"] == "broker-a-1"
        assert caught.value.context["domain"] == "b.local.test", "what the Host says comes first"


async def test_errors_have_classes_of_their_own(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        for code, kind in [
            ("missing-guest", MissingGuestError),
            ("timeout", LeaseTimeoutError),
            ("local-handler-failure", LocalHandlerFailureError),
        ]:
            call = asyncio.create_task(broker.get(URL))
            await answer_error(await host.accept("/verser/request"), code)
            with pytest.raises(kind):
                await call


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (502, JSON, b'{"error":{"code":"my-own-code","message":"x"}}'),
        (502, JSON, b'{"error":"bad gateway"}'),
        (502, JSON, b'["error"]'),
        (502, JSON, b"not JSON at all"),
        (502, JSON, b"{ not JSON either"),
        (502, JSON, b""),
        (502, {"content-type": "text/html"}, b'{"error":{"code":"timeout","message":"x"}}'),
        (502, {}, b'{"error":{"code":"timeout","message":"x"}}'),
        (503, JSON, b'{"error":{"code":"timeout","message":"x"}}'),
        (404, JSON, b'{"error":{"code":"missing-guest","message":"x"}}'),
        (502, {**JSON, "content-length": "7"}, b'{"a":1}'),
    ],
)
async def test_an_apps_own_failure_is_its_answer(
    certs: Certificates, status: int, headers: dict[str, str], body: bytes
) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await answer(await host.accept("/verser/request"), status, headers, body)
        response = await call
        assert (response.status, await response.read()) == (status, body)


@pytest.mark.parametrize("declared", [False, True])
async def test_a_large_502_of_an_app_streams_through(certs: Certificates, declared: bool) -> None:
    """The look at a 502 is bounded: the answer is there before the app has sent all of it."""
    body = json.dumps({"rows": ["x" * 1000] * 300}).encode()
    headers = {**JSON, **({"content-length": str(len(body))} if declared else {})}
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        send_head(stream, 502, headers)
        await stream.write(body[:100_000])
        response = await call
        await stream.write(body[100_000:], end=True)
        assert response.status == 502
        assert await response.json() == json.loads(body)


async def test_a_502_that_does_not_begin_like_an_object_is_not_waited_for(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        send_head(stream, 502, JSON)
        await stream.write(b" [")
        response = await call
        await stream.write(b"]", end=True)
        assert await response.read() == b" []"


async def test_the_body_of_a_502_can_be_iterated(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await answer(await host.accept("/verser/request"), 502, JSON, b'{"error":1}')
        assert [chunk async for chunk in (await call).aiter_bytes(4)] == [b'{"er', b'ror"', b":1}"]


async def test_an_error_during_an_upload_with_no_error_behind_it(certs: Certificates) -> None:
    """protocol.md §7: a 502 during an upload may be followed by RST_STREAM NO_ERROR."""
    sent = 0

    async def endless() -> object:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 10_000

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=endless()))
        stream = await host.accept("/verser/request")
        await stream.read()
        await answer_error(stream, "missing-guest", "gone")
        raw_reset(stream, ErrorCode.NO_ERROR)
        with pytest.raises(MissingGuestError, match="gone"):
            await call
        before = sent
        await host.session.ping()
        assert sent == before, "the upload has stopped"


async def test_an_answer_of_the_app_during_an_upload_with_no_error_behind_it(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"x" * 4_000_000))
        stream = await host.accept("/verser/request")
        await stream.read()
        await answer(stream, 413, {"content-length": "9"}, b"too large")
        raw_reset(stream, ErrorCode.NO_ERROR)
        response = await call
        assert (response.status, await response.read()) == (413, b"too large")


class TestMarkedErrors:
    """Where `error-header` is announced, only what bears the mark is the Host's (protocol.md §14)."""

    async def test_a_marked_error_raises_whatever_its_status(self, certs: Certificates) -> None:
        async with scripted(certs, extensions=["error-header"]) as (host, broker):
            call = asyncio.create_task(broker.get(URL))
            stream = await host.accept("/verser/request")
            await answer_error(stream, "authorization-denied", "not you", status=403, mark=True)
            with pytest.raises(AuthorizationDeniedError, match="not you"):
                await call

    async def test_a_head_that_is_too_large_for_the_host(self, certs: Certificates) -> None:
        async with scripted(certs, extensions=["error-header"]) as (host, broker):
            call = asyncio.create_task(broker.get(URL))
            stream = await host.accept("/verser/request")
            await answer_error(stream, "protocol-error", "16,375 at most", status=431, mark=True)
            with pytest.raises(RequestHeadTooLargeError, match="16,375"):
                await call

    async def test_an_unmarked_error_object_is_the_apps(self, certs: Certificates) -> None:
        async with scripted(certs, extensions=["error-header"]) as (host, broker):
            call = asyncio.create_task(broker.get(URL))
            await answer_error(await host.accept("/verser/request"), "missing-guest", "I made this up")
            response = await call
            assert response.status == 502
            assert (await response.json())["error"]["message"] == "I made this up"

    async def test_a_mark_without_a_readable_body(self, certs: Certificates) -> None:
        async with scripted(certs, extensions=["error-header"]) as (host, broker):
            call = asyncio.create_task(broker.get(URL))
            stream = await host.accept("/verser/request")
            await answer(stream, 431, {"x-verser-error": "protocol-error"}, b"?")
            with pytest.raises(VerserProtocolError, match="431"):
                await call

    async def test_a_mark_that_was_not_announced_means_nothing(self, certs: Certificates) -> None:
        async with scripted(certs) as (host, broker):
            call = asyncio.create_task(broker.get(URL))
            await answer(await host.accept("/verser/request"), 200, {"x-verser-error": "timeout"}, b"ok")
            assert await (await call).read() == b"ok"

"""`retries=`: what may be sent again after it failed on the way, and what never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, answer, answer_error, read_all, send_head
from verser2_guest_python import (
    DisconnectedTargetError,
    LocalHandlerFailureError,
    MissingGuestError,
    StreamFailureError,
    VerserBroker,
    VerserError,
    VerserUsageError,
    create_verser_broker,
)
from verser2_guest_python.http2 import ErrorCode

URL = f"http://{DOMAIN}/"
GUESTS = [("guest-a", DOMAIN), ("guest-b", DOMAIN)]


async def fail(host: ScriptedHost, how: str) -> str:
    """The next request fails; the Guest that it went to."""
    stream, request = await host.accept_request()
    if how == "reset":
        stream.reset(ErrorCode.INTERNAL_ERROR)
    elif how == "session lost":
        host.session.abort("the test says so")
    else:
        await answer_error(stream, how)
    return request.target_id


FAILURES = ["reset", "session lost", "disconnected-target", "stream-failure", "upstream-unavailable"]


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_what_does_no_harm_is_sent_again(certs: Certificates, method: str, how: str) -> None:
    async with scripted(certs) as (host, broker):
        body = b"the same" if method == "PUT" else None
        call = asyncio.create_task(broker.request(method, URL, body=body, retries=2))
        for _ in range(2):
            await fail(host, how)
        stream, request = await host.accept_request()
        assert (request.method, await read_all(stream)) == (method, body or b"")
        await answer(stream, 204)
        async with await call as response:
            assert response.status == 204


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
async def test_what_may_do_harm_is_not(certs: Certificates, method: str, how: str) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.request(method, URL, body=b"x", retries=5))
        await fail(host, how)
        with pytest.raises(VerserError):
            await call


async def test_so_often_and_no_more(certs: Certificates) -> None:
    async with scripted(certs, broker={"retries": 2}) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        for _ in range(3):
            await fail(host, "reset")
        with pytest.raises(StreamFailureError):
            await call
        call = asyncio.create_task(broker.get(URL, retries=0))
        await fail(host, "reset")
        with pytest.raises(StreamFailureError):
            await call


async def test_by_default_nothing_is_sent_again(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await fail(host, "disconnected-target")
        with pytest.raises(DisconnectedTargetError):
            await call


async def test_another_guest_comes_first(certs: Certificates) -> None:
    async with scripted(certs, routes=GUESTS) as (host, broker):
        for _ in range(4):
            call = asyncio.create_task(broker.get(URL, retries=1))
            first = await fail(host, "disconnected-target")
            stream, request = await host.accept_request()
            assert request.target_id != first
            await answer(stream, 200)
            await (await call).aclose()


@pytest.mark.parametrize("code", ["missing-guest", "timeout"])
async def test_what_no_app_has_seen_may_be_sent_again_whatever_it_is(certs: Certificates, code: str) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"x", retries=1))
        await fail(host, code)
        stream, _ = await host.accept_request()
        assert await read_all(stream) == b"x"
        await answer(stream, 200)
        await (await call).aclose()


@pytest.mark.parametrize(
    "code", ["local-handler-failure", "protocol-error", "authorization-denied", "route-loop"]
)
async def test_what_will_not_pass_is_not_sent_again(certs: Certificates, code: str) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL, retries=5))
        await fail(host, code)
        with pytest.raises(VerserError) as caught:
            await call
        assert caught.value.code == code


async def test_a_body_that_can_be_read_only_once_is_not_sent_again(certs: Certificates) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"gone"

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.put(URL, body=once(), retries=5))
        await fail(host, "disconnected-target")
        with pytest.raises(DisconnectedTargetError):
            await call


async def test_an_answer_that_breaks_off_is_not_asked_for_again(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL, retries=5))
        stream, _ = await host.accept_request()
        send_head(stream, 200)
        await stream.write(b"half")
        response = await call
        stream.reset(ErrorCode.INTERNAL_ERROR)
        with pytest.raises(StreamFailureError):
            await response.read()


async def test_cancelled_between_two_attempts(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL, retries=1_000))
        for _ in range(3):
            await fail(host, "reset")
        await host.session.ping()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert_nothing_left(broker)


@pytest.mark.parametrize("retries", [-1, 1.5, True, "2"])
async def test_numbers_that_are_none(certs: Certificates, retries: Any) -> None:
    async with scripted(certs) as (_host, broker):
        with pytest.raises(VerserUsageError, match="retries"):
            await broker.get(URL, retries=retries)
    with pytest.raises(VerserUsageError, match="retries"):
        create_verser_broker(host_url="https://localhost", retries=retries)


async def test_a_guest_that_was_just_lost_is_waited_for(certs: Certificates) -> None:
    """The Host says `missing-guest` of a degraded route, and has said before that it is degraded (§10)."""
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"x"))
        stream, _ = await host.accept_request()
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await answer_error(stream, "missing-guest")
        await host.session.ping()
        assert not call.done()
        await host.say_lifecycle(("changed", "guest-a", DOMAIN, "restored"))
        stream, _ = await host.accept_request()
        assert await read_all(stream) == b"x"
        await answer(stream, 200)
        await (await call).aclose()
        call = asyncio.create_task(broker.get(URL))
        for _ in range(2):
            stream, _ = await host.accept_request()
            await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
            await answer_error(stream, "missing-guest")
            await host.session.ping()
            await host.say_lifecycle(("changed", "guest-a", DOMAIN, "restored"))
        with pytest.raises(MissingGuestError):
            await call


async def test_an_app_that_fails_is_not_a_failure_on_the_way(certs: Certificates) -> None:
    async with scripted(certs, routes=GUESTS) as (host, broker):
        call = asyncio.create_task(broker.get(URL, retries=3))
        await fail(host, "local-handler-failure")
        with pytest.raises(LocalHandlerFailureError):
            await call


def assert_nothing_left(broker: VerserBroker) -> None:
    link = broker._keeper.link
    assert link is not None
    assert link.room.in_flight == 0
    assert link.session.open_streams == 1, "the control stream alone"

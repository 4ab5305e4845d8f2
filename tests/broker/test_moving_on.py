"""A request that certainly reached no app moves on to the next Guest (protocol.md §14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import answer, answer_error, read_all
from verser2_guest_python import MissingGuestError, VerserError

URL = f"http://{DOMAIN}/"
GUESTS = [("guest-a", DOMAIN), ("guest-b", DOMAIN)]


@pytest.mark.parametrize(
    ("code", "context"),
    [("missing-guest", {}), ("timeout", {}), ("disconnected-target", {"stage": "queued"})],
)
async def test_the_next_guest_gets_it(certs: Certificates, code: str, context: dict[str, Any]) -> None:
    async with scripted(certs, routes=GUESTS, extensions=["stage"]) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"body"))
        stream, first = await host.accept_request()
        await answer_error(stream, code, **context)
        stream, second = await host.accept_request()
        assert {first.target_id, second.target_id} == {"guest-a", "guest-b"}
        assert first.request_id != second.request_id
        assert await read_all(stream) == b"body"
        await answer(stream, 200, (), b"done")
        response = await call
        assert (response.target_id, await response.read()) == (second.target_id, b"done")


@pytest.mark.parametrize(
    ("code", "context", "extensions"),
    [
        ("disconnected-target", {}, ["stage"]),
        ("disconnected-target", {"stage": "sent"}, ["stage"]),
        ("disconnected-target", {"stage": "queued"}, []),  # nobody has announced that it means anything
        ("stream-failure", {}, ["stage"]),
        ("local-handler-failure", {}, ["stage"]),
    ],
)
async def test_what_may_have_reached_an_app_does_not(
    certs: Certificates, code: str, context: dict[str, Any], extensions: list[str]
) -> None:
    async with scripted(certs, routes=GUESTS, extensions=extensions) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream, _ = await host.accept_request()
        await answer_error(stream, code, **context)
        with pytest.raises(VerserError) as caught:
            await call
        assert caught.value.code == code


async def test_when_no_guest_is_left_the_error_stands(certs: Certificates) -> None:
    async with scripted(certs, routes=GUESTS) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        for said in ("first", "second"):
            stream, _ = await host.accept_request()
            await answer_error(stream, "missing-guest", said)
        with pytest.raises(MissingGuestError, match="second"):
            await call


async def test_a_body_that_can_be_read_only_once_does_not_move_on(certs: Certificates) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"gone"

    async with scripted(certs, routes=GUESTS) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=once()))
        stream, _ = await host.accept_request()
        await answer_error(stream, "missing-guest", "away")
        with pytest.raises(MissingGuestError, match="away"):
            await call

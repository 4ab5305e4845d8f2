"""Clients that leave, at every stage: the app learns of it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.gateway.gateways import Place, gateway_at
from tests.gateway.raw import Raw, connected
from tests.integrations.apps import BLOCK
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python.integrations.gateway import GatewayLimits

HOST = f"Host: {DOMAIN}\r\n".encode()


def get(path: str) -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


def post(path: str, length: int | None = None) -> bytes:
    body = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + body + b"\r\n\r\n"


def close(raw: Raw) -> None:
    raw.writer.close()


def half_close(raw: Raw) -> None:
    raw.writer.write_eof()


def reset(raw: Raw) -> None:
    raw.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    raw.writer.transport.abort()


leaving = pytest.mark.parametrize("leave", [close, half_close, reset])


@asynccontextmanager
async def leaves(place: Place, leave: object, count: int = 1) -> AsyncIterator[Raw]:
    """A connection whose client leaves behind the block; then all of it is over."""
    async with connected(place.port) as raw:
        yield raw
        leave(raw)  # type: ignore[operator]
        await until(lambda: place.gateway.active == 0)
        records = await place.recorded(count)
        place.diary.go_on.set()  # some apps wait for that, whoever is there
        await until(lambda: place.diary.active == 0)
        assert (records[-1].reason, records[-1].code) == ("the client left", "client-left")


@leaving
@pytest.mark.both_loops
async def test_while_the_app_thinks(certs: Certificates, leave: object) -> None:
    async with gateway_at(certs) as place:
        async with leaves(place, leave) as raw:
            raw.say(get("/wait"))
            await until(lambda: "waiting" in place.diary.events)
        assert place.diary.events == ["waiting", "disconnected"]
        assert place.records[0].status == 499


@leaving
@pytest.mark.both_loops
async def test_during_a_long_answer(certs: Certificates, leave: object) -> None:
    async with gateway_at(certs) as place, leaves(place, leave) as raw:
        raw.say(get("/big?blocks=100000"))
        await raw.reader.readexactly(1_000_000)


@leaving
@pytest.mark.both_loops
async def test_while_an_answer_pauses(certs: Certificates, leave: object) -> None:
    async with gateway_at(certs) as place, leaves(place, leave) as raw:
        raw.say(get("/lines"))
        await raw.reader.readuntil(b"second")


@leaving
@pytest.mark.both_loops
@pytest.mark.parametrize("length", [1_000, 1_000_000, None])
async def test_during_an_upload(certs: Certificates, leave: object, length: int | None) -> None:
    async with gateway_at(certs) as place, leaves(place, leave) as raw:
        raw.say(post("/count", length))
        raw.say(b"half" if length is not None else b"4\r\nhalf\r\n")
        await until(lambda: place.diary.received == 4)


@leaving
async def test_with_an_upload_that_the_app_does_not_read(certs: Certificates, leave: object) -> None:
    async with gateway_at(certs) as place, leaves(place, leave) as raw:
        raw.say(post("/ignore", 1_000_000) + BLOCK)
        await until(lambda: place.diary.events == ["ignoring"])


@leaving
async def test_while_it_waits_for_a_route(certs: Certificates, leave: object) -> None:
    options = {"maps": {DOMAIN: "away.test"}, "route_wait": 20.0}
    async with gateway_at(certs, **options) as place, leaves(place, leave) as raw:
        raw.say(get("/"))
        await until(lambda: place.gateway.active == 1)


async def test_in_the_middle_of_a_head(certs: Certificates) -> None:
    async with gateway_at(certs) as place:
        for leave in (close, half_close, reset):
            async with connected(place.port) as raw:
                raw.say(get("/")[:20])
                leave(raw)
        async with place.client() as client:
            assert (await client.get("/")).status_code == 200
        assert len(await place.recorded(1)) == 1


async def test_a_client_that_does_not_read_is_cut_off(certs: Certificates) -> None:
    limits = GatewayLimits(write_timeout=0.3)
    async with gateway_at(certs, limits=limits) as place, connected(place.port) as raw:
        raw.say(get("/big?blocks=1000000"))
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: place.diary.active == 0 and len(place.records) == 1)
        assert place.records[0].reason == "the client did not read"


async def test_what_is_behind_early_answers_is_dropped(certs: Certificates) -> None:
    """The app answers before the upload has ended: the client gets the answer, though it still sends."""
    async with gateway_at(certs) as place:
        async with connected(place.port) as raw:
            raw.say(post("/refuse", 50_000_000) + BLOCK * 10)
            status, headers = await raw.head()
            assert (status, headers["connection"]) == (413, "close")
            with_body = BLOCK * 100  # goes on, as clients do that do not look
            raw.say(with_body)
            assert await raw.rest() == b"too much"
        async with connected(place.port) as raw:  # once the body is over, the connection is as good as before
            raw.say(post("/", 10))
            assert (await raw.answer())[0] == 405
        await until(lambda: place.diary.active == 0)


@pytest.mark.slow
async def test_a_thousand_clients_that_leave(certs: Certificates) -> None:
    """More resets than a Host allows at once (protocol.md §12.10): the session lives on."""
    async with gateway_at(certs, limits=GatewayLimits(limit_concurrency=2_000)) as place:
        for _ in range(12):
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(_come_and_go(place))
        await until(lambda: place.gateway.active == 0 and place.diary.active == 0)
        async with place.client() as client:
            assert (await client.get("/")).status_code == 200
        assert place.broker.connected


async def _come_and_go(place: Place) -> None:
    before = place.diary.events.count("waiting")
    async with connected(place.port) as raw:
        raw.say(get("/wait"))
        await until(lambda: place.diary.events.count("waiting") > before)

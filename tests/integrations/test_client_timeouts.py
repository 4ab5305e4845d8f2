"""The client's four timeouts, each where it belongs: none runs out while things move on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.integrations.apps import BLOCK, Diary, make_app
from tests.integrations.clients import URL, both_libraries, client_of
from tests.integrations.stacks import guest_at, host_at
from tests.support.certificates import Certificates
from tests.support.clock import Clock
from tests.support.waiting import until
from verser2_guest_python import LeaseTimeoutError, RequestTimeoutError, create_verser_broker
from verser2_guest_python.integrations.client_errors import ClientTimeout
from verser2_guest_python.integrations.httpx import VerserTransport
from verser2_guest_python.integrations.patience import Patience

SHORT = 0.1
LONG = 6.0
"""What no machine takes for a moment's work, and a clock that is set forward soon has."""


def only(library: Any, **timeouts: float) -> Any:
    """No limit but these."""
    return library.Timeout(None, **timeouts)


@both_libraries
@pytest.mark.both_loops
async def test_read_until_the_head(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with client_of(library, certs, diary, timeout=only(library, read=0.5)) as client:
        with pytest.raises(library.ReadTimeout, match=r"within 0\.5 s") as raised:
            await client.get("/wait")
        assert isinstance(raised.value.__cause__, RequestTimeoutError)
        await until(lambda: diary.events == ["waiting", "disconnected"])
        with pytest.raises(library.ReadTimeout):
            await client.post("/wait", content=BLOCK * 2, timeout=only(library, read=SHORT))
        assert (await client.get("/", timeout=only(library))).status_code == 200


@both_libraries
async def test_read_between_two_pieces(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with (
        client_of(library, certs, diary, timeout=only(library, read=LONG)) as client,
        client.stream("GET", "/lines") as response,
    ):
        clock = Clock()
        lines = response.aiter_lines()
        assert [await anext(lines), await anext(lines)] == ["first", "second"]
        third = asyncio.ensure_future(anext(lines))
        await clock.forward(0)  # it waits now
        await clock.forward(LONG - 1)
        assert not third.done()
        await clock.forward(2)
        with pytest.raises(library.ReadTimeout):
            await third
        diary.go_on.set()
        await until(lambda: diary.over == ["/lines"])


@both_libraries
async def test_read_does_not_run_while_the_caller_is_busy(certs: Certificates, library: Any) -> None:
    async with (
        client_of(library, certs, timeout=only(library, read=LONG)) as client,
        client.stream("GET", "/big?blocks=100") as response,
    ):
        clock = Clock()
        size = 0
        async for piece in response.aiter_raw():
            if not size:
                await clock.forward(2 * LONG)
            size += len(piece)
        assert size == 100 * len(BLOCK)


@both_libraries
async def test_nothing_runs_while_the_body_is_made(certs: Certificates, library: Any) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(2):
            await clock.forward(LONG + 1)
            yield b"piece"

    async with client_of(library, certs, timeout=library.Timeout(LONG)) as client:
        clock = Clock()
        assert (await client.post("/count", content=slow())).text == "10"


@both_libraries
@pytest.mark.both_loops
async def test_write(certs: Certificates, library: Any) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        while True:
            yield BLOCK

    diary = Diary()
    async with client_of(library, certs, diary, timeout=only(library, write=SHORT)) as client:
        with pytest.raises(library.WriteTimeout, match="does not read"):
            await client.post("/ignore", content=blocks())
        with pytest.raises(library.WriteTimeout):
            await client.post("/ignore", content=BLOCK * 1_000)
        diary.go_on.set()
        await until(lambda: diary.active == 0)
        assert (await client.get("/")).status_code == 200


@both_libraries
async def test_write_after_the_head_is_told_by_reading(certs: Certificates, library: Any) -> None:
    go_on = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        """Answers half, and reads nothing."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await go_on.wait()

    async def blocks() -> AsyncIterator[bytes]:
        while True:
            yield BLOCK

    async with (
        host_at(certs) as host,
        guest_at(host, certs, app),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(
            transport=VerserTransport(broker), base_url=URL, timeout=only(library, write=SHORT)
        ) as client,
    ):
        async with client.stream("POST", "/", content=blocks()) as response:
            with pytest.raises(library.WriteTimeout):
                await response.aread()
        go_on.set()


async def test_write_does_not_run_out_while_the_app_reads(certs: Certificates) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        """Reads at its leisure: all of it takes much longer than the timeout, no piece does."""
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
            await asyncio.sleep(0.006)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % size})

    async with (
        host_at(certs) as host,
        guest_at(host, certs, app),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        httpx2.AsyncClient(
            transport=VerserTransport(broker), base_url=URL, timeout=only(httpx2, write=1.5)
        ) as client,
    ):
        answer = await client.post("/", content=BLOCK * 300)
        assert answer.text == str(300 * len(BLOCK))


@both_libraries
async def test_pool_is_the_time_for_a_guest_to_be_free(certs: Certificates, library: Any) -> None:
    diary = Diary()
    limits = {
        "min_waiting_streams": 1,
        "limit_concurrency": 1,
        "min_waiting_websocket_streams": 0,
    }
    async with (
        host_at(certs) as host,
        guest_at(host, certs, make_app(diary), **limits),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL, timeout=None) as client,
    ):
        busy = asyncio.create_task(client.get("/wait"))
        await until(lambda: diary.events == ["waiting"])
        with pytest.raises(library.PoolTimeout) as raised:
            await client.get("/", timeout=only(library, pool=SHORT))
        assert isinstance(raised.value.__cause__, LeaseTimeoutError)
        with pytest.raises(library.PoolTimeout):
            await client.get("/", timeout=only(library, pool=0.0))
        diary.go_on.set()
        assert (await busy).text == "waited"


@both_libraries
@pytest.mark.both_loops
async def test_connect_is_the_time_for_a_session(certs: Certificates, library: Any) -> None:
    async with (
        host_at(certs) as host,
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(
            transport=VerserTransport(broker), base_url=URL, timeout=only(library, connect=SHORT)
        ) as client,
    ):
        await host.close(timeout=0.0)
        await until(lambda: not broker.connected)
        with pytest.raises(library.ConnectTimeout, match="no session"):
            await client.get("/")
        with pytest.raises(library.ConnectTimeout):
            await client.post("/", content=BLOCK * 2)


@both_libraries
async def test_a_session_that_returns_in_time(certs: Certificates, library: Any) -> None:
    async with (
        host_at(certs) as first,
        guest_at(first, certs, make_app()),
        create_verser_broker(host_url=first.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL, timeout=10.0) as client,
    ):
        assert (await client.get("/")).status_code == 200
        await first.close(timeout=0.0)
        await until(lambda: not broker.connected)
        asking = asyncio.create_task(client.get("/"))
        async with host_at(certs, port=first.port):  # Guest and Broker find it, in whatever order
            assert (await asking).text == "Hello, World!"


@both_libraries
async def test_the_brokers_own_timeout_is_not_the_clients(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with (
        host_at(certs) as host,
        guest_at(host, certs, make_app(diary)),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, timeout=SHORT) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL, timeout=None) as client,
    ):
        task = asyncio.create_task(client.get("/wait"))
        await asyncio.sleep(2 * SHORT)
        diary.go_on.set()
        assert (await task).text == "waited"


@pytest.mark.parametrize("streams", [False, True])
async def test_connect_is_over_once_there_is_a_session(streams: bool) -> None:
    """The limit of `connect` passes, but there is a session by then: now others hold."""
    connected, answered = False, asyncio.Event()
    timeouts = {"connect": SHORT, "pool": 60.0, "read": 60.0}
    patience = Patience(timeouts, lambda: connected)
    waiting = asyncio.create_task(patience.head(answered.wait(), streams=streams))
    await asyncio.sleep(0)
    connected = True
    await asyncio.sleep(2 * SHORT)
    answered.set()
    assert await waiting
    chunk = asyncio.Event()
    chunk.set()
    assert await patience.chunk(chunk.wait())


async def test_a_limit_that_passes_later_than_connect() -> None:
    connected = False
    patience = Patience({"connect": SHORT, "read": SHORT}, lambda: connected)
    waiting = asyncio.create_task(patience.head(asyncio.Event().wait(), streams=False))
    await asyncio.sleep(0)
    connected = True
    with pytest.raises(ClientTimeout) as raised:
        await waiting
    assert raised.value.phase == "read"

"""What the close of a Broker waits for: all that somebody awaits, and nothing that nobody reads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest

from tests.guest.guests import Gate, make_guest
from tests.host.peers import running_host
from tests.support.brokers import DOMAIN, ROUTES, broker_at, scripted
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from tests.support.scripted_host import ScriptedHost, answer, read_all, scripted_host, send_head
from tests.support.stepping import step
from verser2_guest_python import DisconnectedTargetError, RouteChange, VerserBroker, VerserUsageError
from verser2_guest_python.http2 import SessionOptions, Stream

URL = f"http://{DOMAIN}/"
HALF = b"x" * 1_000
"""Less than a window: that it is not whole holds nothing up by itself."""


async def half_answered(host: ScriptedHost, broker: VerserBroker) -> tuple[Stream, Any]:
    """An answer of which one half has come; the Host's stream of it, and the response."""
    call = asyncio.create_task(broker.get(URL))
    stream = await host.accept("/verser/request")
    send_head(stream, 200, [("content-length", str(2 * len(HALF)))])
    await stream.write(HALF)
    return stream, await call


async def draining(host: ScriptedHost, broker: VerserBroker, **options: Any) -> asyncio.Task[None]:
    """A close that has begun: nothing new is taken any more."""
    closing = asyncio.create_task(broker.close(**options))
    await host.session.ping()
    with pytest.raises(VerserUsageError, match="closed"):
        await broker.get(URL)
    return closing


async def test_an_answer_that_somebody_reads_is_read_to_its_end(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, response = await half_answered(host, broker)
        reading = asyncio.create_task(response.read())
        closing = await draining(host, broker)
        await stream.write(HALF, end=True)
        assert await reading == HALF + HALF
        await closing
        assert not broker.connected


async def test_an_iteration_that_has_begun_goes_on(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, response = await half_answered(host, broker)
        chunks = response.aiter_bytes()
        received = await anext(chunks)
        closing = await draining(host, broker)
        await stream.write(HALF, end=True)
        async for chunk in chunks:
            received += chunk
        assert received == HALF + HALF
        await closing


async def test_a_body_that_is_asked_for_a_moment_later_still_comes(certs: Certificates) -> None:
    """As in another thread, which has just got the head."""
    async with scripted(certs) as (host, broker):
        stream, response = await half_answered(host, broker)
        closing = await draining(host, broker)
        reading = asyncio.create_task(response.read())
        await stream.write(HALF, end=True)
        assert await reading == HALF + HALF
        await closing


async def test_an_upload_is_sent_to_its_end(certs: Certificates) -> None:
    go_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield HALF
        await go_on.wait()
        yield HALF

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=body()))
        stream = await host.accept("/verser/request")
        closing = await draining(host, broker)
        go_on.set()
        assert await read_all(stream) == HALF + HALF
        await answer(stream, 200, (), b"all of it")
        assert await (await call).read() == b"all of it"
        await closing


async def test_an_answer_that_nobody_reads_holds_nothing_up(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        _stream, response = await half_answered(host, broker)
        await broker.close(timeout=math.inf)
        with pytest.raises(DisconnectedTargetError):
            await response.read()


async def test_nor_does_one_that_was_left_half_way(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        _stream, response = await half_answered(host, broker)
        async for chunk in response.aiter_bytes():
            assert chunk == HALF
            break
        await broker.close(timeout=math.inf)


async def test_what_has_come_can_be_read_afterwards(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, response = await half_answered(host, broker)
        await stream.write(HALF, end=True)
        await host.session.ping()
        await broker.close()
        assert await response.read() == HALF + HALF


async def test_a_second_close_shortens_the_first(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await host.accept("/verser/request")
        first = await draining(host, broker, reason="the end", timeout=math.inf)
        await broker.close(timeout=0)
        await first
        with pytest.raises(DisconnectedTargetError, match="the end"):
            await call


async def test_a_close_that_is_cancelled_ends_the_session_at_once(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await host.accept("/verser/request")
        closing = await draining(host, broker, timeout=math.inf)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(DisconnectedTargetError):
            await call
        await host.session.wait_lost()


@pytest.mark.both_loops
@pytest.mark.parametrize("again", [0, 1, 2])
async def test_a_close_that_is_cancelled_anywhere_leaves_nothing(certs: Certificates, again: int) -> None:
    """Cancelled at each await in turn, and so often again at the next ones, while the Host says nothing."""
    ended: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield HALF
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("body")

    async def listener(_change: RouteChange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("listener")

    for wait in count(1):
        ended.clear()
        options = {"session_options": SessionOptions(close_timeout_seconds=0.02)}
        async with scripted(certs, broker=options) as (host, broker):
            broker.on_route_change(listener)
            changes = broker.routes()
            await host.say_routes(*ROUTES, ("guest-b", "b.local.test"))
            await anext(changes)
            call = asyncio.create_task(broker.post(URL, body=body()))
            await host.accept("/verser/request")
            tcp = host.session._transport._tcp
            assert tcp is not None
            tcp.pause_reading()
            more = await step(broker.close(timeout=0), *range(wait, wait + again + 1))
            left = [task.get_name() for task in asyncio.all_tasks() if "verser2" in task.get_name()]
            assert left == []
            assert sorted(ended) == ["body", "listener"]
            with pytest.raises(DisconnectedTargetError):
                await call
            assert [change async for change in changes] == []
            assert broker.get_routes() == []
            tcp.resume_reading()
        if not more:
            break


async def test_a_broker_can_be_connected_again_while_another_call_closes_it(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        closing = await draining(host, broker)
        again = asyncio.create_task(broker.connect())
        await answer(stream, 200, (), b"the old session's")
        assert await (await call).read() == b"the old session's"
        await asyncio.gather(closing, again)
        assert broker.connected


async def test_a_block_that_is_left_by_an_exception_waits_for_nothing(certs: Certificates) -> None:
    async with scripted_host(certs, routes=ROUTES) as host:
        calls: list[asyncio.Task[Any]] = []

        async def leave() -> None:
            async with broker_at(host, certs) as broker:
                calls.append(asyncio.create_task(broker.get(URL)))
                await host.accept("/verser/request")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await leave()
        with pytest.raises(DisconnectedTargetError):
            await calls[0]


async def test_leaving_a_block_drains(certs: Certificates) -> None:
    app = Gate()
    async with running_host(certs) as host, make_guest(host, certs, app), broker_at(host, certs) as broker:
        await broker.wait_for_route(DOMAIN)

        async def leave() -> bytes:
            async with broker_at(host, certs, broker_id="broker-b") as leaving:
                await leaving.wait_for_route(DOMAIN)
                call = asyncio.create_task(leaving.get(f"{URL}slow"))
                await app.until(1)
                asyncio.get_running_loop().call_soon(app.open)
            return await (await call).read()

        assert await leave() == b"/slow"


async def test_a_node_host_and_guest_answer_what_is_under_way(certs: Certificates) -> None:
    async with (
        node_host(certs, quiet=True) as host,
        node_guest(host.url, certs),
        broker_at(host, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        calls = [asyncio.create_task(broker.get(f"{URL}slow?100")) for _ in range(4)]
        await asyncio.sleep(0)  # they have left
        await broker.close()
        assert [await (await call).read() for call in calls] == [b"slow"] * 4

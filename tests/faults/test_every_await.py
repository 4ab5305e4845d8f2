"""Each call of a Broker and a Guest, cancelled at each of its awaits in turn: nothing is left of it.

Random moments (`test_broker_cancelled.py`) find what is common; here no await is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from typing import Any

import pytest

from tests.integrations.apps import Diary, make_app
from tests.integrations.stacks import DOMAIN, broker_behind, guest_at, host_at
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.stepping import step
from tests.support.waiting import until
from verser2_guest_python import (
    GuestState,
    VerserBroker,
    VerserError,
    create_verser_broker,
    create_verser_guest,
)

pytestmark = pytest.mark.both_loops

URL = f"http://{DOMAIN}"
MAX_WAITS = 200
MAX_TURNS = 8
MANY_TURNS = 50  # more than a connection takes, where nothing is waited for


async def short(broker: VerserBroker) -> None:
    assert await (await broker.get(f"{URL}/", timeout=60, total_timeout=60)).text() == "Hello, World!"


async def upload(broker: VerserBroker) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 100_000
            await asyncio.sleep(0)

    async with await broker.post(f"{URL}/echo", body=body()) as response:
        assert len(await response.read()) == 300_000


async def download(broker: VerserBroker) -> None:
    response = await broker.get(f"{URL}/big?blocks=40")
    assert sum([len(chunk) async for chunk in response.aiter_bytes()]) == 40 * 65_536


async def redirected(broker: VerserBroker) -> None:
    to = f"http%3A//{DOMAIN}/"
    assert await (await broker.get(f"{URL}/redirect?status=307&to={to}")).text() == "Hello, World!"


async def talk(broker: VerserBroker) -> None:
    async with await broker.websocket(f"ws://{DOMAIN}/talk", timeout=60) as socket:
        await socket.send_text("hello")
        assert (await socket.receive())["type"] == "text"


CALLS: list[Callable[[VerserBroker], Coroutine[Any, Any, None]]] = [short, upload, download, redirected, talk]


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_of_a_broker(
    certs: Certificates, call: Callable[[VerserBroker], Coroutine[Any, Any, None]]
) -> None:
    diary = Diary()
    async with broker_behind(make_app(diary), certs) as broker:
        await broker.wait_for_route(DOMAIN)
        link = broker._keeper.link
        assert link is not None
        for wait in count(1):
            assert wait < MAX_WAITS
            if not await step(call(broker), wait):
                break
            await until(lambda: link.session.open_streams == 1 and not link.sockets)
            room = link.room
            assert (room.in_flight, room.awaited, room.waiting) == (0, 0, 0)
            assert link.session.unread_bytes == 0
            assert broker._directory.queue.waiting == 0
            guests = broker._directory.table._guests.values()
            assert [(guest.in_flight, guest.sockets) for guest in guests] == [(0, 0)]
            await until(lambda: diary.active == 0)
        assert broker._keeper.link is link, "it is still the same session"
        await call(broker)


async def test_connecting_a_broker(certs: Certificates) -> None:
    async with host_at(certs) as host:
        for wait in count(1):
            assert wait < MAX_WAITS
            broker = create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, broker_id="broker-a")
            more = await step(broker.connect(), wait)
            if more:
                assert not broker.connected
                await until(lambda: host.get_stats().sessions == 0)
                await broker.connect()
            assert broker.connected
            await broker.close()
            await until(lambda: host.get_stats().sessions == 0)
            if not more:
                break


async def test_connecting_and_closing_a_guest(certs: Certificates) -> None:
    async with host_at(certs) as host:
        for wait in count(1):
            assert wait < MAX_WAITS
            diary = Diary()
            guest = create_verser_guest(
                host_url=host.url,
                guest_id="guest-a",
                routed_domains=[DOMAIN],
                app=make_app(diary),
                tls_ca_file=certs.ca,
            )
            more = await step(guest.connect(), wait)
            if more:
                assert not guest.connected
                await until(lambda: host.get_stats().sessions == 0)
                await guest.connect()
            assert guest.connected
            await guest.close()
            await until(lambda: host.get_stats().sessions == 0)
            if not more:
                break


@pytest.mark.parametrize("again", [0, 1])
async def test_connecting_a_guest_to_one_of_two_hosts(certs: Certificates, again: int) -> None:
    """Both are dialled at once: the session with the slower one is for nothing."""
    async with host_at(certs) as first, host_at(certs) as second:
        for turns in range(MANY_TURNS):
            guest = create_verser_guest(
                host_url=[first.url, second.url],
                guest_id="guest-a",
                routed_domains=[DOMAIN],
                app=make_app(),
                tls_ca_file=certs.ca,
            )
            guest._keepers.all[0]._hosts._head_start = 0.0
            connecting = asyncio.create_task(guest.connect())
            if await cancelled_after(turns, again, connecting):
                assert not guest.connected
                await until(lambda: first.get_stats().sessions + second.get_stats().sessions == 0)
                await guest.connect()
            assert guest.connected
            await guest.close()
            await until(lambda: first.get_stats().sessions + second.get_stats().sessions == 0)


@pytest.mark.parametrize("again", [0, 1, 2])
async def test_closing_a_guest(certs: Certificates, again: int) -> None:
    """While an app answers. Its caller may leave; cancelled itself, as by a loop that ends, it closes."""
    async with host_at(certs, degraded_timeout=0.0) as host, broker_at(host, certs) as broker:
        for turns in range(MAX_TURNS):
            diary = Diary()
            async with guest_at(host, certs, make_app(diary), guest_id=f"guest-{turns}") as guest:
                told: list[str] = []
                guest.on_lifecycle(lambda event, told=told: told.append(event.type))
                await broker.wait_for_route(DOMAIN)
                call = asyncio.create_task(broker.get(f"{URL}/wait"))
                await until(lambda diary=diary: diary.events == ["waiting"])
                closing = asyncio.create_task(guest.close(timeout=60.0))
                await asyncio.sleep(0)
                (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "verser-guest-closing"]
                assert await cancelled_after(turns, again, task)
                await asyncio.wait([closing])
                assert left_behind("verser-guest") == []
                assert (guest.state, told[-1], diary.active) == (GuestState.CLOSED, "closed", 0)
                with pytest.raises(VerserError):
                    await call
                diary.go_on.set()  # for what the app has left behind itself
                await asyncio.wait_for(guest.serve_forever(), 30)
            await until(lambda: host.get_stats().sessions == 1 and not broker.get_routes())


@pytest.mark.parametrize("again", [0, 1, 2])
async def test_closing_a_host(certs: Certificates, again: int) -> None:
    """While an app answers."""
    for turns in range(MAX_TURNS):
        diary = Diary()
        async with (
            host_at(certs) as host,
            guest_at(host, certs, make_app(diary)),
            broker_at(host, certs, reconnect=False) as broker,
        ):
            call = asyncio.create_task(broker.get(f"{URL}/wait"))
            await until(lambda diary=diary: diary.events == ["waiting"])
            assert await cancelled_after(turns, again, asyncio.create_task(host.close(timeout=60.0)))
            assert left_behind("verser host") == []
            assert host.get_stats().sessions == 0
            with pytest.raises(VerserError):
                await call
            diary.go_on.set()


async def cancelled_after(turns: int, again: int, task: asyncio.Task[None]) -> bool:
    """Cancels a task after so many turns of the loop, and so often again; whether it was not done before."""
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(1 + again):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


def left_behind(name: str) -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if name in task.get_name()]

"""A thousand requests and WebSockets of a Broker, cancelled at random moments: nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter

import pytest

from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from verser2_guest_python import VerserBroker, VerserBrokerResponse, VerserWebSocketError
from verser2_guest_python.broker import VerserBrokerWebSocket
from verser2_guest_python.broker.exchange import Exchange
from verser2_guest_python.broker.upload import Upload
from verser2_guest_python.http2 import Stream
from verser2_guest_python.peer.websocket import WebSocketChannel

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"
PATHS = ["/plain", "/big?1", "/slow?20", "/sse?3", "/echo", "/sink", "/boom", "/cut"]
MOMENTS = [0, 0, 0.002, 0.005, 0.02, 0.05, 0.1, 10]  # the last: not cancelled
REQUESTS = 1_000
SOCKETS = 200
AT_A_TIME = 25


async def fetch(broker: VerserBroker, path: str) -> None:
    async def pieces():
        for _ in range(20):
            yield b"x" * 10_000

    body = {"/echo": b"x" * 200_000, "/sink": pieces()}.get(path)
    response = await broker.request("POST" if body else "GET", f"{URL}{path}", body=body)
    async with response:
        await response.read()


async def converse(broker: VerserBroker, path: str) -> None:
    async with await broker.websocket(f"{URL}{path}") as socket:
        for number in range(5):
            await socket.send_text(f"{number}" * 1_000)
            await socket.receive()


def left_over() -> Counter[str]:
    kinds = (
        Exchange,
        Upload,
        Stream,
        VerserBrokerResponse,
        WebSocketChannel,
        VerserBrokerWebSocket,
        asyncio.Task,
    )
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))


@pytest.mark.both_loops
async def test_cancelled_at_random_moments(certs: Certificates) -> None:
    chance = random.Random(20)
    outcomes: Counter[str] = Counter()

    async def one(broker: VerserBroker, *, socket: bool) -> None:
        path = chance.choice(PATHS)
        call = asyncio.create_task(converse(broker, path) if socket else fetch(broker, path))
        await asyncio.wait([call], timeout=chance.choice(MOMENTS))
        call.cancel()
        await asyncio.wait([call])
        if call.cancelled():
            outcomes["cancelled"] += 1
        elif call.exception() is None:
            outcomes["done"] += 1
        else:
            outcomes[type(call.exception()).__name__] += 1

    async def some(broker: VerserBroker, count: int, *, socket: bool = False) -> None:
        for _ in range(count // AT_A_TIME):
            await one(broker, socket=socket)

    async with node_host(certs, quiet=True) as host, node_guest(host.url, certs) as guest:
        async with broker_at(host, certs) as broker:
            await broker.wait_for_route(DOMAIN)
            link = broker._keeper.link
            assert link is not None
            before = left_over()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_A_TIME):
                    group.create_task(some(broker, REQUESTS))
                    group.create_task(some(broker, SOCKETS, socket=True))
            assert await (await broker.get(f"{URL}/plain")).text() == "Hello, World!"
            assert broker._keeper.link is link, "it is still the same session"
            while link.session.open_streams > 1 or link.sockets:  # noqa: ASYNC110 - rationed resets (§12.10)
                await asyncio.sleep(0.05)
            assert link.room.in_flight == 0
            assert link.session.unread_bytes == 0
            assert all(
                guest.in_flight == guest.sockets == 0 for guest in broker._directory.table._guests.values()
            )
            while not left_over() - before <= Counter(Stream=2):  # noqa: ASYNC110 - ends of WebSockets, 1 s
                await asyncio.sleep(0.2)
        assert guest.all("error") == []
    assert sum(outcomes.values()) == REQUESTS + SOCKETS
    assert outcomes["cancelled"] > 100
    assert outcomes["done"] > 20
    assert set(outcomes) <= {
        "cancelled",
        "done",
        "LocalHandlerFailureError",  # /boom
        "StreamFailureError",  # /cut
        VerserWebSocketError.__name__,  # no idle lease
    }

"""Several addresses for one name: happy eyeballs on both loops (RFC 8305)."""

from __future__ import annotations

import asyncio
import gc
import socket
from itertools import count
from typing import Any

import pytest

from tests.support.stepping import step
from verser2_guest_python.http2 import dialing
from verser2_guest_python.http2.dialing import interleave, open_tcp

V4, V6 = socket.AF_INET, socket.AF_INET6


def test_families_take_turns_and_the_resolvers_first_choice_stays_first() -> None:
    addresses = [(V6, ("::1", 1)), (V6, ("::2", 1)), (V4, ("127.0.0.1", 1)), (V4, ("127.0.0.1", 1))]
    assert interleave(addresses) == [(V6, ("::1", 1)), (V4, ("127.0.0.1", 1)), (V6, ("::2", 1))]


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[tuple[int, tuple[Any, ...]]]) -> None:
    """The resolver is the edge of the machine: it answers what the test says."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)


class Silent:
    """A listening socket whose backlog is full: connecting to it gets no answer."""

    def __init__(self) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.fillers: list[socket.socket] = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            self.fillers.append(filler)

    def close(self) -> None:
        for sock in (*self.fillers, self.listener):
            sock.close()


async def test_a_silent_address_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent()
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        resolve_to(monkeypatch, [(V4, silent.listener.getsockname()), (V4, ("127.0.0.1", port))])
        sock = await open_tcp("name", port)
        assert sock.getpeername()[1] == port
        sock.close()
    finally:
        silent.close()
        server.close()
        await server.wait_closed()


async def test_a_refusing_address_is_passed_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY_SECONDS", 3_600.0)
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # bound but not listening: refuses
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        resolve_to(monkeypatch, [(V4, closed.getsockname()), (V4, ("127.0.0.1", port))])
        sock = await open_tcp("name", port)
        assert sock.getpeername()[1] == port
        sock.close()
    finally:
        closed.close()
        server.close()
        await server.wait_closed()


async def test_all_refuse_and_the_first_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = [socket.socket(), socket.socket()]
    for sock in closed:
        sock.bind(("127.0.0.1", 0))
    try:
        resolve_to(monkeypatch, [(V4, sock.getsockname()) for sock in closed])
        with pytest.raises(ConnectionRefusedError):
            await open_tcp("name", 1)
    finally:
        for sock in closed:
            sock.close()


@pytest.mark.both_loops
@pytest.mark.both_loops
async def test_cancelled_at_any_await_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one has won, and the others are being ended: a socket that is left is told by Python."""
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY_SECONDS", 0.0)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    resolve_to(monkeypatch, [(V4, one.getsockname()) for one in listeners])

    async def dial() -> None:
        (await open_tcp("name", 1)).close()

    try:
        for again in (0, 1):
            for wait in count(1):
                assert wait < 50
                if not await step(dial(), *range(wait, wait + again + 1)):
                    break
                gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task(), *_supervisors()}
    finally:
        for one in listeners:
            one.close()


def _supervisors() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "_supervise" in repr(task.get_coro())}


async def test_cancelled_in_the_middle_leaves_nothing_behind() -> None:
    silent = Silent()
    try:
        attempt = asyncio.ensure_future(open_tcp("127.0.0.1", silent.listener.getsockname()[1]))
        await asyncio.wait((attempt,), timeout=0.05)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    finally:
        silent.close()

"""A limit of time lets what has arrived go first, also when the loop was held up for longer than that."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from verser2_guest_python.http2.deadline import Deadline, call_within, within

LIMIT_SECONDS = 0.02

pytestmark = pytest.mark.both_loops


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def hold_up(theirs: socket.socket) -> None:
    """Something comes, and the loop stands still until long after the limit."""
    theirs.sendall(b"here")
    time.sleep(5 * LIMIT_SECONDS)


async def test_what_is_here_goes_first(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    loop.call_soon(hold_up, theirs)
    async with within(LIMIT_SECONDS) as limit:
        assert await loop.sock_recv(ours, 10) == b"here"
    assert not limit.expired()


async def test_also_for_a_call(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    late = call_within(loop, LIMIT_SECONDS, called.set)
    loop.call_soon(hold_up, theirs)
    assert await loop.sock_recv(ours, 10) == b"here"
    late.cancel()
    again = call_within(loop, LIMIT_SECONDS, called.set)
    assert not called.is_set()
    await called.wait()
    again.cancel()


async def test_what_does_not_come_raises() -> None:
    limit = within(LIMIT_SECONDS)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.Event().wait()
    assert limit.expired()
    with pytest.raises(RuntimeError):
        limit.reschedule(None)


async def test_a_limit_can_be_moved_and_taken_away() -> None:
    loop = asyncio.get_running_loop()
    async with within(LIMIT_SECONDS) as limit:
        limit.reschedule(None)
        await asyncio.sleep(3 * LIMIT_SECONDS)
    assert limit.when() is None
    with pytest.raises(TimeoutError):  # noqa: PT012 - it is the block that raises
        async with within(None) as limit:
            limit.reschedule(loop.time() + LIMIT_SECONDS)
            await asyncio.Event().wait()


async def test_a_cancelled_task_is_cancelled() -> None:
    async def wait() -> None:
        async with Deadline(asyncio.get_running_loop().time() + 60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

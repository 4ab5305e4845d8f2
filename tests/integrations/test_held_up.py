"""A loop that stands still for longer than a limit: what has come meanwhile counts, not the limit."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Coroutine
from typing import Any

import httpx2
import pytest

from tests.integrations.apps import Diary
from tests.integrations.clients import URL
from tests.integrations.stacks import END_SECONDS, ThreadedStack
from verser2_guest_python import VerserBroker
from verser2_guest_python.http2 import Session
from verser2_guest_python.integrations.httpx import VerserTransport

LIMIT_SECONDS = 0.05

pytestmark = pytest.mark.both_loops


def session_of(broker: VerserBroker) -> Session:
    link = broker._keeper.link
    assert link is not None
    return link.session


async def held_up(session: Session, call: Coroutine[Any, Any, Any]) -> Any:
    """Begins a call; then this thread does nothing until the answer is here, and the call's limit over."""
    await session.ping()  # nothing else is on its way
    task = asyncio.create_task(call)
    await asyncio.sleep(0)  # it begins …
    await asyncio.sleep(0)  # … and what it wrote leaves
    tcp = session._transport._tcp
    assert tcp is not None
    readable, _, _ = select.select([tcp.get_extra_info("socket")], [], [], END_SECONDS)
    assert readable
    time.sleep(3 * LIMIT_SECONDS)
    return await task


async def test_a_session_that_answered_a_ping_is_alive(shared: tuple[Diary, ThreadedStack]) -> None:
    async with shared[1].broker() as broker:
        session = session_of(broker)
        assert await held_up(session, session.ping(LIMIT_SECONDS)) > 0


async def test_an_answer_that_is_here_is_in_time(shared: tuple[Diary, ThreadedStack]) -> None:
    async with shared[1].broker() as broker:
        response = await held_up(session_of(broker), broker.get(f"{URL}/", timeout=LIMIT_SECONDS))
        assert await response.read() == b"Hello, World!"


async def test_also_for_a_client(shared: tuple[Diary, ThreadedStack]) -> None:
    async with (
        shared[1].broker() as broker,
        httpx2.AsyncClient(transport=VerserTransport(broker), timeout=LIMIT_SECONDS) as client,
    ):
        response = await held_up(session_of(broker), client.get(f"{URL}/"))
        assert response.text == "Hello, World!"

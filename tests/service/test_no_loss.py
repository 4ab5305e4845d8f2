"""Shutdown without loss: Guests that are restarted in turn under load, and every request has its answer."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.cli.processes import Running
from tests.service.conftest import Place
from tests.support.steady_load import SteadyLoad

DOMAIN = "shared.test"
RATE = 200.0
BETWEEN = 50
"""Requests that both serve before the next restart."""


async def restart_in_turn(place: Place, rounds: int) -> None:
    """Two Guests of one domain; each is ended and started again, `rounds` times."""
    guests = {name: guest(place, name) for name in ("one", "two")}
    try:
        for process in guests.values():
            await asyncio.to_thread(process.says, '"registered"')
        async with place.broker() as broker:
            await broker.wait_for_route(DOMAIN)
            async with SteadyLoad(broker, DOMAIN, rate=RATE) as load:
                for _ in range(rounds):
                    for name, process in list(guests.items()):
                        await load.more(BETWEEN)
                        process.send(signal.SIGTERM)
                        assert await asyncio.to_thread(process.wait) == 0, process.transcript()
                        guests[name] = guest(place, name)
                        await asyncio.to_thread(guests[name].says, '"registered"')
                await load.more(BETWEEN)
        load.check(place.journal)
    finally:
        for process in guests.values():
            with process:
                pass


def guest(place: Place, name: str) -> Running:
    return place.guest(name, "--domain", DOMAIN)


async def test_two_restarts_lose_nothing(place: Place) -> None:
    await restart_in_turn(place, 1)


@pytest.mark.slow
@pytest.mark.limit(300)
async def test_twenty_restarts_lose_nothing(place: Place) -> None:
    await restart_in_turn(place, 10)

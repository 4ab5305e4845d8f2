"""Requests at a steady pace through a Broker, each with a number, and an account of what came back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from verser2_guest_python import VerserBroker, VerserError


class SteadyLoad:
    """Asks the app of `tests/service/apps/counting.py` for `rate` numbers a second, inside `async with`.

    Attributes:
        sent: how many requests were made.
        wrong: what came back other than the one right answer, in words.
    """

    def __init__(self, broker: VerserBroker, domain: str, *, rate: float) -> None:
        self.sent = 0
        self.wrong: list[str] = []
        self._broker = broker
        self._url = f"http://{domain}/"
        self._pause = 1 / rate
        self._stopping = asyncio.Event()
        self._answered = asyncio.Condition()
        self._right = 0

    async def __aenter__(self) -> Self:
        self._running = asyncio.get_running_loop().create_task(self._run(), name="steady load")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self._running

    async def _run(self) -> None:
        """All requests of the past are made, however late the loop comes to it."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                while due <= loop.time():
                    group.create_task(self._ask(self.sent))
                    self.sent += 1
                    due += self._pause
                try:
                    async with asyncio.timeout_at(due):
                        await self._stopping.wait()
                except TimeoutError:
                    continue

    async def _ask(self, number: int) -> None:
        try:
            response = await self._broker.get(f"{self._url}?{number}")
            body = await response.read()
        except VerserError as error:
            self.wrong.append(f"{number}: {error!r}")
            return
        if (response.status, body) != (200, b"%d" % number):
            self.wrong.append(f"{number}: {response.status} {body!r}")
            return
        async with self._answered:
            self._right += 1
            self._answered.notify_all()

    async def more(self, count: int) -> None:
        """Until so many more were answered."""
        async with self._answered:
            wanted = self._right + count
            await self._answered.wait_for(lambda: self._right >= wanted)

    def check(self, journal: Path) -> None:
        """Every request has got its answer, and the app was asked for each of them once."""
        assert not self.wrong, f"{len(self.wrong)} of {self.sent} went wrong: {self.wrong[:5]}"
        lines = [line.split()[0] for line in journal.read_text().splitlines()]
        asked = sorted(int(line) for line in lines if line.isdigit())
        assert asked == list(range(self.sent))

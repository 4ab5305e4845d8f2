"""Prometheus, as far as it matters here: reads `/metrics` of several processes again and again.

It holds what it reads to the one promise that every query builds on: while a process lives, a counter never
goes down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from tests.endtoend.load import PATIENCE_SECONDS
from tests.service.asking import metrics

Address: TypeAlias = tuple[str, int]
Samples: TypeAlias = dict[tuple[str, ...], float]
INTERVAL_SECONDS = 0.25
COUNTING = ("_total", "_count", "_sum", "_bucket")
PREFIXES = ("verser_host_", "verser_gateway_")


class Scraper:
    """Scrapes `targets`, which may change, inside `async with`.

    Attributes:
        targets: by name, where each answers.
        rounds: how often all were asked.
        wrong: counters that went down, and questions without an answer, in words.
    """

    def __init__(self) -> None:
        self.targets: dict[str, Address] = {}
        self.rounds = 0
        self.wrong: list[str] = []
        self._last: dict[Address, Samples] = {}
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._running = asyncio.get_running_loop().create_task(self._run(), name="scraper")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def _run(self) -> None:
        while True:
            for name in list(self.targets):
                try:
                    await self.scrape(name)
                except OSError as error:
                    self.wrong.append(f"{name}: {error!r}")
            self.rounds += 1
            await asyncio.sleep(INTERVAL_SECONDS)

    async def scrape(self, name: str) -> Samples:
        """All samples of a target as they are now; `{}` if it is no target any more."""
        async with self._one_at_a_time:
            if (address := self.targets.get(name)) is None:
                return {}
            found = {(_plain(key[0]), *key[1:]): value for key, value in (await metrics(address)).items()}
            before = self._last.get(address, {})
            for key, value in before.items():
                if key[0].endswith(COUNTING) and found.get(key, 0.0) < value:
                    self.wrong.append(f"{name}: {key} went from {value} to {found.get(key)}")
            self._last[address] = found
            return found

    async def until(self, name: str, holds: Callable[[Samples], bool]) -> Samples:
        """The samples of a target once something holds for them."""
        found: Samples = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not holds(found := await self.scrape(name)):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(INTERVAL_SECONDS / 5)
        except TimeoutError:
            raise AssertionError(f"{name} has never come to it: {found}") from None
        return found

    async def forget(self, name: str) -> None:
        """Asks this target no more, and not at this moment either."""
        async with self._one_at_a_time:
            del self.targets[name]


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def total(samples: Samples, name: str, *labels: str) -> float:
    """The sum of a metric's series that have these first labels, in the order of their names."""
    length = 1 + len(labels)
    return sum(value for key, value in samples.items() if key[:length] == (name, *labels))

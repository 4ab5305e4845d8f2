"""What clients do all the while, by whatever way they come, and their own account of it.

Apart from `tests/support/steady_load.py`, which counts for one Broker: here several ways are counted side by
side, with methods and bytes, to be held against what the metrics say.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self, TypeAlias

import httpx2

from verser2_guest_python import VerserBroker, VerserError

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.03
CLIENTS_A_WAY = 2
METHODS = ("GET", "POST")
Ask: TypeAlias = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]
"""Sends method, path and body; status and body of the answer."""


@dataclass
class Account:
    """What was answered as it should be: requests by method, and the bytes of their bodies."""

    requests: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, method: str, sent: bytes, answer: bytes) -> None:
        self.requests[method] += 1
        self.bytes_in += len(sent)
        self.bytes_out += len(answer)

    def __add__(self, other: Account) -> Account:
        return Account(
            self.requests + other.requests,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
        )


class Load:
    """Clients that ask one thing after the other, inside `async with`: GET and POST in turn.

    Attributes:
        accounts: by way.
        wrong: what came back other than the one right answer, in words.
    """

    def __init__(self, **ways: Ask) -> None:
        self.accounts = {name: Account() for name in ways}
        self.wrong: list[str] = []
        self._ways = ways
        self._numbers = count()
        self._stopping = asyncio.Event()
        self._news = asyncio.Condition()

    @property
    def account(self) -> Account:
        """Of all ways together."""
        return sum(self.accounts.values(), Account())

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._clients = [
            loop.create_task(self._client(name), name=f"client {name}")
            for name in self._ways
            for _ in range(CLIENTS_A_WAY)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        await asyncio.gather(*self._clients)

    async def _client(self, name: str) -> None:
        while not self._stopping.is_set():
            number = next(self._numbers)
            method = METHODS[number % 2]
            body = b"x" * (number % 5_000) if method == "POST" else b""
            right = (200, b"%d %d" % (number, len(body)))
            try:
                answer = await self._ways[name](method, f"/{number}", body)
            except (VerserError, httpx2.HTTPError) as error:
                self.wrong.append(f"{name}: {method} /{number}: {error!r}")
            else:
                if answer == right:
                    self.accounts[name].add(method, body, answer[1])
                else:
                    self.wrong.append(f"{name}: {method} /{number}: {answer!r}")
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(PAUSE_SECONDS)

    async def more(self, wanted: int = 30) -> None:
        """Until each way has had so many more right answers, or something went wrong."""
        goals = {name: account.requests.total() + wanted for name, account in self.accounts.items()}
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(
                lambda: (
                    self.wrong
                    or all(self.accounts[name].requests.total() >= goal for name, goal in goals.items())
                )
            )
        self.check()

    def check(self) -> None:
        """Nothing went wrong."""
        assert not self.wrong, f"{len(self.wrong)} went wrong: {self.wrong[:5]}"


def through_gateway(client: httpx2.AsyncClient, domain: str) -> Ask:
    async def ask(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        response = await client.request(method, path, content=body, headers={"host": domain})
        return response.status_code, response.content

    return ask


def through_broker(broker: VerserBroker, domain: str) -> Ask:
    async def ask(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        response = await broker.request(method, f"http://{domain}{path}", body=body or None)
        return response.status, await response.read()

    return ask

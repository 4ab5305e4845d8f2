"""A steady load of numbered requests through a Host, and what became of each.

    app = Ledger()
    async with Load(host, certs) as load:
        ...                              # whatever must lose nothing
        await load.more(100)
    load.check(app)                      # one answer each, and the app has seen each once

The Broker is like deployed ones where that is hardest for a Guest: it takes the first row of a domain. It
puts a request again only where no app can have seen it (protocol.md §14): `missing-guest` (its table was a
moment old), a Host's `timeout`, and what a Host's GOAWAY leaves out. Behind a GOAWAY it goes on with another
session.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from types import TracebackType
from typing import Any, Self

from tests.host.peers import DOMAIN, Broker
from tests.support.certificates import Certificates
from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.http2 import ErrorCode, Http2Error, SessionClosing, StreamReset

MORE_SECONDS = 30.0


class _NotSeen(Exception):
    """The request has reached no app; why."""


class Ledger:
    """An app that counts the numbers in the bodies that it gets, and answers with them."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seen: Counter[str] = Counter()
        self.guests: Counter[str] = Counter()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.seen[body.decode()] += 1
        await asyncio.sleep(self._seconds)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await send({"type": "http.response.body", "body": body[len(body) // 2 :]})


class _FirstRow(Broker):
    """A Broker that follows the route table."""

    def __init__(self, host: Any, certs: Certificates, broker_id: str) -> None:
        super().__init__(host, certs, broker_id)
        self.rows: list[dict[str, str]] = []
        self.news = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def introduce(self) -> None:
        await super().introduce()
        self.rows = self.registered["routes"]
        self._following = asyncio.create_task(self._follow(), name="load: control stream")

    async def _follow(self) -> None:
        try:
            while True:
                message = await self._next_line()
                if message.get("type") == "routes":
                    self.rows = message["routes"]
                    self.news.set()
        except (Http2Error, EOFError):
            self.news.set()

    async def _next_line(self) -> Any:
        """Like `line`, but there may be none for long."""
        while not self._waiting:
            data = await self.control.read()
            if not data:
                raise EOFError
            self._waiting = [json.loads(line) for line in self._lines.feed(data)]
        return self._waiting.pop(0)

    async def target(self) -> str:
        """Who has the first row; waits for one."""
        while True:
            for row in self.rows:
                if row["domain"] == DOMAIN:
                    return row["targetId"]
            self.news.clear()
            await self.news.wait()
            if self.session.lost is not None:
                raise self.session.lost

    async def leave(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))
        await self.session.close()


class Load:
    """So many requests at a time, each as soon as the one before it is answered."""

    def __init__(self, host: Any, certs: Certificates, *, workers: int = 6) -> None:
        self.answers: dict[str, str] = {}
        self.targets: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self._host = host
        self._certs = certs
        self._count = workers
        self._numbers = 0
        self._stopping = False
        self._brokers: list[_FirstRow] = []
        self._opening = asyncio.Lock()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._broker()
        self._tasks = [asyncio.create_task(self._work(), name="load") for _ in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        _, pending = await asyncio.wait(self._tasks, timeout=MORE_SECONDS)
        for task in pending:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for broker in self._brokers:
            await broker.leave()
        assert not pending, f"{len(pending)} requests are not answered"
        for task in self._tasks:
            task.result()

    async def more(self, count: int) -> None:
        """Until so many further requests are answered."""
        goal = len(self.answers) + count
        async with asyncio.timeout(MORE_SECONDS):
            while len(self.answers) < goal:
                if any(task.done() for task in self._tasks):
                    raise AssertionError([task.exception() for task in self._tasks if task.done()])
                self._news.clear()
                await self._news.wait()

    def check(self, app: Ledger) -> None:
        """Nothing lost, nothing doubled."""
        wrong = {number: answer for number, answer in self.answers.items() if answer != number}
        assert not wrong, f"{len(wrong)} of {len(self.answers)} got no answer of the app: {wrong}"
        assert app.seen == Counter(self.answers.keys())

    async def _broker(self) -> _FirstRow:
        async with self._opening:
            if not self._brokers or self._brokers[-1].session.closing:
                broker = _FirstRow(self._host, self._certs, f"load-{len(self._brokers) + 1}")
                await broker.__aenter__()
                self._brokers.append(broker)
            return self._brokers[-1]

    async def _work(self) -> None:
        while not self._stopping:
            self._numbers += 1
            number = f"number {self._numbers}"
            while True:
                try:
                    self.answers[number] = await self._ask(number)
                    break
                except SessionClosing:
                    continue
                except _NotSeen as error:
                    self.again[str(error)] += 1
                except StreamReset as error:
                    if error.code != ErrorCode.REFUSED_STREAM:
                        self.answers[number] = f"reset {ErrorCode.name_of(error.code)}"
                        break
            self._news.set()

    async def _ask(self, number: str) -> str:
        broker = await self._broker()
        target = await broker.target()
        stream = broker.request("POST", "/", {"content-length": str(len(number))}, target=target, end=False)
        self.targets[target] += 1
        await stream.write(number.encode(), end=True)
        answer = await broker.answer(stream)
        if answer.status == 502 and (code := answer.json["error"]["code"]) in ("missing-guest", "timeout"):
            raise _NotSeen(code)
        return answer.body.decode() if answer.status == 200 else f"{answer.status} {answer.body!r}"

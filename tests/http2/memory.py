"""A session without a network, for tests that run thousands of them: what it writes is kept in a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from tests.http2 import frames as h2f
from verser2_guest_python.http2 import Session, SessionOptions, Stream


class MemoryTransport:
    """What a session needs of its transport."""

    peer_address = ("memory", 0)
    peer_certificate = None
    tls_version = "TLSv1.3"

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.writes = 0
        self.closing = False
        self.aborted = False
        self.backlog = 0

    def write(self, records: Iterable[bytes]) -> None:
        self.records.extend(records)
        self.writes += 1

    def close(self, timeout: float) -> None:
        assert timeout >= 0
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    async def wait_closed(self) -> None:
        assert self.closing or self.aborted


class MemorySession:
    """A session, the streams that its peer has opened, and what it has written."""

    def __init__(self, *, is_client: bool, options: SessionOptions | None = None) -> None:
        self.transport = MemoryTransport()
        transport: Any = self.transport
        self.session = Session(transport, is_client, options or SessionOptions())
        self.opened: list[Stream] = []
        self.session.on_stream = self.opened.append
        self.session.start()

    def feed(self, data: bytes) -> None:
        self.session.records_received((data,))

    def written(self) -> list[h2f.Frame]:
        """All frames up to now."""
        data = b"".join(self.transport.records)
        found, rest = h2f.split_frames(data.removeprefix(h2f.PREFACE))
        assert rest == b""
        return found


class ClockLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a test moves on by hand."""

    moved = 0.0

    def time(self) -> float:
        return super().time() + self.moved


async def advance(seconds: float, step: float = 0.25) -> None:
    """Moves the clock of a `ClockLoop` on, in small steps, so that timers which set timers go off as well."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    while seconds > 0:
        loop.moved += min(step, seconds)
        seconds -= step
        await turns(2)


async def turns(count: int = 3) -> None:
    """Lets the loop go round, so that what is ready leaves."""
    for _ in range(count):
        await asyncio.sleep(0)


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs one example on a loop of its own; what the loop complains of is a failure."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        await body()

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(main())
    assert complaints == []

"""A request's body on its way from the Broker's stream into the lease.

Apart from the exchange because it has an end of its own: it may be over long before the answer, or
go on after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeAlias

from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.http2 import Http2Error, Stream

DIRECT_BYTES = 262_144
"""More than this is not passed on in one piece."""

CHUNK_BYTES = 65_536
"""What a coroutine reads at a time once the other side has no room."""


Tap: TypeAlias = Callable[[bytes], None]
"""Is shown each piece as it passes."""


class UploadOwner(Protocol):
    """The exchange, as its upload sees it."""

    def upload_done(self) -> None:
        """All of it has passed."""

    def upload_failed(self) -> None:
        """One of the two streams failed."""

    def broke(self) -> None:
        """A fault of our own, which is raised as well."""


class Upload:
    """Passes on what comes, in the turn in which it comes where there is room (protocol.md §12.4)."""

    __slots__ = ("_lease", "_owner", "_source", "_tap", "_task", "_tasks", "bytes", "done")

    def __init__(
        self, owner: UploadOwner, tasks: Tasks, source: Stream, lease: Stream, tap: Tap | None = None
    ) -> None:
        self.bytes = 0
        self.done = False
        self._owner = owner
        self._tasks = tasks
        self._source = source
        self._lease = lease
        self._tap = tap
        self._task: asyncio.Task[None] | None = None

    def pass_on(self, head: bytes = b"") -> None:
        """Passes on what has come, behind the envelope head the first time (protocol.md §12.1)."""
        if self.done or self._task is not None:
            return
        source = self._source
        size = source.unread
        # What is taken here and finds no room has to be kept here: no more than a chunk.
        direct = size <= CHUNK_BYTES or (size <= DIRECT_BYTES and self._lease.has_room(size + len(head)))
        data = source.take() if direct else b""
        end = source.at_end
        self.bytes += len(data)
        if self._tap is not None and data:
            self._tap(data)
        if head:
            data = head + data if data else head
        passed = True
        if data or end:
            try:
                passed = self._lease.write_now(data, end=end, head=len(head))
            except Http2Error:
                self._owner.upload_failed()
                return
            if passed and end:
                self.done = True
                self._owner.upload_done()
                return
        if not passed:
            self._spawn(data, end, len(head))
        elif source.unread:
            self._spawn(b"", False, 0)

    def stop(self) -> None:
        """Nothing more is to pass."""
        self.done = True
        if self._task is not None:
            self._task.cancel()

    def _spawn(self, data: bytes, end: bool, head: int) -> None:
        self._task = self._tasks.spawn(self._pass_on_slowly(data, end, head), "verser host: upload")

    async def _pass_on_slowly(self, data: bytes, end: bool, head: int) -> None:
        source, lease = self._source, self._lease
        try:
            await lease.write(data, end=end, head=head)
            while not end:
                data = await source.read(CHUNK_BYTES)
                end = source.at_end
                self.bytes += len(data)
                if self._tap is not None:
                    self._tap(data)
                await lease.write(data, end=end)
        except Http2Error:
            self._task = None
            self._owner.upload_failed()
            return
        except Exception:
            self._owner.broke()
            raise
        self._task = None
        self.done = True
        self._owner.upload_done()

"""One HTTP/2 stream: bytes to read, bytes to write, fields, and how it ended.

An idle stream is this object and nothing else: no task, no future, no queue. Whoever waits makes one
future for the time of waiting; whoever would rather be called sets `listener`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import ConnectionLost, ErrorCode, HeadTooLarge, StreamReset
from .fields import FieldBlock, Fields
from .options import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from .backend import H2Stream
    from .sending import PendingWrite
    from .session import Session

StreamError = StreamReset | ConnectionLost

_JOINED_BYTES = 4_096
"""Chunks up to this size are joined while many wait: an object for each byte costs fifty times as much."""
_MANY_CHUNKS = 32


class Stream:
    """A stream of a `Session`. Not made by callers: see `Session.open` and `Session.on_stream`.

    Attributes:
        id: The stream's id (RFC 9113 §5.1.1).
        session: The session that it belongs to.
        fields: What the peer sent first: request fields on a server, response fields on a client.
        listener: Called at the end of a transport read that brought anything for this stream: fields,
            bytes, the end, a reset, or the loss of the session. At most once a read.
        error: Why it failed, or None.
        ended: The peer has ended its side; bytes may still wait.
        write_ended: Our side has ended.
        unread: Flow-controlled bytes that wait to be read.
    """

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_discarding",
        "_pending",
        "_reader",
        "_touched",
        "_watchers",
        "credit",
        "ended",
        "error",
        "fields",
        "h2",
        "id",
        "keeps_unread",
        "last_read",
        "listener",
        "reset_pending",
        "session",
        "unread",
        "write_ended",
        "write_error",
    )

    def __init__(self, session: Session, stream_id: int, h2_stream: H2Stream) -> None:
        self.session = session
        self.id = stream_id
        self.h2 = h2_stream
        self.fields: Fields | None = None
        self.listener: Callable[[Stream], None] | None = None
        self.error: StreamError | None = None
        self.write_error: StreamError | None = None
        self.ended = False
        self.write_ended = False
        self.unread = 0
        self.keeps_unread = False  # what waits can still be read behind RST_STREAM NO_ERROR
        self.last_read = 0.0  # kept only while the session holds too much unread data
        self._chunks: deque[bytes | bytearray] | None = None
        self.credit = 0
        self._discarding = False
        self._touched = False
        self.reset_pending = False
        self._reader: asyncio.Future[None] | None = None
        self._watchers: list[asyncio.Future[None]] | None = None
        self._pending: deque[PendingWrite] | None = None

    def __repr__(self) -> str:
        state = "failed" if self.error else "closed" if self.closed else "open"
        return f"<Stream {self.id} {state}, {self.unread} bytes unread>"

    # --- State ----------------------------------------------------------------------------

    @property
    def at_end(self) -> bool:
        """The peer has ended its side, and nothing waits to be read."""
        return self.ended and not self._chunks and self.error is None

    @property
    def closed(self) -> bool:
        """Both sides have ended, or the stream failed."""
        return self.error is not None or (self.ended and (self.write_ended or self.write_error is not None))

    # --- Reading --------------------------------------------------------------------------

    def take(self) -> bytes:
        """All bytes that wait, without waiting for more; gives their credit back to the peer."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
        self._chunks = None
        self.session.credit.consumed(self, self.unread)
        return data

    def take_frame(self) -> bytes:
        """The bytes of the first DATA frame that waits, without waiting for more."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = bytes(chunks.popleft())
        self.session.credit.consumed(self, len(data))
        return data

    async def read(self, limit: int = 65_536) -> bytes:
        """The next bytes, at most `limit` of them; `b""` once the peer has ended its side.

        Raises:
            StreamReset, ConnectionLost: the stream failed; bytes that still waited are dropped.
        """
        while True:
            chunks = self._chunks
            if chunks:
                return self._next(chunks, limit)
            if self.error is not None:
                raise self.error.with_traceback(None)
            if self.ended or self._discarding:
                return b""
            await self._wait_readable()

    def _next(self, chunks: deque[bytes | bytearray], limit: int) -> bytes:
        if self.unread <= limit:
            return self.take()
        first = chunks.popleft()
        if len(first) > limit:
            chunks.appendleft(first[limit:])
            first = first[:limit]
        else:
            parts: list[bytes | bytearray] = [first]
            size = len(first)
            while chunks and size + len(chunks[0]) <= limit:
                parts.append(chunks.popleft())
                size += len(parts[-1])
            first = b"".join(parts) if len(parts) > 1 else first
        self.session.credit.consumed(self, len(first))
        return bytes(first)

    async def wait_fields(self) -> Fields:
        """The peer's fields, once they are there. Raises as `read` does."""
        while self.fields is None:
            if self.error is not None:
                raise self.error.with_traceback(None)
            await self._wait_readable()
        return self.fields

    async def _wait_readable(self) -> None:
        if self._reader is not None:
            raise RuntimeError(f"stream {self.id} is being read already; one reader at a time")
        self._reader = self.session.loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def discard(self) -> None:
        """Nobody will read the rest: what waits and what comes is credited and dropped.

        A `read` that waits, or comes later, gets `b""`.
        """
        self._discarding = True
        self._drop_unread()
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    def _drop_unread(self) -> None:
        self._chunks = None
        if self.unread:
            self.session.credit.consumed(self, self.unread)

    # --- Writing --------------------------------------------------------------------------

    def send_fields(self, block: FieldBlock, extra: Fields = (), *, end: bool = False) -> None:
        """The response fields of a stream that the peer opened; once."""
        self._check_writable()
        if self.h2.state_machine.headers_sent:
            raise RuntimeError(f"stream {self.id}: its fields have been sent already")
        self.session.send_fields(self, block, extra, end)
        if end:
            self.end_writing()

    def write_now(self, data: bytes | memoryview, *, end: bool = False, head: int = 0) -> bool:
        """Writes all of it at once, or nothing: False when windows or transport have no room now.

        `head` bytes at the start leave in one DATA frame (see `write`). Raises as `write` does.
        """
        self._check_writable()
        if head > MAX_PAYLOAD_BYTES:
            raise HeadTooLarge(head)
        if self._pending:
            if self._pending[-1].end:
                raise RuntimeError(f"stream {self.id}: its writing side is about to end already")
            return False
        return self.session.sender.send_now(self, data, end)

    def has_room(self, size: int) -> bool:
        """Whether `write_now` would take so many bytes now."""
        return self._pending is None and self.session.sender.has_room(self, size)

    async def write(self, data: bytes | memoryview, *, end: bool = False, head: int = 0) -> None:
        """Writes bytes, waiting for windows and transport; with `end`, ends our side behind them.

        The first `head` bytes leave in one DATA frame within one TLS record, and before bodies when
        window is scarce. Streams that wait take turns. Cancelled half-way, the stream is reset.

        Raises:
            StreamReset, ConnectionLost: the stream failed.
            HeadTooLarge: `head` is more than one record takes (16,375 bytes).
        """
        if self.write_now(data, end=end, head=head):
            return
        await self.session.sender.send(self, data, end, head)

    def _check_writable(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.write_error is not None:
            raise self.write_error.with_traceback(None)
        if self.write_ended:
            raise RuntimeError(f"stream {self.id}: its writing side has ended already")

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """Gives the stream up. Does nothing when it is closed already, but for dropping what is unread."""
        if self.closed:
            if self.unread:
                self.fail(StreamReset(code, False))
        elif not self.reset_pending:
            self.session.reset_stream(self, code)

    # --- Waiting for the end --------------------------------------------------------------

    async def wait_closed(self) -> None:
        """Until both sides have ended, or the stream failed; raises nothing."""
        while not self.closed:
            await self._watch()

    async def wait_error(self) -> StreamError | None:
        """Until the stream failed, or both sides ended: the error, or None."""
        await self.wait_closed()
        return self.error

    async def _watch(self) -> None:
        future: asyncio.Future[None] = self.session.loop.create_future()
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(future)
        try:
            await future
        finally:
            if self._watchers and future in self._watchers:
                self._watchers.remove(future)

    # --- From the engine ------------------------------------------------------------------

    def on_fields(self, fields: Fields, ended: bool) -> None:
        """The peer's first header block."""
        self.fields = fields
        if ended:
            self.ended = True
        self.touch()

    def on_data(self, data: bytes, flow_bytes: int, ended: bool) -> None:
        """A DATA frame."""
        session = self.session
        session.credit.received(flow_bytes)
        if ended:
            self.ended = True
        if self._discarding or self.reset_pending:
            self.unread += flow_bytes
            session.credit.consumed(self, flow_bytes)
        elif data:
            self.unread += flow_bytes
            if self._chunks is None:
                self._chunks = deque((data,))
            elif len(self._chunks) < _MANY_CHUNKS or len(data) > _JOINED_BYTES:
                self._chunks.append(data)
            else:
                self._join(self._chunks, data)
            if flow_bytes != len(data):  # padding is nobody's to read
                session.credit.consumed(self, flow_bytes - len(data))
        elif flow_bytes:
            self.unread += flow_bytes
            session.credit.consumed(self, flow_bytes)
        if data or ended:
            self.touch()

    @staticmethod
    def _join(chunks: deque[bytes | bytearray], data: bytes) -> None:
        """Adds a small chunk to many that wait already."""
        last = chunks[-1]
        if isinstance(last, bytearray) and len(last) <= _JOINED_BYTES:
            last += data
        else:
            chunks.append(bytearray(data))

    def on_end(self) -> None:
        """The peer has ended its side with trailers, which nobody needs."""
        self.ended = True
        self.touch()

    def on_reset(self, code: int, farewell: str = "") -> None:
        """RST_STREAM. NO_ERROR behind a whole message only asks us to stop writing (RFC 9113 §8.1)."""
        error = StreamReset(code, True, farewell)
        if code == ErrorCode.NO_ERROR and self.ended:
            self.write_error = error
            self._fail_writes(error)
            self._wake_watchers()
            self.touch()
        else:
            self.fail(error, keep=code == ErrorCode.NO_ERROR and self.keeps_unread)
            self.touch()

    def on_window(self) -> None:
        """The peer has enlarged this stream's window."""
        if self._pending:
            self.session.sender.unpark(self)

    def touch(self) -> None:
        """Something came: `notify` at the end of the read."""
        if not self._touched:
            self._touched = True
            self.session.notices.touched.append(self)

    # --- From the session -----------------------------------------------------------------

    def end_writing(self) -> None:
        """END_STREAM of ours is in a frame."""
        self.write_ended = True
        if self._watchers and self.closed:
            self._wake_watchers()

    def await_reset(self) -> None:
        """Our reset has to wait (§12.10): what comes until then is nobody's concern."""
        self.reset_pending = True
        self._touched = True

    def notify(self) -> None:
        """The read is over: tell whoever waits."""
        self._touched = self.reset_pending
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)
        if self._watchers and self.closed:
            self._wake_watchers()
        listener = self.listener
        if listener is not None:  # the last, for it may fail
            listener(self)

    def fail(self, error: StreamError, *, keep: bool = False) -> None:
        """The stream is over, and not well; `keep` leaves what waits to be read."""
        if self.error is not None:
            return
        self.error = error
        if not keep:
            self._drop_unread()
        self._fail_writes(error)
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)
        self._wake_watchers()

    def _fail_writes(self, error: StreamError) -> None:
        if self._pending:
            self.session.sender.fail(self, error)

    def _wake_watchers(self) -> None:
        for future in self._watchers or ():
            if not future.done():
                future.set_result(None)
        self._watchers = None

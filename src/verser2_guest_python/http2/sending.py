"""Who may send next: heads before bodies, and bodies in turn (protocol.md §12.1, §12.5).

Most writes never come here twice: they fit, and become frames at once. The rest waits for the
transport, the connection's window or its stream's own window, each in a place of its own, so that
a stream without window holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from .errors import ErrorCode
from .options import DEFAULT_WINDOW_BYTES, MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from .session import Session
    from .stream import Stream, StreamError


class PendingWrite:
    """One `write` that has to wait: what is left of it, and who waits."""

    __slots__ = ("data", "done", "end", "head", "parked", "share", "started", "stream")

    def __init__(
        self, stream: Stream, data: memoryview, end: bool, head: int, done: asyncio.Future[None]
    ) -> None:
        self.stream = stream
        self.data = data
        self.end = end
        self.head = head
        self.done = done
        self.started = False
        self.parked = False
        self.share = MAX_PAYLOAD_BYTES  # what is left of its turn


class Sender:
    """Turns writes into DATA frames while the session has room for them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._engine = session.engine
        self._heads: deque[PendingWrite] = deque()
        self._bodies: deque[PendingWrite] = deque()

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for the connection or the transport."""
        return bool(self._heads or self._bodies)

    def has_room(self, stream: Stream, size: int) -> bool:
        """Whether nobody else waits, and windows and transport have room for so many bytes now."""
        session = self._session
        return not (
            self._heads
            or self._bodies
            or not session.has_room
            or size > stream.h2.outbound_flow_control_window
            or size > self._engine.connection_window
            or size > session.options.write_buffer_bytes
        )

    def send_now(self, stream: Stream, data: bytes | memoryview, end: bool) -> bool:
        """All of it now, if there is room."""
        size = len(data)
        engine = self._engine
        if size:
            if not self.has_room(stream, size):
                return False
            limit = engine.max_payload
            if size > limit:
                view = memoryview(data)
                position = 0
                while size - position > limit:
                    engine.send_data(stream, view[position : position + limit], False)
                    position += limit
                data = view[position:]
        elif not end:
            return True
        engine.send_data(stream, data, end)
        if end:
            stream.end_writing()
        self._session.wrote()
        return True

    async def send(self, stream: Stream, data: bytes | memoryview, end: bool, head: int) -> None:
        """Queues a write up and waits until all of it is in frames."""
        write = PendingWrite(stream, memoryview(data), end, head, self._session.loop.create_future())
        if stream._pending is None:
            stream._pending = deque()
        stream._pending.append(write)
        if len(stream._pending) == 1:
            self._enqueue(write)
            self.pump()
        try:
            await write.done
        except asyncio.CancelledError:
            self._withdraw(write)
            raise

    def _enqueue(self, write: PendingWrite) -> None:
        (self._heads if write.head else self._bodies).append(write)

    def _withdraw(self, write: PendingWrite) -> None:
        """The caller was cancelled. A body with a hole in it must not look whole: reset."""
        stream = write.stream
        pending = stream._pending
        if pending is None or write not in pending:
            return  # it was through, or the stream failed
        first = pending[0] is write
        if write.started or not first:
            stream.reset(ErrorCode.CANCEL)
            return
        pending.popleft()
        self._forget(write)
        self._advance(stream)
        self.pump()  # it may have held up others

    def _forget(self, write: PendingWrite) -> None:
        for queue in (self._heads, self._bodies):
            if write in queue:
                queue.remove(write)

    def _advance(self, stream: Stream) -> None:
        """The stream's next write takes the place of the one that is through."""
        if stream._pending:
            self._enqueue(stream._pending[0])
        else:
            stream._pending = None

    def fail(self, stream: Stream, error: StreamError) -> None:
        """The stream is gone: its writes fail."""
        pending, stream._pending = stream._pending, None
        for write in pending or ():
            self._forget(write)
            if not write.done.done():
                write.done.set_exception(error)
                write.done.exception()  # a caller that was cancelled meanwhile will not ask
        self._session.pump_soon()  # they may have held up others

    def unpark(self, stream: Stream) -> None:
        """The stream has window again."""
        pending = stream._pending
        if pending and pending[0].parked and stream.h2.outbound_flow_control_window > 0:
            pending[0].parked = False
            self._enqueue(pending[0])
            self._session.pump_soon()

    def pump(self) -> None:
        """Sends whatever has room now."""
        session = self._session
        while session.has_room:
            if self._heads:
                if not self._send_head(self._heads[0]):
                    return
            elif self._bodies:
                if not self._send_body():
                    return
            else:
                return

    def _send_head(self, write: PendingWrite) -> bool:
        """The head of a write, and what fits behind it; False when the connection has no window."""
        stream = write.stream
        window = stream.h2.outbound_flow_control_window
        if window < write.head:
            self._heads.popleft()
            write.parked = True
            return True
        room = self._engine.connection_window
        if room < write.head:
            return False
        self._heads.popleft()
        size = min(len(write.data), window, room, self._engine.max_payload)
        if (size < len(write.data) and self._heads) or (self._bodies and room < DEFAULT_WINDOW_BYTES):
            size = write.head  # other heads come before this body, and other bodies take their turns
        if size < len(write.data):
            self._bodies.append(write)
        self._send(write, size)
        return True

    def _send_body(self) -> bool:
        """One frame of the write whose turn it is; False when the connection has no window.

        A turn that the connection's window cuts short goes on later: in a window that trickles in, frames
        have all sizes, and whoever always met the small ones would get little.
        """
        write = self._bodies[0]
        size = min(len(write.data), write.share, self._engine.max_payload)
        if size:
            window = write.stream.h2.outbound_flow_control_window
            if window <= 0:
                self._bodies.popleft()
                write.parked = True
                return True
            room = self._engine.connection_window
            if room <= 0:
                return False
            size = min(size, window, room)
        self._bodies.popleft()
        write.share -= size
        if size < len(write.data):
            if write.share:
                self._bodies.appendleft(write)
            else:
                write.share = MAX_PAYLOAD_BYTES
                self._bodies.append(write)
        self._send(write, size)
        return True

    def _send(self, write: PendingWrite, size: int) -> None:
        stream = write.stream
        last = size == len(write.data)
        end = last and write.end
        payload = write.data[:size]
        write.data = write.data[size:]
        write.started = True
        write.head = 0
        self._engine.send_data(stream, payload, end)
        self._session.wrote()
        if end:
            stream.end_writing()
        if last and stream._pending:
            stream._pending.popleft()
            if not write.done.done():
                write.done.set_result(None)
            self._advance(stream)

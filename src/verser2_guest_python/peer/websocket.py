"""One WebSocket on a stream of its own: VWS/1 messages both ways (protocol.md §11).

A Guest and a Broker both end one; what differs is how it was negotiated, which is not here. The
channel runs on the stream's listener: it costs no task while nothing waits. When the application
is slow, it stops taking bytes, and the other end runs out of flow-control credit.

    OPEN ──we close──> CLOSING ──their close, or 1 s──> CLOSED
      ├──their close (echoed)──────────────────────────────^
      └──the stream fails or ends without close (1006)─────^
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Stream, StreamReset
from verser2_guest_python.http2.deadline import LateCall, call_within
from verser2_guest_python.wire.limits import MAX_CLOSE_REASON_BYTES
from verser2_guest_python.wire.vws import (
    ABNORMAL_CLOSE,
    Binary,
    Close,
    Message,
    Ping,
    Pong,
    Text,
    VwsParser,
    VwsViolation,
    encode,
)

MAX_WAITING_MESSAGES = 64
MAX_WAITING_BYTES = 1024 * 1024
CLOSE_SECONDS = 1.0
_LINES_AT_ONCE = 16  # of one frame, parsed before the queue is looked at again

Received: TypeAlias = Text | Binary | Pong | Close


class ChannelClosed(OSError):
    """The WebSocket is closed: nothing can be sent. `close` says how it ended."""

    def __init__(self, close: Close) -> None:
        super().__init__(f"The WebSocket is closed (code {close.code}).")
        self.close = close


class _State(Enum):
    OPEN = "open"
    CLOSING = "our close is sent"
    CLOSED = "closed"


class WebSocketChannel:
    """The messages of a WebSocket that is open.

    Attributes:
        stream: The stream that carries it.
        closed: How it ended, or None. Code 1006: the stream ended without `close`.
        clean: Whether the other end has said `close`.
    """

    def __init__(self, stream: Stream, parser: VwsParser | None = None, *, pongs: bool = False) -> None:
        self.stream = stream
        self.closed: Close | None = None
        self.clean = False
        self._loop = stream.session.loop
        self._parser = parser or VwsParser()
        self._pongs = pongs
        self._state = _State.OPEN
        self._received: deque[Received] = deque()
        self._received_bytes = 0
        self._rest = b""  # of a frame that was taken, while the queue is full
        self._receiver: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0  # of what is in `_out`, or being written
        self._out_count = 0
        self._late_pong: bytes | None = None
        self._flush_planned = False
        self._writer: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._close_timer: LateCall | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()

    def start(self, first: list[Message] | None = None) -> None:
        """Begins to receive; `first` are messages that came with those of the negotiation."""
        self.stream.listener = self._on_stream
        for message in first or ():
            self._take(message)
        self._on_stream(self.stream)

    # --- Receiving ------------------------------------------------------------------------

    async def receive(self) -> Received:
        """The next message. Once closed, every call returns the same Close. One caller at a time."""
        while not self._received:
            if self.closed is not None:
                return self.closed
            if self._receiver is not None:
                raise RuntimeError("the WebSocket is being received from already; one receiver at a time")
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = self._received.popleft()
        self._received_bytes -= _size(message)
        if (self._rest or self.stream.unread or self.stream.ended) and self.closed is None:
            self._on_stream(self.stream)
        return message

    def _on_stream(self, stream: Stream) -> None:
        """Something came: parse while the queue has room; pings and closes are answered on the way."""
        while self.closed is None and self._has_room():
            data = self._rest or stream.take_frame()
            if not data:
                break
            self._parse(data)
        if stream.error is not None:
            self._end(Close(ABNORMAL_CLOSE, ""))
        elif stream.ended and self._state is not _State.CLOSED:
            if self.closed is not None:  # what it said was a violation, and it has gone since
                self._end_side()
            elif stream.at_end and not self._rest:
                self._end(Close(ABNORMAL_CLOSE, ""))
                self._end_side()
        self._wake()

    def _has_room(self) -> bool:
        return len(self._received) < MAX_WAITING_MESSAGES and self._received_bytes < MAX_WAITING_BYTES

    def _parse(self, data: bytes) -> None:
        cut = 0
        for _ in range(min(_LINES_AT_ONCE, MAX_WAITING_MESSAGES - len(self._received))):
            end = data.find(b"\n", cut)
            if end < 0:
                cut = len(data)
                break
            cut = end + 1
        self._rest = data[cut:]
        try:
            messages = self._parser.feed(data[:cut])
        except VwsViolation as violation:
            for message in violation.messages:
                self._take(message)
            self._violated(violation)
            return
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        if self.closed is not None or (self._state is _State.CLOSING and not isinstance(message, Close)):
            return
        match message:
            case Text() | Binary():
                self._received.append(message)
                self._received_bytes += _size(message)
            case Ping(data):
                self._answer_ping(encode(Pong(data)))
            case Pong():
                if self._pongs:
                    self._received.append(message)
                    self._received_bytes += _size(message)
            case Close():
                self.clean = True
                if self._state is _State.OPEN:
                    self._put(encode(message))
                self._end(message)
                self._end_side()
            case _:
                self._violated(VwsViolation("a message of the negotiation came on an open WebSocket"))

    def _violated(self, violation: VwsViolation) -> None:
        """Close with its code, and reset once the other end has seen it (§11)."""
        self._rest = b""
        if self._state is _State.OPEN and self.closed is None:
            reason = violation.message.encode()[:MAX_CLOSE_REASON_BYTES].decode("utf-8", "ignore")
            close = Close(violation.close_code, reason)
            self._put(encode(close))
            self._state = _State.CLOSING
            self._end(close)
            self.stream.discard()
            self._plan_end()

    def _wake(self) -> None:
        receiver = self._receiver
        if receiver is not None and not receiver.done() and (self._received or self.closed is not None):
            receiver.set_result(None)

    # --- Sending --------------------------------------------------------------------------

    @property
    def buffered_amount(self) -> int:
        """Bytes that wait to be sent."""
        return self._out_bytes

    async def send(self, message: Text | Binary | Ping | Pong) -> None:
        """Sends a message; waits while 64 messages or 1 MiB wait already.

        Raises:
            ChannelClosed: the WebSocket is closed, or closing.
            VwsViolation: one message takes more than 1,048,576 bytes as a line.
        """
        line = encode(message)
        while self._state is _State.OPEN and not self._fits(line):
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)
        if self._state is not _State.OPEN:
            raise ChannelClosed(self.closed or Close(1000, ""))
        self._put(line)

    def _fits(self, line: bytes) -> bool:
        if self._out_count >= MAX_WAITING_MESSAGES:
            return False
        return not self._out_count or self._out_bytes + len(line) <= MAX_WAITING_BYTES

    def _answer_ping(self, line: bytes) -> None:
        """A pong. While there is no room, only the latest waits for it (RFC 6455 §5.5.3)."""
        if self._fits(line):
            self._put(line)
        else:
            self._late_pong = line

    def _put(self, line: bytes) -> None:
        """Lines of one turn of the loop share a DATA frame."""
        self._out.append(line)
        self._out_bytes += len(line)
        self._out_count += 1
        if not self._flush_planned and self._writer is None:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if not self._out or self._writer is not None:
            return
        try:
            if self.stream.write_now(b"".join(self._out)):
                self._sent()
                return
        except (StreamReset, ConnectionLost):
            self._sent()  # the listener hears of it, or has already
            return
        self._writer = self._loop.create_task(self._write(), name="verser-websocket-writer")

    async def _write(self) -> None:
        """Windows or transport have no room: wait for it."""
        try:
            while self._out:
                lines, self._out = self._out, []
                data = b"".join(lines)
                await self.stream.write(data)
                self._out_bytes -= len(data)
                self._out_count -= len(lines)
                self._make_room()
        except (StreamReset, ConnectionLost):
            self._sent()
        finally:
            self._writer = None
            if self._state is _State.CLOSED:
                self._end_side()

    def _sent(self) -> None:
        self._out.clear()
        self._out_bytes = self._out_count = 0
        self._make_room()

    def _make_room(self) -> None:
        pong, self._late_pong = self._late_pong, None
        if pong is not None and self._state is _State.OPEN:
            self._answer_ping(pong)
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # --- The end --------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends `close`; the other end has 1 s for its own. See `wait_closed`.

        Raises:
            VwsViolation: the code or the reason cannot be said (§11).
        """
        if self._state is not _State.OPEN or self.closed is not None:
            return
        self._put(encode(Close(code, reason)))
        self._state = _State.CLOSING
        self._plan_end()
        self._received.clear()
        self._received_bytes = 0
        self._on_stream(self.stream)

    def abort(self) -> None:
        """Resets the stream now."""
        self._end(Close(ABNORMAL_CLOSE, ""))
        self.stream.reset(ErrorCode.CANCEL)
        self._finish()

    @property
    def over(self) -> bool:
        """Whether the stream is done with: both ends have closed, or it failed."""
        return self._over.done()

    def when_over(self, callback: Callable[[], None]) -> None:
        """Calls `callback`, in a turn of its own, once it is over."""
        self._over.add_done_callback(lambda _: callback())

    async def wait_closed(self) -> Close:
        """Until both ends have closed, or 1 s after ours alone: how it ended."""
        await asyncio.shield(self._over)
        if self._writer is not None:
            await asyncio.wait((self._writer,))
        return self.closed or Close(ABNORMAL_CLOSE, "")

    def _end(self, close: Close) -> None:
        """How it ended is known."""
        if self.closed is None:
            self.closed = close
        if self.stream.error is not None:
            self._finish()
        self._wake()

    def _end_side(self) -> None:
        """Both closes have passed, or the other side has ended: end ours behind what waits."""
        self._state = _State.CLOSED
        if self._writer is None:
            self._flush()
        if self._writer is not None:
            self._plan_end()
            return  # it ends the side behind what waits, if the other end takes it
        stream = self.stream
        if stream.error is None and stream.write_error is None and not stream.write_ended:
            stream.write_now(b"", end=True)  # without bytes there is always room
        stream.discard()
        if not stream.closed:  # the other end is to end its side too
            self._loop.call_later(CLOSE_SECONDS, stream.reset, ErrorCode.CANCEL)
        self._finish()

    def _plan_end(self) -> None:
        """From now on the other end has so long to do its part."""
        if self._close_timer is None:
            self._close_timer = call_within(self._loop, CLOSE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """The other end did not close in time."""
        self._end(Close(ABNORMAL_CLOSE, ""))
        self.stream.reset(ErrorCode.CANCEL)
        self._finish()

    def _finish(self) -> None:
        self._state = _State.CLOSED
        self.stream.listener = None
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._make_room()
        if not self._over.done():
            self._over.set_result(None)
        self._wake()


def _size(message: Received) -> int:
    """Its bytes in the queue; a text counts as its UTF-8."""
    if isinstance(message, Close):
        return 0
    data = message.data
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())

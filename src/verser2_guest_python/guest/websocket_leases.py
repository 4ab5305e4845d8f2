"""WebSocket leases of a session: a few idle ones, each replaced the moment it is used (protocol.md §11).

There is no queue for WebSockets at the Host: one that finds no idle lease fails at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from verser2_guest_python.http2 import (
    ConnectionLost,
    ErrorCode,
    FieldBlock,
    SessionClosing,
    Stream,
    StreamReset,
    TooManyStreams,
)
from verser2_guest_python.peer.websocket import CLOSE_SECONDS
from verser2_guest_python.wire.vws import Close, Message, Open, VwsParser, VwsViolation, encode

from .demand import Calls
from .websocket import WS_HEADERS, GuestWebSocket, serve_websocket

if TYPE_CHECKING:
    from .session import GuestSession

_log = logging.getLogger("verser2_guest_python.guest")

_RETRY_SECONDS = 1.0  # after the Host refused one
_CANCELLED_RETRY_SECONDS = 0.05  # after one was cancelled, and another one before it


class WebSocketLeases:
    """Keeps `idle` leases open while fewer than `limit` WebSockets are, on all sessions together."""

    def __init__(
        self, guest_session: GuestSession, block: FieldBlock, *, calls: Calls, idle: int, limit: int
    ) -> None:
        self._guest_session = guest_session
        self._session = guest_session.session
        self._block = block
        self._calls = calls
        self._wanted = idle
        self._limit = limit
        self._idle: dict[int, Stream] = {}
        self._parsers: dict[int, VwsParser] = {}
        self._open: dict[int, tuple[GuestWebSocket, asyncio.Task[None]]] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._retry_delay = 0.0  # after one was cancelled
        self._stopped = False

    @property
    def open(self) -> int:
        """WebSockets that are open, or being negotiated."""
        return len(self._open)

    def tasks(self) -> list[asyncio.Task[None]]:
        """One a WebSocket."""
        return [task for _, task in self._open.values()]

    def _missing(self) -> bool:
        paused = self._stopped or self._retry is not None
        return not paused and len(self._idle) < min(self._wanted, self._limit - self._calls.websockets)

    def start(self) -> None:
        """Opens the first leases; from now on each that is used is replaced."""
        self._calls.websocket_fills = (*self._calls.websocket_fills, self.fill)
        self.fill()

    def fill(self) -> None:
        """Opens the leases that are missing."""
        try:
            while self._missing():
                stream = self._session.open(self._block, listener=self._on_lease)
                self._idle[stream.id] = stream
                self._guest_session.leases.check_id(stream.id)
        except SessionClosing as error:
            self._stopped = True
            self._guest_session.give_up(error.reason, "stream-ids")
        except (ConnectionLost, TooManyStreams):
            return

    def _on_lease(self, stream: Stream) -> None:
        fields = stream.fields
        if fields is not None and fields[0][1] != b"200":
            self._lost(stream, f"the Host refused it ({fields[0][1].decode('latin-1')})")
            self._give_up(stream)
            return
        if stream.error is not None or stream.ended:
            self._lost(stream, "it ended" if stream.error is None else str(stream.error))
            self._give_up(stream)
            return
        data = stream.take_frame()
        if not data:
            return
        parser = self._parsers.pop(stream.id, None) or VwsParser()
        messages: list[Message] = []
        try:
            while not (messages := parser.feed(data)) and (data := stream.take_frame()):
                pass
            if not messages:
                self._parsers[stream.id] = parser
                return
            opening = messages[0]
            if not isinstance(opening, Open) or len(messages) > 1:
                raise VwsViolation("a WebSocket begins with one open message")
        except VwsViolation as violation:
            self._lost(stream, violation.message)
            stream.write_now(encode(Close(violation.close_code, "")))
            stream.discard()
            # Reset once the Host has seen it (§11): what comes in one read with a reset is lost
            self._session.loop.call_later(CLOSE_SECONDS, stream.reset, ErrorCode.PROTOCOL_ERROR)
            return
        self._activate(stream, opening, parser)

    def _activate(self, stream: Stream, opening: Open, parser: VwsParser) -> None:
        del self._idle[stream.id]
        self._retry_delay = 0.0
        guest_session = self._guest_session
        socket = GuestWebSocket(
            stream,
            opening,
            parser,
            calls=self._calls,
            guest_id=guest_session.dispatcher.guest_id,
            session_id=guest_session.session_id,
            extended=WS_HEADERS in guest_session.extensions,
        )
        task = self._session.loop.create_task(self._serve(socket))
        self._open[stream.id] = (socket, task)
        self._calls.websockets += 1
        self.fill()

    async def _serve(self, socket: GuestWebSocket) -> None:
        try:
            await serve_websocket(self._guest_session.dispatcher, socket)
        finally:
            if not socket.stream.write_ended:
                self._give_up(socket.stream)  # the Broker left before the app had answered
            self._over(socket.stream.id)

    def _over(self, stream_id: int) -> None:
        del self._open[stream_id]
        self._guest_session.settled()
        self._calls.websocket_finished()

    def forget_cancelled(self) -> None:
        """Counts out those whose task was cancelled before its first step."""
        for stream_id in [key for key, (_, task) in self._open.items() if task.done()]:
            self._over(stream_id)

    def _lost(self, stream: Stream, reason: str) -> None:
        if self._idle.pop(stream.id, None) is None:
            return
        self._parsers.pop(stream.id, None)
        stream.listener = None
        if self._session.lost is not None or self._stopped:
            return
        error = stream.error
        if isinstance(error, StreamReset) and error.code == ErrorCode.CANCEL:
            # Often a WebSocket that was given up before it got here, so that both came in one read
            delay, self._retry_delay = self._retry_delay, _CANCELLED_RETRY_SECONDS
        else:
            _log.warning("An idle WebSocket lease was lost: %s", reason)
            delay = _RETRY_SECONDS
        if self._retry is None:
            self._retry = self._session.loop.call_later(delay, self._again)

    def _again(self) -> None:
        self._retry = None
        self.fill()

    def restart(self) -> None:
        """The Guest drains: WebSockets are told 1012, idle leases end."""
        self.stop()
        for socket, _ in list(self._open.values()):
            socket.restart()
        for stream in self._idle.values():
            stream.listener = None
            self._give_up(stream)
        self._idle.clear()

    def _give_up(self, stream: Stream) -> None:
        """Leaves nothing behind of a lease that no WebSocket will come on."""
        if stream.ended or stream.fields is None or stream.fields[0][1] == b"200":
            if not stream.closed and not stream.write_ended:
                stream.write_now(b"", end=True)
        else:
            stream.reset(ErrorCode.CANCEL)  # the Host has refused it, and still speaks
        stream.discard()

    def stop(self) -> None:
        """Opens no further leases."""
        self._stopped = True
        fills = self._calls.websocket_fills
        self._calls.websocket_fills = tuple(fill for fill in fills if fill != self.fill)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

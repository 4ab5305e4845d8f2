"""A WebSocket as the caller of an app holds it; made by `VerserBroker.websocket`.

Apart from its opening because it lives longer, and apart from `peer.websocket`, which knows VWS/1,
because here is what a user sees: plain values, and errors of this library.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self, TypeAlias, TypedDict

from verser2_guest_python.broker.headers import ResponseHeaders
from verser2_guest_python.errors import (
    DisconnectedTargetError,
    StreamFailureError,
    VerserUsageError,
    VerserWebSocketError,
)
from verser2_guest_python.peer.websocket import ChannelClosed, WebSocketChannel
from verser2_guest_python.wire.vws import ABNORMAL_CLOSE, Binary, Close, Ping, Pong, Text, VwsViolation


class WebSocketText(TypedDict):
    """A text message."""

    type: Literal["text"]
    data: str


class WebSocketBinary(TypedDict):
    """A binary message."""

    type: Literal["binary"]
    data: bytes


class WebSocketPong(TypedDict):
    """The answer to a ping, with its data."""

    type: Literal["pong"]
    data: str


class WebSocketClose(TypedDict):
    """The end: how it came."""

    type: Literal["close"]
    code: int
    reason: str


WebSocketMessage: TypeAlias = WebSocketText | WebSocketBinary | WebSocketPong | WebSocketClose
"""What `VerserBrokerWebSocket.receive` returns: `type` says which of them it is."""


class VerserBrokerWebSocket(AsyncIterator[str | bytes]):
    """An open WebSocket with an app; made by `VerserBroker.websocket`.

    Iterating gives the messages, text as `str` and binary as `bytes`, until the app closes; an end
    without a closing handshake raises. Leaving `async with` closes it. Pings are answered by themselves. An
    app that reads slowly makes sending wait, and a caller that receives slowly slows the app down.

    Example::

        async with await broker.websocket("ws://a.local.test/chat") as socket:
            await socket.send_text("hello")
            message = await socket.receive()
            if message["type"] == "text":
                print(message["data"])

    Attributes:
        protocol: The subprotocol that the app chose; empty when it chose none.
        headers: What the app said when it accepted, where the Host passes that on (`ws-headers`).
        target_id: The Guest that has the app.
    """

    __slots__ = ("__weakref__", "_channel", "_ours", "headers", "protocol", "target_id")

    def __init__(
        self, channel: WebSocketChannel, *, protocol: str, headers: ResponseHeaders, target_id: str
    ) -> None:
        self.protocol: str = protocol
        self.headers: ResponseHeaders = headers
        self.target_id: str = target_id
        self._channel = channel
        self._ours = False  # we close, or have aborted, it

    def __repr__(self) -> str:
        close = self._channel.closed
        state = "open" if close is None else f"closed with {close.code}"
        return f"<VerserBrokerWebSocket with {self.target_id}, {state}>"

    # --- State --------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it has ended. What came before that can still be received."""
        return self._channel.closed is not None

    @property
    def close_code(self) -> int | None:
        """How it ended: None while it is open, 1006 when there was no closing handshake."""
        close = self._channel.closed
        return None if close is None else close.code

    @property
    def close_reason(self) -> str:
        """The reason that was given; empty while it is open."""
        close = self._channel.closed
        return "" if close is None else close.reason

    @property
    def buffered_amount(self) -> int:
        """Bytes that wait to be sent."""
        return self._channel.buffered_amount

    # --- Receiving ------------------------------------------------------------------------------

    async def receive(self) -> WebSocketMessage:
        """The next message; once closed, and all before that is received, the close, each time again.

        One caller at a time. Cancelling it loses no message.
        """
        message = await self._channel.receive()
        match message:
            case Text(data):
                return {"type": "text", "data": data}
            case Binary(data):
                return {"type": "binary", "data": data}
            case Pong(data):
                return {"type": "pong", "data": data}
            case Close(code, reason):
                return {"type": "close", "code": code, "reason": reason}

    async def __anext__(self) -> str | bytes:
        while True:
            message = await self._channel.receive()
            if isinstance(message, (Text, Binary)):
                return message.data
            if isinstance(message, Close):
                if self._channel.clean or self._ours:
                    raise StopAsyncIteration
                raise self._ended(message)

    # --- Sending ----------------------------------------------------------------------------------

    async def send_text(self, data: str) -> None:
        """Sends a text; waits while 64 messages, or 1 MiB, wait already.

        Raises:
            VerserWebSocketError: it is closed, or closing (`code` `disconnected-target` when the session
                was lost, else `stream-failure`); or the message is too large (`protocol-error`): a text may
                take about 1,048,000 bytes, binary data about 786,000.
        """
        await self._send(Text(data))

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Sends binary data; as `send_text`."""
        await self._send(Binary(data if isinstance(data, bytes) else memoryview(data).tobytes()))

    async def ping(self, data: str = "") -> None:
        """Sends a ping; the pong comes through `receive`, with the same data."""
        await self._send(Ping(data))

    async def pong(self, data: str = "") -> None:
        """Sends a pong that nobody asked for; pings are answered without that."""
        await self._send(Pong(data))

    async def _send(self, message: Text | Binary | Ping | Pong) -> None:
        try:
            await self._channel.send(message)
        except ChannelClosed as error:
            raise self._ended(error.close) from error
        except VwsViolation as error:
            raise VerserWebSocketError(
                f"The message cannot be sent: {error.message}", code=error.code, context=self._context()
            ) from error

    # --- The end ------------------------------------------------------------------------------------

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it; returns once the app has said so too, after 1 s at most.

        Messages that were not received yet are dropped. Once it is closed, this does nothing.

        Raises:
            VerserUsageError: the code (1000 to 1014 but for 1004 to 1006, 3000 to 4999) or the reason (123
                bytes of UTF-8) cannot be sent.
        """
        self._ours = True
        try:
            self._channel.close(code, reason)
        except VwsViolation as error:
            raise VerserUsageError(error.message) from None
        await self._channel.wait_closed()

    def abort(self) -> None:
        """Ends it now, without a closing handshake."""
        self._ours = True
        self._channel.abort()

    async def wait_closed(self) -> None:
        """Until it has ended, whoever ends it."""
        await self._channel.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        """One that nobody holds any more has no use, and must not hold its stream open.

        This may run in any thread and in the middle of anything, so the loop does it later.
        """
        channel = self._channel
        if not channel.over:
            with suppress(RuntimeError):  # the loop is closed, and the session with it
                channel.stream.session.loop.call_soon_threadsafe(channel.abort)

    def _context(self) -> dict[str, str | int | float | bool]:
        return {"targetId": self.target_id}

    def _ended(self, close: Close) -> VerserWebSocketError:
        lost = self._channel.stream.session.lost
        context = {**self._context(), "closeCode": close.code, "closeReason": close.reason}
        if lost is not None:
            code = DisconnectedTargetError.default_code
            message = f"The WebSocket was lost with the session: {lost.reason}."
        else:
            code = StreamFailureError.default_code
            if close.code == ABNORMAL_CLOSE:
                message = "The WebSocket ended without a closing handshake."
            else:
                said = f": {close.reason}" if close.reason else ""
                message = f"The WebSocket is closed with {close.code}{said}."
        return VerserWebSocketError(message, code=code, context=context)

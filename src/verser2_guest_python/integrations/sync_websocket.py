"""What a `SyncVerserBroker` gives besides answers: WebSockets, and route changes to iterate over.

Apart from the answers because both last: other threads may send on a WebSocket, or end it, while one
waits for its next message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from verser2_guest_python.broker.changes import RouteChanges
from verser2_guest_python.broker.headers import ResponseHeaders
from verser2_guest_python.broker.listeners import RouteChange
from verser2_guest_python.broker.websocket import VerserBrokerWebSocket, WebSocketMessage
from verser2_guest_python.errors import DisconnectedTargetError, RequestTimeoutError, VerserUsageError
from verser2_guest_python.http2.deadline import within

from .sync_response import Runner

T = TypeVar("T")


class SyncVerserWebSocket(Iterator[str | bytes]):
    """An open WebSocket with an app; made by `SyncVerserBroker.websocket`.

    Iterating gives the messages, text as `str` and binary as `bytes`, until the app closes; an end
    without a closing handshake raises. Leaving `with` closes it. What its methods raise is what those
    of `VerserBrokerWebSocket` raise. Example::

        with broker.websocket("ws://a.local.test/chat") as socket:
            socket.send_text("hello")
            for message in socket:
                print(message)
    """

    def __init__(self, runner: Runner, inner: VerserBrokerWebSocket) -> None:
        self._runner = runner
        self._inner = inner

    def __repr__(self) -> str:
        return repr(self._inner).replace("VerserBrokerWebSocket", "SyncVerserWebSocket", 1)

    # --- State --------------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """The subprotocol that the app chose; empty when it chose none."""
        return self._inner.protocol

    @property
    def headers(self) -> ResponseHeaders:
        """What the app said when it accepted, where the Host passes that on."""
        return self._inner.headers

    @property
    def target_id(self) -> str:
        """The Guest that has the app."""
        return self._inner.target_id

    @property
    def closed(self) -> bool:
        """Whether it has ended. What came before that can still be received."""
        return self._inner.closed

    @property
    def close_code(self) -> int | None:
        """How it ended: None while it is open, 1006 when there was no closing handshake."""
        return self._inner.close_code

    @property
    def close_reason(self) -> str:
        """The reason that was given; empty while it is open."""
        return self._inner.close_reason

    @property
    def buffered_amount(self) -> int:
        """Bytes that wait to be sent."""
        return self._inner.buffered_amount

    # --- Messages -----------------------------------------------------------------------------

    def receive(self, *, timeout: float | None = None) -> WebSocketMessage:
        """The next message; once closed, and all before that is received, the close, each time again.

        Raises `RequestTimeoutError` when none came within `timeout` seconds; no message is lost by that.
        """
        return self._runner._run_coroutine(_receive(self._inner, timeout), None, self._settled)

    def __next__(self) -> str | bytes:
        message = self._runner._run_coroutine(_next(self._inner), None, self._settled)
        if message is None:
            raise StopIteration
        return message

    def _settled(self) -> bool:
        """Whether nothing more can come: what came before, and the close, are there for those who ask."""
        return self._inner.closed

    def send_text(self, data: str) -> None:
        """Sends a text; waits while 64 messages, or 1 MiB, wait already."""
        self._runner._run_coroutine(self._inner.send_text(data))

    def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Sends binary data; as `send_text`."""
        self._runner._run_coroutine(self._inner.send_bytes(data))

    def ping(self, data: str = "") -> None:
        """Sends a ping; the pong comes through `receive`, with the same data."""
        self._runner._run_coroutine(self._inner.ping(data))

    def pong(self, data: str = "") -> None:
        """Sends a pong that nobody asked for; pings are answered without that."""
        self._runner._run_coroutine(self._inner.pong(data))

    # --- The end --------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it; returns once the app has said so too, after 1 s at most."""
        if not self._inner.closed:
            self._runner._run_coroutine(self._inner.close(code, reason))

    def abort(self) -> None:
        """Ends it now, without a closing handshake."""
        if not self._inner.closed:
            self._runner._run_coroutine(_abort(self._inner))

    def wait_closed(self) -> None:
        """Until it has ended, whoever ends it."""
        self._runner._run_coroutine(self._inner.wait_closed())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(VerserUsageError, DisconnectedTargetError):  # the Broker is closed, and this with it
            self.close()


class SyncRouteChanges(Iterator[RouteChange]):
    """The changes of the route table, in order; made by `SyncVerserBroker.routes`. See `RouteChanges`.

    Example::

        with broker.routes() as changes:
            for change in changes:
                print(change.type, change.domain, change.target_id)
    """

    def __init__(self, runner: Runner, inner: RouteChanges) -> None:
        self._runner = runner
        self._inner = inner

    @property
    def dropped(self) -> int:
        """Changes that were dropped because nobody asked for them in time."""
        return self._inner.dropped

    def __next__(self) -> RouteChange:
        try:
            # What waits when the Broker is closed is still told
            change = self._runner._run_coroutine(_next(self._inner), None, lambda: self._inner.ended)
        except (VerserUsageError, DisconnectedTargetError):  # the Broker is closed
            change = None
        if change is None:
            raise StopIteration
        return change

    def close(self) -> None:
        """Ends it from this side."""
        with suppress(VerserUsageError, DisconnectedTargetError):
            self._runner._run_coroutine(self._inner.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _receive(socket: VerserBrokerWebSocket, timeout: float | None) -> WebSocketMessage:
    if socket.closed:
        return await socket.receive()
    limit = within(timeout)
    try:
        async with limit:
            return await socket.receive()
    except TimeoutError:
        raise RequestTimeoutError(
            f"No message came within {timeout:g} s.", context={"targetId": socket.target_id}
        ) from None


async def _next(items: AsyncIterator[T]) -> T | None:
    async for item in items:
        return item
    return None


async def _abort(socket: VerserBrokerWebSocket) -> None:
    socket.abort()

"""One WebSocket of a Guest: what joins a VWS/1 stream and an ASGI cycle (protocol.md §11)."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from verser2_guest_python.asgi.scopes import websocket_scope
from verser2_guest_python.asgi.types import Headers
from verser2_guest_python.asgi.websocket import WebSocketClosed, WebSocketCycle, WebSocketEnd
from verser2_guest_python.errors import ErrorContext, VerserError
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Stream, StreamReset
from verser2_guest_python.peer.websocket import WebSocketChannel
from verser2_guest_python.wire.headers import request_fields, response_headers
from verser2_guest_python.wire.vws import (
    Accept,
    Binary,
    Close,
    Error,
    Open,
    Text,
    VwsParser,
    encode,
)

from .demand import Calls
from .dispatch import APP_FAILED, APP_SILENT, CUT_OFF, NO_APP, UNTRACED, Dispatcher, trace_of

_log = logging.getLogger("verser2_guest_python.guest")

WS_HEADERS = "ws-headers"  # extension of §14: headers both ways, and statuses of refusals
GOING_AWAY_RESTART = 1012

_UNAVAILABLE = "WebSocket endpoint is unavailable"
_NEGOTIATION_FAILED = "websocket-negotiation-failed"


class GuestWebSocket:
    """A WebSocket from its `open` line on; a `WebSocketPeer` of `asgi.websocket`."""

    def __init__(
        self,
        stream: Stream,
        opening: Open,
        parser: VwsParser,
        *,
        calls: Calls,
        guest_id: str,
        session_id: str,
        extended: bool,
    ) -> None:
        self.stream = stream
        self.opening = opening
        self.session_id = session_id
        self.trace = UNTRACED
        self.received_bytes = 0
        self.sent_bytes = 0
        self._calls = calls
        self._parser = parser
        self._guest_id = guest_id
        self._extended = extended
        self._channel: WebSocketChannel | None = None
        self._negotiated = False
        self._gone: asyncio.Future[None] = stream.session.loop.create_future()
        self._restarting: WebSocketClosed | None = None
        stream.listener = self._before_accept

    def _before_accept(self, stream: Stream) -> None:
        """The Broker may give up before the app has answered; nothing else may come."""
        if (stream.error is not None or stream.ended) and not self._gone.done():
            self._gone.set_result(None)

    @property
    def request_id(self) -> str:
        """What the log calls it: the wire has no name for it."""
        return f"ws-{self.stream.id}"

    # --- WebSocketPeer --------------------------------------------------------------------

    async def accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Answers `accept`; what a deployed Host cannot pass on is left out, with a warning."""
        offered = self.opening.protocol
        if subprotocol and not self._extended and subprotocol != offered:
            _log.warning(
                "This Host accepts only exactly the offered subprotocol %r, not %r out of it: none is chosen",
                offered,
                subprotocol,
            )
            subprotocol = None
        said = None
        if headers and self._extended:
            said = response_headers(headers)
        elif headers:
            _log.warning("This Host passes on no headers of an accepted WebSocket: they are dropped")
        await self._answer(encode(Accept(subprotocol or "", said)))
        channel = self._channel = WebSocketChannel(self.stream, self._parser)
        channel.start()
        if self._restarting is not None:
            channel.close(self._restarting.code, self._restarting.reason)

    async def _answer(self, line: bytes, *, end: bool = False) -> None:
        self._negotiated = True
        try:
            await self.stream.write(line, end=end)
        except (StreamReset, ConnectionLost) as error:
            raise OSError("The Broker has gone away.") from error

    async def send_text(self, data: str) -> None:
        await self._open_channel().send(Text(data))
        self.sent_bytes += len(data)
        self._calls.messages_sent += 1

    async def send_bytes(self, data: bytes) -> None:
        await self._open_channel().send(Binary(data))
        self.sent_bytes += len(data)
        self._calls.messages_sent += 1

    def _open_channel(self) -> WebSocketChannel:
        if self._channel is None:
            raise OSError("The WebSocket is not open.")
        return self._channel

    async def close(self, code: int, reason: str) -> None:
        self._open_channel().close(code, reason)

    async def deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuses; the app's status and headers reach Brokers of extended Hosts only."""
        if body:
            _log.warning("The body of a refused WebSocket cannot be passed on: it is dropped")
        await self.refuse("missing-guest", _UNAVAILABLE, status=status if self._extended else 404)

    async def refuse(self, code: str, message: str, **context: str | int | float | bool) -> None:
        """The `error` line instead of `accept`."""
        opening = self.opening
        known: ErrorContext = {"guestId": self._guest_id, "domain": opening.domain, "path": opening.path}
        await self._answer(encode(Error(code, message, known | context)), end=True)
        self.stream.discard()

    async def receive(self) -> str | bytes | WebSocketClosed:
        channel = self._channel
        if channel is None:
            await asyncio.shield(self._gone)
            return self._restarting or WebSocketClosed(1006)
        message = await channel.receive() if self._restarting is None else None
        restarting = self._restarting
        if restarting is not None:
            return restarting
        if isinstance(message, (Text, Binary)):
            self.received_bytes += len(message.data)
            self._calls.messages_received += 1
            return message.data
        close = message if isinstance(message, Close) else Close(1006, "")
        return WebSocketClosed(close.code, close.reason)

    # --- For the Guest --------------------------------------------------------------------

    @property
    def negotiated(self) -> bool:
        """Whether the app's answer is on its way."""
        return self._negotiated

    @property
    def accepted(self) -> bool:
        """Whether the app has taken it."""
        return self._channel is not None

    def restart(self) -> None:
        """The Guest drains: both ends are told 1012 (service restart)."""
        self._restarting = WebSocketClosed(GOING_AWAY_RESTART, "the service restarts")
        if self._channel is not None:
            self._channel.close(GOING_AWAY_RESTART, "the service restarts")
        if not self._gone.done():
            self._gone.set_result(None)

    async def finish(self) -> Close | None:
        """After the app: until the closing handshake is through."""
        if self._channel is not None:
            return await self._channel.wait_closed()
        return None

    def abort(self) -> None:
        """Now."""
        if self._channel is not None:
            self._channel.abort()
        else:
            self.stream.reset(ErrorCode.INTERNAL_ERROR)


async def serve_websocket(dispatcher: Dispatcher, socket: GuestWebSocket) -> None:
    """One WebSocket from its `open` line to its end. Raises nothing but cancellation."""
    opening = socket.opening
    listeners = dispatcher.listeners
    started = perf_counter() if listeners else 0.0
    request_id = socket.request_id
    if listeners:
        listeners.tell(
            "request-started", request_id=request_id, source_id="", method="WEBSOCKET", path=opening.path
        )
    status: int = 499
    reason: str | None = CUT_OFF
    try:
        status, reason = await _run(dispatcher, socket)
    except OSError:
        status, reason = 499, "cancelled"
    except asyncio.CancelledError:
        status = 101 if socket.accepted else 499
        socket.abort()
        raise
    finally:
        if listeners:
            listeners.tell(
                "request-completed",
                session_id=socket.session_id,
                request_id=request_id,
                source_id="",
                method="WEBSOCKET",
                path=opening.path,
                status=status,
                duration_ms=(perf_counter() - started) * 1_000,
                bytes_in=socket.received_bytes,
                bytes_out=socket.sent_bytes,
                reason=reason,
            )


async def _run(dispatcher: Dispatcher, socket: GuestWebSocket) -> tuple[int, str | None]:
    """Runs the app; the status for the log, and what went wrong."""
    opening = socket.opening
    mounted = dispatcher.apps.find(opening.domain)
    if mounted is None:
        await socket.refuse("missing-guest", _UNAVAILABLE, status=404)
        return 404, NO_APP
    try:
        headers = request_fields({**(opening.headers or {}), "host": opening.domain})
    except VerserError as error:
        await socket.refuse(error.code, error.message)
        return 400, error.message
    if opening.protocol and not any(name == b"sec-websocket-protocol" for name, _ in headers):
        headers.append((b"sec-websocket-protocol", opening.protocol.encode("latin-1", "replace")))
    scope = websocket_scope(
        target=opening.path,
        headers=headers,
        subprotocols=[item.strip() for item in opening.protocol.split(",") if item.strip()],
        root_path=dispatcher.root_path,
        state=mounted.state,
        verser={"guest_id": dispatcher.guest_id, "route_domain": opening.domain},
    )
    if dispatcher.proxy_headers is not None:
        dispatcher.proxy_headers.apply(scope, None)  # `open` names no Broker (protocol.md §11)
    outcome = await WebSocketCycle(mounted.app, scope, socket).run()
    socket.trace = trace_of(scope)
    failure = outcome.error
    reason: str | None = None
    if failure is not None:
        path = opening.path.partition("?")[0]
        fields = {"request_id": socket.request_id, **socket.trace}
        _log.error("The app failed on WebSocket %s", path, exc_info=failure, extra=fields)
        reason = f"app failed: {type(failure).__name__}"
    if not outcome.accepted and not socket.negotiated and outcome.end is not WebSocketEnd.DISCONNECTED:
        if failure is not None:
            message = (str(failure) or type(failure).__name__) if dispatcher.debug else APP_FAILED
            await socket.refuse("local-handler-failure", message)
            return 500, reason
        await socket.refuse(_NEGOTIATION_FAILED, APP_SILENT)
        return 500, APP_SILENT
    if not outcome.accepted:
        return outcome.status or 499, reason or (None if outcome.status else "cancelled")
    await socket.finish()
    if outcome.code not in (None, 1000, 1001) and reason is None:
        reason = f"closed with {outcome.code}"
    return 101, reason

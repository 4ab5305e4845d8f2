"""One WebSocket through the gateway: opened behind before it is accepted in front, closed at both ends alike.

Apart from HTTP because here both ends talk at once, and either may end it. A side that does not read makes
the other one wait: nothing is kept here but the message that is being passed on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from verser2_guest_python.asgi.types import Message, Receive, Send
from verser2_guest_python.broker.websocket import VerserBrokerWebSocket
from verser2_guest_python.errors import (
    DisconnectedTargetError,
    VerserError,
    VerserProtocolError,
    VerserUsageError,
    VerserWebSocketError,
)
from verser2_guest_python.peer.tasks import end_tasks
from verser2_guest_python.wire.headers import HOP_BY_HOP, is_token
from verser2_guest_python.wire.names import WS_HEADERS_EXTENSION

from .checks import Asked, check_request
from .config import GatewayConfig
from .cycle import Cycle
from .forwarding import Pairs
from .pages import Headers
from .record import CLIENT_GONE, CLIENT_LEFT, MESSAGE_TOO_LARGE, GatewayRecord
from .refusal import AnswerCutOff, ClientGone, Refusal, malformed, refusal_for, socket_refusal, stopped

NORMAL: Final = 1000
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
TOO_BIG: Final = 1009
STOPPED: Final = 1012
"""How the server tells of its end (service restart, as RFC 6455's registry calls it)."""
BAD_GATEWAY: Final = 1014
_OPEN: Final = 101
_CLOSE_SECONDS: Final = 2.0
_OWN: Final = ("sec-websocket-", "x-verser-", "content-")
_DENIAL: Final = "websocket.http.response"


class WebSocketCycle(Cycle):
    """One WebSocket."""

    def __init__(
        self, config: GatewayConfig, scope: Any, receive: Receive, send: Send, record: GatewayRecord
    ) -> None:
        super().__init__(config, scope, receive, send, record)
        self._first: asyncio.Task[Message] | None = None  # what the client says before it is accepted
        self._theirs: int | None = None  # the code with which the client closed …
        self._ours: tuple[int, str] | None = None  # … or the gateway, for a reason of its own

    async def run(self, refusal: Refusal | None = None) -> None:
        """Opens it and passes messages on until one side closes; refuses with `refusal`, if there is one."""
        record = self._record
        if (await self._receive())["type"] != "websocket.connect":
            return
        self._first = asyncio.create_task(_next_of(self._receive))
        try:
            if refusal is not None:
                raise refusal
            await self._serve()
        except ClientGone:
            record.status = record.status or CLIENT_GONE
            record.reason = record.reason or "the client left"
            record.code = record.code or CLIENT_LEFT
        except Refusal as reason:
            await self._refuse(reason)
        except asyncio.CancelledError:  # by a server that ends so
            if not self._begun:
                with suppress(AnswerCutOff, ClientGone):
                    await self._refuse(stopped())
            raise
        finally:
            first, self._first = self._first, None
            if first is not None:
                await end_tasks([first])

    async def _serve(self) -> None:
        config, record = self._config, self._record
        asked = check_request(self._scope, config.limits)
        if asked.length != 0:
            raise malformed("a WebSocket is asked for without a body")
        if not all(is_token(name) for name in self._scope.get("subprotocols", ())):
            raise malformed("it offers a subprotocol that has no proper name")
        domain, headers = self._look_up(asked)
        socket = await self._open(asked, domain, headers)
        try:
            record.target_id = socket.target_id
            record.answered(_OPEN)
            accept: Message = {"type": "websocket.accept", "headers": _accept_headers(socket)}
            if socket.protocol:
                accept["subprotocol"] = socket.protocol
            await self._say(accept)
            await self._talk(socket)
        finally:
            if not socket.closed:
                socket.abort()

    # --- Opening --------------------------------------------------------------------------

    async def _open(self, asked: Asked, domain: str, headers: Pairs) -> VerserBrokerWebSocket:
        """The WebSocket with the app; `ClientGone` when the client leaves before."""
        opening = asyncio.ensure_future(self._dial(asked, domain, headers))
        first = self._first
        socket: VerserBrokerWebSocket | None = None
        try:
            while not opening.done():
                waiting: list[asyncio.Future[Any]] = [opening]
                if first is not None and not first.done():
                    waiting.append(first)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if first is not None and first.done() and first.result()["type"] != "websocket.receive":
                    raise stopped() if first.result().get("code") == STOPPED else ClientGone()
            socket = opening.result()
            return socket
        except VerserError as error:
            raise self._refusal(error, asked.authority, domain) from error
        finally:
            if socket is None:
                await _give_up(opening)

    async def _dial(self, asked: Asked, domain: str, headers: Pairs) -> VerserBrokerWebSocket:
        config = self._config
        await self._await_route(domain)
        return await config.broker.websocket(
            f"ws://{asked.authority}{asked.path}",
            subprotocols=self._offer(),
            headers=headers,
            route_domain=domain,
            timeout=config.limits.timeout,
        )

    def _offer(self) -> list[str]:
        """What the client offers. Through a deployed Host only a single one can be chosen (§11): the best."""
        offered = list(self._scope.get("subprotocols", ()))
        return offered if WS_HEADERS_EXTENSION in self._config.broker.extensions else offered[:1]

    def _refusal(self, error: VerserError, name: str, domain: str) -> Refusal:
        cause = error.__cause__
        if isinstance(cause, VerserError):
            return refusal_for(cause, name, self._waited)
        if not isinstance(error, VerserWebSocketError):
            return refusal_for(error, name, self._waited)
        has_route = self._config.broker.has_route(domain, degraded=False)
        return socket_refusal(error, name, has_route=has_route, waited=self._waited)

    # --- Talking --------------------------------------------------------------------------

    async def _talk(self, socket: VerserBrokerWebSocket) -> None:
        """Passes messages on, both ways, until one side closes; then closes the other."""
        up = asyncio.ensure_future(self._up(socket))
        try:
            code, reason = await self._down(socket)
            if up.done():
                up.result()
        except ClientGone:
            await asyncio.wait([up], timeout=_CLOSE_SECONDS)  # it tells the app how the client closed
            self._record.close_code = self._theirs
            raise
        finally:
            await end_tasks([up])
        record = self._record
        if self._ours is not None:
            code, reason = self._ours
            record.code = MESSAGE_TOO_LARGE
        record.close_code = self._theirs if self._theirs is not None else code
        if code == ABNORMAL and self._theirs is None:
            record.reason, record.code = "the app was lost", DisconnectedTargetError.default_code
            code, reason = BAD_GATEWAY, "The app was lost."
        if self._theirs is None:
            await self._say({"type": "websocket.close", "code": code, "reason": reason})

    async def _up(self, socket: VerserBrokerWebSocket) -> None:
        """From the client to the app; whichever way the client ends, the app is told."""
        record = self._record
        first, self._first = self._first, None
        while True:
            message = await (self._receive() if first is None else first)
            first = None
            if message["type"] != "websocket.receive":
                self._theirs = code = int(message.get("code", NO_STATUS))
                reason = message.get("reason")
                if code in (NO_STATUS, ABNORMAL) and reason is None:  # it has vanished
                    self._theirs = ABNORMAL
                    record.reason, record.code = "the client left", CLIENT_LEFT
                    socket.abort()
                else:
                    await _close(socket, code, reason or "")
                return
            record.messages_in += 1
            try:
                if (text := message.get("text")) is not None:
                    record.bytes_in += len(text)
                    await socket.send_text(text)
                else:
                    record.bytes_in += len(message["bytes"])
                    await socket.send_bytes(message["bytes"])
            except VerserWebSocketError as error:
                if error.code == VerserProtocolError.default_code:
                    self._ours = TOO_BIG, "The message is too large."
                    await socket.close(*self._ours)
                return  # it is closed: the other direction knows how

    async def _down(self, socket: VerserBrokerWebSocket) -> tuple[int, str]:
        """From the app to the client, until the app's side is closed; how that was."""
        record = self._record
        while True:
            message = await socket.receive()
            if message["type"] == "close":
                return message["code"], message["reason"]
            if message["type"] == "pong":
                continue
            record.bytes_out += len(message["data"])
            record.messages_out += 1
            kind = "text" if message["type"] == "text" else "bytes"
            await self._say({"type": "websocket.send", kind: message["data"]})

    async def _say(self, *messages: Message) -> None:
        """Sends to the client, which has to read, and may have left."""
        try:
            await super()._say(*messages)
        except (OSError, RuntimeError):
            # ASGI WebSocket 2.4: it has left; or the server has closed it for what the client sent
            raise ClientGone from None

    async def _refuse(self, refusal: Refusal) -> None:
        """Answers with a page instead of a WebSocket, where the server can; else with 403."""
        self._note(refusal)
        self._record.answered(refusal.status)
        if _DENIAL not in self._scope.get("extensions", {}):
            await self._say({"type": "websocket.close", "code": NORMAL})
            return
        headers, body = self._page(refusal)
        await self._say({"type": f"{_DENIAL}.start", "status": refusal.status, "headers": headers})
        await self._say({"type": f"{_DENIAL}.body", "body": body})


def _accept_headers(socket: VerserBrokerWebSocket) -> Headers:
    """What the app said when it accepted."""
    return [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in socket.headers.multi_items()
        if name not in HOP_BY_HOP and name != "date" and not name.startswith(_OWN)
    ]


async def _next_of(receive: Receive) -> Message:
    return await receive()


async def _give_up(opening: asyncio.Task[VerserBrokerWebSocket]) -> None:
    """The client has left before it was told: if it has opened all the same, nobody wants it."""
    try:
        await end_tasks([opening])
    finally:
        if not opening.cancelled() and opening.exception() is None:
            opening.result().abort()


async def _close(socket: VerserBrokerWebSocket, code: int, reason: str) -> None:
    """Closes with what the client said, or with 1000 where that cannot be said on the wire."""
    try:
        await socket.close(code, reason)
    except VerserUsageError:
        await socket.close(NORMAL)

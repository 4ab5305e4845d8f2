"""One WebSocket of an app (ASGI WebSocket 2.5): the state machine between the app and its peer.

Apart because it knows nothing of how a message travels: the peer is a small interface that the Guest
implements. What the app may send, and when:

    CONNECTING ──websocket.accept──> OPEN ──websocket.close──> CLOSED
     │  └─websocket.http.response.start──> DENYING ──last …response.body──> REFUSED
     └─websocket.close──> REFUSED             any state ──the peer has gone──> DISCONNECTED

A message in the wrong state, or of a wrong type, raises `AsgiRuleError` into the app; in DISCONNECTED
any message raises `ClientDisconnected`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol

from verser2_guest_python.asgi.exceptions import ClientDisconnected, only_disconnected
from verser2_guest_python.asgi.types import ASGIApp, Headers, Message, Scope
from verser2_guest_python.asgi.websocket_messages import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    NORMAL_CLOSURE,
    PROTOCOL_ERROR,
    WEBSOCKET_SPECIFICATION,
    WebSocketClosed,
    body_of,
    broken_rule,
    closing_of,
    data_of,
    denial_of,
    headers_of,
    subprotocol_of,
)

__all__ = [
    "MAX_DENIAL_BODY_BYTES",
    "MAX_EARLY_MESSAGES",
    "WebSocketClosed",
    "WebSocketCycle",
    "WebSocketEnd",
    "WebSocketOutcome",
    "WebSocketPeer",
]

MAX_DENIAL_BODY_BYTES: Final = 1_048_576
"""A denial is held until it is complete."""
MAX_EARLY_MESSAGES: Final = 16
"""A client that does not wait for the acceptance may be ahead by so much."""

_FORBIDDEN: Final = 403


class WebSocketPeer(Protocol):
    """The other end of a WebSocket, as the cycle needs it.

    Once the connection has gone, whatever sends raises `OSError`, and `receive` returns a
    `WebSocketClosed`: so it does after `close` and `deny` too. Any other error, such as one for a
    message that is too large, goes to the app as it is. Each method may be cancelled, which loses no
    message and sends no half of one.
    """

    async def accept(self, subprotocol: str | None, headers: Headers) -> None: ...

    async def send_text(self, data: str) -> None:
        """Send a message; waits while the other end is slower than the app."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a message; waits while the other end is slower than the app."""

    async def close(self, code: int, reason: str) -> None: ...

    async def deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse with an HTTP response instead of accepting."""

    async def receive(self) -> str | bytes | WebSocketClosed:
        """Wait for the next message; once closed, every further call says so again."""


class WebSocketEnd(Enum):
    """How the app and its WebSocket came apart."""

    CLOSED = "closed"
    """The app closed it, or returned after accepting, which closes it with 1000."""
    DISCONNECTED = "disconnected"
    """The peer had gone first, before or after the app accepted."""
    REFUSED = "refused"
    """The app closed it before accepting, or answered with an HTTP response of its own."""
    FAILED = "failed"
    """The app raised: after accepting, the peer was told 1011; before, nothing has been sent."""
    UNANSWERED = "unanswered"
    """The app returned without accepting, closing or a whole denial; nothing has been sent."""


@dataclass(frozen=True, slots=True)
class WebSocketOutcome:
    """What has become of one WebSocket.

    `error` is what the app raised, if anything; `ClientDisconnected` is not counted as an error. It
    may come with any end: an app can fail after it has closed. `code` and `reason` are those of the
    closing, None and empty before accepting; `status` is that of a refusal.
    """

    end: WebSocketEnd
    accepted: bool
    error: BaseException | None = None
    code: int | None = None
    reason: str = ""
    status: int | None = None


class _State(Enum):
    """Where the WebSocket stands; the value says it in a sentence."""

    CONNECTING = "before websocket.accept"
    ACCEPTING = "while websocket.accept is on its way"
    DENYING = "after websocket.http.response.start"
    REFUSED = "after the WebSocket was refused"
    OPEN = "after websocket.accept"
    CLOSED = "after websocket.close"
    DISCONNECTED = "after the connection was lost"


_ALLOWED: Final = MappingProxyType(
    {
        _State.CONNECTING: "websocket.accept, websocket.close or websocket.http.response.start",
        _State.DENYING: "websocket.http.response.body",
        _State.OPEN: "websocket.send or websocket.close",
    }
)


_ENDS: Final = MappingProxyType(
    {
        _State.REFUSED: WebSocketEnd.REFUSED,
        _State.CLOSED: WebSocketEnd.CLOSED,
        _State.DISCONNECTED: WebSocketEnd.DISCONNECTED,
    }
)


class WebSocketCycle:
    """Calls an app for one WebSocket and holds it to the rules.

    Example::

        outcome = await WebSocketCycle(app, scope, peer).run()
        if outcome.error is not None:
            logger.error("The app failed", exc_info=outcome.error)
    """

    def __init__(self, app: ASGIApp, scope: Scope, peer: WebSocketPeer) -> None:
        self._app = app
        self._scope = scope
        self._peer = peer
        self._state = _State.CONNECTING
        self._accepted = False
        self._connect_delivered = False
        self._disconnect_delivered = False
        self._peer_closed = False
        self._closed = WebSocketClosed(ABNORMAL_CLOSURE)  # what websocket.disconnect says
        self._early: deque[str | bytes] = deque()  # messages that came before the app had accepted
        self._answered = asyncio.Event()  # the app has accepted or refused, or the peer has gone
        self._status = _FORBIDDEN
        self._denial_headers: Headers = []
        self._denial_body = bytearray()

    async def run(self) -> WebSocketOutcome:
        """Run the app to its end, close what it has left open, and tell how it went.

        Raises nothing of the app's; `CancelledError` when it is cancelled itself, and the peer is
        then left as it is.
        """
        error: BaseException | None = None
        try:
            await self._app(self._scope, self._receive, self._send)
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error = exc  # the app raised it by itself
        except BaseException as exc:  # noqa: BLE001 - told in the outcome; SystemExit too ends this call only
            if not (self._state is _State.DISCONNECTED and only_disconnected(exc)):
                error = exc
        return await self._finish(error)

    async def _finish(self, error: BaseException | None) -> WebSocketOutcome:
        failed = error is not None
        if self._state is _State.OPEN:
            end = WebSocketEnd.FAILED if failed else WebSocketEnd.CLOSED
            self._closed = WebSocketClosed(INTERNAL_ERROR if failed else NORMAL_CLOSURE)
            self._state = _State.CLOSED
            try:
                await self._peer.close(self._closed.code, self._closed.reason)
            except OSError:
                end = WebSocketEnd.DISCONNECTED
                self._closed = WebSocketClosed(ABNORMAL_CLOSURE)
            except Exception as exc:  # noqa: BLE001 - told in the outcome
                end = WebSocketEnd.FAILED
                error = error or exc
        elif self._state in _ENDS:
            end = _ENDS[self._state]
        else:
            end = WebSocketEnd.FAILED if failed else WebSocketEnd.UNANSWERED
        return WebSocketOutcome(
            end,
            self._accepted,
            error,
            self._closed.code if self._accepted else None,
            self._closed.reason if self._accepted else "",
            self._status if end is WebSocketEnd.REFUSED else None,
        )

    async def _receive(self) -> Message:
        if not self._connect_delivered:
            self._connect_delivered = True
            return {"type": "websocket.connect"}
        while True:
            if self._early and self._deliverable():
                return _event(self._early.popleft())
            if self._peer_closed or self._state is _State.CLOSED or self._state is _State.REFUSED:
                break
            if not self._answered.is_set():
                await self._wait_for_answer()
                continue
            message = await self._next()
            if message is not None and self._deliverable():
                return _event(message)
        if self._disconnect_delivered:
            await asyncio.sleep(0)  # an app that asks again and again must not stop everyone else
        self._disconnect_delivered = True
        return {"type": "websocket.disconnect", "code": self._closed.code, "reason": self._closed.reason}

    async def _wait_for_answer(self) -> None:
        """Until the app has answered, keep what the client says too early, and see it go.

        An app may receive in one task and accept in another: the peer is asked anew after that, so
        that it need not carry a `receive` over from one state to the next.
        """
        answered = asyncio.ensure_future(self._answered.wait())
        following = asyncio.ensure_future(self._next())
        try:
            await asyncio.wait({answered, following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()
            following.cancel()
            await asyncio.wait({answered, following})
            message = None if following.cancelled() else following.result()
            if message is not None:
                self._early.append(message)
        if len(self._early) > MAX_EARLY_MESSAGES:
            self._early.clear()
            self._lose(WebSocketClosed(PROTOCOL_ERROR, "too many messages before the WebSocket was accepted"))

    async def _next(self) -> str | bytes | None:
        """Wait for a message; None once the connection is over."""
        try:
            received = await self._peer.receive()
        except OSError:
            received = WebSocketClosed(ABNORMAL_CLOSURE)
        if isinstance(received, WebSocketClosed):
            self._lose(received)
            return None
        return received

    def _deliverable(self) -> bool:
        # What came before the connection was lost is still the app's, though it can send no more
        return self._state is _State.OPEN or (self._state is _State.DISCONNECTED and self._accepted)

    def _lose(self, closed: WebSocketClosed) -> None:
        """Note what the peer says of the end; what the app has closed itself stays as it is."""
        self._peer_closed = True
        if self._state is not _State.CLOSED and self._state is not _State.REFUSED:
            self._state = _State.DISCONNECTED
            self._closed = closed
        self._answered.set()

    def _gone(self) -> ClientDisconnected:
        """Note that nothing can be sent any more, and make the error for the app (spec 2.4)."""
        if self._state not in _ENDS:
            self._state = _State.DISCONNECTED
        self._answered.set()
        return self._disconnected()

    async def _send(self, message: Message) -> None:
        kind = message.get("type")
        state = self._state
        if state is _State.OPEN and kind == "websocket.send":
            await self._send_data(message)
        elif state is _State.OPEN and kind == "websocket.close":
            await self._close(message)
        elif state is _State.CONNECTING and kind == "websocket.accept":
            await self._accept(message)
        elif state is _State.CONNECTING and kind == "websocket.close":
            closing_of(message, sent=False)
            await self._deny()
        elif state is _State.CONNECTING and kind == "websocket.http.response.start":
            self._start_denial(message)
        elif state is _State.DENYING and kind == "websocket.http.response.body":
            await self._continue_denial(message)
        elif state is _State.DISCONNECTED:
            raise self._disconnected()
        else:
            allowed = _ALLOWED.get(state)
            rule = f"only {allowed} may come then" if allowed else "nothing may come then"
            raise broken_rule(f"{kind} {state.value}: {rule}")

    async def _send_data(self, message: Message) -> None:
        data = data_of(message)
        try:
            if isinstance(data, str):
                await self._peer.send_text(data)
            else:
                await self._peer.send_bytes(data)
        except OSError as exc:
            raise self._gone() from exc

    async def _close(self, message: Message) -> None:
        closed = closing_of(message)
        self._state = _State.CLOSED
        self._closed = closed
        try:
            await self._peer.close(closed.code, closed.reason)
        except OSError as exc:
            self._state = _State.DISCONNECTED
            self._closed = WebSocketClosed(ABNORMAL_CLOSURE)
            raise self._gone() from exc

    async def _accept(self, message: Message) -> None:
        subprotocol = subprotocol_of(message, self._scope.get("subprotocols") or ())
        headers = headers_of(message)
        self._state = _State.ACCEPTING
        try:
            await self._peer.accept(subprotocol, headers)
        except OSError as exc:
            raise self._gone() from exc
        except BaseException:
            self._settle(_State.CONNECTING)
            raise
        self._accepted = True
        self._settle(_State.OPEN)
        self._answered.set()

    def _settle(self, state: _State) -> None:
        if self._state is _State.ACCEPTING:  # else the peer has gone in the meantime
            self._state = state

    def _start_denial(self, message: Message) -> None:
        status, headers = denial_of(message)
        self._status = status
        self._denial_headers = headers
        self._state = _State.DENYING

    async def _continue_denial(self, message: Message) -> None:
        body = body_of(message)
        if len(self._denial_body) + len(body) > MAX_DENIAL_BODY_BYTES:
            raise broken_rule(f"the body of a denial is at most {MAX_DENIAL_BODY_BYTES} bytes")
        self._denial_body += body
        if not message.get("more_body", False):
            await self._deny()

    async def _deny(self) -> None:
        self._state = _State.REFUSED
        self._answered.set()
        try:
            await self._peer.deny(self._status, self._denial_headers, bytes(self._denial_body))
        except OSError as exc:
            self._state = _State.DISCONNECTED
            raise self._gone() from exc

    def _disconnected(self) -> ClientDisconnected:
        return ClientDisconnected(
            f"The WebSocket is closed, with code {self._closed.code} ({WEBSOCKET_SPECIFICATION})."
        )


def _event(message: str | bytes) -> Message:
    return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

"""One HTTP request to an ASGI app: the cycle between `receive` and `send` (ASGI HTTP 2.5).

What carries the request is behind `HttpExchange`, so that the cycle knows the specification and
nothing else: a lease of a Guest, or a buffer for direct use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from enum import Enum
from typing import Protocol

from .exceptions import AsgiRuleError, ClientDisconnected
from .types import ASGIApp, Headers, Message, Scope

_NO_BODY_STATUSES = (204, 304)
_LONGEST_LENGTH_DIGITS = 20
_TWO_LENGTHS = "http.response.start: there are two content-length fields that differ"
_GONE = "The client has gone away: nobody will get this response."


class HttpExchange(Protocol):
    """What carries one request and its response."""

    @property
    def disconnected(self) -> bool:
        """Whether nobody waits for the response any more."""

    @property
    def at_end(self) -> bool:
        """Whether `read` has returned the last piece of a complete body."""

    async def read(self) -> bytes:
        """The next piece of the request body, `b""` at its end; raises ClientDisconnected."""

    async def wait_disconnected(self) -> None:
        """Until the exchange is over, one way or another."""

    def start(self, status: int, headers: Headers, body: bytes, more: bool) -> Awaitable[None] | None:
        """The response head and its first piece. Returns None when all of it is on its way."""

    def send(self, body: bytes, more: bool) -> Awaitable[None] | None:
        """A further piece, the last one unless `more`."""

    def cut(self) -> None:
        """The response cannot be completed: let the other side see that it was cut off."""


class Phase(Enum):
    """How far a response is."""

    WAITING = "no http.response.start yet"
    STARTED = "http.response.start came, no body yet"
    SENDING = "the head and a part of the body are on their way"
    COMPLETE = "all of it is on its way"
    CUT = "it was cut off"


_WAITING, _STARTED, _SENDING = Phase.WAITING, Phase.STARTED, Phase.SENDING
_COMPLETE, _CUT = Phase.COMPLETE, Phase.CUT


class HttpCycle:
    """Runs an app for one request.

    Attributes:
        phase: How far the response is.
        status: The response's status, 0 before `http.response.start`.
        sent: Bytes of body that the app has sent; none where the answer to HEAD has none.
        error: What the app raised, or None.
    """

    __slots__ = (
        "_app",
        "_body_read",
        "_exchange",
        "_expected",
        "_headers",
        "_is_head",
        "_reading",
        "_turns",
        "error",
        "phase",
        "scope",
        "sent",
        "status",
    )

    def __init__(self, app: ASGIApp, scope: Scope, exchange: HttpExchange) -> None:
        self._app = app
        self.scope = scope
        self._exchange = exchange
        self._is_head = scope["method"] == "HEAD"
        self._body_read = False
        self._reading = False
        self._turns: list[asyncio.Future[None]] | None = None  # who waits for the reader to be done
        self._headers: Headers = []
        self._expected: int | None = None
        self.phase = _WAITING
        self.status = 0
        self.sent = 0
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Calls the app once; what it raises ends up in `error`. Cancellation passes through.

        Afterwards `phase` says what is left to do: WAITING or STARTED, nothing was answered; CUT or
        COMPLETE, nothing is left.
        """
        try:
            await self._app(self.scope, self.receive, self.send)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self.error = error  # nobody has cancelled the request: something that the app awaited was
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - kept in `error`; SystemExit too ends this call only
            self.error = error
        finally:
            self._cut_if_sending()

    def _cut_if_sending(self) -> None:
        if self.phase is _SENDING:
            self.phase = _CUT
            if self.error is None and not self._exchange.disconnected:
                self.error = AsgiRuleError(
                    "The app ended in the middle of its response: http.response.body came with more_body only"
                )
            self._exchange.cut()

    # --- receive --------------------------------------------------------------------------

    async def receive(self) -> Message:
        """`http.request` pieces as they come, then `http.disconnect` (ASGI HTTP 2.5)."""
        exchange = self._exchange
        while self._reading:  # another `receive` waits for a piece, and this one for what follows it
            await self._turn()
        if self.phase is _COMPLETE or self.phase is _CUT or exchange.disconnected:
            return {"type": "http.disconnect"}
        if not self._body_read:
            self._reading = True
            try:
                data = await exchange.read()
            except ClientDisconnected:
                return {"type": "http.disconnect"}
            finally:
                self._reading = False
                if self._turns is not None:
                    self._end_turn()
            if self.phase is _COMPLETE or self.phase is _CUT:
                return {"type": "http.disconnect"}
            self._body_read = exchange.at_end
            return {"type": "http.request", "body": data, "more_body": not self._body_read}
        await exchange.wait_disconnected()
        return {"type": "http.disconnect"}

    async def _turn(self) -> None:
        """Until the `receive` that reads is done, in the order in which they came."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._turns is None:
            self._turns = []
        self._turns.append(turn)
        await turn

    def _end_turn(self) -> None:
        turns, self._turns = self._turns, None
        for turn in turns or ():
            if not turn.done():
                turn.set_result(None)

    # --- send -----------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """`http.response.start`, then `http.response.body` until `more_body` is false.

        Raises:
            ClientDisconnected: the client has gone away.
            AsgiRuleError: the message breaks a rule; which one, the text says.
        """
        kind = message.get("type")
        phase = self.phase
        if kind == "http.response.body":
            if phase is _STARTED or phase is _SENDING:
                waiting = self._body(message, phase)
                if waiting is not None:
                    try:
                        await waiting
                    except BaseException:  # cancelled too: what is half sent must not look whole
                        self.phase = _CUT
                        self._exchange.cut()
                        raise
                return
        elif kind == "http.response.start" and phase is _WAITING:
            self._start(message)
            return
        self._refuse(kind, phase)

    def _start(self, message: Message) -> None:
        if self._exchange.disconnected:
            raise ClientDisconnected(_GONE)
        status = message.get("status")
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
            raise AsgiRuleError(
                f"http.response.start: the status must be from 200 to 599 (protocol.md §6), not {status!r}"
            )
        headers: Headers = []
        bodyless = self._is_head or status in _NO_BODY_STATUSES
        expected: int | None = None
        try:
            for name, value in message.get("headers") or ():
                if name.lower() == b"content-length":
                    # Without a body it goes: the tunnelled request is a POST, where it fails (§13)
                    if not bodyless:
                        length = _length(value)
                        if expected is None:
                            expected = length
                            headers.append((name, value))
                        elif expected != length:
                            raise AsgiRuleError(_TWO_LENGTHS)
                else:
                    headers.append((name, value))
        except (TypeError, ValueError, AttributeError) as error:
            raise AsgiRuleError("http.response.start: the headers must be pairs of byte strings") from error
        self._expected = expected
        self.status = int(status)  # an HTTPStatus is one as well
        self._headers = headers
        self.phase = _STARTED

    def _body(self, message: Message, phase: Phase) -> Awaitable[None] | None:
        if self._exchange.disconnected:
            self.phase = _CUT
            raise ClientDisconnected(_GONE)
        body = message.get("body", b"")
        if type(body) is not bytes:
            if not isinstance(body, (bytes, bytearray, memoryview)):
                raise AsgiRuleError(f"http.response.body: the body must be bytes, not {type(body).__name__}")
            body = bytes(body)
        more = bool(message.get("more_body", False))
        sent = self.sent = self.sent + len(body)
        if self._is_head or self.status in _NO_BODY_STATUSES:
            if body and not self._is_head:
                raise AsgiRuleError(
                    f"http.response.body: a {self.status} response has none (RFC 9110 §6.4.1)"
                )
            body = b""
            self.sent = 0
        elif self._expected is not None:
            if sent > self._expected:
                self._fail(phase)
                raise AsgiRuleError(
                    f"http.response.body: {sent} bytes are more than content-length {self._expected}"
                )
            if not more and sent < self._expected:
                self._fail(phase)
                raise AsgiRuleError(
                    f"http.response.body: it ends after {sent} bytes of content-length {self._expected}"
                )
        elif not more and phase is _STARTED:
            self._headers.append((b"content-length", b"%d" % sent))  # so that a cut shows (protocol.md §5.6)
        if phase is _STARTED:
            waiting = self._exchange.start(self.status, self._headers, body, more)
        elif body or not more:
            waiting = self._exchange.send(body, more)
        else:
            return None
        self.phase = _SENDING if more else _COMPLETE
        return waiting

    def _fail(self, phase: Phase) -> None:
        """A body of the wrong length: before its head is out, the failure is still an answer."""
        if phase is _SENDING:
            self.phase = _CUT
            self._exchange.cut()
        else:
            self.phase = _WAITING
            self.status = self.sent = 0

    def _refuse(self, kind: object, phase: Phase) -> None:
        if self._exchange.disconnected or phase is _CUT:
            raise ClientDisconnected(_GONE)
        if kind == "http.response.start":
            raise AsgiRuleError("http.response.start came twice: a response has one start")
        if kind != "http.response.body":
            raise AsgiRuleError(f"The type {kind!r} is none of an HTTP response's messages (ASGI HTTP 2.5)")
        if phase is _WAITING:
            raise AsgiRuleError("http.response.body came before http.response.start")
        raise AsgiRuleError("http.response.body came after the last one (more_body was false)")


def _length(value: bytes) -> int:
    """What a content-length field says; nobody has more digits to send than a 64-bit number."""
    if not value.isdigit() or len(value) > _LONGEST_LENGTH_DIGITS:
        raise AsgiRuleError(f"http.response.start: content-length must be a number, not {value[:40]!r}")
    return int(value)

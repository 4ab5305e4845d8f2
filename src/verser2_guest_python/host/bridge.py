"""One WebSocket on the Host: from a Broker's request over a Guest's lease to the end of both.

    NEGOTIATING --accept--> OPEN --a side ends, or breaks the rules--> CLOSING --both closed, or 1 s--> DONE
         |                    |
         |                    +-- a side is reset or lost: the other is reset with CANCEL
         +-- error, 30 s, or anything else: the Broker gets an error object

As soon as one side has ended, the Host ends both (protocol.md §11); so no end may come before both
`close` lines have passed, which is the business of Guest and Broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import IntEnum
from time import perf_counter

from verser2_guest_python.errors import (
    DisconnectedTargetError,
    LeaseTimeoutError,
    VerserError,
    VerserProtocolError,
    VerserWebSocketError,
    error_for,
)
from verser2_guest_python.host.answers import ERROR_STATUS
from verser2_guest_python.host.events import NOTHING
from verser2_guest_python.host.relay import Relay
from verser2_guest_python.host.services import ExchangeServices, staged
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, FieldBlock, Http2Error, Stream
from verser2_guest_python.http2.deadline import LateCall, call_within
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.headers import header_block_bytes, response_fields
from verser2_guest_python.wire.limits import MAX_BROKER_HEADER_BLOCK_BYTES
from verser2_guest_python.wire.names import STAGE_SENT, WEBSOCKET_PROTOCOL_FIELD
from verser2_guest_python.wire.vws import Accept, Close, Error, Open, VwsViolation, decode, encode

_ACCEPTED_STATUS = 200
_ACCEPTED = FieldBlock([(b":status", b"200")])
_OWN_FIELDS_BYTES = 4_096  # room for `:status`, `date` and the subprotocol
_GOING_AWAY = 1001  # RFC 6455 §7.4.1
_MAX_REASON_CHARACTERS = 60  # at most 123 bytes of UTF-8, whatever they are


class State(IntEnum):
    """How far a WebSocket has come."""

    NEGOTIATING = 0
    OPEN = 1
    CLOSING = 2
    DONE = 3


class Bridge:
    """A WebSocket under way; `request` is what records say of it."""

    def __init__(
        self, services: ExchangeServices, broker: Stream, lease: Stream, request: BrokerRequest, opening: Open
    ) -> None:
        self._services = services
        self._broker = broker
        self._lease = lease
        self._request = request
        self._opening = opening
        self._up = Relay(self, services.tasks, broker, lease)
        self._down = Relay(self, services.tasks, lease, broker)
        self._state = State.NEGOTIATING
        self._status: int | None = None
        self._timer: asyncio.TimerHandle | LateCall | None = None
        self._writing: asyncio.Task[None] | None = None
        self._started = perf_counter()

    @property
    def messages(self) -> tuple[int, int]:
        """Text and binary messages that have passed to the Guest, and to the Broker."""
        return self._up.messages, self._down.messages

    # --- Opening --------------------------------------------------------------------------

    def start(self) -> None:
        """Asks the Guest."""
        services = self._services
        services.opened()
        services.bridges.add(self)
        seconds = services.limits.websocket_accept_seconds
        self._timer = call_within(services.loop, seconds, self._too_late)
        self._broker.listener = self._on_broker
        self._lease.listener = self._on_lease
        line = encode(self._opening)
        try:
            if not self._lease.write_now(line):
                work = self._write_opening(line)
                self._writing = services.tasks.spawn(work, "verser host: WebSocket opening")
        except Http2Error:
            self.relay_failed()

    async def _write_opening(self, line: bytes) -> None:
        try:
            await self._lease.write(line)
        except Http2Error:
            self.relay_failed()
        finally:
            self._writing = None

    def _too_late(self) -> None:
        seconds = self._services.limits.websocket_accept_seconds
        self._refuse(LeaseTimeoutError(f"The Guest did not take the WebSocket within {seconds:g} s."))

    def _negotiate(self) -> None:
        """The Guest's first line."""
        try:
            lines = self._down.take_lines()
            if not lines:
                if self._lease.ended:
                    self._refuse(VerserWebSocketError("The Guest ended its lease instead of an answer."))
                return
            message = decode(lines[0])
        except VwsViolation as violation:
            self._refuse(VerserProtocolError(f"The Guest's answer is no VWS/1: {violation.message}"))
            return
        if isinstance(message, Error):
            self._refuse(error_for(message.code, message.message, message.context), refusal=True)
        elif not isinstance(message, Accept):
            self._refuse(VerserWebSocketError("The Guest spoke before it took the WebSocket."))
        elif not self._offered(message.protocol):
            self._refuse(VerserWebSocketError("The Guest chose a subprotocol that was not offered."))
        else:
            self._accept(message, lines[1:])

    def _offered(self, protocol: str) -> bool:
        offer = self._opening.protocol
        return protocol in ("", offer) or protocol in [one.strip() for one in offer.split(",")]

    def _accept(self, message: Accept, lines: list[bytes]) -> None:
        try:
            fields = [
                field for field in response_fields(message.headers or {}) if field[0] != b"content-length"
            ]
        except VerserProtocolError as error:
            self._refuse(error)
            return
        if header_block_bytes(fields) > MAX_BROKER_HEADER_BLOCK_BYTES - _OWN_FIELDS_BYTES:
            self._refuse(VerserProtocolError("The headers of the acceptance are too large to be passed on."))
            return
        if message.protocol:
            fields.append((WEBSOCKET_PROTOCOL_FIELD, message.protocol.encode("latin-1", "replace")))
        if not any(name == b"date" for name, _ in fields):
            fields.append((b"date", self._services.answers.date()))
        self._stop_timer()
        self._state = State.OPEN
        self._status = _ACCEPTED_STATUS
        try:
            self._broker.send_fields(_ACCEPTED, fields)
        except Http2Error:
            self.relay_failed()
            return
        self._down.pass_on(lines)
        self._up.pass_on()

    def _refuse(self, error: VerserError, *, refusal: bool = False) -> None:
        """There will be no WebSocket; `refusal` where the Guest said so in due form."""
        if self._state is not State.NEGOTIATING:
            return
        staged(error, STAGE_SENT, self._request.request_id)
        self._status = ERROR_STATUS
        self._services.answers.send_error(self._broker, error)
        lease = self._lease
        if refusal:  # the Guest has ended its side behind it, or is about to
            self._end(lease)
            lease.discard()
            self._services.loop.call_later(
                self._services.limits.linger_seconds, lease.reset, ErrorCode.CANCEL
            )
        else:
            lease.reset(ErrorCode.CANCEL)
        self._finish(error.code)

    # --- While it is open -----------------------------------------------------------------

    def _on_broker(self, broker: Stream) -> None:
        self._on_event(broker, self._up)

    def _on_lease(self, lease: Stream) -> None:
        self._on_event(lease, self._down)

    def _on_event(self, stream: Stream, relay: Relay) -> None:
        try:
            if stream.error is not None or stream.write_error is not None:
                self.relay_failed()
            elif self._state is State.OPEN:
                relay.pass_on()
            elif self._state is State.CLOSING:
                self._check_closed()
            elif stream is self._lease:
                self._negotiate()
        except Exception:
            self.broke()
            raise

    def relay_failed(self) -> None:
        """One side was reset or lost: so is the other."""
        if self._state is State.DONE:
            return
        lost = self._lease.error
        if self._state is State.NEGOTIATING and lost is not None:
            target = self._request.target_id
            if isinstance(lost, ConnectionLost):
                context = {"targetId": target}
                self._refuse(DisconnectedTargetError(f"Guest {target} went away.", context=context))
            else:
                self._refuse(VerserWebSocketError("The Guest gave its lease up instead of an answer."))
            return
        for stream in (self._broker, self._lease):
            stream.reset(ErrorCode.CANCEL)
        self._finish("cancelled" if self._state is State.NEGOTIATING else None)

    def broke(self) -> None:
        """A fault of our own, which whoever called reports."""
        if self._state is not State.DONE:
            for stream in (self._broker, self._lease):
                stream.reset(ErrorCode.INTERNAL_ERROR)
            self._finish("internal-error")

    # --- Closing --------------------------------------------------------------------------

    def relay_ended(self, relay: Relay) -> None:
        """One side has ended, so both end."""
        self._close_both(None)

    def relay_violated(self, violation: VwsViolation) -> None:
        """One side broke the rules: both are told, and both end."""
        self._close_both(Close(violation.close_code, violation.message[:_MAX_REASON_CHARACTERS]))

    def go_away(self) -> None:
        """The Host closes."""
        if self._state is State.NEGOTIATING:
            self._refuse(VerserWebSocketError("The Host is closing."))
        elif self._state is State.OPEN:
            self._close_both(Close(_GOING_AWAY, "The Host is closing"))

    def _close_both(self, message: Close | None) -> None:
        if self._state is not State.OPEN:
            return
        self._state = State.CLOSING
        line = encode(message) if message is not None else b""
        for relay in (self._up, self._down):
            relay.stop()
        for stream in (self._broker, self._lease):
            self._end(stream, line)
            stream.discard()
        services = self._services
        self._timer = services.loop.call_later(services.limits.linger_seconds, self._stop_lingering)
        self._check_closed()

    def _end(self, stream: Stream, line: bytes = b"") -> None:
        """Ends our side. Where a message is stuck half-way, there is nothing left to say."""
        try:
            if stream.write_ended or stream.write_now(line, end=True) or stream.write_now(b"", end=True):
                return
        except Http2Error:
            return
        stream.reset(ErrorCode.CANCEL)

    def _check_closed(self) -> None:
        if self._broker.closed and self._lease.closed:
            self._finish(None)

    def _stop_lingering(self) -> None:
        for stream in (self._broker, self._lease):
            stream.reset(ErrorCode.CANCEL)
        self._finish(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def noted(self) -> Mapping[str, str]:
        """What those who watch have to say in the record."""
        return NOTHING

    def _finish(self, error: str | None) -> None:
        if self._state is State.DONE:
            return
        self._state = State.DONE
        self._stop_timer()
        self._broker.listener = None
        self._lease.listener = None
        self._up.stop()
        self._down.stop()
        if self._writing is not None:
            self._writing.cancel()
        services = self._services
        services.bridge_closed(self)
        services.closed()
        if services.records:
            services.record(
                self._request,
                domain=self._opening.domain,
                status=self._status,
                error=error,
                bytes_in=self._up.bytes,
                bytes_out=self._down.bytes,
                seconds=perf_counter() - self._started,
                noted=self.noted,
            )

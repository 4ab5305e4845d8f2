"""An exchange and a bridge that are watched: the same, and each step is shown to an observer.

Apart from both because hardly any request is watched: the plain classes know nothing of it but where
a tap can be set.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from verser2_guest_python.errors import VerserError, VerserProtocolError
from verser2_guest_python.host.bridge import Bridge, State
from verser2_guest_python.host.exchange import Exchange
from verser2_guest_python.host.leases import LeasePool
from verser2_guest_python.host.observing import ExchangeEnd, ExchangeStart, Side, Watch
from verser2_guest_python.host.response import Answer
from verser2_guest_python.host.services import ExchangeServices
from verser2_guest_python.http2 import ErrorCode, Stream
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.headers import response_fields
from verser2_guest_python.wire.vws import Accept, Close, Message, Open

_INTERNAL_ERROR = "internal-error"
_SWITCHING_PROTOCOLS = 101


class ObservedExchange(Exchange):
    """An `Exchange` that is watched."""

    __slots__ = ("_error_message", "_over", "_watch", "upload_tap")

    def __init__(
        self,
        watch: Watch,
        services: ExchangeServices,
        broker: Stream,
        pool: LeasePool,
        request: BrokerRequest,
        domain: str,
        head: bytes,
    ) -> None:
        super().__init__(services, broker, pool, request, domain, head)
        self._watch = watch
        self._error_message = ""
        self._over = False
        self.upload_tap = watch.request_body

    @property
    def noted(self) -> Mapping[str, str]:
        return self._watch.noted

    def lease_came(self, lease: Stream) -> None:
        self._watch.leased()
        super().lease_came(lease)

    def upload_done(self) -> None:
        self._watch.uploaded()
        super().upload_done()

    def _answer(self, lease: Stream, answer: Answer, body: bytes) -> None:
        self._watch.answered(answer.status, answer.fields)
        super()._answer(lease, answer, body)

    def _count(self, data: bytes, end: bool) -> bytes | None:
        passing = super()._count(data, end)
        if passing:
            self._watch.response_body(passing)
        return passing

    def _cut(self, reason: str) -> None:
        self._error_message = reason
        super()._cut(reason)

    def _fail(self, error: VerserError, code: ErrorCode = ErrorCode.CANCEL) -> None:
        self._error_message = error.message
        super()._fail(error, code)

    def _record(self, error: str | None) -> None:
        self._over = True
        upload = self._upload
        bytes_in = upload.bytes if upload is not None else 0
        self._watch.ended(
            ExchangeEnd(self._status, error, bytes_in, self._bytes_out, self._error_message if error else "")
        )
        super()._record(error)

    def broke(self) -> None:
        if not self._over:
            self._over = True
            self._watch.ended(ExchangeEnd(self._status, _INTERNAL_ERROR, 0, self._bytes_out))
        super().broke()


class ObservedBridge(Bridge):
    """A `Bridge` that is watched."""

    def __init__(
        self,
        watch: Watch,
        services: ExchangeServices,
        broker: Stream,
        lease: Stream,
        request: BrokerRequest,
        opening: Open,
    ) -> None:
        super().__init__(services, broker, lease, request, opening)
        self._watch = watch
        self._error_message = ""
        self._over = False
        self._up.tap = self._on_broker_message
        self._down.tap = self._on_guest_message

    @property
    def noted(self) -> Mapping[str, str]:
        return self._watch.noted

    def start(self) -> None:
        self._watch.leased()
        super().start()

    def _on_broker_message(self, message: Message) -> None:
        self._watch.message(Side.BROKER, message)

    def _on_guest_message(self, message: Message) -> None:
        self._watch.message(Side.GUEST, message)

    def _accept(self, message: Accept, lines: list[bytes]) -> None:
        fields: list[tuple[bytes, bytes]] = []
        with suppress(VerserProtocolError):  # what cannot be passed on is refused below
            fields += response_fields(message.headers or {})
        if message.protocol:
            fields.append((b"sec-websocket-protocol", message.protocol.encode("latin-1", "replace")))
        self._watch.answered(_SWITCHING_PROTOCOLS, fields)
        super()._accept(message, lines)

    def _refuse(self, error: VerserError, *, refusal: bool = False) -> None:
        self._error_message = error.message
        super()._refuse(error, refusal=refusal)

    def _close_both(self, message: Close | None) -> None:
        if message is not None and self._state is State.OPEN:
            self._watch.message(Side.HOST, message)
        super()._close_both(message)

    def _finish(self, error: str | None) -> None:
        if not self._over:
            self._over = True
            self._watch.ended(
                ExchangeEnd(
                    self._status,
                    error,
                    self._up.bytes,
                    self._down.bytes,
                    self._error_message if error else "",
                )
            )
        super()._finish(error)


def start_of(
    request: BrokerRequest, domain: str | None, *, websocket: bool = False, protocol: str = ""
) -> ExchangeStart:
    """What an observer is told of a request that begins."""
    return ExchangeStart(
        request_id=request.request_id,
        source_id=request.source_id,
        target_id=request.target_id,
        domain=domain,
        method=request.method,
        path=request.path,
        headers=request.headers,
        websocket=websocket,
        protocol=protocol,
    )

"""How an exchange ends, whoever ends it: each side learns of it in its own way, and nothing is left behind.

Apart from the way that a request takes (`exchange.py`) because it may end at any step of it, and what each
side is owed depends only on how far it has come.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import IntEnum
from time import perf_counter

from verser2_guest_python.errors import (
    DisconnectedTargetError,
    StreamFailureError,
    VerserError,
)
from verser2_guest_python.host.answers import ERROR_STATUS, dismiss
from verser2_guest_python.host.events import NOTHING
from verser2_guest_python.host.leases import LeasePool
from verser2_guest_python.host.services import ExchangeServices, staged
from verser2_guest_python.host.upload import Upload
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Http2Error, Stream
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.envelopes import EnvelopeParser
from verser2_guest_python.wire.names import STAGE_QUEUED, STAGE_SENT


class State(IntEnum):
    """How far an exchange has come."""

    QUEUED = 0
    SENT = 1
    ANSWERING = 2
    ANSWERED = 3
    DONE = 4


class Ending(ABC):
    """What an exchange knows, and how it ends. Each end tells both sides, once."""

    __slots__ = (
        "_answered_at",
        "_broker",
        "_bytes_out",
        "_domain",
        "_downloader",
        "_head",
        "_lease",
        "_left",
        "_linger",
        "_parser",
        "_pool",
        "_request",
        "_sent",
        "_services",
        "_skip_body",
        "_started",
        "_state",
        "_status",
        "_upload",
    )

    def __init__(
        self,
        services: ExchangeServices,
        broker: Stream,
        pool: LeasePool,
        request: BrokerRequest,
        domain: str,
        head: bytes,
    ) -> None:
        self._services = services
        self._broker = broker
        self._pool = pool
        self._request = request
        self._domain = domain
        self._head = head
        self._lease: Stream | None = None
        self._parser = EnvelopeParser()
        self._state = State.QUEUED
        self._status: int | None = None
        self._left: int | None = None  # bytes that the answer's content-length still promises
        self._skip_body = False
        self._upload: Upload | None = None
        self._downloader: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._bytes_out = 0
        self._started = perf_counter()
        self._sent = self._started
        self._answered_at: float | None = None

    @abstractmethod
    def lease_came(self, lease: Stream) -> None:
        """The pool: this lease is ours."""

    def lease_failed(self, error: VerserError) -> None:
        """The pool: there will be none."""
        self._fail(error)

    # --- What goes wrong ------------------------------------------------------------------

    def _stop_upload(self) -> None:
        dismiss(self._broker)
        if self._lease is not None:
            self._lease.reset(ErrorCode.CANCEL)  # an END_STREAM would make the upload look whole
        self._close()

    def _check_broker(self) -> bool:
        """Whether the Broker's stream is over for us; if so, this ends the exchange."""
        if self._broker.error is None and self._broker.write_error is None:
            return False
        self._broker_left()
        return True

    def _check_lease(self) -> None:
        """A write to the lease failed."""
        if self._state is State.DONE or (lease := self._lease) is None:
            return
        if lease.error is not None:
            self._lease_lost(lease.error)
            return
        # The Guest has answered in full and wants no more of the upload (RFC 9113 §8.1).
        self._broker.discard()
        if self._upload is not None:
            self._upload.stop()
        if self._state is State.ANSWERED:
            dismiss(self._broker)
            self._close()

    def _broker_left(self) -> None:
        """The Broker has reset its stream, or is gone: the app must learn of it (protocol.md §5)."""
        if self._state is State.DONE:
            return
        if self._lease is not None:
            self._lease.reset(ErrorCode.CANCEL)
        else:
            self._pool.forget(self)
        if self._state is not State.ANSWERED:
            self._record("cancelled")
        self._close()

    def _lease_lost(self, error: Http2Error) -> None:
        """The Guest has reset the lease, or is gone."""
        if self._state is State.DONE:
            return
        if self._state is State.ANSWERED:
            dismiss(self._broker)
            self._close()
        elif self._state is State.ANSWERING:
            self._cut(f"The Guest failed in the middle of its answer: {error}")
        elif isinstance(error, ConnectionLost):
            target = self._request.target_id
            self._fail(
                DisconnectedTargetError(
                    f"Guest {target} went away before it answered.", context={"targetId": target}
                )
            )
        else:
            self._fail(StreamFailureError(f"The Guest gave the request up before it answered: {error}"))

    def _cut(self, reason: str) -> None:
        """The answer has begun and cannot be finished: it must not look whole (protocol.md §13)."""
        self._broker.reset(ErrorCode.INTERNAL_ERROR)
        if self._lease is not None:
            self._lease.reset(ErrorCode.CANCEL)
        self._record(StreamFailureError.default_code)
        self._close()

    def _fail(self, error: VerserError, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """The answer has not begun: the Broker gets an error object instead."""
        if self._state is State.DONE:
            return
        queued = self._lease is None
        staged(error, STAGE_QUEUED if queued else STAGE_SENT, self._request.request_id)
        self._status = ERROR_STATUS
        self._services.answers.send_error(self._broker, error)
        if self._lease is not None:
            self._lease.reset(code)
        self._record(error.code)
        self._close()

    def broke(self) -> None:
        """A fault of our own, which whoever called reports: neither side may be left waiting."""
        if self._state is not State.DONE:
            self._broker.reset(ErrorCode.INTERNAL_ERROR)
            if self._lease is not None:
                self._lease.reset(ErrorCode.INTERNAL_ERROR)
            self._pool.forget(self)
            self._close()

    # --- The end --------------------------------------------------------------------------

    def _close(self) -> None:
        self._state = State.DONE
        self._broker.listener = None
        if self._lease is not None:
            self._lease.listener = None
        if self._linger is not None:
            self._linger.cancel()
        if self._upload is not None:
            self._upload.stop()
            self._upload = None  # which knows us: else both would wait for the garbage collector
        if self._downloader is not None:
            self._downloader.cancel()
        self._services.closed()

    @property
    def noted(self) -> Mapping[str, str]:
        """What those who watch have to say in the record."""
        return NOTHING

    def _record(self, error: str | None) -> None:
        services = self._services
        if not services.records:
            return
        now = perf_counter()
        services.record(
            self._request,
            domain=self._domain,
            status=self._status,
            error=error,
            bytes_in=self._upload.bytes if self._upload is not None else 0,
            bytes_out=self._bytes_out,
            queued_seconds=(self._sent if self._lease is not None else now) - self._started,
            seconds=now - self._started,
            first_byte_seconds=None if self._answered_at is None else self._answered_at - self._started,
            noted=self.noted,
        )

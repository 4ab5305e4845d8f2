"""One HTTP request: from a Broker's stream into a Guest's lease, and the answer back.

    QUEUED --lease--> SENT --response head--> ANSWERING --end of answer--> ANSWERED --end of upload--> DONE
       |                |                         |                            |
       +-- no lease ----+-- Guest failed: 502     +-- Guest failed: reset      +-- upload too long: both reset
       +---------------- the Broker left: the lease is reset with CANCEL ------+

It runs in callbacks of the two streams: what came in one read leaves at once. Only where the other
side has no room now does a coroutine take over that direction, and it stays until the end: it reads
no more than it can write, so that a slow reader slows its own sender (protocol.md §12.4).
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from time import perf_counter

from verser2_guest_python.errors import (
    DisconnectedTargetError,
    StreamFailureError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.host.answers import ERROR_STATUS, dismiss
from verser2_guest_python.host.download import download
from verser2_guest_python.host.leases import LeasePool
from verser2_guest_python.host.response import Answer, read_answer
from verser2_guest_python.host.services import ExchangeServices, staged
from verser2_guest_python.host.upload import CHUNK_BYTES, Tap, Upload
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Http2Error, Stream
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.envelopes import EnvelopeParser
from verser2_guest_python.wire.names import STAGE_QUEUED, STAGE_SENT
from verser2_guest_python.wire.server_timing import lease_timing


class State(IntEnum):
    """How far an exchange has come."""

    QUEUED = 0
    SENT = 1
    ANSWERING = 2
    ANSWERED = 3
    DONE = 4


class Exchange:
    """One request under way. It keeps itself alive through its streams, its queue entry or its tasks."""

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

    upload_tap: Tap | None = None
    """Sees the request's body, where somebody watches (`observed.py`)."""

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

    # --- A lease --------------------------------------------------------------------------

    def start(self, wait_seconds: float) -> None:
        """Takes an idle lease, or waits for one."""
        self._services.opened()
        self._broker.listener = self._on_broker
        if (lease := self._pool.take()) is not None:
            self.lease_came(lease)
            return
        try:
            self._pool.wait(self, wait_seconds, len(self._head))
        except VerserError as error:
            self._fail(error)

    def lease_came(self, lease: Stream) -> None:
        """The pool: this lease is ours."""
        self._lease = lease
        self._state = State.SENT
        self._sent = perf_counter()
        lease.listener = self._on_lease
        head, self._head = self._head, b""
        self._upload = Upload(self, self._services.tasks, self._broker, lease, self.upload_tap)
        try:
            self._upload.pass_on(head)
        except Exception:
            self.broke()
            raise

    def lease_failed(self, error: VerserError) -> None:
        """The pool: there will be none."""
        self._fail(error)

    # --- The request's body ---------------------------------------------------------------

    def _on_broker(self, broker: Stream) -> None:
        try:
            if broker.error is not None or broker.write_error is not None:
                self._broker_left()
            elif self._upload is not None:
                self._upload.pass_on()
        except Exception:
            self.broke()
            raise

    def upload_done(self) -> None:
        """The upload: all of it has passed."""
        if self._state is State.ANSWERED:
            self._close()

    def upload_failed(self) -> None:
        """The upload: one of the two streams failed."""
        if not self._check_broker():
            self._check_lease()

    # --- The answer -----------------------------------------------------------------------

    def _on_lease(self, lease: Stream) -> None:
        try:
            if lease.error is not None:
                self._lease_lost(lease.error)
            elif self._state is State.SENT:
                data = lease.take()
                if data:
                    self._read_head(lease, data)
                elif lease.ended:
                    self._fail(StreamFailureError("The Guest ended the lease before it answered."))
            elif self._state is State.ANSWERING and self._downloader is None:
                if lease.unread > CHUNK_BYTES and not self._broker.has_room(lease.unread):
                    self._go_slowly(lease, b"", False)  # and keep no more than a chunk here
                    return
                data = lease.take()
                end = lease.at_end
                if data or end:
                    self._pass_on(lease, data, end)
        except Exception:
            self.broke()
            raise

    def _read_head(self, lease: Stream, data: bytes) -> None:
        """The Guest's envelope, and what came with it."""
        try:
            head = self._parser.feed(data)
            if head is None:
                if lease.ended:
                    self._fail(
                        StreamFailureError("The Guest ended the lease in the middle of its answer's head.")
                    )
                return
            answer = read_answer(head, self._request.request_id, self._request.method)
        except VerserProtocolError as error:
            self._fail(error, ErrorCode.PROTOCOL_ERROR)
            return
        if isinstance(answer, VerserError):
            self._fail(answer)
            return
        self._answer(lease, answer, self._parser.rest)

    def _answer(self, lease: Stream, answer: Answer, body: bytes) -> None:
        end = lease.at_end
        self._skip_body = answer.skip_body
        self._left = answer.content_length
        if answer.skip_body:
            body = b""
        elif answer.content_length is not None and (
            len(body) > answer.content_length or (end and len(body) < answer.content_length)
        ):
            message = f"The app announced {answer.content_length} bytes and sent {len(body)}."
            self._fail(StreamFailureError(message), ErrorCode.PROTOCOL_ERROR)
            return
        if not answer.dated:
            answer.fields.append((b"date", self._services.answers.date()))
        if self._services.server_timing:
            answer.fields.append(lease_timing(self._sent - self._started))  # behind the app's own
        self._answered_at = perf_counter()
        block = self._services.status_block(answer.status)
        self._state = State.ANSWERING
        self._status = answer.status
        try:
            self._broker.send_fields(block, answer.fields, end=end and not body)
        except Http2Error:
            self._check_broker()
            return
        if body:
            self._pass_on(lease, body, end)
        elif end:
            self._answered()

    def _pass_on(self, lease: Stream, data: bytes, end: bool) -> None:
        """Passes on a piece of the answer's body."""
        passing = self._count(data, end)
        if passing is None or not (passing or end):
            return
        try:
            if self._broker.write_now(passing, end=end):
                if end:
                    self._answered()
                return
        except Http2Error:
            self._check_broker()
            return
        self._go_slowly(lease, passing, end)

    def _go_slowly(self, lease: Stream, data: bytes, end: bool) -> None:
        work = self._download(lease, data, end)
        self._downloader = self._services.tasks.spawn(work, "verser host: download")

    async def _download(self, lease: Stream, data: bytes, end: bool) -> None:
        seconds = self._services.limits.stalled_answer_seconds
        try:
            if not await download(
                lease, self._broker, data, end, stalled_seconds=seconds, passes=self._count
            ):
                return
        except TimeoutError:
            self._downloader = None
            self._cut(f"The Broker has taken nothing of the answer for {seconds:g} s.")
            return
        except Http2Error:
            self._downloader = None
            if not self._check_broker():
                self._check_lease()
            return
        except Exception:
            self.broke()
            raise
        self._downloader = None
        self._answered()

    def _count(self, data: bytes, end: bool) -> bytes | None:
        """Holds the app to the content-length that it announced (protocol.md §13): what passes, or None."""
        if self._skip_body:
            return b""
        size = len(data)
        self._bytes_out += size
        left = self._left
        if left is None:
            return data
        left -= size
        self._left = left
        if left >= 0 and not (end and left):
            return data
        self._cut(f"The app sent {'more' if left < 0 else 'fewer'} bytes than its content-length says.")
        return None

    def _answered(self) -> None:
        """The Broker has the whole answer. The rest of its upload may still pass, for a moment."""
        self._state = State.ANSWERED
        self._record(None)
        if self._upload is None or self._upload.done:
            self._close()
        else:
            services = self._services
            self._linger = services.loop.call_later(services.limits.linger_seconds, self._stop_upload)

    def _stop_upload(self) -> None:
        dismiss(self._broker)
        if self._lease is not None:
            self._lease.reset(ErrorCode.CANCEL)  # an END_STREAM would make the upload look whole
        self._close()

    # --- What goes wrong ------------------------------------------------------------------

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
        if self._downloader is not None:
            self._downloader.cancel()
        self._services.closed()

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
        )

"""One HTTP request: from a Broker's stream into a Guest's lease, and the answer back.

    QUEUED --lease--> SENT --response head--> ANSWERING --end of answer--> ANSWERED --end of upload--> DONE
       |                |                         |                            |
       +-- no lease ----+-- Guest failed: 502     +-- Guest failed: reset      +-- upload too long: both reset
       +---------------- the Broker left: the lease is reset with CANCEL ------+

It runs in callbacks of the two streams: what came in one read leaves at once. Only where the other
side has no room now does a coroutine take over that direction, and it stays until the end: it reads
no more than it can write, so that a slow reader slows its own sender (protocol.md §12.4). The lower
half of the picture, how it comes to an end, is `ending.py`.
"""

from __future__ import annotations

from time import perf_counter

from verser2_guest_python.errors import (
    StreamFailureError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.host.download import download
from verser2_guest_python.host.ending import Ending, State
from verser2_guest_python.host.response import Answer, read_answer
from verser2_guest_python.host.upload import CHUNK_BYTES, Tap, Upload
from verser2_guest_python.http2 import ErrorCode, Http2Error, Stream
from verser2_guest_python.wire.server_timing import lease_timing


class Exchange(Ending):
    """One request under way. It keeps itself alive through its streams, its queue entry or its tasks."""

    __slots__ = ()

    upload_tap: Tap | None = None
    """Sees the request's body, where somebody watches (`observed.py`)."""

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

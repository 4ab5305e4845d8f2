"""One HTTP request on a lease: what joins an HTTP/2 stream and an ASGI cycle (protocol.md §5)."""

from __future__ import annotations

from collections.abc import Awaitable

from verser2_guest_python.asgi.exceptions import ClientDisconnected
from verser2_guest_python.asgi.types import Headers
from verser2_guest_python.errors import VerserError
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, HeadTooLarge, Stream, StreamReset
from verser2_guest_python.wire.envelopes import RequestHead, encode_error, encode_response
from verser2_guest_python.wire.headers import response_headers

LOCAL_HANDLER_FAILURE = "local-handler-failure"
_GONE = "The Broker has cancelled this request, or its session is lost."


class Lease:
    """Carries one request to the app and its response back; an `HttpExchange` of `asgi.http`.

    Attributes:
        stream: The lease's stream.
        head: The request's envelope head.
        received: Bytes of request body that the app has read.
        session_id: The session that it is on, as logs call it.
        bound: Whether the Host vouches for the Broker that the head names (protocol.md §14).
    """

    __slots__ = (
        "_expected",
        "_first",
        "_reading",
        "at_end",
        "bound",
        "head",
        "received",
        "session_id",
        "stream",
    )

    def __init__(
        self,
        stream: Stream,
        head: RequestHead,
        first: bytes,
        expected: int | None,
        bound: bool,
        session_id: str,
    ) -> None:
        self.stream = stream
        self.head = head
        self.bound = bound
        self.session_id = session_id
        self.received = 0
        self._first = first  # body bytes that came in the frame of the head
        self._expected = expected
        self._reading = False
        self.at_end = False

    # --- The request ----------------------------------------------------------------------

    @property
    def disconnected(self) -> bool:
        """The Broker has cancelled, or the session is lost."""
        stream = self.stream
        return stream.error is not None or stream.write_error is not None

    async def read(self) -> bytes:
        """The next piece of the body. A body that ends short was cancelled (protocol.md §5.5)."""
        stream = self.stream
        data = self._first
        if data:
            self._first = b""
        else:
            self._reading = True
            try:
                data = await stream.read()
            except (StreamReset, ConnectionLost) as error:
                raise ClientDisconnected(_GONE) from error
            finally:
                self._reading = False
        self.received += len(data)
        if stream.at_end:
            if self._expected is not None and self.received < self._expected:
                stream.reset(ErrorCode.CANCEL)  # nobody waits for the answer
                raise ClientDisconnected(_GONE)
            self.at_end = True
        return data

    async def wait_disconnected(self) -> None:
        """Until both sides have ended, or the stream failed."""
        await self.stream.wait_closed()

    # --- The response ---------------------------------------------------------------------

    def start(self, status: int, headers: Headers, body: bytes, more: bool) -> Awaitable[None] | None:
        """Head and first piece, in one frame where they fit (protocol.md §12.5)."""
        head = encode_response(self.head.request_id, status, response_headers(headers))
        return self._write(head + body if body else head, more, len(head))

    def send(self, body: bytes, more: bool) -> Awaitable[None] | None:
        """A further piece of the body."""
        return self._write(body, more, 0)

    def _write(self, data: bytes, more: bool, head: int) -> Awaitable[None] | None:
        try:
            if self.stream.write_now(data, end=not more, head=head):
                if self._reading and not more:
                    self.stream.discard()  # a reader learns that the response is complete
                return None
        except (StreamReset, ConnectionLost) as error:
            raise ClientDisconnected(_GONE) from error
        return self._wait_write(data, more, head)

    async def _wait_write(self, data: bytes, more: bool, head: int) -> None:
        try:
            await self.stream.write(data, end=not more, head=head)
        except (StreamReset, ConnectionLost) as error:
            raise ClientDisconnected(_GONE) from error
        if self._reading and not more:
            self.stream.discard()

    def cut(self) -> None:
        """Never a clean end (protocol.md §5.6)."""
        self.stream.reset(ErrorCode.INTERNAL_ERROR)

    def refuse(
        self, message: str, code: str = LOCAL_HANDLER_FAILURE, **context: str
    ) -> Awaitable[None] | None:
        """An error envelope instead of a response (protocol.md §6)."""
        request_id = self.head.request_id
        try:
            head = encode_error(request_id, code, message, {"requestId": request_id, **context})
        except (VerserError, HeadTooLarge):
            head = encode_error(request_id, code, message[:200], {"requestId": request_id})
        return self._write(head, False, len(head))

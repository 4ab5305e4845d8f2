"""The answer to a request, read as it arrives: a body is whole, or reading it fails.

Apart from the request because it lives longer: the caller holds it, reads it in a way of their
choosing, or gives it up half-way.
"""

from __future__ import annotations

from codecs import lookup
from collections.abc import AsyncGenerator
from email.message import Message
from functools import partial
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from json import loads
from types import TracebackType
from typing import Any, Self

from verser2_guest_python.broker.body import UNSET, Unset
from verser2_guest_python.broker.exchange import Exchange
from verser2_guest_python.broker.headers import ResponseHeaders, response_headers
from verser2_guest_python.broker.iterating import BodyLines, BodyPieces
from verser2_guest_python.errors import (
    RequestTimeoutError,
    StreamFailureError,
    VerserError,
    VerserProtocolError,
    VerserUsageError,
)
from verser2_guest_python.http2 import ErrorCode, Fields, Http2Error, StreamReset
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.wire.server_timing import read_lease_wait

DEFAULT_CHUNK_BYTES = 8_192
_READ_BYTES = 262_144
_STATUS_WITHOUT_BODY = frozenset({204, 304})


class VerserStatusError(VerserError):
    """Code `http-status`: `raise_for_status` was called on an answer of 400 or more.

    Never on the wire: it is the app's answer, and `response` is all of it. To another process (`pickle`) it
    goes without that, since its body is read in this one.
    """

    default_code = "http-status"

    def __init__(self, message: str, response: VerserBrokerResponse) -> None:
        super().__init__(message, context={"status": response.status, "requestId": response.request_id})
        self.response: VerserBrokerResponse = response

    def __reduce__(self) -> tuple[Any, ...]:
        restored, (error_class, args, state) = super().__reduce__()
        kept = {key: value for key, value in state.items() if key != "response"}
        return restored, (error_class, args, kept)


class VerserBrokerResponse:
    """The answer of an app; made by `VerserBroker.request`.

    Its body comes as the app sends it and is read once, by one of `read`, `text`, `json`,
    `aiter_bytes` and `aiter_lines`; a second time raises `VerserUsageError`. Leaving `async with`,
    or `aclose`, cancels what was not read. Every way of reading raises `StreamFailureError` for a
    body that was cut off, `DisconnectedTargetError` when the session is lost, and
    `RequestTimeoutError` when the next piece takes longer than the request's `timeout`, or the whole
    longer than its `total_timeout`.

    Example::

        async with await broker.get("http://a.local.test/big") as response:
            async for chunk in response.aiter_bytes():
                file.write(chunk)

    Attributes:
        status: The status code, 200 to 599.
        request_id: What the request is called in the logs of Host and Guest.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_deadline",
        "_exchange",
        "_expected",
        "_fields",
        "_headers",
        "_lease_wait",
        "_prefix",
        "_received",
        "_timeout",
        "_without_body",
        "request_id",
        "status",
    )

    def __init__(
        self,
        exchange: Exchange,
        status: int,
        fields: Fields,
        *,
        prefix: bytes = b"",
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self.status: int = status
        self.request_id: str = exchange.request_id
        self._exchange = exchange
        self._fields = fields
        self._headers: ResponseHeaders | None = None
        self._lease_wait: float | Unset | None = UNSET  # read only where somebody wants to know
        self._without_body = status in _STATUS_WITHOUT_BODY or exchange.method == "HEAD"
        self._expected = None if self._without_body else content_length(fields)
        self._received = 0
        self._prefix = prefix
        self._timeout = timeout
        self._deadline = deadline
        self._begun = False

    def __repr__(self) -> str:
        return f"<VerserBrokerResponse {self.status} {self.reason} [{self.request_id}]>"

    # --- The head ---------------------------------------------------------------------------

    @property
    def headers(self) -> ResponseHeaders:
        """The headers: a dict of strings in any case, with `get_list` for repeated ones."""
        if self._headers is None:
            self._headers = response_headers(self._fields)
        return self._headers

    @property
    def reason(self) -> str:
        """The usual phrase for the status; empty when there is none."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return ""

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def url(self) -> str:
        """What answered: the URL of the request, or what it was redirected to."""
        target = self._exchange.target
        return f"http://{target.authority}{target.path if target.path != '*' else ''}"

    @property
    def target_id(self) -> str:
        """The Guest that answered."""
        return self._exchange.guest.target_id

    @property
    def lease_wait(self) -> float | None:
        """How long the request waited at the Host for a lease, in seconds; None where nobody says.

        It is what the last `verser-lease` in a `server-timing` field says: a Host of this project with
        `server_timing` on adds one. Behind any other Host the app can say so itself: it is a hint for
        people and graphs, and never a ground for a decision.
        """
        if isinstance(self._lease_wait, Unset):
            self._lease_wait = read_lease_wait(self._fields)
        return self._lease_wait

    @property
    def cookies(self) -> dict[str, str]:
        """Names and values of the cookies that the answer sets."""
        cookies: dict[str, str] = {}
        for field in self.headers.get_list("set-cookie"):
            try:
                parsed = SimpleCookie(field)
            except CookieError:
                continue  # not a cookie that Python knows; the field itself is in `headers`
            cookies.update((name, morsel.value) for name, morsel in parsed.items())
        return cookies

    def raise_for_status(self) -> Self:
        """Returns the response, or raises `VerserStatusError` when the status is 400 or more."""
        if self.ok:
            return self
        phrase = f" {self.reason}" if self.reason else ""
        raise VerserStatusError(f"The app of {self.target_id} answered {self.status}{phrase}.", self)

    # --- The body ---------------------------------------------------------------------------

    @property
    def arrived(self) -> bool:
        """Whether all of the body is here already, so that `read` does not wait for more of it."""
        stream = self._exchange.stream
        return stream.ended and stream.error is None

    async def read(self) -> bytes:
        """The whole body."""
        self._begin()
        exchange = self._exchange
        exchange.resume()
        stream = exchange.stream
        if stream.ended and stream.error is None:  # all of it is here
            body = self._count(self._prefix + stream.take() if self._prefix else stream.take())
            self._prefix = b""
            self._complete()
            if exchange.upload is not None:
                await exchange.settle()
            return body
        parts = []
        while chunk := await self._next(_READ_BYTES):
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def text(self) -> str:
        """The whole body as text, by the charset of `content-type`, else UTF-8; bad bytes become U+FFFD."""
        return (await self.read()).decode(self.charset or "utf-8", errors="replace")

    async def json(self) -> Any:
        """The whole body as JSON; raises `ValueError` when it is not JSON."""
        return loads(await self.read())

    @property
    def charset(self) -> str | None:
        """The charset of `content-type`, if it names one that Python knows."""
        message = Message()
        message["content-type"] = self.headers.get("content-type", "")
        charset = message.get_content_charset()
        if charset is None:
            return None
        try:
            b"x".decode(charset, errors="replace")  # Python also knows codecs that are not about text
            return lookup(charset).name
        except (LookupError, ValueError):
            return None

    def aiter_bytes(self, chunk_size: int = DEFAULT_CHUNK_BYTES) -> AsyncGenerator[bytes, None]:
        """The body in chunks of at most `chunk_size` bytes, each as soon as it is there."""
        if chunk_size < 1:
            raise VerserUsageError("chunk_size must be at least 1.")
        self._begin()
        return BodyPieces(self._exchange, partial(self._next, chunk_size))

    def aiter_lines(self) -> AsyncGenerator[str, None]:
        """The body as lines of UTF-8 (or of `charset`) without their ends, each as soon as it is whole."""
        self._begin()
        read = partial(self._next, DEFAULT_CHUNK_BYTES)
        return BodyLines(self._exchange, read, self.charset or "utf-8")

    async def aclose(self) -> None:
        """Ends the response. What was not read is cancelled: the app learns of it."""
        self._begun = True
        self._exchange.end()
        await self._exchange.settle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- Reading, checked -------------------------------------------------------------------

    def _begin(self) -> None:
        if self._begun:
            raise VerserUsageError(
                f"The body of {self.request_id} has been read or closed already: it can be consumed once."
            )
        self._begun = True

    async def _next(self, limit: int) -> bytes:
        """The next bytes of the body; empty at its end, which is checked. A failure ends the exchange."""
        exchange = self._exchange
        if exchange.over:
            raise VerserUsageError(f"The answer to {self.request_id} was closed while it was being read.")
        try:
            while chunk := await self._receive(limit):
                if chunk := self._count(chunk):
                    return chunk
            self._complete()
        except Http2Error as error:
            exchange.end()
            if not self._is_whole(error):
                raise exchange.error(error) from error
        except BaseException:  # also when the caller's task is cancelled
            exchange.end()
            raise
        await exchange.settle()
        return b""

    def _is_whole(self, error: Http2Error) -> bool:
        """Whether the body is all there although its stream never ended.

        A Node.js Host under load sends RST_STREAM NO_ERROR in place of the empty DATA with END_STREAM;
        `content-length` then tells that nothing is missing.
        """
        no_error = isinstance(error, StreamReset) and error.remote and error.code == ErrorCode.NO_ERROR
        return no_error and self._received == self._expected

    async def _receive(self, limit: int) -> bytes:
        if self._prefix:
            chunk, self._prefix = self._prefix[:limit], self._prefix[limit:]
            return chunk
        stream = self._exchange.stream
        timeout, deadline = self._timeout, self._deadline
        last = False  # whether it is the deadline that runs out first
        if deadline is not None:
            left = deadline - stream.session.loop.time()
            if left <= 0:
                raise self._too_late(last=True)
            if timeout is None or left < timeout:
                timeout, last = left, True
        if timeout is None or stream.unread or stream.ended:
            return await stream.read(limit)
        try:
            async with within(timeout):
                return await stream.read(limit)
        except TimeoutError:
            raise self._too_late(last=last) from None

    def _too_late(self, *, last: bool) -> RequestTimeoutError:
        if last:
            what = f"The answer to {self.request_id} was not complete within its total_timeout."
        else:
            what = (
                f"The next piece of the answer to {self.request_id} did not come within {self._timeout:g} s."
            )
        return RequestTimeoutError(what, context=self._exchange.context)

    def _count(self, chunk: bytes) -> bytes:
        """Counts what came; more than `content-length` is an error of this stream (protocol.md §7)."""
        if self._without_body:
            return b""
        self._received += len(chunk)
        if self._expected is not None and self._received > self._expected:
            self._exchange.end(ErrorCode.PROTOCOL_ERROR)
            raise VerserProtocolError(
                f"The answer to {self.request_id} is longer than its content-length: {self._expected}.",
                context=self._exchange.context,
            )
        return chunk

    def _complete(self) -> None:
        """The stream has ended: whether that is the end of the body, `content-length` says."""
        if self._expected is not None and self._received < self._expected:
            self._exchange.end()
            raise StreamFailureError(
                f"The answer to {self.request_id} was cut off: {self._received} of {self._expected} bytes.",
                context=self._exchange.context,
            )
        self._exchange.end()


def content_length(fields: Fields) -> int | None:
    """The length that an answer declares; raises `VerserProtocolError` when it is not a number."""
    declared: bytes | None = None
    for name, value in fields:
        if name == b"content-length":
            # RFC 9110 §8.6: the same number several times, also joined by a comma, is one number.
            for part in value.split(b","):
                part = part.strip()
                if (
                    not part.isdigit()
                    or len(part) > 19
                    or (declared is not None and int(part) != int(declared))
                ):
                    raise VerserProtocolError("The answer has a content-length that is not one number.")
                declared = part
    return None if declared is None else int(declared)

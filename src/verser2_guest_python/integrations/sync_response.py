"""The answer to a request of a `SyncVerserBroker`: the same answer, read by a thread that may wait.

Apart from the Broker as its asynchronous counterpart is: it lives longer than the request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import suppress
from json import loads
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from verser2_guest_python.broker.headers import ResponseHeaders
from verser2_guest_python.broker.response import (
    DEFAULT_CHUNK_BYTES,
    VerserBrokerResponse,
    VerserStatusError,
)
from verser2_guest_python.errors import DisconnectedTargetError, VerserUsageError

from .caller_body import CallerBody
from .loop_thread import ErrandSource

READ_BYTES: Final = 262_144
"""At most so much crosses from the loop's thread at a time; the way across costs more than the bytes."""

T = TypeVar("T")


class Runner(Protocol):
    """Whoever runs coroutines for a thread: the `SyncVerserBroker` that the answer came through."""

    def _run_coroutine(
        self,
        coroutine: Coroutine[Any, Any, T],
        errands: ErrandSource | None = None,
        settled: Callable[[], bool] | None = None,
        /,
    ) -> T: ...


class SyncVerserStatusError(VerserStatusError):
    """Code `http-status`: like `VerserStatusError`, with the response that a thread can read."""

    response: SyncVerserResponse  # type: ignore[assignment]

    def __init__(self, message: str, response: SyncVerserResponse, inner: VerserBrokerResponse) -> None:
        super().__init__(message, inner)
        self.response = response


class SyncVerserResponse:
    """The answer of an app; made by `SyncVerserBroker.request`.

    Its body comes as the app sends it and is read once, by one of `read`, `text`, `json`,
    `iter_bytes` and `iter_lines`; a second time raises `VerserUsageError`. Leaving `with`, or
    `close`, cancels what was not read. A body of which all is here can be read when the Broker is closed,
    too. What reading raises is what `VerserBrokerResponse` raises.

    Example::

        with broker.get("http://a.local.test/big") as response:
            for chunk in response.iter_bytes():
                file.write(chunk)
    """

    def __init__(self, runner: Runner, inner: VerserBrokerResponse, body: CallerBody | None) -> None:
        self._runner = runner
        self._inner = inner
        self._body = body  # of the request: it may still be on its way

    def __repr__(self) -> str:
        return f"<SyncVerserResponse {self.status} {self.reason} [{self.request_id}]>"

    # --- The head ---------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """The status code, 200 to 599."""
        return self._inner.status

    @property
    def request_id(self) -> str:
        """What the request is called in the logs of Host and Guest."""
        return self._inner.request_id

    @property
    def url(self) -> str:
        """What answered: the URL of the request, or what it was redirected to."""
        return self._inner.url

    @property
    def target_id(self) -> str:
        """The Guest that answered."""
        return self._inner.target_id

    @property
    def headers(self) -> ResponseHeaders:
        """The headers: a dict of strings in any case, with `get_list` for repeated ones."""
        return self._inner.headers

    @property
    def reason(self) -> str:
        """The usual phrase for the status; empty when there is none."""
        return self._inner.reason

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self._inner.ok

    @property
    def lease_wait(self) -> float | None:
        """How long the request waited at the Host for a lease, in seconds; None where nobody says.

        A hint, as `VerserBrokerResponse.lease_wait` is.
        """
        return self._inner.lease_wait

    @property
    def cookies(self) -> dict[str, str]:
        """Names and values of the cookies that the answer sets."""
        return self._inner.cookies

    @property
    def charset(self) -> str | None:
        """The charset of `content-type`, if it names one that Python knows."""
        return self._inner.charset

    def raise_for_status(self) -> Self:
        """Returns the response, or raises `SyncVerserStatusError` when the status is 400 or more."""
        try:
            self._inner.raise_for_status()
        except VerserStatusError as error:
            raise SyncVerserStatusError(error.message, self, self._inner) from None
        return self

    @property
    def arrived(self) -> bool:
        """Whether all of the body is here already, so that `read` does not wait for more of it."""
        return self._inner.arrived

    # --- The body ---------------------------------------------------------------------------

    def read(self) -> bytes:
        """The whole body."""
        try:
            return self._run(self._inner.read())
        finally:
            self._close_body()

    def text(self) -> str:
        """The whole body as text, by the charset of `content-type`, else UTF-8; bad bytes become U+FFFD."""
        return self.read().decode(self.charset or "utf-8", errors="replace")

    def json(self) -> Any:
        """The whole body as JSON; raises `ValueError` when it is not JSON."""
        return loads(self.read())

    def iter_bytes(self, chunk_size: int = DEFAULT_CHUNK_BYTES) -> Iterator[bytes]:
        """The body in chunks of at most `chunk_size` bytes, each as soon as it is there.

        Left before its end, the rest is cancelled once the iterator is closed or collected.
        """
        if chunk_size < 1:
            raise VerserUsageError("chunk_size must be at least 1.")
        return self._chunks(self._inner.aiter_bytes(max(chunk_size, READ_BYTES)), chunk_size)

    def _chunks(self, pieces: AsyncGenerator[bytes, None], chunk_size: int) -> Iterator[bytes]:
        for piece in self._cross(pieces):
            if len(piece) <= chunk_size:
                yield piece
            else:
                for start in range(0, len(piece), chunk_size):
                    yield piece[start : start + chunk_size]

    def iter_lines(self) -> Iterator[str]:
        """The body as lines of UTF-8 (or of `charset`) without their ends, each as soon as it is whole."""
        return self._cross(self._inner.aiter_lines())

    def _cross(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """What the loop's thread iterates over, item by item in this one."""
        try:
            while item := self._run(_next(items)):
                yield item[0]
        finally:
            self._leave(_leave(self._inner, items))

    def close(self) -> None:
        """Ends the response. What was not read is cancelled: the app learns of it."""
        self._leave(self._inner.aclose())

    def _run(self, reading: Coroutine[Any, Any, T]) -> T:
        return self._runner._run_coroutine(reading, self._body, lambda: self._inner.arrived)

    def _leave(self, leaving: Coroutine[Any, Any, None]) -> None:
        try:
            # The Broker is closed, and all of its responses; or this is collected in the loop's thread,
            # and the exchange with it.
            with suppress(VerserUsageError, DisconnectedTargetError):
                self._runner._run_coroutine(leaving)
        finally:
            self._close_body()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _next(items: AsyncGenerator[T, None]) -> tuple[T] | None:
    async for item in items:
        return (item,)
    return None


async def _leave(response: VerserBrokerResponse, items: AsyncGenerator[Any, None]) -> None:
    await response.aclose()
    await items.aclose()

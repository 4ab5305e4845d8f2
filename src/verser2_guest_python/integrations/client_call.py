"""One request of a client through a Broker: sent, answered, read, given up.

Apart from the transports because it is the same for all of them: asynchronous or not, of httpx2 or of
httpx. All of it runs in the loop of the Broker.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, Final

from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.errors import VerserError, VerserProtocolError
from verser2_guest_python.wire.headers import join_request_headers

from .client_errors import client_error
from .client_library import ClientLibrary, library_of
from .patience import POOL, Patience

HTTP_VERSION: Final = b"HTTP/2"
CHUNK_BYTES: Final = 262_144
WHOLE_BODY_BYTES: Final = 65_536
"""A body of up to so many bytes is handed over whole, so that the Broker can send it to another Guest.
A larger one goes in pieces of that size, so that each has the client's write timeout."""

_SCHEMES: Final = frozenset({"http", "https"})
_SHORTEST_LEASE_SECONDS: Final = 0.001


class Call:
    """One request. Raises exceptions of the library that the request is of.

    Attributes:
        streams: Whether the body comes from the request's stream, to be given to `send`.
        over: Nothing more is to be done: the answer was read, failed, or is closed.
    """

    def __init__(self, broker: VerserBroker, request: Any) -> None:
        self.library: ClientLibrary = library_of(request)
        self.over = False
        self._broker = broker
        self._request = request
        self._content: bytes | None = self._whole_content()
        self._patience = Patience(request.extensions.get("timeout", {}), lambda: broker.connected)
        self._response: VerserBrokerResponse | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._closed = False

    @property
    def streams(self) -> bool:
        return self._content is None

    def _whole_content(self) -> bytes | None:
        try:
            content: bytes = self._request.content
        except self.library.module.RequestNotRead:
            return None
        return content

    # --- Sending ----------------------------------------------------------------------------

    async def send(self, stream: AsyncIterable[Any] | None) -> None:
        """Sends the request; returns once the head of the answer is there."""
        request = self._request
        url, route_domain = self._target()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        body: bytes | AsyncIterable[bytes] | None = self._content or None
        if self._content is None or len(self._content) > WHOLE_BODY_BYTES:
            body = self._pieces(stream)
        pool = self._patience.seconds(POOL)
        try:
            self._response = await self._patience.head(
                self._broker.request(
                    request.method,
                    url,
                    headers=headers,
                    body=body,
                    route_domain=route_domain,
                    timeout=math.inf,  # the client has its own
                    lease_timeout=None if pool is None else max(pool, _SHORTEST_LEASE_SECONDS),
                    max_redirects=0,  # the client follows, or does not
                ),
                streams=not isinstance(body, bytes | None),
            )
        except VerserError as error:
            self.over = True
            raise self._error(error, headers) from error
        except BaseException:
            self.over = True
            raise

    def _target(self) -> tuple[str, str | None]:
        """The URL for the Broker, and the domain where the URL names none."""
        url = self._request.url
        if not url.host:
            raise self.library.error(
                "UnsupportedProtocol", "The URL of the request names no domain: give the client a base_url."
            )
        if url.scheme not in _SCHEMES:
            hint = " Open a WebSocket with the Broker." if url.scheme in {"ws", "wss"} else ""
            raise self.library.error(
                "UnsupportedProtocol", f"Requests go to http:// or https://, not to {url.scheme}://.{hint}"
            )
        if "upgrade" in self._request.headers:
            raise self.library.error(
                "UnsupportedProtocol",
                "A connection cannot be upgraded here. Open a WebSocket with the Broker.",
            )
        authority = url.netloc.decode("ascii")
        target: bytes = self._request.extensions.get("target", url.raw_path)
        if target == b"*":
            return "*", authority
        return f"{url.scheme}://{authority}{target.decode('ascii')}", None

    async def _pieces(self, stream: AsyncIterable[Any] | None) -> AsyncGenerator[bytes, None]:
        """The body piece by piece; what comes back to a `yield` says that the piece before has left."""
        patience = self._patience
        patience.opened()
        source = aiter(_whole(self._content or b"") if stream is None else stream)
        try:
            async for piece in source:
                for start in range(0, len(piece), WHOLE_BODY_BYTES):
                    patience.sending()
                    yield piece[start : start + WHOLE_BODY_BYTES]
                    patience.left()
        finally:
            patience.left()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        patience.sent()

    # --- The answer -------------------------------------------------------------------------

    @property
    def response(self) -> VerserBrokerResponse:
        """The answer, after `send`."""
        if self._response is None:
            raise AssertionError("send() comes first")
        return self._response

    def make_response(self, stream: object) -> Any:
        """The answer as the library's own `Response`."""
        response = self.response
        return self.library.module.Response(
            response.status,
            headers=[
                (name.encode("ascii"), value.encode("latin-1"))
                for name, value in response.headers.multi_items()
            ],
            stream=stream,
            extensions={
                "http_version": HTTP_VERSION,
                "verser_request_id": response.request_id,
                "verser_target_id": response.target_id,
            },
        )

    @property
    def arrived(self) -> bool:
        """Whether all of the body is here, so that nothing is waited for."""
        return self.response.arrived

    async def next_chunk(self) -> bytes:
        """The next bytes of the body; empty at its end. Needs no loop where all of it has `arrived`."""
        if self._chunks is None:
            self._chunks = self.response.aiter_bytes(CHUNK_BYTES)
        try:
            waiting = anext(self._chunks, b"")
            chunk = await (waiting if self.arrived else self._patience.chunk(waiting))
        except VerserError as error:
            self.over = True
            if self._closed:
                raise self.library.module.StreamClosed from error
            raise self._error(error) from error
        except BaseException:
            self.over = True
            raise
        if not chunk:
            self.over = True
            if self._closed:  # by another task, in the meantime: this is not the end of the body
                raise self.library.module.StreamClosed
        return chunk

    async def close(self) -> None:
        """Ends it. What was not read is cancelled: the app learns of it."""
        self.over = self._closed = True
        if self._response is not None:
            await self._response.aclose()

    # --- Failing ----------------------------------------------------------------------------

    def _error(self, error: VerserError, headers: list[tuple[str, str]] | None = None) -> Exception:
        return client_error(
            self.library,
            error,
            connected=self._broker.connected,
            unsayable=isinstance(error, VerserProtocolError) and headers is not None and _unsayable(headers),
        )


def _unsayable(headers: list[tuple[str, str]]) -> bool:
    """Whether it is these headers that break the rules, and not what came back."""
    try:
        join_request_headers(headers)
    except VerserProtocolError:
        return True
    return False


async def _whole(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content

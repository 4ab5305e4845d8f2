"""One request without a Host: the whole body in, the whole response out, for tests and direct use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from verser2_guest_python.asgi.types import Headers
from verser2_guest_python.errors import LocalHandlerFailureError, VerserError, VerserProtocolError, error_for
from verser2_guest_python.wire.envelopes import RequestHead
from verser2_guest_python.wire.headers import HeaderMap, is_token, response_headers
from verser2_guest_python.wire.paths import check_path

from .dispatch import Dispatcher


@dataclass(frozen=True, slots=True)
class DispatchedResponse:
    """What an app answered to `VerserGuest.dispatch_routed_request`.

    `error` is set instead of a response when the app failed or broke a rule; `status_code` is 0 then.
    """

    request_id: str
    status_code: int
    headers: dict[str, str | list[str]] = field(repr=False)
    body: bytes
    error: VerserError | None


class _Buffered:
    """A `RequestExchange` that keeps the response in memory."""

    def __init__(self, head: RequestHead, body: bytes, limit: int) -> None:
        self.head = head
        self.bound = True  # the caller is this process
        self.session_id = ""
        self.received = 0
        self.at_end = False
        self.disconnected = False
        self.status = 0
        self.headers: HeaderMap = {}
        self.body = bytearray()
        self.error: VerserError | None = None
        self._request_body = body
        self._limit = limit
        self._over = asyncio.Event()

    async def read(self) -> bytes:
        data, self._request_body = self._request_body, b""
        self.received += len(data)
        self.at_end = True
        return data

    async def wait_disconnected(self) -> None:
        await self._over.wait()

    def start(self, status: int, headers: Headers, body: bytes, more: bool) -> Awaitable[None] | None:
        self.headers = response_headers(headers)
        self.status = status
        return self.send(body, more)

    def send(self, body: bytes, more: bool) -> Awaitable[None] | None:
        self.body += body
        if len(self.body) > self._limit:
            self.error = LocalHandlerFailureError(
                f"The response body is larger than max_response_bytes, which is {self._limit:,}.",
                context={"limitBytes": self._limit},
            )
            self.body.clear()
            self.disconnected = True
        if not more or self.error is not None:
            self._over.set()
        return None

    def cut(self) -> None:
        self._over.set()
        if self.error is None:
            self.error = LocalHandlerFailureError("The app failed in the middle of its response.")

    def refuse(
        self, message: str, code: str = "local-handler-failure", **context: str
    ) -> Awaitable[None] | None:
        self._over.set()
        self.error = error_for(code, message, context)
        return None


async def dispatch(
    dispatcher: Dispatcher,
    metadata: Mapping[str, Any],
    body: bytes | AsyncIterable[bytes],
    limit: int,
) -> DispatchedResponse:
    """Runs one request through the app. Raises VerserProtocolError for metadata that is no request."""
    head = _request_head(metadata)
    if not isinstance(body, (bytes, bytearray, memoryview)):
        body = b"".join([piece async for piece in body])
    exchange = _Buffered(head, bytes(body), limit)
    await dispatcher.serve(exchange)
    failed = exchange.error is not None
    return DispatchedResponse(
        request_id=head.request_id,
        status_code=0 if failed else exchange.status,
        headers={} if failed else exchange.headers,
        body=b"" if failed else bytes(exchange.body),
        error=exchange.error,
    )


def _request_head(metadata: Mapping[str, Any]) -> RequestHead:
    """The same checks as for a request envelope; header names and values are checked by the dispatcher."""
    method, path = metadata.get("method", "GET"), metadata.get("path", "/")
    headers, domain = metadata.get("headers") or {}, metadata.get("routeDomain")
    if not isinstance(method, str) or not isinstance(path, str) or not isinstance(headers, Mapping):
        raise VerserProtocolError(
            "The metadata of a request has texts as method and path, an object as headers (protocol.md §6)."
        )
    if domain is not None and not isinstance(domain, str):
        raise VerserProtocolError("The routeDomain of a request is a text (protocol.md §6).")
    if not is_token(method):
        raise VerserProtocolError("The method of a request is a token (protocol.md §6).")
    check_path(path, "The metadata of the request")
    return RequestHead(
        request_id=str(metadata.get("requestId", "direct")),
        source_id=str(metadata.get("sourceId", "direct")),
        target_id=str(metadata.get("targetId", "")),
        method=method,
        path=path,
        headers={str(name).lower(): value for name, value in headers.items()},
        route_domain=domain,
    )

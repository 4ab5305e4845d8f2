"""The body of an answer, as the stream that a client of httpx2 or httpx reads.

Apart from the call because each library insists on a class of its own here: one implementation each for
asynchronous and for plain clients, over two thin bases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self

from verser2_guest_python.errors import DisconnectedTargetError, VerserError, VerserUsageError

from .caller_body import CallerBody
from .client_call import Call
from .client_errors import client_error
from .client_library import ClientLibrary
from .sync import SyncVerserBroker


def async_body(call: Call) -> object:
    """For an `AsyncClient`."""
    return _async_type(call.library)(call)


def sync_body(call: Call, broker: SyncVerserBroker, request_body: CallerBody | None) -> object:
    """For a `Client`. While the answer is read, what is left of `request_body` is sent."""
    return _sync_type(call.library)(call, broker, request_body)


class _AsyncBody:
    def __init__(self, call: Call) -> None:
        self._call = call

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._call.next_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        await self._call.close()


class _SyncBody:
    def __init__(self, call: Call, broker: SyncVerserBroker, request_body: CallerBody | None) -> None:
        self._call = call
        self._broker = broker
        self._request_body = request_body

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._next():
            yield chunk

    def _next(self) -> bytes:
        try:
            return self._broker._run_coroutine(
                self._call.next_chunk(), self._request_body, lambda: self._call.arrived
            )
        except VerserError as error:
            raise client_error(self._call.library, error, connected=self._broker.connected) from error

    def close(self) -> None:
        try:
            if not self._call.over:
                with suppress(VerserUsageError, DisconnectedTargetError):  # the Broker is closed, and all
                    self._broker._run_coroutine(self._call.close())
        finally:
            if self._request_body is not None:
                self._request_body.close()


@lru_cache
def _async_type(library: ClientLibrary) -> Any:
    return type("VerserAsyncStream", (_AsyncBody, library.module.AsyncByteStream), {})


@lru_cache
def _sync_type(library: ClientLibrary) -> Any:
    return type("VerserSyncStream", (_SyncBody, library.module.SyncByteStream), {})

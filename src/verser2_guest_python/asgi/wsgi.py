"""WSGI as ASGI 3, through a2wsgi (extra `wsgi`): each request runs in a thread of a pool.

Apart because a thread needs what a coroutine does not: it cannot be cancelled, so whatever ends a
request early has to reach it at its next step. Nothing may leave it waiting for ever, or a few
clients that go away would use up the pool. For the same reason the request body is read here: a
client that goes away half-way is an error to the app, not the end of the body.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from verser2_guest_python.asgi.exceptions import ClientDisconnected, describe
from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send, WSGIApp
from verser2_guest_python.errors import VerserConfigurationError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DEFAULT_WSGI_THREADS: Final = 32
"""How many requests a WSGI app works on at a time; threads are started as they are needed."""

_INSTALL: Final = "pip install 'verser2-guest-python[wsgi]'"

_T = TypeVar("_T")
_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
_Write: TypeAlias = Callable[[bytes], object]


def wsgi_to_asgi3(app: WSGIApp, *, threads: int = DEFAULT_WSGI_THREADS) -> ASGIApp:
    """Serve a WSGI app (PEP 3333) as ASGI 3.

    It works on at most `threads` requests at a time; more wait. WebSockets are refused. An app whose
    request is cancelled goes on to its next chunk, and is then ended by `ClientDisconnected`.
    Raises `VerserConfigurationError` if a2wsgi is not installed.

    Example::

        asgi_app = wsgi_to_asgi3(flask_app, threads=8)
    """
    try:
        a2wsgi = importlib.import_module("a2wsgi")
    except ModuleNotFoundError as exc:
        if exc.name != "a2wsgi":
            raise
        raise VerserConfigurationError(
            f"A WSGI app needs a2wsgi, which is not installed: {_INSTALL} adds it."
        ) from exc

    current: contextvars.ContextVar[_Exchange] = contextvars.ContextVar("verser2_wsgi_exchange")

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        exchange = current.get()
        environ["wsgi.input"] = io.BufferedReader(_RequestBody(exchange))
        environ["wsgi.input_terminated"] = True  # it ends where the body ends, also without content-length
        environ["wsgi.errors"] = sys.stderr
        response = _Response(exchange, start_response)
        try:
            response.iterable = app(environ, response.start)
        except (StopIteration, SystemExit) as exc:
            # Neither may pass from a thread to the loop: one would never arrive, the other would end it
            raise RuntimeError(f"The WSGI app failed with {describe(exc)}.") from exc
        return response

    middleware = cast("ASGIApp", a2wsgi.WSGIMiddleware(guarded, workers=threads))

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await middleware(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        current.set(exchange)  # a2wsgi runs the app's thread in a copy of this context
        await exchange.run(middleware, scope)

    return asgi3


class _Exchange:
    """One request: the loop's side of a thread that must never wait in vain."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.failure: BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self._receive = receive
        self._send = send
        self._waiting: set[asyncio.Task[Any]] = set()

    async def run(self, middleware: ASGIApp, scope: Scope) -> None:
        # A task of its own: cancelling it would leave the thread behind, with nobody to take what it sends
        work = asyncio.ensure_future(middleware(scope, self.receive, self.send))
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            self._stop(ClientDisconnected("The request was cancelled."))
            work.add_done_callback(_take_exception)
            await asyncio.wait({work})
            raise
        error = work.exception()
        if self.failure is not None:
            raise self.failure
        if error is not None:
            raise error

    def check(self) -> None:
        """Raise in the app's thread what has ended the request on the loop's side."""
        if self.failure is not None:
            raise self.failure

    async def receive(self) -> Message:
        message = await self._unless_stopped(self._receive())
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("The client went away before its request was complete.")
        return message

    async def send(self, message: Message) -> None:
        if self.failure is not None:
            return  # the thread learns of it at its next step; until then someone must take what it sends
        try:
            await self._unless_stopped(self._send(message))
        except Exception as exc:  # noqa: BLE001 - raised by check() in the thread, and by run()
            self.failure = exc

    def _stop(self, failure: BaseException) -> None:
        self.failure = failure
        for task in self._waiting:
            task.cancel()

    async def _unless_stopped(self, waiting: Awaitable[_T]) -> _T:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._waiting.add(task)
        try:
            return await waiting
        except asyncio.CancelledError:
            if self.failure is None:
                raise
            task.uncancel()  # it was _stop(), to end this wait alone
            raise self.failure from None
        finally:
            self._waiting.discard(task)


def _take_exception(work: asyncio.Future[None]) -> None:
    if not work.cancelled():
        work.exception()


class _RequestBody(io.RawIOBase):
    """The request body as a file, read from the app's thread."""

    def __init__(self, exchange: _Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        self._rest = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._rest and self._more:
            exchange = self._exchange
            exchange.check()
            message = asyncio.run_coroutine_threadsafe(exchange.receive(), exchange.loop).result()
            self._rest = memoryview(message.get("body", b""))
            self._more = bool(message.get("more_body", False))
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Response:
    """What the app answers, in its thread; the head leaves with the first bytes of the body (PEP 3333)."""

    def __init__(self, exchange: _Exchange, start_response: Callable[..., Any]) -> None:
        self.iterable: Iterable[bytes] = ()
        self._exchange = exchange
        self._start_response = start_response
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._write: _Write | None = None
        self._chunks: Iterator[bytes] | None = None

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None) -> _Write:
        if exc_info is not None:
            if self._write is not None:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._head is not None:
            raise RuntimeError("start_response() was called a second time without exc_info (PEP 3333).")
        self._head = (status, list(headers))
        return self.write

    def write(self, data: bytes) -> object:
        self._exchange.check()
        return self._begin()(data)

    def _begin(self) -> _Write:
        if self._write is None:
            if self._head is None:
                raise RuntimeError("The WSGI app answered without calling start_response() (PEP 3333).")
            self._write = cast("_Write", self._start_response(*self._head))
        return self._write

    def __iter__(self) -> Iterator[bytes]:
        self._chunks = iter(self.iterable)
        return self

    def __next__(self) -> bytes:
        self._exchange.check()
        assert self._chunks is not None  # noqa: S101 - set by __iter__, for mypy
        try:
            for chunk in self._chunks:
                if chunk:
                    self._begin()
                    return chunk
                self._exchange.check()
        except SystemExit as exc:
            raise RuntimeError(f"The WSGI app failed with {describe(exc)}.") from exc
        self._begin()
        raise StopIteration

    def close(self) -> None:
        close = getattr(self.iterable, "close", None)
        if close is not None:
            close()

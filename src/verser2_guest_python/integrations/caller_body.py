"""A request body that is read in the thread of its caller, while the loop that sends it is in another.

Apart because it is the one place where a loop asks something of a thread that waits for it. A plain
iterable is the caller's code: it may block, may belong to its thread (a database cursor), and may even
call the Broker itself, so it must not run in the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from verser2_guest_python.broker.body import PIECE_BYTES, Body, Piece, Readable

from .loop_thread import Errand

Send = Callable[[Errand], None]

_END: Final = object()


def caller_body(body: Body | None) -> CallerBody | None:
    """What reads `body` in its caller's thread; None for one that the loop can have as it is."""
    if body is None or isinstance(body, bytes | bytearray | memoryview | str):
        return None
    if isinstance(body, Readable):
        return None if inspect.iscoroutinefunction(body.read) else CallerBody(body)
    if isinstance(body, Iterable) and not isinstance(body, AsyncIterable | Mapping):
        return CallerBody(body)
    return None


class CallerBody:
    """An asynchronous iterable over a plain one, whose pieces a waiting thread fetches.

    While no thread waits for the exchange, nothing is fetched: `LoopThread.run(…, body)` lends the
    caller's thread for as long as it waits anyway.
    """

    def __init__(self, source: Iterable[Piece] | Readable) -> None:
        self._iterator: Iterator[Any] = iter(_pieces(source) if isinstance(source, Readable) else source)
        self._waiting: list[Send] = []
        self._unsent: deque[Errand] = deque()
        self._lock = threading.Lock()  # held while a piece is fetched
        self._closed = threading.Event()

    # --- In the loop ------------------------------------------------------------------------

    def attach(self, send: Send) -> None:
        self._waiting.append(send)
        while self._unsent:
            send(self._unsent.popleft())

    def detach(self, send: Send) -> None:
        self._waiting.remove(send)

    def __aiter__(self) -> CallerBody:
        return self

    async def __anext__(self) -> Piece:
        loop = asyncio.get_running_loop()
        piece: asyncio.Future[Any] = loop.create_future()

        def errand() -> None:
            self._fetch(loop, piece)

        if self._waiting:
            self._waiting[-1](errand)
        else:
            self._unsent.append(errand)
        fetched = await piece
        if fetched is _END:
            raise StopAsyncIteration
        return fetched  # type: ignore[no-any-return]  # whoever sends it checks what it is

    # --- In a thread of the caller ----------------------------------------------------------

    def _fetch(self, loop: asyncio.AbstractEventLoop, piece: asyncio.Future[Any]) -> None:
        """Fetches one piece. Only an interrupt is raised here; a failure goes to whoever sends."""
        with self._lock:
            if self._closed.is_set() or piece.done():
                return
            fetched, failure = _END, None
            try:
                fetched = next(self._iterator, _END)
            except Exception as error:  # noqa: BLE001 - it is raised to the caller, through the request
                failure = error
            if self._closed.is_set():  # in the meantime, in another thread
                self._close_iterator()
        with suppress(RuntimeError):  # the loop is closed, and the request with it
            loop.call_soon_threadsafe(_settle, piece, fetched, failure)

    def close(self) -> None:
        """Nothing more is fetched. A generator is closed, as soon as it is not running."""
        self._closed.set()
        if self._lock.acquire(blocking=False):
            try:
                self._close_iterator()
            finally:
                self._lock.release()

    def _close_iterator(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def _pieces(file: Readable) -> Iterator[Any]:
    """A file in pieces. Whoever opened it closes it."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def _settle(piece: asyncio.Future[Any], fetched: object, failure: Exception | None) -> None:
    if piece.done():
        return
    if failure is None:
        piece.set_result(fetched)
    else:
        piece.set_exception(failure)

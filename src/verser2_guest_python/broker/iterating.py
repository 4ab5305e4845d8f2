"""The body of an answer as something to iterate over, by pieces or by lines.

Apart from the response, and classes instead of generators, because of how those end: one whose reading was
cancelled, or whose loop ended before its reader (`SyncVerserBroker`), is over without a word, and what was
read so far then looks like the whole body.
"""

from __future__ import annotations

from abc import abstractmethod
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from verser2_guest_python.broker.exchange import Exchange

T = TypeVar("T")
ReadPiece: TypeAlias = Callable[[], Coroutine[Any, Any, bytes]]
"""Gives the next piece of a body, an empty one at its end, and raises when it does not come to that."""


class _Items(AsyncGenerator[T, None]):
    """What both have in common: an end that comes once all is read, and is not taken for it before."""

    __slots__ = ("__weakref__", "_exchange", "_whole")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._whole = False

    @abstractmethod
    async def _next(self) -> T | None:
        """The next item; None when all is read."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._whole:
            self._exchange.resume()  # not before the first item is asked for
            item = await self._next()
            if item is not None:
                return item
            self._whole = True
        raise StopAsyncIteration

    async def asend(self, value: None, /) -> T:
        return await self.__anext__()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> T:
        await self.aclose()
        error = typ() if isinstance(typ, type) else typ
        raise (val if isinstance(val, BaseException) else error).with_traceback(tb)

    async def aclose(self) -> None:
        """Left early: the rest is of use to nobody."""
        self._exchange.end()

    def __del__(self) -> None:
        """One that was begun, and that nobody goes on with, cancels the rest.

        This may run in any thread and in the middle of anything, so the loop does it later.
        """
        exchange = self._exchange
        if exchange.awaited and not exchange.over:
            with suppress(RuntimeError):  # the loop is closed, and the session with it
                exchange.stream.session.loop.call_soon_threadsafe(exchange.end)


class BodyPieces(_Items[bytes]):
    """A body in pieces, as `read` gives them."""

    __slots__ = ("_read",)

    def __init__(self, exchange: Exchange, read: ReadPiece) -> None:
        super().__init__(exchange)
        self._read = read

    async def _next(self) -> bytes | None:
        return await self._read() or None


class BodyLines(_Items[str]):
    """A body in lines without their ends, each as soon as it is whole."""

    __slots__ = ("_begun", "_decoder", "_ended", "_lines", "_read")

    def __init__(self, exchange: Exchange, read: ReadPiece, charset: str) -> None:
        super().__init__(exchange)
        self._read = read
        self._decoder = getincrementaldecoder(charset)(errors="replace")
        self._begun: list[str] = []  # of the line that has not ended yet
        self._lines: deque[str] = deque()
        self._ended = False

    async def _next(self) -> str | None:
        while not (self._lines or self._ended):
            piece = await self._read()
            self._ended = not piece
            first, *others = self._decoder.decode(piece, final=self._ended).split("\n")
            self._begun.append(first)
            for start in others:
                self._lines.append("".join(self._begun).removesuffix("\r"))
                self._begun = [start]
            if self._ended and (rest := "".join(self._begun)):
                self._lines.append(rest)
        return self._lines.popleft() if self._lines else None

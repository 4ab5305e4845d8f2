"""The body of a request, whatever the caller has it in, as whole bytes or as pieces.

Apart from sending because it knows Python types and nothing of streams. Bytes that are there go
out at once and can be sent again; everything else is read piece by piece, as the Host takes it.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from json import dumps
from typing import Any, BinaryIO, Protocol, TextIO, TypeAlias, TypeGuard, cast, runtime_checkable

from verser2_guest_python.errors import VerserUsageError

PIECE_BYTES = 256 * 1024


@runtime_checkable
class Readable(Protocol):
    """Anything with a `read(size)`, also an asynchronous one."""

    def read(self, size: int, /) -> Any: ...


Piece: TypeAlias = bytes | bytearray | memoryview | str
Body: TypeAlias = (
    bytes
    | bytearray
    | memoryview
    | str
    | Iterable[bytes | bytearray | memoryview | str]
    | AsyncIterable[bytes | bytearray | memoryview | str]
    | BinaryIO
    | TextIO
    | Readable
)
"""The body of a request: whole, in pieces, or a file. See `VerserBroker.request`."""


def is_file(value: object) -> TypeGuard[Readable]:
    """Whether it can be read like a file; `isinstance` would miss what `tempfile` wraps (Python 3.12)."""
    return callable(getattr(value, "read", None))


class Unset:
    """The type of `UNSET`: `json=None` sends `null`, while no `json` at all sends no body."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A body: either `data`, all of it, or `pieces`, which are read once; `length` if it is known."""

    data: bytes | None
    pieces: AsyncGenerator[bytes, None] | None
    length: int | None
    content_type: str | None = None


def request_body(body: Body | None, json: object, text: str | None) -> RequestBody | None:
    """The body of a request from `body`, `json` or `text`, of which one may be given; None without any.

    Raises `VerserUsageError` for two of them at once and for what cannot be sent.
    """
    if body is None and text is None and isinstance(json, Unset):
        return None
    if (body is not None) + (text is not None) + (not isinstance(json, Unset)) > 1:
        raise VerserUsageError("Only one of body, json and text can be the body of a request.")
    if text is not None:
        return _whole(_utf8(text), "text/plain; charset=utf-8")
    if not isinstance(json, Unset):
        return _whole(_json_bytes(json), "application/json")
    if isinstance(body, bytes):
        return _whole(body)
    if isinstance(body, str):
        return _whole(_utf8(body))
    if isinstance(body, (bytearray, memoryview)):
        return _whole(bytes(body))
    if is_file(body):
        return RequestBody(None, _from_file(body), _file_length(body))
    if isinstance(body, AsyncIterable):
        return RequestBody(None, _from_async(body), None)
    if isinstance(body, Iterable) and not isinstance(body, Mapping):
        return RequestBody(None, _from_iterable(body), None)
    raise VerserUsageError(
        f"A body cannot be {type(body).__name__}: give bytes, str, a file or an iterable of bytes, or json=."
    )


def _whole(data: bytes, content_type: str | None = None) -> RequestBody:
    return RequestBody(data, None, len(data), content_type)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise VerserUsageError(f"The text of the body cannot be encoded as UTF-8: {error}.") from None


def _json_bytes(value: object) -> bytes:
    try:
        return _utf8(dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise VerserUsageError(f"The value given as json= cannot be said in JSON: {error}.") from error


def _piece(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _utf8(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise VerserUsageError(f"A piece of the body is {type(value).__name__}, not bytes or str.")


async def _from_async(source: AsyncIterable[Piece]) -> AsyncGenerator[bytes, None]:
    iterator = aiter(source)
    try:
        async for piece in iterator:
            yield _piece(piece)
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _from_iterable(source: Iterable[Piece]) -> AsyncGenerator[bytes, None]:
    iterator = iter(source)
    try:
        for piece in iterator:
            yield _piece(piece)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def _from_file(file: Readable) -> AsyncGenerator[bytes, None]:
    """Reads in a thread: a file may be a pipe, or on a slow disk. The caller closes it."""
    asynchronous = inspect.iscoroutinefunction(file.read)
    while True:
        if asynchronous:
            piece = await file.read(PIECE_BYTES)
        else:
            piece = await asyncio.to_thread(file.read, PIECE_BYTES)
            if inspect.isawaitable(piece):
                piece = await piece
        if not piece:
            return
        yield _piece(piece)


def _file_length(file: Readable) -> int | None:
    """How many bytes a file still holds, where that is certain: a plain file, or bytes in memory."""
    if isinstance(file, io.BytesIO):
        return max(0, file.getbuffer().nbytes - file.tell())
    if not isinstance(file, (io.BufferedReader, io.BufferedRandom, io.FileIO)):
        file = cast("Readable", getattr(file, "file", None))  # as tempfile wraps its files
        if not isinstance(file, (io.BufferedReader, io.BufferedRandom, io.FileIO)):
            return None
    try:
        status = os.fstat(file.fileno())
        return max(0, status.st_size - file.tell()) if stat.S_ISREG(status.st_mode) else None
    except (OSError, ValueError):
        return None

"""The body of a request as the command line says it: text, files, standard input, JSON, a form.

Apart because it is about bytes and where they come from. What is small is read before anything is
connected, so that its length can be said and it can be sent again; what is large goes from its file to
the Host piece by piece.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from json import loads
from typing import Final, TypeAlias

from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.service.calls.input import PIECE_BYTES, read_at_first, read_pieces

MAX_HELD_BYTES: Final = 1 << 20
"""A file or a pipe that holds no more is read at once, and has a length and a second time."""

FORM_TYPE: Final = "application/x-www-form-urlencoded"
JSON_TYPE: Final = "application/json"
_STANDARD_INPUT: Final = 0
_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows would else rewrite line ends


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file that is too large to be held; `length` when it was looked at."""

    path: str
    length: int


@dataclass(frozen=True, slots=True)
class PipePart:
    """What is left to be read from a descriptor, which is read once; `length` if that is known."""

    descriptor: int
    length: int | None = None


Part: TypeAlias = bytes | FilePart | PipePart
OnBytes: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A body in parts, one behind the other, and the type that it has unless somebody says another."""

    parts: tuple[Part, ...]
    content_type: str
    accept: str | None = None

    @property
    def length(self) -> int | None:
        """In bytes; None where a pipe is part of it."""
        total = 0
        for part in self.parts:
            length = len(part) if isinstance(part, bytes) else part.length
            if length is None:
                return None
            total += length
        return total

    @property
    def replayable(self) -> bool:
        """Whether it can be sent a second time."""
        return not any(isinstance(part, PipePart) for part in self.parts)

    def open(self, on_bytes: OnBytes) -> bytes | AsyncGenerator[bytes, None]:
        """The body for one attempt: bytes where all of it is at hand, else pieces, told to `on_bytes`."""
        if all(isinstance(part, bytes) for part in self.parts):
            return b"".join(part for part in self.parts if isinstance(part, bytes))
        return _pieces(self.parts, on_bytes)


def data_body(values: Sequence[str], content_type: str = FORM_TYPE) -> RequestBody:
    """The body of `-d`: text, `@FILE` or `@-`; several are joined with `&`, as curl does.

    Raises `VerserConfigurationError` for what cannot be read.
    """
    parts: list[Part] = []
    for value in values:
        if parts:
            parts.append(b"&")
        parts += read_parts(value[1:]) if value.startswith("@") else [_utf8(value)]
    return RequestBody(_joined(parts), content_type)


def json_body(value: str) -> RequestBody:
    """The body of `--json`: JSON text, `@FILE` or `@-`.

    Raises `VerserUsageError` for text that is no JSON, and `VerserConfigurationError` as `data_body`.
    """
    if not value.startswith("@"):
        try:
            loads(value)
        except (ValueError, RecursionError) as error:
            raise VerserUsageError(f"The value of --json is not JSON: {error}.") from None
    body = data_body((value,), JSON_TYPE)
    return RequestBody(body.parts, JSON_TYPE, accept=JSON_TYPE)


def read_parts(name: str) -> list[Part]:
    """What the file called `name` holds, or standard input for `-`.

    Raises `VerserConfigurationError`.
    """
    if name == "-" and sys.stdin is None:
        raise VerserConfigurationError("Standard input cannot be read: it is closed.")
    try:
        descriptor = _STANDARD_INPUT if name == "-" else os.open(name, os.O_RDONLY | _BINARY)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size > MAX_HELD_BYTES and name != "-":
            os.close(descriptor)
            return [FilePart(name, status.st_size)]
        held = read_at_first(descriptor, MAX_HELD_BYTES)
        if len(held) >= MAX_HELD_BYTES:
            return [held, PipePart(descriptor, _left(descriptor, status))]
        if descriptor != _STANDARD_INPUT:
            os.close(descriptor)
    except OSError as error:
        raise cannot_be_read(name, error) from None
    return [held]


def cannot_be_read(name: str, error: OSError) -> VerserConfigurationError:
    """The error for a file called `name`, `-` for standard input, that failed with `error`."""
    shown = "Standard input" if name == "-" else name
    return VerserConfigurationError(f"{shown} cannot be read ({error.strerror}).")


def _left(descriptor: int, status: os.stat_result) -> int | None:
    """How many bytes are left in a file, where it is one."""
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """The same with neighbouring bytes in one."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


async def _pieces(parts: tuple[Part, ...], on_bytes: OnBytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        async for piece in _pieces_of(part):
            yield piece
            on_bytes(len(piece))  # when it has been taken


async def _pieces_of(part: Part) -> AsyncGenerator[bytes, None]:
    if isinstance(part, bytes):
        for start in range(0, len(part), PIECE_BYTES):
            yield part[start : start + PIECE_BYTES]
    elif isinstance(part, FilePart):
        async for piece in _file_pieces(part):
            yield piece
    else:
        try:
            async for piece in read_pieces(part.descriptor):
                yield piece
        except OSError as error:
            raise cannot_be_read("-", error) from None


async def _file_pieces(part: FilePart) -> AsyncGenerator[bytes, None]:
    """As many bytes as were promised: a file that has changed since is an error, never a short body."""
    missing = part.length
    try:
        descriptor = os.open(part.path, os.O_RDONLY | _BINARY)
    except OSError as error:
        raise cannot_be_read(part.path, error) from None
    try:
        while missing:
            piece = await asyncio.to_thread(os.read, descriptor, min(missing, PIECE_BYTES))
            if not piece:
                raise VerserConfigurationError(f"{part.path} became shorter while it was sent.")
            missing -= len(piece)
            yield piece
    except OSError as error:
        raise cannot_be_read(part.path, error) from None
    finally:
        os.close(descriptor)

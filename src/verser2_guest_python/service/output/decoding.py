"""The content-encoding of an answer undone as it arrives: gzip, deflate, and br and zstd if there is a way.

Apart because it knows bytes and nothing of answers. What comes out is made in pieces of bounded size,
however much a few bytes expand to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final, Protocol

from verser2_guest_python.errors import StreamFailureError, VerserError

PIECE_BYTES: Final = 65_536
_GZIP_START: Final = 0x1F
_IDENTITY: Final = frozenset({"", "identity"})
_LEFT: Final = ": it is left as it came."
_RAW_HINT: Final = "--raw writes it as it came"


class UnknownEncoding(Exception):
    """The body is encoded in a way that cannot be undone here; says what is missing."""


class _Engine(Protocol):
    """One encoding being undone."""

    @property
    def complete(self) -> bool:
        """Whether the encoded data has come to its end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in pieces."""


class Decoder:
    """Undoes the encodings of one body, the last one first (RFC 9110 §8.4)."""

    def __init__(self, names: list[str], engines: list[_Engine]) -> None:
        self._names = names
        self._engines = engines
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds to the body. Raises `VerserError` where it is not what it claims to be."""
        self._begun = self._begun or bool(data)
        yield from self._through(0, data)

    def finish(self) -> None:
        """The encoded body has ended: raises `StreamFailureError` if it was cut off before its own end."""
        for name, engine in zip(self._names, self._engines, strict=True):
            if self._begun and not engine.complete:
                raise StreamFailureError(f"The {name} body of the answer ends too early; {_RAW_HINT}.")

    def _through(self, position: int, data: bytes) -> Iterator[bytes]:
        if position == len(self._engines):
            if data:
                yield data
            return
        pieces = self._engines[position].feed(data)
        while True:
            try:
                piece = next(pieces, None)
            except Exception as error:  # every engine has errors of its own  # noqa: BLE001
                raise VerserError(
                    f"The body of the answer is not {self._names[position]} ({error}); {_RAW_HINT}."
                ) from None
            if piece is None:
                return
            yield from self._through(position + 1, piece)


def decoder_for(content_encoding: str) -> Decoder | None:
    """What undoes the value of a `content-encoding` field; None where there is nothing to undo.

    Raises `UnknownEncoding`.
    """
    names = [name for part in content_encoding.lower().split(",") if (name := part.strip()) not in _IDENTITY]
    if not names:
        return None
    names.reverse()
    return Decoder(names, [_engine(name) for name in names])


def decodable_encodings() -> tuple[str, ...]:
    """What can be undone here, for an `accept-encoding` field."""
    names = ["gzip", "deflate"]
    names += [name for name, modules in _OPTIONAL.items() if any(_installed(module) for module in modules)]
    return tuple(names)


def _engine(name: str) -> _Engine:
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    if name == "deflate":
        return _Deflate()
    modules = _OPTIONAL.get(name)
    if modules is None:
        raise UnknownEncoding(
            f"The body is encoded as {name!r}, which is not known here: it is left as it came."
        )
    for module in modules:
        if _installed(module):
            return (_Brotli if name == "br" else _Zstd)(import_module(module))
    raise UnknownEncoding(f"The body is encoded as {name}, which needs the package {modules[-1]}{_LEFT}")


class _Gzip:
    """gzip, of one member or of several (RFC 1952 §2.2); what follows the last one is left out."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._foreign = False

    @property
    def complete(self) -> bool:
        return self._member.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._foreign:
            if self._member.eof:
                if data[0] != _GZIP_START:
                    self._foreign = True
                    return
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            yield from _inflate(self._member, data)
            data = self._member.unused_data


class _Deflate:
    """deflate, which is zlib's format (RFC 9110 §8.4.1.2), though some servers leave its header out."""

    def __init__(self) -> None:
        self._start = b""
        self._inner: Any = None

    @property
    def complete(self) -> bool:
        return self._inner is not None and self._inner.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return
            with_header = data[0] & 0x0F == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS)
        yield from _inflate(self._inner, data)


def _inflate(inner: Any, data: bytes) -> Iterator[bytes]:
    """All that `data` gives, in pieces; a full piece may have left more inside, without any input."""
    full = True
    while not inner.eof and (data or full):
        piece = inner.decompress(data, PIECE_BYTES)
        data = inner.unconsumed_tail
        full = len(piece) == PIECE_BYTES
        if piece:
            yield piece


class _Brotli:
    """br by one of the two packages that can (RFC 7932), which can be held to a size since version 1.2."""

    def __init__(self, module: Any) -> None:
        self._inner = module.Decompressor()
        if not hasattr(self._inner, "can_accept_more_data"):
            raise UnknownEncoding(
                f"The body is encoded as br, which needs {module.__name__} 1.2 or newer{_LEFT}"
            )

    @property
    def complete(self) -> bool:
        return bool(self._inner.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inner.process(data, output_buffer_limit=PIECE_BYTES)
            data = b""
            if piece:
                yield piece
            wants_more = len(piece) < PIECE_BYTES and self._inner.can_accept_more_data()
            if wants_more or self._inner.is_finished():
                return


class _Zstd:
    """zstd by the standard library of Python 3.14, or the package that brings it to older ones."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._frame = module.ZstdDecompressor()

    @property
    def complete(self) -> bool:
        return bool(self._frame.eof)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._frame.eof:
                if not data:
                    return
                self._frame = self._module.ZstdDecompressor()  # a body may be several frames (RFC 8878 §3.1)
            piece = self._frame.decompress(data, PIECE_BYTES)
            data = self._frame.unused_data if self._frame.eof else b""
            if piece:
                yield piece
            if not data and (self._frame.eof or self._frame.needs_input):
                return


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


# Encodings that an interpreter or a package may bring; the last one is what people are told to install.
_OPTIONAL: Final = MappingProxyType(
    {"br": ("brotlicffi", "brotli"), "zstd": ("compression.zstd", "backports.zstd")}
)

"""A kept body as it can be looked at: what it is, and its bytes without their encoding.

Apart because a body is the least trusted thing here: whatever it claims to be, what leaves this module
is text, an image of a known kind, or bytes that nobody interprets.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from verser2_guest_python.errors import VerserError
from verser2_guest_python.service.inspector.record import Body
from verser2_guest_python.service.output.colour import Palette
from verser2_guest_python.service.output.decoding import UnknownEncoding, decoder_for
from verser2_guest_python.service.output.json_text import is_json, pretty_json

MAX_DECODED_BYTES: Final = 262_144
"""What a body may expand to when its content-encoding is undone."""

IMAGES: Final = frozenset(
    {
        "image/apng",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/svg+xml",
        "image/webp",
        "image/x-icon",
        "image/vnd.microsoft.icon",
    }
)
TEXT_TYPE: Final = "text/plain; charset=utf-8"
BYTES_TYPE: Final = "application/octet-stream"
_TEXTUAL: Final = re.compile(
    r"text/|application/(?:.*\+)?(?:json|xml|javascript|ecmascript|x-www-form-urlencoded|graphql|x-ndjson|yaml|toml)$"
)
_CHARSET: Final = re.compile(r'charset\s*=\s*"?([A-Za-z0-9_.:-]{1,40})', re.IGNORECASE)
# Python has codecs beyond these that are no charsets, or slow.
_CHARSETS: Final = re.compile(
    r"utf-?(8|16|32)(-?[bl]e)?|(us-)?ascii|iso-?8859-\d+|latin-?\d+|(windows-|cp)125\d|koi8-[ru]|gbk|gb2312"
    r"|gb18030|big5|euc-(jp|kr)|shift[_-]jis|iso-2022-jp",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a browser is given: bytes, and what it may take them for."""

    kind: str
    content_type: str
    data: bytes


def body_view(body: Body, headers: Mapping[str, str]) -> dict[str, Any]:
    """A body in words; `kind` is `none`, `json`, `text`, `image` or `binary`."""
    return {
        "kind": _kind(body, headers),
        "type": headers.get("content-type", ""),
        "encoding": headers.get("content-encoding", ""),
        "size": body.size,
        "kept": len(body.kept),
        "cut": body.cut,
    }


def shown(body: Body, headers: Mapping[str, str]) -> Shown:
    """A body as it is served. JSON is indented where all of it is there."""
    data, decoded = _decoded(body, headers)
    kind = _kind(body, headers)
    if not decoded:
        return Shown("binary", BYTES_TYPE, data)
    content_type = _media_type(headers)
    if kind == "image":
        return Shown(kind, content_type, data)
    if kind == "binary":
        return Shown(kind, BYTES_TYPE, data)
    if kind == "json":
        pretty = pretty_json(data, Palette(on=False))
        if pretty is not None:
            return Shown(kind, TEXT_TYPE, pretty.encode("utf-8", "replace"))
    return Shown(kind, TEXT_TYPE, _text(data, headers).encode("utf-8", "replace"))


def _kind(body: Body, headers: Mapping[str, str]) -> str:
    if not body.size:
        return "none"
    media_type = _media_type(headers)
    if media_type in IMAGES:
        return "image"
    if is_json(media_type):
        return "json"
    if _TEXTUAL.match(media_type):
        return "text"
    if not media_type and "content-encoding" not in headers:
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(bytes(body.kept))
        except UnicodeDecodeError:
            return "binary"
        return "binary" if _CONTROL.search(text) else "text"
    return "binary"


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _decoded(body: Body, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """The bytes without their content-encoding, as far as they go, and whether that could be undone."""
    kept = bytes(body.kept)
    try:
        decoder = decoder_for(headers.get("content-encoding", ""))
    except UnknownEncoding:
        return kept, False
    if decoder is None:
        return kept, True
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in decoder.feed(kept):
            pieces.append(piece[: MAX_DECODED_BYTES - size])
            size += len(pieces[-1])
            if size >= MAX_DECODED_BYTES:
                break
    except VerserError:
        if not pieces:
            return kept, False
    return b"".join(pieces), True


def _text(data: bytes, headers: Mapping[str, str]) -> str:
    match = _CHARSET.search(headers.get("content-type", ""))
    name = match[1] if match is not None else "utf-8"
    try:
        return data.decode(name if _CHARSETS.fullmatch(name) else "utf-8", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")

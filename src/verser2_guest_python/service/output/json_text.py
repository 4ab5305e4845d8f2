"""JSON as people read it on a terminal: indented, coloured, and otherwise exactly as it was written.

Apart because it works on the text: numbers keep their digits, keys their order and their number, and a
string shows nothing that could drive the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json import loads
from typing import Final

from verser2_guest_python.service.output.colour import Palette

MAX_SHOWN_BYTES: Final = 1 << 20
"""What is longer is written as it came: nobody reads it, and it would have to be held."""

_INDENT: Final = "  "
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_NUMBER_START: Final = frozenset("-0123456789")


def is_json(content_type: str) -> bool:
    """Whether a `content-type` says that the body is one JSON value (RFC 6839 §3.1 for `+json`)."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def pretty_json(body: bytes, palette: Palette) -> str | None:
    """`body` in lines that end with a newline; None where it is not JSON."""
    try:
        text = body.decode("utf-8-sig")
        loads(text)
    except (ValueError, RecursionError):
        return None
    out: list[str] = []
    nested: list[str] = []
    previous = ""
    for symbol in _TOKEN.findall(text):
        if symbol in "}]":
            nested.pop()
            if previous not in ("{", "["):
                out.append(_line(nested))
            out.append(symbol)
        else:
            if previous in ("{", "["):
                out.append(_line(nested))
            if symbol == ",":
                out.append("," + _line(nested))
            elif symbol == ":":
                out.append(": ")
            else:
                is_key = bool(nested) and nested[-1] == "{" and previous in ("{", ",")
                out.append(_painter(symbol, palette, is_key=is_key)(_safe(symbol)))
            if symbol in ("{", "["):
                nested.append(symbol)
        previous = symbol
    out.append("\n")
    return "".join(out)


def _line(nested: list[str]) -> str:
    return "\n" + _INDENT * len(nested)


def _painter(token: str, palette: Palette, *, is_key: bool) -> Callable[[str], str]:
    if is_key:
        return palette.key
    if token[0] == '"':
        return palette.string
    if token[0] in _NUMBER_START:
        return palette.number
    return palette.plain if token in ("{", "[") else palette.literal


def _safe(token: str) -> str:
    """What a terminal must not see raw stands as the escape that JSON has for it."""
    if token.isprintable():
        return token
    return "".join(character if character.isprintable() else _escaped(character) for character in token)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))

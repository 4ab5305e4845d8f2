"""Strict JSON in and out: one object from bytes, compact text from values.

It stands apart because the parser of the standard library is lenient where a wire must not be (NaN,
numbers without end, lone surrogates) and recurses. Here it is fenced in, in a way that costs an
ordinary message next to nothing.

Of a key that occurs twice the last one counts, as for deployed Hosts (`JSON.parse`): all peers must
read one text alike.
"""

from __future__ import annotations

import json
import math
import re
from json.encoder import encode_basestring
from typing import Any, Final, NoReturn

from verser2_guest_python.errors import VerserProtocolError

from .excerpt import excerpt
from .limits import MAX_JSON_CONTAINERS, MAX_JSON_DEPTH, MAX_JSON_NUMBER_CHARS

_WHITESPACE: Final = " \t\n\r"
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_STRING: Final = re.compile(rb'"[^"]*"')
_ALL_BUT_STRUCTURE: Final = bytes(set(range(256)) - set(b'[]{}"'))


class _Refused(ValueError):
    """What the hooks below raise: JSON that the standard library takes and the wire does not."""


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_JSON_NUMBER_CHARS:
        raise _Refused(f"it holds a number of {len(digits):,} characters")
    return int(digits)


def _parse_float(digits: str) -> float:
    if len(digits) > MAX_JSON_NUMBER_CHARS:
        raise _Refused(f"it holds a number of {len(digits):,} characters")
    number = float(digits)
    if not math.isfinite(number):
        raise _Refused(f"it holds the number {digits}, which is too large")
    return number


def _parse_constant(name: str) -> NoReturn:
    raise _Refused(f"it holds {name}, which is not JSON")


_parse = json.JSONDecoder(
    parse_int=_parse_int, parse_float=_parse_float, parse_constant=_parse_constant
).raw_decode


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """The one JSON object that `data` holds.

    Args:
        data: UTF-8, without byte order mark.
        what: what the text is, at the beginning of an error message: `"Registration"`.

    Raises:
        VerserProtocolError: it is not UTF-8, not JSON, or not an object; it nests deeper than 32
            levels, holds a number of more than 64 characters or none that JSON knows, or half of a
            surrogate pair.
    """
    # Braces in strings count too, so this only tells that the text is harmless: nearly always.
    if data.count(b"{") + data.count(b"[") > MAX_JSON_DEPTH:
        _check_structure(data, what)
    try:
        text = data.decode().strip(_WHITESPACE)
        value, end = _parse(text)
        if end != len(text):
            reason = f"text follows after its end at character {end:,}"
        elif type(value) is not dict:
            raise VerserProtocolError(f"{what} is not a JSON object but {excerpt(value)}.")
        elif "\\u" in text and _SURROGATE_ESCAPE.search(text) and _has_lone_surrogate(value):
            reason = "a text in it holds half of a surrogate pair"
        else:
            return value
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 at byte {error.start:,}"
    except json.JSONDecodeError as error:
        bom = error.doc.startswith("\ufeff")
        reason = "it begins with a byte order mark" if bom else f"{error.msg} at character {error.pos:,}"
    except _Refused as error:
        reason = str(error)
    # Raised out here, so that no text, which may hold secrets, hangs on the error as its context.
    raise VerserProtocolError(f"{what} is not valid JSON: {reason}.")


def _check_structure(data: bytes, what: str) -> None:
    """Refuses JSON that nests too deep or holds too many containers, before it is parsed."""
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    bare = bare.translate(None, _ALL_BUT_STRUCTURE).replace(b'""', b"")
    bare = _STRING.sub(b"", bare)
    if bare.count(b"{") + bare.count(b"[") > MAX_JSON_CONTAINERS:
        raise VerserProtocolError(f"{what} holds more than {MAX_JSON_CONTAINERS:,} objects and arrays.")
    depth = 0
    for byte in bare:
        depth += 1 if byte in b"[{" else -1
        if depth > MAX_JSON_DEPTH:
            raise VerserProtocolError(f"{what} nests deeper than {MAX_JSON_DEPTH} levels.")
        if depth <= 0:
            return  # the outermost value is complete: a parser looks no further


def _has_lone_surrogate(value: object) -> bool:
    """Whether any text in a parsed value cannot be written as UTF-8."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if _SURROGATE.search(item):
                return True
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False


_encode = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode
_encode_ascii = json.JSONEncoder(
    ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def dump(value: object) -> bytes:
    """A value as compact JSON in UTF-8.

    Raises:
        VerserProtocolError: JSON cannot say it (NaN, half of a surrogate pair, bytes, …).
    """
    try:
        return _encode(value).encode()
    except UnicodeEncodeError as error:
        reason = f"a text in it holds half of a surrogate pair at character {error.start:,}"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise VerserProtocolError(f"The value cannot be said in JSON: {reason}.")


def dump_text(text: str) -> bytes:
    """One text as a JSON string in UTF-8, quotes included. Faster than `dump`.

    Raises:
        VerserProtocolError: it holds half of a surrogate pair, or is no text.
    """
    try:
        return encode_basestring(text).encode()
    except TypeError:
        reason = f"it is {excerpt(text)}, where a text is due"
    except UnicodeEncodeError as error:
        reason = f"it holds half of a surrogate pair at character {error.start:,}"
    raise VerserProtocolError(f"The text cannot be said in JSON: {reason}.")


def dump_ascii(value: object) -> str:
    """A value as compact JSON in which every character is ASCII, as header fields need it.

    Raises:
        VerserProtocolError: JSON cannot say it.
    """
    try:
        return _encode_ascii(value)
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise VerserProtocolError(f"The value cannot be said in JSON: {reason}.")

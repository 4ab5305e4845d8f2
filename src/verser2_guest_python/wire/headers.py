"""Header rules: what may be in a header, which ones end at each hop, and how repeated ones are said.

They stand apart because all three roles need the same ones in different directions (protocol.md §6,
§7, §13): fields of an ASGI app become response metadata, request metadata becomes fields for an app,
a Broker's pairs become one flat map. Bytes and text map by Latin-1.

Errors name the header and the character, never the value: it may be a cookie or a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from verser2_guest_python.errors import VerserProtocolError

from .excerpt import code_point, excerpt
from .names import OWN_FIELD_PREFIX

HeaderMap: TypeAlias = dict[str, str | list[str]]
"""Response headers: lower-case names, an array exactly where a name occurs more than once (§6)."""

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one connection only and are never passed on (protocol.md §6)."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_FIELD_VALUE: Final = re.compile("[\t\x20-\x7e\x80-\xff]*")  # protocol.md §6, in Latin-1
_BAD_CHARACTER: Final = re.compile("[^\t\x20-\x7e\x80-\xff]")
_WHITESPACE: Final = " \t"  # RFC 9110 §5.6.3

# A comma that ends one set-cookie value: a cookie's name and `=` follow. Quoted values are skipped.
_COOKIE_BOUNDARY: Final = re.compile(
    r"""="[^"]*"(?=[ \t]*(?:[;,]|$))|(,)[ \t]*(?=[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]*=)"""
)

_CACHED_NAMES: Final = 1_024
_LONGEST_CACHED_NAME: Final = 64


def is_token(name: str) -> bool:
    """Whether a text is a token (RFC 9110 §5.6.2): a header name, a method, a cookie name."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: str) -> bool:
    """Whether a text may be a header value: Latin-1, and no control character but the tab."""
    return _FIELD_VALUE.fullmatch(value) is not None


def response_headers(fields: Fields) -> HeaderMap:
    """The fields of an app's response as response metadata (protocol.md §6).

    Names turn lower-case, whitespace around values goes, hop-by-hop headers and those that a
    `connection` header lists are dropped, and a repeated name gets an array.

    Raises:
        VerserProtocolError: a name is no token, a value holds a control character, or either is
            not bytes. The message names the header.

    Example:
        response_headers([(b"Content-Type", b"text/plain"), (b"x", b"1"), (b"x", b"2")])
        # {"content-type": "text/plain", "x": ["1", "2"]}
    """
    headers: HeaderMap = {}
    listed: list[str] | None = None
    try:
        for raw_name, raw_value in fields:
            name = (_cached_name if len(raw_name) <= _LONGEST_CACHED_NAME else _name)(raw_name)
            value = str(raw_value, "latin-1").strip(_WHITESPACE)
            # Cheaper than a match, and true of nearly all: no tab, no control, no odd Latin-1.
            if not value.isprintable():
                _check_value(name, value)
            if name in headers:
                earlier = headers[name]
                if isinstance(earlier, list):
                    earlier.append(value)
                else:
                    headers[name] = [earlier, value]
            elif name not in HOP_BY_HOP:
                headers[name] = value
            elif name == "connection":
                listed = [] if listed is None else listed
                listed.extend(_list_items(value))
    except (TypeError, ValueError, AttributeError):
        # Only what is no pair of bytes gets here. Told apart below, outside of this handler.
        headers = {}
    else:
        if listed:
            for name in listed:
                headers.pop(name, None)
        return headers
    raise VerserProtocolError("A response header is not a pair of byte strings.")


def response_fields(headers: Mapping[str, object], *, join: bool = False) -> list[tuple[bytes, bytes]]:
    """Response metadata as the fields of an HTTP/2 answer: what a Host sends to a Broker.

    Drops hop-by-hop headers, those that a `connection` header lists, and `x-verser-*`, which an app
    must not forge (protocol.md §14). Values of an array stay apart.

    Args:
        headers: names to texts or arrays of texts, as metadata has them.
        join: join the values of an array with `,` instead, as deployed Hosts do.

    Raises:
        VerserProtocolError: a name or a value is not what HTTP allows. The message names the header.
    """
    fields: list[tuple[bytes, bytes]] = []
    listed: set[bytes] | None = None
    for given, value in headers.items():
        name = _field_name(given)
        if name is None:
            if given.lower() == "connection":
                listed = listed or set()
                for item in value if isinstance(value, list) else [value]:
                    listed.update(entry.encode() for entry in _list_items(_value_text(given, item)))
        elif name.startswith(OWN_FIELD_PREFIX):
            continue
        elif not isinstance(value, list):
            fields.append((name, _value_bytes(given, value)))
        elif join and value:
            fields.append((name, b",".join([_value_bytes(given, item) for item in value])))
        else:
            fields.extend((name, _value_bytes(given, item)) for item in value)
    if listed:
        return [field for field in fields if field[0] not in listed]
    return fields


def request_fields(headers: Mapping[str, object]) -> list[tuple[bytes, bytes]]:
    """Request metadata as fields for an ASGI app: lower-case names, Latin-1 bytes (protocol.md §6).

    Hop-by-hop headers go, `te` and `transfer-encoding` among them, which deployed Hosts pass on
    (protocol.md §13), and so does what a `connection` header lists.

    Raises:
        VerserProtocolError: a name is no token, or a value is no text or not what HTTP allows. The
            message names the header.
    """
    fields: list[tuple[bytes, bytes]] = []
    listed: set[bytes] | None = None
    for given, value in headers.items():
        name = _field_name(given)
        if name is not None:
            fields.append((name, _value_bytes(given, value)))
        elif given.lower() == "connection":
            listed = listed or set()
            listed.update(item.encode() for item in _list_items(_value_text(given, value)))
    if listed:
        return [field for field in fields if field[0] not in listed]
    return fields


def join_request_headers(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A caller's header pairs as one flat map, as a Broker sends it (protocol.md §6, §7).

    Names turn lower-case, hop-by-hop headers and those that `connection` lists go, several values of
    one name are joined with `,`, those of `cookie` with `; ` (RFC 9113 §8.2.3).

    Raises:
        VerserProtocolError: a name is no token, or a value is no text or not what HTTP allows. The
            message names the header.
    """
    headers: dict[str, str] = {}
    listed: list[str] = []
    for given, value in items:
        raw_name = _field_name(given)
        text = _value_text(given, value)
        name = given.lower()
        if raw_name is None:
            if name == "connection":
                listed.extend(_list_items(text))
        elif name in headers:
            headers[name] += ("; " if name == "cookie" else ",") + text
        else:
            headers[name] = text
    for name in listed:
        headers.pop(name, None)
    return headers


def split_cookies(joined: str) -> list[str]:
    """The `set-cookie` values that a Host joined with `,` (protocol.md §6).

    A comma parts two cookies where a cookie name and `=` follow it; the comma in
    `Expires=Wed, 21 Oct 2026 07:28:00 GMT` and commas inside a quoted value do not.

    Example:
        split_cookies("a=1; Path=/,b=2")  # ["a=1; Path=/", "b=2"]
    """
    cookies = []
    start = 0
    for match in _COOKIE_BOUNDARY.finditer(joined):
        if match[1]:
            cookies.append(joined[start : match.start()])
            start = match.end()
    cookies.append(joined[start:])
    return [cookie for cookie in (part.strip(_WHITESPACE) for part in cookies) if cookie]


def header_block_bytes(fields: Fields) -> int:
    """The size of a header block as RFC 9113 §6.5.2 counts it: 32 bytes more for each field."""
    return sum(len(name) + len(value) + 32 for name, value in fields)


def _list_items(value: str) -> list[str]:
    """The names in a `connection` header."""
    return [name for name in (item.strip(_WHITESPACE).lower() for item in value.split(",")) if is_token(name)]


def _name(raw: bytes) -> str:
    """An app's header name in lower case."""
    name = str(raw, "latin-1")
    if not is_token(name):
        raise VerserProtocolError(f"The header name {excerpt(name)} is not a token (RFC 9110 §5.6.2).")
    return name.lower()


def _name_bytes(name: str) -> bytes | None:
    """A header name from metadata in lower case; None for a hop-by-hop header."""
    if not is_token(name):
        raise VerserProtocolError(f"The header name {excerpt(name)} is not a token (RFC 9110 §5.6.2).")
    lower = name.lower()
    return None if lower in HOP_BY_HOP else lower.encode("ascii")


# Names repeat, so what they come to is remembered: few of them, short ones, and never a value.
_cached_name = lru_cache(_CACHED_NAMES)(_name)
_cached_name_bytes = lru_cache(_CACHED_NAMES)(_name_bytes)


def _field_name(given: object) -> bytes | None:
    """A header name in lower case, remembered if it is short; None for a hop-by-hop header."""
    if isinstance(given, str):
        return _cached_name_bytes(given) if len(given) <= _LONGEST_CACHED_NAME else _name_bytes(given)
    raise VerserProtocolError(f"A header name is {excerpt(given)}, where a text is due.")


def _value_text(name: str, value: object) -> str:
    """A header value without whitespace around it."""
    if not isinstance(value, str):
        raise VerserProtocolError(f"The value of header {excerpt(name)} is {_kind(value)}, not a text.")
    text = value.strip(_WHITESPACE)
    if not (text.isascii() and text.isprintable()):
        _check_value(name, text)
    return text


def _value_bytes(name: str, value: object) -> bytes:
    return _value_text(name, value).encode("latin-1")


def _kind(value: object) -> str:
    return "a number" if isinstance(value, int | float) else excerpt(value)


def _check_value(name: str, value: str) -> None:
    bad = _BAD_CHARACTER.search(value)
    if bad is None:
        return
    if bad[0] > "\xff":
        raise VerserProtocolError(
            f"The value of header {excerpt(name)} holds {code_point(bad[0])}, which is beyond Latin-1: "
            "percent-encode it."
        )
    raise VerserProtocolError(
        f"The value of header {excerpt(name)} holds the control character {code_point(bad[0])}."
    )

"""The headers of a response, as the caller reads them: a dict of strings that forgets nothing.

Apart because most callers want one string for a name, some want every field, and a Host may have
joined what was several (protocol.md §6): cookies cannot be told apart again by a plain split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import overload

from verser2_guest_python.http2 import Fields
from verser2_guest_python.wire.headers import split_cookies

_SET_COOKIE = "set-cookie"


class ResponseHeaders(Mapping[str, str]):
    """Response headers: names in any case, values as text (Latin-1).

    As a mapping, a name that came more than once gives its values joined with `, `;
    `get_list` gives them one by one, `multi_items` everything in order. Example::

        response.headers["content-type"]
        response.headers.get_list("set-cookie")
    """

    __slots__ = ("_items", "_joined")

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._items = tuple((name.lower(), value) for name, value in items)
        self._joined: dict[str, str] = {}
        for name, value in self._items:
            self._joined[name] = f"{self._joined[name]}, {value}" if name in self._joined else value

    def __getitem__(self, name: str) -> str:
        return self._joined[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._joined)

    def __len__(self) -> int:
        return len(self._joined)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._joined

    def __repr__(self) -> str:
        return f"ResponseHeaders({list(self._items)!r})"

    def __eq__(self, other: object) -> bool:
        """Equal to other headers with the same fields, and to a mapping with the same joined values."""
        if isinstance(other, ResponseHeaders):
            return self._items == other._items
        if isinstance(other, Mapping):
            return self._joined == {str(name).lower(): value for name, value in other.items()}
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to mappings, which have no hash either

    @overload
    def get_list(self, name: str) -> list[str]: ...
    @overload
    def get_list(self, name: str, default: list[str]) -> list[str]: ...
    def get_list(self, name: str, default: list[str] | None = None) -> list[str]:
        """Each value of a repeated field, in order; `default` (an empty list) when there is none."""
        wanted = name.lower()
        if wanted not in self._joined:
            return [] if default is None else default
        return [value for known, value in self._items if known == wanted]

    def multi_items(self) -> list[tuple[str, str]]:
        """Every field as `(name, value)`, in the order in which they came."""
        return list(self._items)


def response_headers(fields: Fields) -> ResponseHeaders:
    """The headers in the fields of an answer; cookies that a Host joined are split again."""
    items: list[tuple[str, str]] = []
    for raw_name, raw_value in fields:
        if raw_name[:1] == b":":
            continue
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name == _SET_COOKIE:
            items.extend((name, cookie) for cookie in split_cookies(value))
        else:
            items.append((name, value))
    return ResponseHeaders(items)

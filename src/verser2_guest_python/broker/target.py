"""The URL of a request: which domain it goes to, and the request target as it goes over the wire.

Apart because a URL comes from a caller (a mistake is theirs, told as `VerserUsageError`), while
what leaves must be ASCII and percent-encoded, or a deployed Host ends the session (protocol.md §13).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.wire.domains import normalize_domain

HTTP_SCHEMES = frozenset({"http", "https"})
WEBSOCKET_SCHEMES = frozenset({"ws", "wss", *HTTP_SCHEMES})
# What may stand in a path and query (RFC 3986 §3.3, §3.4), and `%`: escapes that are there already stay.
# Everything else is encoded as UTF-8.
_SAFE = "/?:@-._~!$&'()*+,;=%[]"
_PLAIN = re.compile(r"[/?:@\-._~!$&'()*+,;=%\[\]0-9A-Za-z]*")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[!$&'()*+,;=\-._~%0-9A-Za-z]+)(?::[0-9]{0,5})?")
_EXAMPLE = "write it as http://domain/path, https://domain/path or domain/path"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    `authority` is what the `host` header says (with a port, if the URL has one), `domain` is what
    routes are matched with, `path` is path and query in ASCII.
    """

    authority: str
    domain: str
    path: str


def parse_target(
    url: str, route_domain: str | None = None, schemes: Collection[str] = HTTP_SCHEMES
) -> Target:
    """The target of `url`; with `route_domain` the route is that domain's, and a bare path will do.

    Raises `VerserUsageError` that says what is wrong with the URL.
    """
    if not url:
        raise VerserUsageError(f"The URL of the request is empty: {_EXAMPLE}.")
    scheme, separator, rest = url.partition("://")
    absolute = bool(separator) and scheme.isalnum()  # else the :// is somewhere in a query
    if absolute and scheme.lower() not in schemes:
        what = (
            "a WebSocket goes to ws:// or wss://"
            if "ws" in schemes
            else "a request goes to http:// or https://"
        )
        if scheme.lower() in WEBSOCKET_SCHEMES and "ws" not in schemes:
            what += ", and a WebSocket is opened with `broker ws` or websocket()"
        raise VerserUsageError(f"The URL {url!r} begins with {scheme}://: {what}.")
    rest = (rest if absolute else url).partition("#")[0]
    cut = _first_of(rest, "/?")
    authority, path = rest[:cut], rest[cut:]
    if authority == "*" and not path:  # `*` is the target of OPTIONS for the whole server (RFC 9110 §9.3.7)
        authority, path = "", "*"
    if not authority:
        if absolute or route_domain is None:
            raise VerserUsageError(f"The URL {url!r} names no domain: {_EXAMPLE}.")
        authority = route_domain
    authority = _ascii_authority(authority, url)
    if route_domain is None or route_domain == authority:
        domain = normalize_domain(authority)
    else:
        domain = normalize_domain(_ascii_authority(route_domain, route_domain))
    return Target(authority, domain, _ascii_path(path, url))


def _first_of(text: str, marks: str) -> int:
    positions = [position for mark in marks if (position := text.find(mark)) >= 0]
    return min(positions, default=len(text))


def _ascii_authority(authority: str, url: str) -> str:
    """The authority in ASCII: international names in their `xn--` form."""
    if "@" in authority:
        raise VerserUsageError(
            "The URL of the request holds a user name or a password: pass them in the authorization header."
        )
    if not authority.isascii():
        name, colon, port = authority.partition(":")
        try:
            authority = name.encode("idna").decode("ascii") + colon + port
        except UnicodeError:
            raise VerserUsageError(f"The URL {url!r} holds a domain that DNS cannot say: {name!r}.") from None
    if not _AUTHORITY.fullmatch(authority):
        raise VerserUsageError(f"The URL {url!r} has no usable domain ({authority!r}): {_EXAMPLE}.")
    return authority


def _ascii_path(path: str, url: str) -> str:
    """Path and query, percent-encoded where they are not ASCII yet; escapes that are there stay."""
    if path[:1] != "/" and path != "*":
        path = f"/{path}"
    if not _PLAIN.fullmatch(path):
        try:
            path = quote(path, safe=_SAFE)
        except UnicodeEncodeError:
            raise VerserUsageError(f"The URL {url!r} holds half a character (a lone surrogate).") from None
    return path

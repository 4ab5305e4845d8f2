"""Proxy headers: who the client was and what it asked for, as the proxies on its way say.

Apart from the scopes because it is a question of trust: anybody may send these headers, so none is read
unless `proxy_headers` is on, and then of a list only the last entry, which the nearest proxy wrote.

    scheme   x-forwarded-proto, or `proto` of forwarded
    client   x-forwarded-for, or `for` of forwarded (RFC 7239)
    host     x-forwarded-host, or `host` of forwarded

A proxy that writes one family passes the other one on as it came from the client. So `forwarded` counts
only where there is neither x-forwarded-for nor x-forwarded-proto. (x-forwarded-host tells nothing here:
a Host writes it by itself, protocol.md §6.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from .types import Headers, Scope

_FOR, _PROTO, _HOST, _FORWARDED = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"
_NAMES: Final = frozenset((_FOR, _PROTO, _HOST, _FORWARDED))
_SECURE: Final = {"http": False, "ws": False, "https": True, "wss": True}
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_NODE: Final = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}|_[A-Za-z0-9._\-]+))?")

# RFC 7239 §4: pairs are parted by semicolons, elements by commas, and both may stand in a quoted string
_PAIR: Final = re.compile(r'[ \t]*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",; \t]*))[ \t]*(?:;|$)')
_ELEMENT: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])+')
_ESCAPE: Final = re.compile(r"\\(.)")
_MAX_FORWARDED_CHARS: Final = 4_096  # far more than proxies write


class ProxyHeaders:
    """Whose proxy headers are believed, and what they fill in.

    `allowed` holds the ids of those who are believed; without any, or with `*`, everybody is.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        names = frozenset(allowed)
        self.allowed = frozenset() if "*" in names else names

    def apply(self, scope: Scope, source: str | None) -> None:
        """Fills `scheme`, `client` and the `host` header of a scope, if `source` is believed.

        `source` is who passed the request on, or None where nobody vouches for who it was.
        """
        if not self.allowed or source in self.allowed:
            fill(scope)


def fill(scope: Scope) -> None:
    """Fills in what the proxy headers of a scope say; what makes no sense is left as it was."""
    headers: Headers = scope["headers"]
    said = {name: value.decode("latin-1") for name, value in headers if name in _NAMES}
    if not said:
        return
    standard: dict[str, str] = {}
    if _FORWARDED in said and _FOR not in said and _PROTO not in said:
        standard = _last_element(said[_FORWARDED])
    proto = _last(said[_PROTO]) if _PROTO in said else standard.get("proto", "")
    secure = _SECURE.get(proto.lower())
    if secure is not None:
        plain = "ws" if scope["type"] == "websocket" else "http"
        scope["scheme"] = plain + "s" if secure else plain
    client = parse_node(_last(said[_FOR]) if _FOR in said else standard.get("for", ""))
    if client is not None:
        scope["client"] = client
    host = _last(said[_HOST]) if _HOST in said else standard.get("host", "")
    if _AUTHORITY.fullmatch(host):
        others = [field for field in headers if field[0] != b"host"]
        scope["headers"] = [(b"host", host.encode("ascii")), *others]


def parse_node(text: str) -> tuple[str, int] | None:
    """Address and port (0 where there is none that can be told) of a client.

    None for `unknown` and for names that a proxy made up: they are no address.
    """
    text = text.strip()
    if text.count(":") > 1 and not text.startswith("["):  # IPv6 as people write it into x-forwarded-for
        text = f"[{text}]"
    node = _NODE.fullmatch(text)
    if node is None:
        return None
    try:
        address = ip_address(node[1] or node[2] or "")
    except ValueError:
        return None
    port = int(node[3]) if node[3] and node[3].isdigit() else 0
    return str(address), port if port <= 65_535 else 0


def _last(text: str) -> str:
    return text.rpartition(",")[2].strip()


def _last_element(text: str) -> dict[str, str]:
    """The pairs of the last element of a `forwarded` header; nothing if it is malformed."""
    elements = _ELEMENT.findall(text) if len(text) <= _MAX_FORWARDED_CHARS else ()
    element = elements[-1].strip() if elements else ""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return {}
        value = pair[3] if pair[2] is None else _ESCAPE.sub(r"\1", pair[2])
        pairs[pair[1].lower()] = value
        position = pair.end()
    return pairs

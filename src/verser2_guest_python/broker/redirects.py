"""Redirects from one app to another: 307 and 308 to a domain that has a route.

Apart because a redirect is a new request by rules of its own: the method stays, a small body is sent
again, and what was meant for one domain is not told to another. Everything else goes to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from json import loads
from urllib.parse import urljoin, urlsplit

from verser2_guest_python.broker.request import Request, check_size
from verser2_guest_python.broker.target import Target, parse_target
from verser2_guest_python.errors import VerserProtocolError, VerserUsageError
from verser2_guest_python.wire.domains import normalize_domain
from verser2_guest_python.wire.json_text import dump_ascii

MAX_REPLAYED_BYTES = 16 * 1024
"""The largest body that is sent again to where a redirect leads."""

_PRIVATE = ("authorization", "cookie", "proxy-authorization")


def redirected(request: Request, location: str | None, is_route: Callable[[str], bool]) -> Request | None:
    """The request that a redirect asks for, or None where it is the caller's business.

    `is_route` tells whether a domain is advertised.
    """
    if not location or (request.body is not None and not _small(request)):
        return None
    try:
        target = _target(request.target, location)
        if target is None or not is_route(target.domain):
            return None
        following = replace(request, target=target)
        if target.authority != request.target.authority:
            following = replace(following, head=_head(request, target))
        check_size(following)
    except (ValueError, VerserUsageError, VerserProtocolError):
        return None  # the caller sees what the app said
    return following


def _target(before: Target, location: str) -> Target | None:
    """Where a location leads; the same authority is the same place, by whatever route it was reached."""
    path = before.path if before.path != "*" else "/"
    try:
        text = location.encode("latin-1").decode("utf-8")
    except UnicodeError:
        text = location
    parts = urlsplit(text)
    if not parts.netloc and (parts.scheme or text.startswith("//")):
        return None  # `http:there`, `http:///there`, `mailto:…`: nobody reads these alike
    url = urljoin(f"http://{before.authority}{path}", text)
    if urlsplit(url).scheme not in ("http", "https"):
        return None
    target = parse_target(url)
    if target.authority.lower() == before.authority.lower():
        return replace(before, path=target.path)
    return target


def _head(request: Request, target: Target) -> bytes:
    """The headers for another authority; what is private stays with the domain it was meant for."""
    headers: dict[str, str] = loads(request.head)
    headers["host"] = target.authority
    if target.domain != normalize_domain(request.target.authority):
        for name in _PRIVATE:
            headers.pop(name, None)
    return dump_ascii(headers).encode("ascii")


def _small(request: Request) -> bool:
    body = request.body
    return body is not None and body.data is not None and len(body.data) <= MAX_REPLAYED_BYTES

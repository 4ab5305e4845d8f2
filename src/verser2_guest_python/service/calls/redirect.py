"""Where a redirect of an app leads, for `-L`: all five statuses, as long as a Guest serves the domain.

Apart because it is a rule by itself: which method goes on, which body, and what one domain must not learn of
another's credentials.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.service.calls.request import Call

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SEE_OTHER: Final = 303
_POST_BECOMES_GET: Final = frozenset({301, 302})  # as everyone does (RFC 9110 §15.4.2, §15.4.3)
_PRIVATE: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_OF_BODY: Final = frozenset({"content-type", "content-length", "content-encoding"})


def following(call: Call, status: int, location: str, domains: Container[str]) -> Call | None:
    """The call that a redirect asks for; None where it leads to none of `domains`, or nowhere."""
    from verser2_guest_python.broker.target import parse_target

    here = parse_target(call.url, call.route_domain)
    url = urljoin(f"http://{here.authority}{here.path}", _as_text(location))
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            return None
        there = parse_target(url)
    except (ValueError, VerserUsageError):
        return None
    same_place = there.authority.lower() == here.authority.lower()
    if not same_place and there.domain not in domains:
        return None
    headers = [pair for pair in call.headers if pair[0].lower() != "host"]
    if not same_place:
        headers = [pair for pair in headers if pair[0].lower() not in _PRIVATE]
    method, body = call.method, call.body
    if (status == _SEE_OTHER and method != "HEAD") or (status in _POST_BECOMES_GET and method == "POST"):
        method, body = "GET", None
        headers = [pair for pair in headers if pair[0].lower() not in _OF_BODY]
    return replace(
        call,
        method=method,
        url=url,
        headers=tuple(headers),
        body=body,
        route_domain=call.route_domain if same_place else None,
    )


def _as_text(location: str) -> str:
    """A location as its app wrote it: field values are Latin-1 here, URLs mostly UTF-8."""
    try:
        return location.strip().encode("latin-1").decode("utf-8")
    except UnicodeError:
        return location.strip()

"""A request as the command line says it, before there is a session: method, URL, headers, body, limits.

Apart because nothing here waits: a mistake is told before anything is connected.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from verser2_guest_python.errors import VerserProtocolError, VerserUsageError
from verser2_guest_python.service.calls.body import RequestBody
from verser2_guest_python.wire.headers import join_request_headers

USER_AGENT: Final = "verser2-guest"

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and how hard it is tried. `redirects` is how many are followed; times are in seconds."""

    method: str
    url: str
    headers: tuple[Header, ...] = ()
    body: RequestBody | None = None
    route_domain: str | None = None
    timeout: float | None = None
    wait: float | None = None
    lease_timeout: float | None = None
    retries: int = 0
    redirects: int = 0


def headers_of(
    given: Iterable[str],
    *,
    user: str | None = None,
    body: RequestBody | None = None,
    compressed: bool = False,
) -> tuple[Header, ...]:
    """The headers of a request: those that were `given` as `Name: value`, and those that it has by itself.

    A given one takes the place of ours; an empty one of ours is left out, as with curl. Raises
    `VerserUsageError` for what is no header.
    """
    ours = {"accept": "*/*", "user-agent": USER_AGENT, **_authorization(user)}
    if body is not None:
        ours["content-type"] = body.content_type
        if body.accept is not None:
            ours["accept"] = body.accept
    if compressed:
        from verser2_guest_python.service.output.decoding import decodable_encodings

        ours["accept-encoding"] = ", ".join(decodable_encodings())
    return _merged(ours, given)


def websocket_headers(given: Iterable[str], user: str | None) -> tuple[Header, ...]:
    """The headers that a WebSocket is opened with: none but those that were asked for."""
    return _merged(_authorization(user), given)


def _authorization(user: str | None) -> dict[str, str]:
    if user is None:
        return {}
    credentials = b64encode(user.encode("utf-8", "surrogateescape")).decode("ascii")
    return {"authorization": f"Basic {credentials}"}


def _merged(ours: dict[str, str], given: Iterable[str]) -> tuple[Header, ...]:
    pairs = [_header(text) for text in given]
    said = {name.lower() for name, _ in pairs}
    kept = [pair for pair in pairs if pair[1] or pair[0].lower() not in ours]
    return (*((name, value) for name, value in ours.items() if name not in said), *kept)


def without_user(url: str) -> tuple[str, str | None]:
    """`http://user:password@domain/` as the URL without them, and `user:password`; None where it has none."""
    scheme, separator, rest = url.partition("://")
    if not separator or "@" not in (authority := _before_any(rest, "/?#")):
        return url, None
    user, _, domain = authority.rpartition("@")
    return (
        f"{scheme}://{domain}{rest[len(authority) :]}",
        unquote_to_bytes(user).decode("utf-8", "surrogateescape"),
    )


def _before_any(text: str, marks: str) -> str:
    for mark in marks:
        text = text.partition(mark)[0]
    return text


def _header(text: str) -> Header:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise VerserUsageError(f"{text!r} is no header: -H is written 'Name: value'.")
    # Field values are Latin-1 here: what is beyond ASCII goes out as the bytes of its UTF-8, as with curl
    header = name.strip(), value.strip().encode("utf-8", "surrogateescape").decode("latin-1")
    try:
        join_request_headers((header,))
    except VerserProtocolError as error:
        raise VerserUsageError(error.message) from None
    return header

"""A request before it leaves: everything the caller said, checked and in its form for the wire.

Apart from sending because nothing here waits: a mistake of the caller is told before a stream is
opened, and the same request can be put to one Guest after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from verser2_guest_python.broker.body import Body, RequestBody, request_body
from verser2_guest_python.broker.target import Target, parse_target
from verser2_guest_python.errors import RequestHeadTooLargeError, VerserProtocolError, VerserUsageError
from verser2_guest_python.http2 import Fields
from verser2_guest_python.wire.headers import header_block_bytes, is_token, join_request_headers
from verser2_guest_python.wire.json_text import dump_ascii
from verser2_guest_python.wire.limits import MAX_BROKER_HEADER_BLOCK_BYTES, MAX_TIMEOUT_MILLISECONDS
from verser2_guest_python.wire.names import (
    HEADERS_FIELD,
    LEASE_TIMEOUT_FIELD,
    METHOD_FIELD,
    PATH_FIELD,
    REQUEST_ID_FIELD,
    ROUTE_DOMAIN_FIELD,
    TARGET_ID_FIELD,
)

RequestHeaders: TypeAlias = Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]]
"""The headers of a request: a mapping, in which a list repeats a header, or pairs."""

_METHODS_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
# Fields that every request has beside those made here: pseudo-header fields and the source id.
_CONSTANT_FIELDS_BYTES = 1_024


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of `VerserBroker.request`, for the methods named after HTTP methods."""

    headers: RequestHeaders | None
    body: Body | None
    json: object
    text: str | None
    route_domain: str | None
    timeout: float | None
    total_timeout: float | None
    lease_timeout: float | None
    retries: int | None
    max_redirects: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request. `head` is what `x-verser-headers` says; `declared` is its content-length."""

    method: str
    target: Target
    head: bytes
    body: RequestBody | None
    declared: int | None
    lease_timeout_ms: int | None

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again: its body, if any, is at hand."""
        return self.body is None or self.body.data is not None

    def fields(self, request_id: str, target_id: str, domain: str) -> tuple[Fields, Fields]:
        """The fields of one attempt (protocol.md §7): those that vary, and those that are secret."""
        extra = [
            (REQUEST_ID_FIELD, request_id.encode("ascii")),
            (TARGET_ID_FIELD, _ascii(target_id, "The id of the Guest")),
            (ROUTE_DOMAIN_FIELD, _ascii(domain, "The domain of the route")),
            (METHOD_FIELD, self.method.encode("ascii")),
            (PATH_FIELD, self.target.path.encode("ascii")),
        ]
        if self.lease_timeout_ms is not None:
            extra.append((LEASE_TIMEOUT_FIELD, b"%d" % self.lease_timeout_ms))
        return extra, ((HEADERS_FIELD, self.head),)


def make_request(
    method: str,
    url: str,
    *,
    headers: RequestHeaders | None,
    body: Body | None,
    json: object,
    text: str | None,
    route_domain: str | None,
    lease_timeout: float | None,
) -> Request:
    """A request from what the caller said.

    Raises `VerserUsageError` or `VerserProtocolError`, which say what cannot be sent and why.
    """
    if not is_token(method):
        raise VerserUsageError(f"{method!r} is not an HTTP method.")
    method = method.upper()
    target = parse_target(url, route_domain)
    content = request_body(body, json, text)
    if content is not None and content.data == b"":
        content = RequestBody(None, None, 0, content.content_type)
    fields = {"host": target.authority}
    if headers is not None:
        fields |= join_request_headers(header_pairs(headers))
    declared = _declare(fields, method, content)
    head = dump_ascii(fields).encode("ascii")
    request = Request(
        method, target, head, content if _sends(content) else None, declared, _milliseconds(lease_timeout)
    )
    check_size(request)
    return request


def _sends(content: RequestBody | None) -> bool:
    return content is not None and (content.data is not None or content.pieces is not None)


def header_pairs(headers: RequestHeaders) -> Iterable[tuple[str, str]]:
    """Headers of a caller, in whatever form they are, as pairs. Raises `VerserUsageError`."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for pair in pairs:
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise VerserUsageError("Headers are a mapping of names to values, or pairs of them.") from None
        if not isinstance(name, str):
            raise VerserUsageError(f"The name of a header is text, not {type(name).__name__}.")
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield name, item
        else:
            raise VerserUsageError(f"The value of header {name!r} is {type(value).__name__}, not text.")


def _declare(fields: dict[str, str], method: str, content: RequestBody | None) -> int | None:
    """Sees to `content-type` and `content-length`; returns the length that the head declares."""
    if content is not None and content.content_type is not None:
        fields.setdefault("content-type", content.content_type)
    known = 0 if content is None else content.length
    given = fields.get("content-length")
    if given is None:
        if known or (known == 0 and (content is not None or method in _METHODS_WITH_LENGTH)):
            fields["content-length"] = str(known)
        return known
    if not (given.isascii() and given.isdigit()):
        raise VerserUsageError(f"The content-length {given!r} is not a number of bytes.")
    declared = int(given)
    if known is not None and declared != known:
        raise VerserUsageError(f"The content-length says {declared} bytes, but the body has {known}.")
    return declared


def _milliseconds(lease_timeout: float | None) -> int | None:
    if lease_timeout is None:
        return None
    if not lease_timeout > 0:
        raise VerserUsageError(f"lease_timeout is {lease_timeout}: give a number of seconds above 0.")
    return max(1, min(round(lease_timeout * 1000), MAX_TIMEOUT_MILLISECONDS))


def _ascii(text: str, what: str) -> bytes:
    """Anything else in a header value can end the whole session (protocol.md §13)."""
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    raise VerserProtocolError(f"{what} is {text!r}, which a request header cannot say: it must be ASCII.")


def check_size(request: Request) -> None:
    """Deployed Hosts refuse a stream, sometimes the session, for more than that (protocol.md §13)."""
    if len(request.head) + len(request.target.path) <= MAX_BROKER_HEADER_BLOCK_BYTES // 2:
        return
    extra, secret = request.fields("", "", "")
    size = header_block_bytes(extra) + header_block_bytes(secret) + _CONSTANT_FIELDS_BYTES
    if size > MAX_BROKER_HEADER_BLOCK_BYTES:
        raise RequestHeadTooLargeError(
            f"The head of the request takes {size:,} bytes, and a Host reads "
            f"{MAX_BROKER_HEADER_BLOCK_BYTES:,}: send fewer or shorter headers, or a shorter path."
        )

"""The header fields of `/verser/request`: a request on its way from a Broker to the Host (protocol.md §7).

It stands apart because here a request is header fields, not an envelope, and fields must be ASCII: a
single other byte can end the session with a deployed Host (protocol.md §13).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from verser2_guest_python.errors import RequestHeadTooLargeError, VerserProtocolError

from .excerpt import excerpt
from .headers import header_block_bytes, is_token, request_fields
from .json_text import dump_ascii, parse_object
from .limits import MAX_BROKER_HEADER_BLOCK_BYTES, MAX_ID_CHARS, MAX_TIMEOUT_MILLISECONDS
from .names import (
    HEADERS_FIELD,
    LEASE_TIMEOUT_FIELD,
    METHOD_FIELD,
    OWN_FIELD_PREFIX,
    PATH_FIELD,
    REQUEST_ID_FIELD,
    ROUTE_DOMAIN_FIELD,
    SOURCE_ID_FIELD,
    TARGET_ID_FIELD,
)
from .paths import check_path

REFUSED_HEADERS: Final = ("connection", "upgrade", "keep-alive")
"""Request headers for which a Host refuses a request (protocol.md §7)."""

_TEXT: Final = re.compile(r"[\x20-\x7e]+")
_DIGITS: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class BrokerRequest:
    """A request as a Broker asks the Host for it.

    `request_id` is empty where an old Broker sent none: the Host then makes one up, as deployed ones
    do. `source_id` proves nothing (protocol.md §13).
    """

    request_id: str
    source_id: str
    target_id: str
    route_domain: str | None
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    lease_timeout_ms: int | None = None


def encode_broker_request(request: BrokerRequest) -> list[tuple[bytes, bytes]]:
    """The `x-verser-*` fields of a request. Its headers are those of `headers.join_request_headers`.

    Raises:
        VerserProtocolError: a field is empty, not ASCII, or not what the contract allows.
        RequestHeadTooLargeError: the fields exceed 64 KiB (protocol.md §13).
    """
    what = "The request"
    _check_method(request.method, what)
    check_path(request.path, what)
    fields = [
        (REQUEST_ID_FIELD, ascii_value(request.request_id, "request id", what)),
        (SOURCE_ID_FIELD, ascii_value(request.source_id, "source id", what)),
        (TARGET_ID_FIELD, ascii_value(request.target_id, "target id", what)),
    ]
    if request.route_domain is not None:
        fields.append((ROUTE_DOMAIN_FIELD, ascii_value(request.route_domain, "route domain", what)))
    fields += [
        (METHOD_FIELD, request.method.encode("ascii")),
        (PATH_FIELD, request.path.encode("ascii")),
        (HEADERS_FIELD, dump_ascii(request.headers).encode("ascii")),
    ]
    if request.lease_timeout_ms is not None:
        timeout = request.lease_timeout_ms
        if type(timeout) is not int or not 0 <= timeout <= MAX_TIMEOUT_MILLISECONDS:
            raise VerserProtocolError(
                f"{what} has {excerpt(timeout)} as lease timeout, where milliseconds are due."
            )
        fields.append((LEASE_TIMEOUT_FIELD, b"%d" % timeout))
    check_block(fields, what)
    return fields


def parse_broker_request(fields: Sequence[tuple[bytes, bytes]]) -> BrokerRequest:
    """The request in the fields of a stream. Hop-by-hop headers that a Host may drop are dropped.

    Raises:
        VerserProtocolError: a field is missing, twice there, not ASCII or malformed; or the headers
            hold `connection`, `upgrade` or `keep-alive`.
    """
    what = "The request"
    values = own_fields(fields, what)
    request_id = values.get(REQUEST_ID_FIELD, "")
    if len(request_id) > MAX_ID_CHARS:
        raise VerserProtocolError(f"{what} has an id of more than {MAX_ID_CHARS:,} characters.")
    method = required(values, METHOD_FIELD, what)
    _check_method(method, what)
    path = required(values, PATH_FIELD, what)
    check_path(path, what)
    return BrokerRequest(
        request_id,
        values.get(SOURCE_ID_FIELD, ""),
        required(values, TARGET_ID_FIELD, what),
        values.get(ROUTE_DOMAIN_FIELD) or None,
        method,
        path,
        parse_headers(values.get(HEADERS_FIELD, "{}"), what),
        _parse_timeout(values.get(LEASE_TIMEOUT_FIELD), what),
    )


def parse_headers(text: str, what: str) -> dict[str, str]:
    """The JSON object in `x-verser-headers`: names in lower case, hop-by-hop headers dropped.

    Raises:
        VerserProtocolError: it is malformed, or holds a header for which a Host refuses a request.
    """
    given = parse_object(text.encode("ascii"), "x-verser-headers")
    for name in given:
        if name.lower() in REFUSED_HEADERS:
            raise VerserProtocolError(f"{what} holds the hop-by-hop header {excerpt(name)}.")
    headers: dict[str, str] = {}
    for raw_name, raw_value in request_fields(given):
        name = raw_name.decode("ascii")
        if name in headers:
            raise VerserProtocolError(f"{what} holds the header {excerpt(name)} twice.")
        headers[name] = raw_value.decode("latin-1")
    return headers


def own_fields(fields: Iterable[tuple[bytes, bytes]], what: str) -> dict[bytes, str]:
    """The `x-verser-*` fields of a stream as ASCII text, each at most once."""
    values: dict[bytes, str] = {}
    for name, value in fields:
        if not name.startswith(OWN_FIELD_PREFIX):
            continue
        if name in values:
            raise VerserProtocolError(f"{what} has the field {excerpt(name.decode('latin-1'))} twice.")
        text = value.decode("latin-1")
        if text and _TEXT.fullmatch(text) is None:
            raise VerserProtocolError(
                f"{what} has a field {excerpt(name.decode('latin-1'))} that is not printable ASCII."
            )
        values[name] = text.strip(" ")
    return values


def required(values: dict[bytes, str], name: bytes, what: str) -> str:
    """A field that has to be there."""
    value = values.get(name)
    if not value:
        raise VerserProtocolError(f"{what} has no {name.decode('ascii')}.")
    return value


def ascii_value(value: str, name: str, what: str) -> bytes:
    """A text as the value of a field: printable ASCII, not empty."""
    if _TEXT.fullmatch(value) is None:
        raise VerserProtocolError(f"{what} has {excerpt(value)} as {name}, which is not printable ASCII.")
    return value.encode("ascii")


def check_block(fields: Sequence[tuple[bytes, bytes]], what: str) -> None:
    """Raises where a header block is larger than deployed Hosts take (protocol.md §13)."""
    size = header_block_bytes(fields)
    if size > MAX_BROKER_HEADER_BLOCK_BYTES:
        raise RequestHeadTooLargeError(
            f"{what} takes {size:,} bytes of header fields, and a Host takes "
            f"{MAX_BROKER_HEADER_BLOCK_BYTES:,}: send fewer or shorter headers.",
            context={"headBytes": size, "limitBytes": MAX_BROKER_HEADER_BLOCK_BYTES},
        )


def _check_method(method: str, what: str) -> None:
    if not is_token(method):
        raise VerserProtocolError(f"{what} has {excerpt(method)} as method, which is not a token.")


def _parse_timeout(text: str | None, what: str) -> int | None:
    if not text:
        return None
    if _DIGITS.fullmatch(text) is None or int(text) > MAX_TIMEOUT_MILLISECONDS:
        raise VerserProtocolError(f"{what} has {excerpt(text)} as lease timeout, where milliseconds are due.")
    return int(text)

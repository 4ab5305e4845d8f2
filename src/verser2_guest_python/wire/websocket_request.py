"""The header fields of `/verser/websocket`: a Broker asks the Host for a WebSocket (protocol.md §11, §14).

It stands apart from `broker_request` because the fields have other names and other rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .broker_request import ascii_value, check_block, own_fields, parse_headers, required
from .json_text import dump_ascii
from .names import (
    HEADERS_FIELD,
    SOURCE_ID_FIELD,
    TARGET_ID_FIELD,
    WEBSOCKET_DOMAIN_FIELD,
    WEBSOCKET_PATH_FIELD,
    WEBSOCKET_PROTOCOL_FIELD,
)
from .paths import check_path


@dataclass(frozen=True, slots=True)
class WebSocketRequest:
    """A WebSocket as a Broker asks for it.

    `protocol` is the raw offer, empty for none; `headers` is None without the extension `ws-headers`.
    """

    source_id: str
    target_id: str
    domain: str
    path: str = "/"
    protocol: str = ""
    headers: dict[str, str] | None = field(default=None, repr=False)


def encode_websocket_request(request: WebSocketRequest) -> list[tuple[bytes, bytes]]:
    """The `x-verser-*` fields of the stream.

    Raises:
        VerserProtocolError: a field is empty, not ASCII, or not what the contract allows.
        RequestHeadTooLargeError: the fields exceed 64 KiB (protocol.md §13).
    """
    what = "The WebSocket request"
    check_path(request.path, what)
    fields = [
        (SOURCE_ID_FIELD, ascii_value(request.source_id, "source id", what)),
        (TARGET_ID_FIELD, ascii_value(request.target_id, "target id", what)),
        (WEBSOCKET_DOMAIN_FIELD, ascii_value(request.domain, "domain", what)),
        (WEBSOCKET_PATH_FIELD, request.path.encode("ascii")),
    ]
    if request.protocol:
        fields.append((WEBSOCKET_PROTOCOL_FIELD, ascii_value(request.protocol, "protocol", what)))
    if request.headers is not None:
        fields.append((HEADERS_FIELD, dump_ascii(request.headers).encode("ascii")))
    check_block(fields, what)
    return fields


def parse_websocket_request(fields: Sequence[tuple[bytes, bytes]]) -> WebSocketRequest:
    """The request in the fields of a stream.

    Raises:
        VerserProtocolError: a field is missing, twice there, not ASCII or malformed.
    """
    what = "The WebSocket request"
    values = own_fields(fields, what)
    path = values.get(WEBSOCKET_PATH_FIELD) or "/"
    check_path(path, what)
    headers = values.get(HEADERS_FIELD)
    return WebSocketRequest(
        values.get(SOURCE_ID_FIELD, ""),
        required(values, TARGET_ID_FIELD, what),
        required(values, WEBSOCKET_DOMAIN_FIELD, what),
        path,
        values.get(WEBSOCKET_PROTOCOL_FIELD, ""),
        None if headers is None else parse_headers(headers, what),
    )

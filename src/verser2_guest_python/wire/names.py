"""Words of the contract that are neither values nor rules: stream paths, header fields, extensions.

They stand apart so that the roles, which must not import each other, spell them alike.
"""

from __future__ import annotations

from typing import Final

# Stream paths (protocol.md §1)
REGISTER_PATH: Final = b"/verser/register"
GUEST_CONTROL_PATH: Final = b"/verser/guest/control"
GUEST_LEASE_PATH: Final = b"/verser/guest/lease"
GUEST_REVOKE_PATH: Final = b"/verser/guest/revoke"
GUEST_WEBSOCKET_LEASE_PATH: Final = b"/verser/guest/websocket-lease"
REQUEST_PATH: Final = b"/verser/request"
WEBSOCKET_PATH: Final = b"/verser/websocket"

# Header fields of a Guest's streams (protocol.md §4, §5)
PEER_ID_FIELD: Final = b"x-verser-peer-id"
LEASE_ID_FIELD: Final = b"x-verser-lease-id"

# Header fields of /verser/request (protocol.md §7)
REQUEST_ID_FIELD: Final = b"x-verser-request-id"
SOURCE_ID_FIELD: Final = b"x-verser-source-id"
TARGET_ID_FIELD: Final = b"x-verser-target-id"
ROUTE_DOMAIN_FIELD: Final = b"x-verser-route-domain"
METHOD_FIELD: Final = b"x-verser-method"
PATH_FIELD: Final = b"x-verser-path"
HEADERS_FIELD: Final = b"x-verser-headers"
LEASE_TIMEOUT_FIELD: Final = b"x-verser-lease-acquire-timeout-ms"

# Header fields of /verser/websocket and its answer (protocol.md §11)
WEBSOCKET_DOMAIN_FIELD: Final = b"x-verser-domain"
WEBSOCKET_PATH_FIELD: Final = b"x-verser-ws-path"
WEBSOCKET_PROTOCOL_FIELD: Final = b"x-verser-ws-protocol"

# Extensions (protocol.md §14)
ERROR_FIELD: Final = b"x-verser-error"
"""On every error that the Host made, where `error-header` is announced: the error's code."""
OWN_FIELD_PREFIX: Final = b"x-verser-"
"""Names that belong to the Host: apps cannot answer with them."""
ERROR_HEADER_EXTENSION: Final = "error-header"
HEADER_ARRAYS_EXTENSION: Final = "header-arrays"
WS_HEADERS_EXTENSION: Final = "ws-headers"
STAGE_EXTENSION: Final = "stage"
EXTENSIONS: Final = (ERROR_HEADER_EXTENSION, HEADER_ARRAYS_EXTENSION, WS_HEADERS_EXTENSION, STAGE_EXTENSION)
STAGE_KEY: Final = "stage"
STAGE_QUEUED: Final = "queued"
"""No app has seen the request."""
STAGE_SENT: Final = "sent"
"""An app may have seen the request."""

# Content types
JSON_TYPE: Final = b"application/json"
NDJSON_TYPE: Final = b"application/x-ndjson"
OCTETS_TYPE: Final = b"application/octet-stream"

"""Limits of the wire contract, each with its unit in its name.

They stand apart because both ends of a limit (who sends and who receives) have to agree on it.
"""

from __future__ import annotations

from typing import Final

ENVELOPE_PREFIX_BYTES: Final = 6
"""Version, type and metadata length before the metadata of an envelope (protocol.md §6)."""

MAX_METADATA_BYTES: Final = 65_536
"""The longest envelope metadata that is read (protocol.md §6)."""

MAX_HEAD_BYTES: Final = 16_375
"""The longest envelope head that is sent: one DATA frame in one TLS record (protocol.md §12.1)."""

MAX_ID_CHARS: Final = 2_048
"""The longest request id that is read, so that an error envelope, which repeats it, always fits."""

MAX_PEER_ID_CHARS: Final = 255
"""The longest peer id: it travels in a header field of every lease."""

MAX_CONTROL_LINE_BYTES: Final = 4_194_304
"""The longest line of a control stream: a table of some 50,000 routes. The contract names no limit."""

MAX_EXCHANGE_BODY_BYTES: Final = 1_048_576
"""The longest body of a one-shot exchange: registration, revocation, and their answers."""

MAX_ERROR_OBJECT_BYTES: Final = 65_536
"""The longest answer that is looked at as an error object (protocol.md §8)."""

MAX_CODE_CHARS: Final = 64
"""The longest error code that is sent."""

MAX_ERROR_TEXT_CHARS: Final = 2_000
"""The longest error message, and the longest text in an error's context, that is sent."""

MAX_ERROR_CONTEXT_ENTRIES: Final = 32
"""The most entries of an error's context that are sent."""

MAX_VWS_LINE_BYTES: Final = 1_048_576
"""The longest VWS/1 line, not counting its newline (protocol.md §11)."""

MAX_CLOSE_REASON_BYTES: Final = 123
"""The longest close reason in UTF-8 (protocol.md §11)."""

MAX_BROKER_HEADER_BLOCK_BYTES: Final = 64_512
"""The largest header block that is sent, counted as RFC 9113 §6.5.2 does, 32 bytes a field included.

Beyond about 64 KiB deployed Hosts refuse the stream, sometimes the session (protocol.md §13); 1 KiB
of that is left for the pseudo-header fields.
"""

MIN_STATUS: Final = 200
"""The lowest status of a response: 1xx cannot be said (protocol.md §6)."""

MAX_STATUS: Final = 599
"""The highest status of a response (protocol.md §6)."""

MAX_TIMEOUT_MILLISECONDS: Final = 2_147_483_647
"""The longest timeout that is read from the wire: what every timer of every peer can hold."""

MAX_JSON_DEPTH: Final = 32
"""How deep JSON may nest. The contract needs five levels; parsers recurse, so there is an end."""

MAX_JSON_CONTAINERS: Final = 100_000
"""How many objects and arrays one JSON text may hold: a byte pair of JSON costs 70 bytes of memory."""

MAX_JSON_NUMBER_CHARS: Final = 64
"""The longest number: conversion of thousands of digits takes quadratic time."""

MAX_EXCERPT_CHARS: Final = 80
"""How much of a bad value an error message shows."""

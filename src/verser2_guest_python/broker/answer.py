"""Telling a Host's error from an app's answer (protocol.md §8).

Apart because it is the one place where a status is not simply the app's: an app may itself answer
502, with any body, and gets its answer through, as it is and as it comes.
"""

from __future__ import annotations

from verser2_guest_python.errors import (
    RequestHeadTooLargeError,
    VerserError,
    VerserProtocolError,
    error_for,
)
from verser2_guest_python.http2 import Fields, Stream
from verser2_guest_python.wire.errors_wire import parse_error_object
from verser2_guest_python.wire.limits import MAX_ERROR_OBJECT_BYTES
from verser2_guest_python.wire.names import ERROR_FIELD, JSON_TYPE

_HOST_ERROR_STATUS = 502
_HEAD_TOO_LARGE_STATUS = 431  # protocol.md §12.1
_BLANK = b" \t\r\n"


async def host_error(
    stream: Stream, status: int, fields: Fields, *, marked: bool
) -> tuple[VerserError | None, bytes]:
    """The error that the Host answered, or None and the bytes that were looked at.

    `marked`: the Host announced `error-header`, so only what bears its mark is an error (§14).
    Raises what reading the stream raises.
    """
    code = None
    if marked:
        code = _field(fields, ERROR_FIELD)
        if code is None:
            return None, b""
    elif status != _HOST_ERROR_STATUS or not _says_json(fields):
        return None, b""
    body = bytearray()
    while chunk := await stream.read(MAX_ERROR_OBJECT_BYTES):
        body += chunk
        if code is None and (start := body.lstrip(_BLANK)) and not start.startswith(b"{"):
            return None, bytes(body)  # not an object: the app's answer, which may come slowly
        if len(body) > MAX_ERROR_OBJECT_BYTES:
            break
    else:
        error = parse_error_object(bytes(body))
        if error is not None:
            if status == _HEAD_TOO_LARGE_STATUS and isinstance(error, VerserProtocolError):
                return RequestHeadTooLargeError(error.message, context=error.context), b""
            return error, b""
    if code is not None:
        name = code.decode("latin-1")
        return error_for(name, f"The Host answered {status} with the error {name}."), b""
    return None, bytes(body)


def _says_json(fields: Fields) -> bool:
    """Whether the answer may be an error object: JSON, of no declared length beyond the limit."""
    json = False
    for name, value in fields:
        if name == b"content-type":
            json = value.startswith(JSON_TYPE)
        elif name == b"content-length" and value.isdigit() and int(value[:20]) > MAX_ERROR_OBJECT_BYTES:
            return False
    return json


def _field(fields: Fields, wanted: bytes) -> bytes | None:
    for name, value in fields:
        if name == wanted:
            return value
    return None

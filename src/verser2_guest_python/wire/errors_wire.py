"""Error objects: how a Host says that it, and not the app, answered (protocol.md §8).

It stands apart because an app may answer 502 with JSON of its own: only an object with a code of the
contract is an error, everything else is the app's answer and left alone.
"""

from __future__ import annotations

from typing import Any

from verser2_guest_python.errors import WIRE_CODES, VerserError, VerserProtocolError, error_for

from .json_fields import context_of, sendable_context, sendable_text
from .json_text import dump, parse_object
from .limits import MAX_ERROR_OBJECT_BYTES


def encode_error_object(error: VerserError) -> bytes:
    """The body of an error answer. A code that is not the wire's is said as `protocol-error`."""
    code = error.code if error.code in WIRE_CODES else VerserProtocolError.default_code
    said = {
        "code": code,
        "message": sendable_text(error.message),
        "context": sendable_context(error.context),
    }
    return dump({"error": said})


def parse_error_object(body: bytes) -> VerserError | None:
    """The error that an answer holds, or None where it holds none: then it is the app's answer.

    Never raises. Answers over 64 KiB are not looked at.
    """
    if len(body) > MAX_ERROR_OBJECT_BYTES:
        return None
    try:
        return error_of(parse_object(body, "The answer"))
    except VerserProtocolError:
        return None


def error_of(values: dict[str, Any]) -> VerserError | None:
    """The error in a parsed answer, or None."""
    said = values.get("error")
    if not isinstance(said, dict):
        return None
    code = said.get("code")
    if not isinstance(code, str) or code not in WIRE_CODES:
        return None
    message = said.get("message")
    if not isinstance(message, str) or not message:
        message = f"The Host answered {code}."
    return error_for(code, message, context_of(said.get("context")))

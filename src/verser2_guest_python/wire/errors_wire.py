"""Error objects: how a Host says that it, and not the app, answered (protocol.md §8).

It stands apart because an app may answer 502 with JSON of its own: only an object with a code of the
contract is an error, everything else is the app's answer and left alone.
"""

from __future__ import annotations

from typing import Any

from verser2_guest_python.errors import (
    WIRE_CODES,
    AuthorizationDeniedError,
    InvalidRegistrationError,
    VerserError,
    VerserProtocolError,
    error_for,
)

from .excerpt import excerpt, readable
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
    context = {
        readable(key): readable(value) if isinstance(value, str) else value
        for key, value in context_of(said.get("context")).items()
    }
    return error_for(code, readable(message), context)


def refusal_of(status: int, values: dict[str, Any]) -> VerserError:
    """The error for an answer to a registration that is anything but `registered` (protocol.md §2)."""
    error = error_of(values)
    if error is not None:
        return error
    state = values.get("status")
    reason = values.get("reason")
    said = f": {readable(reason).rstrip('.')}." if isinstance(reason, str) and reason else "."
    if status == 403 or state == "closed":
        return AuthorizationDeniedError(f"The Host's policy refused the registration{said}")
    if isinstance(state, str) and state != "registered":
        return InvalidRegistrationError(
            f"The Host refused the registration with status {excerpt(state)}{said}"
        )
    return VerserProtocolError(f"The Host answered the registration with HTTP {status} and no known status.")

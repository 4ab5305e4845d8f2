"""Typed fields out of a parsed JSON object: each is there and of its type, or a sentence says what is wrong.

It stands apart because every message of the contract is read through these few questions; asked in one
place, `true` is never taken for a number and an error always names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from verser2_guest_python.errors import ErrorContext, VerserProtocolError

from .excerpt import excerpt
from .headers import HeaderMap
from .limits import MAX_ERROR_CONTEXT_ENTRIES, MAX_ERROR_TEXT_CHARS, MAX_TIMEOUT_MILLISECONDS

_LARGEST_SENT_NUMBER: Final = 2**63


def text_field(values: dict[str, Any], key: str, what: str, default: str | None = None) -> str:
    """A text; without a default it has to be there and must not be empty. `null` counts as absent."""
    value = values.get(key)
    if type(value) is str and (value or default is not None):
        return value
    if value is None and default is not None:
        return default
    if value is None or value == "":
        raise VerserProtocolError(f"{what} has no {key}.")
    raise VerserProtocolError(f"{what} has {excerpt(value)} as {key}, where a text is due.")


def optional_text_field(values: dict[str, Any], key: str, what: str) -> str | None:
    """A text, or None where it is absent or `null`."""
    return None if values.get(key) is None else text_field(values, key, what, "")


def integer_field(values: dict[str, Any], key: str, what: str, low: int, high: int) -> int:
    """An integer from `low` to `high`. `200.0` is one: JSON knows numbers only."""
    value = values.get(key)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and low <= value <= high:
        return value
    if value is None:
        raise VerserProtocolError(f"{what} has no {key}.")
    raise VerserProtocolError(
        f"{what} has {excerpt(value)} as {key}, where an integer from {low} to {high} is due."
    )


def milliseconds_field(values: dict[str, Any], key: str, what: str) -> int | None:
    """A duration in milliseconds, or None where it is absent or `null`."""
    if values.get(key) is None:
        return None
    return integer_field(values, key, what, 0, MAX_TIMEOUT_MILLISECONDS)


def flat_headers_field(values: dict[str, Any], key: str, what: str) -> dict[str, str]:
    """A flat map of names to texts, empty where it is absent or `null`."""
    headers = values.get(key)
    if headers is None:
        return {}
    if type(headers) is not dict:
        raise VerserProtocolError(f"{what} has {excerpt(headers)} as {key}, where an object is due.")
    for name, value in headers.items():
        if type(value) is not str:
            kind = "a number" if isinstance(value, int | float) else excerpt(value)
            raise VerserProtocolError(f"{what} has {kind} as header {excerpt(name)}, where a text is due.")
    return headers


def header_map_field(values: dict[str, Any], key: str, what: str) -> HeaderMap:
    """A map of names to texts or arrays of texts, empty where it is absent or `null`."""
    headers = values.get(key)
    if headers is None:
        return {}
    if type(headers) is not dict:
        raise VerserProtocolError(f"{what} has {excerpt(headers)} as {key}, where an object is due.")
    for name, value in headers.items():
        if type(value) is str or (type(value) is list and all(type(item) is str for item in value)):
            continue
        raise VerserProtocolError(
            f"{what} has a value of header {excerpt(name)} that is neither a text nor an array of texts."
        )
    return headers


def list_field(values: dict[str, Any], key: str, what: str) -> list[Any]:
    """An array, which has to be there."""
    value = values.get(key)
    if type(value) is list:
        return value
    if value is None:
        raise VerserProtocolError(f"{what} has no {key}.")
    raise VerserProtocolError(f"{what} has {excerpt(value)} as {key}, where an array is due.")


def context_of(value: object) -> ErrorContext:
    """What is usable of an error's context: texts, numbers and booleans (protocol.md §6).

    Lenient, since an error that explains itself badly is still that error.
    """
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str | int | float)}


def sendable_text(text: str) -> str:
    """A text for the wire: of bounded length, and writable as UTF-8."""
    if len(text) > MAX_ERROR_TEXT_CHARS:
        text = text[: MAX_ERROR_TEXT_CHARS - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def sendable_context(context: Mapping[str, object]) -> ErrorContext:
    """An error's context for the wire: few entries, bounded texts, numbers that JSON knows."""
    sendable: ErrorContext = {}
    for key, value in list(context.items())[:MAX_ERROR_CONTEXT_ENTRIES]:
        if isinstance(value, str):
            sendable[sendable_text(key)] = sendable_text(value)
        elif isinstance(value, int | float) and abs(value) < _LARGEST_SENT_NUMBER:
            sendable[sendable_text(key)] = value
        else:
            sendable[sendable_text(key)] = excerpt(value)
    return sendable

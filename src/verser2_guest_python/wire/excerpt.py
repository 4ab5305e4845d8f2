"""Bad values as an error message may show them: short, on one line, escaped, without secrets.

It stands apart because every module of this floor describes bad input, and each description may end
up in a log: control characters, line breaks and endless texts must not get there.
"""

from __future__ import annotations

import re
from typing import Final

from .limits import MAX_ERROR_TEXT_CHARS, MAX_EXCERPT_CHARS

# Controls of C0 and C1, line and paragraph separators, and what turns the direction of text around.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def excerpt(value: object) -> str:
    """A value from the wire, at most 80 characters long, in printable ASCII.

    Containers are only named: what they hold may be secret. Do not use it for header values.
    """
    if isinstance(value, str):
        shown = ascii(value[:MAX_EXCERPT_CHARS])
        return shown if len(shown) <= MAX_EXCERPT_CHARS else shown[: MAX_EXCERPT_CHARS - 4] + "...'"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    return f"a {type(value).__name__}"[:MAX_EXCERPT_CHARS]


def readable(text: str) -> str:
    """A text that another peer wrote for people: of bounded length, on one line, without controls.

    It may end up in a terminal or a log, where neither an escape sequence nor a line break may get.
    """
    if len(text) > MAX_ERROR_TEXT_CHARS:
        text = text[: MAX_ERROR_TEXT_CHARS - 1] + "…"
    return text if text.isprintable() else _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def path_excerpt(path: str) -> str:
    """A request path without its query, which may hold secrets."""
    head, mark, _ = path[: 4 * MAX_EXCERPT_CHARS].partition("?")
    return excerpt(head + mark)


def code_point(char: str) -> str:
    """A character by its number, such as `U+000A`."""
    return f"U+{ord(char):04X}"

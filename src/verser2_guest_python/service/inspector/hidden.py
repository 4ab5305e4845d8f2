"""What is secret by its name: header fields and query parameters that a page shows only when asked.

Apart because it is a rule about names, and because a screen may be shared: nothing here decides who may
look, only what is not seen at a glance.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Part: TypeAlias = tuple[str, bool]
"""A piece of text, and whether it is secret."""

_SECRET_FIELDS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-amz-security-token",
        "x-api-key",
        "x-auth-token",
        "x-csrf-token",
        "x-csrftoken",
        "x-goog-api-key",
        "x-hub-signature",
        "x-hub-signature-256",
        "x-xsrf-token",
    }
)
_SECRET_WORDS: Final = re.compile(
    r"(?:^|[-_.])(?:api-?key|auth|bearer|code-?verifier|credentials?|jwt|key|passphrase|passw(?:or)?d|pwd|secret"
    r"|session(?:-?id)?|sid|sig|signature|token)(?:$|[-_.])"
)
_SECRET_PARAMETERS: Final = frozenset({"apikey", "code", "otp", "pass", "ticket"})
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_FIELDS: Final = frozenset(
    {"content-location", "location", "referer", "refresh", "x-forwarded-uri", "x-original-url"}
)
_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_USER: Final = re.compile(r"(^[a-z][a-z0-9+.-]*://)([^/?#@]+)@", re.IGNORECASE)


def is_secret_field(name: str) -> bool:
    """Whether a header field's value is a secret."""
    name = name.lower()
    return name in _SECRET_FIELDS or _secret_word(name)


def is_secret_parameter(name: str) -> bool:
    """Whether a query parameter's value is a secret: `token`, `access_token`, `apiKey`, `X-Amz-Signature`."""
    name = _HUMP.sub("-", _PERCENT.sub(lambda match: chr(int(match[1], 16)), name))
    return name.lower() in _SECRET_PARAMETERS or _secret_word(name.lower())


def path_parts(path: str) -> list[Part]:
    """A path or URL in pieces: the values of secret query parameters apart, also those in its fragment."""
    parts: list[Part] = []
    user = _USER.match(path)
    if user is not None:
        parts += [(user[1], False), (user[2], True)]
        path = path[user.end() - 1 :]
    plain = ""
    for piece in re.split(r"([?&#;])", path):
        name, equals, value = piece.partition("=")
        if equals and value and is_secret_parameter(name):
            parts += [(plain + name + "=", False), (value, True)]
            plain = ""
        else:
            plain += piece
    if plain:
        parts.append((plain, False))
    return parts


def field_parts(name: str, value: str) -> list[Part]:
    """The value of a header field in pieces."""
    if is_secret_field(name):
        return [(value, True)] if value else []
    if name.lower() in _URL_FIELDS:
        return path_parts(value)
    return [(value, False)]


def _secret_word(name: str) -> bool:
    return _SECRET_WORDS.search(name) is not None

"""What nobody should read in a log or on a screen: credentials in URLs, headers, fields and texts.

Apart because what is shown gets pasted into reports, whoever shows it: one idea of what a secret looks
like, for the log and for `broker -v`.
"""

from __future__ import annotations

import re
from typing import Any, Final

MASK: Final = "***"
_WORDS: Final = "token|secret|passw|api[-_]?key|credential|signature|session"
_SECRET_HEADER: Final = re.compile(rf"^(?:proxy-)?authorization$|cookie|^x-auth|{_WORDS}", re.IGNORECASE)
_SECRET_QUERY: Final = re.compile(
    rf"([?&;](?:[^=&;#]*(?:{_WORDS})[^=&;#]*|auth|sig|key|code|user|pw|pwd)=)[^&;#\s]+", re.IGNORECASE
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*(?= )")
_URL_HEADERS: Final = frozenset({"location", "content-location", "referer"})

# Names of fields; `session_id` is none of them
_SECRET_FIELD: Final = re.compile(
    r"authorization|cookie|password|passwd|passphrase|secret|api[-_]?key|private[-_]?key|credential"
    r"|(?:^|[-_])tokens?$",
    re.IGNORECASE,
)
# `Cookie: a=b`, `'authorization': 'x'`, `(b'set-cookie', b'x')`: up to the end of the line or of the quote
_HEADER_IN_TEXT: Final = re.compile(
    r"""\b((?:proxy-)?authorization|set-cookie|cookie)((?:["']?\s*[:=]|["']\s*,)\s*b?["']?)([^"'\r\n]+)""",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"\b(bearer)\s+(?=\S*[\d._])[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+@")


def masked_url(url: str) -> str:
    """A URL or a path whose query tells no secret."""
    return _SECRET_QUERY.sub(rf"\1{MASK}", url)


def masked_header(name: str, value: str) -> str:
    """The value of a header, or as much of it as may be seen: a scheme, the name of a cookie."""
    name = name.lower()
    if name == "set-cookie":
        cookie, semicolon, attributes = value.partition(";")
        return f"{cookie.partition('=')[0]}={MASK}{semicolon}{attributes}"
    if name.endswith("authorization"):
        scheme = _SCHEME.match(value)
        return f"{scheme[0]} {MASK}" if scheme else MASK
    if _SECRET_HEADER.search(name):
        return MASK
    return masked_url(value) if name in _URL_HEADERS else value


def masked_text(text: str) -> str:
    """A text of anybody's, without what looks like a credential in it."""
    text = _HEADER_IN_TEXT.sub(rf"\1\2{MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _USER_OF_URL.sub(f"{MASK}@", text)
    return _SECRET_QUERY.sub(rf"\1{MASK}", text)


def masked_field(name: str, value: Any) -> Any:
    """The value of a field of a log line, however deep a secret is in it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_FIELD.search(name):
        return MASK
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, dict):
        return {inner: masked_field(_text(inner), one) for inner, one in value.items()}
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str | bytes):  # a header, as ASGI has it
            return [value[0], masked_field(_text(value[0]), value[1])]
        return [masked_field(name, one) for one in value]
    return masked_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _text(name: object) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)

"""What a request must be before it is passed on: one meaning, within limits.

Apart because a server before us may have read it leniently, and a Guest's app may read it in another way:
what could mean two things is refused (RFC 9112 §11.2), whichever ASGI server this runs in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from verser2_guest_python.errors import VerserProtocolError
from verser2_guest_python.wire.headers import is_field_value, is_token
from verser2_guest_python.wire.paths import check_path

from .limits import GatewayLimits
from .refusal import body_too_large, head_too_large, malformed
from .routing import is_authority

_FIELD_BYTES: Final = 4  # `: ` and the line's end
_LENGTH_DIGITS: Final = 19
_SAFE_IN_PATH: Final = "/:@-._~!$&'()*+,;=%"


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request: the authority it names, its target, and what is said of its body.

    `length` is None for a body of unknown length (`chunked`), 0 for none.
    """

    authority: str
    path: str
    length: int | None
    accept: bytes
    expects: bool


def check_request(scope: Any, limits: GatewayLimits) -> Asked:
    """What a scope asks for; raises a `Refusal` (400, 413, 431)."""
    if scope.get("method") == "CONNECT":  # what is behind it would be a tunnel to whoever is before us
        raise malformed("there are no tunnels here")
    host: str | None = None
    length: bytes | None = None
    chunked = expects = False
    accept: list[bytes] = []
    path = target_of(scope)
    size = len(scope.get("method", "GET")) + len(path)
    for raw_name, value in scope["headers"]:
        size += len(raw_name) + len(value) + _FIELD_BYTES
        name = raw_name.lower()
        text = value.decode("latin-1")
        if not is_token(name.decode("latin-1")):
            raise malformed("the name of a header holds a character that none may have")
        if not is_field_value(text):
            raise malformed(f"the header {name.decode()} holds a control character")
        if name == b"host":
            if host is not None:
                raise malformed("it has more than one host header")
            host = text.strip()
        elif name == b"content-length":
            if length is not None:
                raise malformed("it has more than one content-length")
            length = value.strip()
        elif name == b"transfer-encoding":
            if chunked or value.strip().lower() != b"chunked":
                raise malformed("its transfer-encoding is not just chunked")
            chunked = True
        elif name == b"accept":
            accept.append(value)
        elif name == b"expect":
            expects = True
    if size > limits.max_header_bytes:
        raise head_too_large(f"it takes {size:,} bytes, of {limits.max_header_bytes:,}")
    if host is None:
        raise malformed("it has no host header")
    if not is_authority(host):
        raise malformed("its host header is neither a name nor an address")
    return Asked(host, path, _length(scope, length, limits, chunked=chunked), b",".join(accept), expects)


def _length(scope: Any, said: bytes | None, limits: GatewayLimits, *, chunked: bool) -> int | None:
    if chunked:
        if said is not None:
            raise malformed("it has both a content-length and a transfer-encoding")
        if scope.get("http_version") == "1.0":
            raise malformed("HTTP/1.0 has no transfer-encoding")
        return None
    if said is None:
        return 0
    if not (said.isdigit() and len(said) <= _LENGTH_DIGITS):
        raise malformed("its content-length is not a number")
    length = int(said)
    if length > limits.max_body_bytes:
        raise body_too_large(limits.max_body_bytes)
    return length


def target_of(scope: Any) -> str:
    """Path and query as the client sent them, in ASCII; raises a `Refusal` for what is none."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"], safe=_SAFE_IN_PATH) if raw is None else raw.decode("latin-1")
    if query := scope.get("query_string", b""):
        path = f"{path}?{query.decode('latin-1')}"
    try:
        check_path(path, "it")
    except VerserProtocolError:
        raise malformed("its path is not one") from None
    return path

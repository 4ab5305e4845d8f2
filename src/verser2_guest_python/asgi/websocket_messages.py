"""What the messages of a WebSocket app may carry: each is checked and taken apart here.

Apart from the state machine of `websocket.py`, which knows when a message may come, because these
are rules about values, without any state. Each function raises `AsgiRuleError` that names the rule.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from verser2_guest_python.asgi.exceptions import AsgiRuleError
from verser2_guest_python.asgi.types import Headers, Message

WEBSOCKET_SPECIFICATION: Final = "ASGI WebSocket 2.5"

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
ABNORMAL_CLOSURE: Final = 1006
"""Only ever reported locally: the connection ended without a close (RFC 6455 §7.4.1)."""
INTERNAL_ERROR: Final = 1011
MAX_CLOSE_REASON_BYTES: Final = 123
"""RFC 6455 §5.5: 125 bytes of a control frame, less two for the code."""

_RESERVED_CODES: Final = frozenset({1004, 1005, 1006})


@dataclass(frozen=True, slots=True)
class WebSocketClosed:
    """The connection is over, and why: a code of RFC 6455 §7.4, and a text for people."""

    code: int
    reason: str = ""


def is_close_code(code: int) -> bool:
    """Whether a close may carry this code (RFC 6455 §7.4, protocol.md §11).

    Example::

        is_close_code(1000), is_close_code(1006)  # True, False
    """
    return (1000 <= code <= 1014 and code not in _RESERVED_CODES) or 3000 <= code <= 4999


def data_of(message: Message) -> str | bytes:
    """The one payload of `websocket.send`."""
    text, data = message.get("text"), message.get("bytes")
    if (text is None) == (data is None):
        raise broken_rule("websocket.send carries either text or bytes, and not both")
    if isinstance(text, str):
        return _encodable(text, "text of websocket.send")
    if text is not None:
        raise broken_rule(f"the text of websocket.send is a str, not {type(text).__name__}")
    return _bytes(data, "bytes of websocket.send")


def closing_of(message: Message, *, sent: bool = True) -> WebSocketClosed:
    """The code and reason of `websocket.close`.

    Before accepting no close is `sent`, and what refuses a handshake is an HTTP status: many an app
    puts that into `code`, so there only the types count.
    """
    code, reason = message.get("code"), message.get("reason")
    if code is None:
        code = NORMAL_CLOSURE
    if not isinstance(code, int) or isinstance(code, bool):
        raise broken_rule(f"the code of websocket.close is an int, not {type(code).__name__}")
    if reason is None:
        reason = ""
    if not isinstance(reason, str):
        raise broken_rule(f"the reason of websocket.close is a str, not {type(reason).__name__}")
    if sent:
        if not is_close_code(code):
            raise broken_rule(
                f"websocket.close with code {int(code)}: "
                "a code is 1000 to 1014 but not 1004, 1005 or 1006, or 3000 to 4999"
            )
        if len(_encodable(reason, "reason of websocket.close").encode()) > MAX_CLOSE_REASON_BYTES:
            raise broken_rule(
                f"the reason of websocket.close is at most {MAX_CLOSE_REASON_BYTES} bytes of UTF-8"
            )
    return WebSocketClosed(int(code), reason)


def subprotocol_of(message: Message, offered: Collection[str]) -> str | None:
    """The subprotocol of `websocket.accept`, one of those `offered`; an empty one is none."""
    subprotocol: object = message.get("subprotocol")
    if subprotocol is None or subprotocol == "":
        return None
    if not isinstance(subprotocol, str):
        raise broken_rule(f"the subprotocol of websocket.accept is a str, not {type(subprotocol).__name__}")
    if subprotocol not in offered:
        names = ", ".join(map(repr, offered)) or "none"
        raise broken_rule(f"websocket.accept with subprotocol {subprotocol!r}, but the client offers {names}")
    return subprotocol


def headers_of(message: Message) -> Headers:
    """The headers of `websocket.accept` or `websocket.http.response.start`, names in lower case."""
    kind = message["type"]
    headers: Headers = []
    try:
        for name, value in message.get("headers") or ():
            headers.append((bytes(memoryview(name)).lower(), bytes(memoryview(value))))
    except (TypeError, ValueError) as exc:
        raise broken_rule(f"the headers of {kind} are pairs of bytes") from exc
    for name, _ in headers:
        if name.startswith(b":"):
            raise broken_rule(f"the headers of {kind} have no pseudo-header such as {name.decode('latin-1')}")
        if name == b"sec-websocket-protocol" and kind == "websocket.accept":
            raise broken_rule(
                "the headers of websocket.accept have no sec-websocket-protocol: use subprotocol"
            )
    return headers


def denial_of(message: Message) -> tuple[int, Headers]:
    """The status and headers of `websocket.http.response.start`."""
    status = message.get("status")
    # protocol.md §6: what is below 200 cannot be said
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise broken_rule(f"the status of websocket.http.response.start is 200 to 599, not {status!r}")
    return int(status), headers_of(message)


def body_of(message: Message) -> bytes:
    """The body of `websocket.http.response.body`."""
    return _bytes(message.get("body", b""), "body of websocket.http.response.body")


def broken_rule(rule: str) -> AsgiRuleError:
    """The error for an app that breaks a rule of this specification."""
    return AsgiRuleError(f"{rule} ({WEBSOCKET_SPECIFICATION}).")


def _bytes(value: object, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise broken_rule(f"the {what} is bytes, not {type(value).__name__}")


def _encodable(text: str, what: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise broken_rule(f"the {what} has a lone surrogate, which UTF-8 cannot carry") from exc
    return text

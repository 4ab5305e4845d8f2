"""WebSocket messages, VWS/1: one JSON object a line (protocol.md §11).

They stand apart from the state of a WebSocket (who may say what when), which belongs to the roles:
here a line is a message or a violation, and a violation knows the close code it is answered with.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]  # as old as the module itself
from typing import Any, Final, TypeAlias

from verser2_guest_python.errors import VerserProtocolError

from .excerpt import excerpt
from .json_fields import (
    context_of,
    flat_headers_field,
    header_map_field,
    integer_field,
    sendable_context,
    sendable_text,
)
from .json_text import dump, dump_text, parse_object
from .limits import MAX_CLOSE_REASON_BYTES, MAX_VWS_LINE_BYTES
from .lines import LineParser, LineTooLong
from .paths import check_path

PROTOCOL_ERROR_CLOSE: Final = 1002
TOO_BIG_CLOSE: Final = 1009
ABNORMAL_CLOSE: Final = 1006
"""Only ever reported locally: the stream ended without `close`."""

_TEXT_START: Final = b'{"type":"text","data":"'
_UNSENDABLE_CLOSES: Final = frozenset({1004, 1005, 1006})


class VwsViolation(VerserProtocolError):
    """Code `protocol-error`: a line breaks VWS/1. Answer it with `close`, then reset.

    `close_code` is 1002, or 1009 for a line that is too long. `messages` were complete before it in
    the same bytes, and are still to be delivered.
    """

    close_code: int
    messages: list[Message]

    def __init__(
        self,
        message: str,
        *,
        close_code: int = PROTOCOL_ERROR_CLOSE,
        messages: list[Message] | None = None,
    ) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.messages = messages or []


@dataclass(frozen=True, slots=True)
class Open:
    """The Host asks a Guest for a WebSocket. `headers` is None unless the Broker sent some (§14)."""

    domain: str
    path: str = "/"
    protocol: str = ""
    headers: dict[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Accept:
    """The Guest took it. `protocol` is empty where none was chosen."""

    protocol: str = ""
    headers: dict[str, str | list[str]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A text message."""

    data: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a `Pong` of the same data."""

    data: str = ""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`."""

    data: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """The end, from either side."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Error:
    """The Guest did not take it."""

    code: str
    message: str = ""
    context: dict[str, str | int | float | bool] = field(default_factory=dict)


Message: TypeAlias = Open | Accept | Text | Binary | Ping | Pong | Close | Error
"""A line of VWS/1 (protocol.md §11)."""


def encode(message: Message) -> bytes:
    """A message as a line, newline included.

    Raises:
        VwsViolation: the line would exceed 1,048,576 bytes (`close_code` 1009), the close code or
            reason cannot be said, or a text is not writable as UTF-8.
    """
    try:
        line = _encode(message)
    except VwsViolation:
        raise
    except VerserProtocolError as error:
        raise VwsViolation(error.message) from None
    if len(line) > MAX_VWS_LINE_BYTES + 1:
        raise VwsViolation(
            f"The message takes {len(line) - 1:,} bytes as a line, which can have {MAX_VWS_LINE_BYTES:,}.",
            close_code=TOO_BIG_CLOSE,
        )
    return line


def _encode(message: Message) -> bytes:
    if isinstance(message, Text):
        return b'{"type":"text","data":%b}\n' % dump_text(message.data)
    if isinstance(message, Binary):
        return b'{"type":"binary","data":"%b"}\n' % b2a_base64(message.data, newline=False)
    values: dict[str, Any]
    match message:
        case Ping(data):
            values = {"type": "ping", "data": data}
        case Pong(data):
            values = {"type": "pong", "data": data}
        case Close(code, reason):
            _check_close(code, reason)
            values = {"type": "close", "code": code, "reason": reason}
        case Open(domain, path, protocol, headers):
            values = {"type": "open", "domain": domain, "path": path}
            if protocol:
                values["protocol"] = protocol
            if headers is not None:
                values["headers"] = headers
        case Accept(protocol, accept_headers):
            values = {"type": "accept"}
            if protocol:
                values["protocol"] = protocol
            if accept_headers is not None:
                values["headers"] = accept_headers
        case Error(error_code, text, context):
            values = {
                "type": "error",
                "code": error_code,
                "message": sendable_text(text),
                "context": sendable_context(context),
            }
    return dump(values) + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line without its newline.

    Raises:
        VwsViolation: it is none.
    """
    if line.startswith(_TEXT_START) and b"\\" not in line:  # nearly every message: it need not be taken apart
        with suppress(ValueError):  # what is wrong with it is told below
            text = line.decode()
            data, end = scanstring(text, len(_TEXT_START))
            if text[end:] == "}":
                return Text(data)
    try:
        values = parse_object(line, "The WebSocket line")
        kind = values.get("type")
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            raise VwsViolation(f"The WebSocket line has {excerpt(kind)} as type, which is not known.")
        return reader(values, f"The WebSocket message {kind!r}")
    except VwsViolation:
        raise
    except VerserProtocolError as error:
        raise VwsViolation(error.message) from None


class VwsParser:
    """Messages from however many pieces they come in. Keeps at most one line of 1,048,576 bytes.

    Example:
        parser = VwsParser()
        for message in parser.feed(data):
            ...
    """

    __slots__ = ("_lines", "_violation")

    def __init__(self) -> None:
        self._lines = LineParser(MAX_VWS_LINE_BYTES)
        self._violation: VwsViolation | None = None

    @property
    def pending(self) -> int:
        """Bytes of the line that is not complete yet."""
        return self._lines.pending

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes.

        Raises:
            VwsViolation: a line is none; its `messages` came before it. Any further call raises again.
        """
        if self._violation is not None:
            raise VwsViolation(self._violation.message, close_code=self._violation.close_code)
        too_long: LineTooLong | None = None
        try:
            lines = self._lines.feed(data)
        except LineTooLong as error:
            too_long = error
            lines = error.lines
        messages: list[Message] = []
        for line in lines:
            try:
                messages.append(decode(line))
            except VwsViolation as violation:
                violation.messages = messages
                self._violation = violation
                raise
        if too_long is not None:
            self._violation = VwsViolation(too_long.message, close_code=TOO_BIG_CLOSE, messages=messages)
            raise self._violation
        return messages


def _text(values: dict[str, Any], key: str, what: str, default: str | None = None) -> str:
    """A text; with a default it may be absent, but not `null`: a Node peer would end it with 1002."""
    value = values.get(key, default)
    if type(value) is str:
        return value
    if value is None and key not in values:
        raise VwsViolation(f"{what} has no {key}.")
    raise VwsViolation(f"{what} has {excerpt(value)} as {key}, where a text is due.")


def _read_open(values: dict[str, Any], what: str) -> Open:
    domain = _text(values, "domain", what)
    if not domain:
        raise VwsViolation(f"{what} has an empty domain.")
    path = _text(values, "path", what, "/") or "/"
    check_path(path, what)
    headers = flat_headers_field(values, "headers", what) if "headers" in values else None
    return Open(domain, path, _text(values, "protocol", what, ""), headers)


def _read_accept(values: dict[str, Any], what: str) -> Accept:
    headers = header_map_field(values, "headers", what) if "headers" in values else None
    return Accept(_text(values, "protocol", what, ""), headers)


def _read_text(values: dict[str, Any], what: str) -> Text:
    return Text(_text(values, "data", what))


def _read_binary(values: dict[str, Any], what: str) -> Binary:
    text = _text(values, "data", what)
    try:
        data = a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one, and so is a text beyond ASCII
        raise VwsViolation(f"{what} has data that is not base64.") from None
    # Several texts decode alike where bits are left over (RFC 4648 §3.5); only one of them is right.
    tail = len(data) % 3 or 3
    if b2a_base64(data[-tail:], newline=False) != text[-4:].encode():
        raise VwsViolation(f"{what} has data that is not base64.")
    return Binary(data)


def _read_ping(values: dict[str, Any], what: str) -> Ping:
    return Ping(_text(values, "data", what, ""))


def _read_pong(values: dict[str, Any], what: str) -> Pong:
    return Pong(_text(values, "data", what, ""))


def _read_close(values: dict[str, Any], what: str) -> Close:
    code = integer_field(values, "code", what, 1000, 4999)
    reason = _text(values, "reason", what, "")
    _check_close(code, reason)
    return Close(code, reason)


def _read_error(values: dict[str, Any], what: str) -> Error:
    code = _text(values, "code", what)
    if not code:
        raise VwsViolation(f"{what} has an empty code.")
    return Error(code, _text(values, "message", what, ""), context_of(values.get("context")))


_READERS: Final[dict[str, Callable[[dict[str, Any], str], Message]]] = {
    "open": _read_open,
    "accept": _read_accept,
    "text": _read_text,
    "binary": _read_binary,
    "ping": _read_ping,
    "pong": _read_pong,
    "close": _read_close,
    "error": _read_error,
}


def is_close_code(code: int) -> bool:
    """Whether a close code may be on the wire (protocol.md §11)."""
    return (1000 <= code <= 1014 and code not in _UNSENDABLE_CLOSES) or 3000 <= code <= 4999


def _check_close(code: int, reason: str) -> None:
    if type(code) is not int or not is_close_code(code):
        raise VwsViolation(f"The close code {excerpt(code)} cannot be on the wire.")
    size = len(reason.encode("utf-8", "replace"))
    if size > MAX_CLOSE_REASON_BYTES:
        raise VwsViolation(
            f"The close reason takes {size:,} bytes; at most {MAX_CLOSE_REASON_BYTES} are possible."
        )

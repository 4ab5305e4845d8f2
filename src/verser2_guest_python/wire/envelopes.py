"""Envelopes: the head of a request, a response or an error on a lease (protocol.md §6).

    offset 0  version, 0x01    1  type    2  metadata length N, four bytes    6  metadata, JSON    6+N  body

They stand apart because they are the hot path: each request passes one decoder and one encoder. A
head is handed out whole, so that it can leave in one DATA frame (protocol.md §12.1); one that is too
large for that is refused here, by whoever would have sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from struct import Struct
from typing import Any, Final, TypeAlias

from verser2_guest_python.errors import (
    ErrorContext,
    LocalHandlerFailureError,
    RequestHeadTooLargeError,
    VerserProtocolError,
)

from .excerpt import excerpt
from .headers import HeaderMap, is_token
from .json_fields import (
    context_of,
    flat_headers_field,
    header_map_field,
    integer_field,
    milliseconds_field,
    optional_text_field,
    sendable_context,
    sendable_text,
    text_field,
)
from .json_text import dump, parse_object
from .limits import (
    ENVELOPE_PREFIX_BYTES,
    MAX_CODE_CHARS,
    MAX_HEAD_BYTES,
    MAX_ID_CHARS,
    MAX_METADATA_BYTES,
    MAX_STATUS,
    MIN_STATUS,
)
from .paths import check_path

VERSION: Final = 1
REQUEST: Final = 1
RESPONSE: Final = 2
ERROR: Final = 3

_PREFIX: Final = Struct(">BBI")
_LARGEST_SENT_METADATA_BYTES: Final = MAX_HEAD_BYTES - ENVELOPE_PREFIX_BYTES


@dataclass(slots=True)
class RequestHead:
    """A request for an app: what it asks, and of whom.

    `headers` are as they came: texts, but not yet checked; `headers.request_fields` does that.
    """

    request_id: str
    source_id: str
    target_id: str
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    route_domain: str | None = None
    timeout_ms: int | None = None


@dataclass(slots=True)
class ResponseHead:
    """An app's answer: `headers` as they came; `headers.response_fields` checks them."""

    request_id: str
    status_code: int
    headers: HeaderMap = field(repr=False)


@dataclass(slots=True)
class ErrorHead:
    """Instead of an answer: why there is none."""

    request_id: str
    code: str
    message: str
    context: ErrorContext


Head: TypeAlias = RequestHead | ResponseHead | ErrorHead


def encode_request(head: RequestHead) -> bytes:
    """A request head in one piece.

    Raises:
        RequestHeadTooLargeError: it exceeds 16,375 bytes (protocol.md §12.1; HTTP 431).
        VerserProtocolError: JSON cannot say it.
    """
    metadata: dict[str, Any] = {
        "requestId": head.request_id,
        "sourceId": head.source_id,
        "targetId": head.target_id,
        "method": head.method,
        "path": head.path,
        "headers": head.headers,
    }
    if head.route_domain is not None:
        metadata["routeDomain"] = head.route_domain
    if head.timeout_ms is not None:
        metadata["timeoutMs"] = head.timeout_ms
    text = dump(metadata)
    if len(text) > _LARGEST_SENT_METADATA_BYTES:
        raise RequestHeadTooLargeError(
            f"Path and headers of the request take {len(text) + ENVELOPE_PREFIX_BYTES:,} bytes, and a "
            f"request head has room for {MAX_HEAD_BYTES:,}: send fewer or shorter headers.",
            context={"headBytes": len(text) + ENVELOPE_PREFIX_BYTES, "limitBytes": MAX_HEAD_BYTES},
        )
    return _PREFIX.pack(VERSION, REQUEST, len(text)) + text


def encode_response(request_id: str, status_code: int, headers: HeaderMap) -> bytes:
    """A response head in one piece.

    Args:
        request_id: the request's.
        status_code: 200 to 599.
        headers: what `headers.response_headers` made; they are not checked again.

    Raises:
        LocalHandlerFailureError: it exceeds 16,375 bytes (protocol.md §12.1).
        VerserProtocolError: the status cannot be said, or JSON cannot say the rest.
    """
    if type(status_code) is not int or not MIN_STATUS <= status_code <= MAX_STATUS:
        _refuse_status(status_code)
    text = _response_metadata(request_id, status_code, headers)
    if len(text) > _LARGEST_SENT_METADATA_BYTES:
        raise LocalHandlerFailureError(
            f"The response headers take {len(text) + ENVELOPE_PREFIX_BYTES:,} bytes, and a response head has "
            f"room for {MAX_HEAD_BYTES:,}: answer with fewer or shorter headers.",
            context={"headBytes": len(text) + ENVELOPE_PREFIX_BYTES, "limitBytes": MAX_HEAD_BYTES},
        )
    return _PREFIX.pack(VERSION, RESPONSE, len(text)) + text


def encode_error(
    request_id: str, code: str, message: str, context: Mapping[str, str | int | float | bool]
) -> bytes:
    """An error head in one piece. It always fits: texts are shortened, the context goes if it must."""
    said = sendable_text(message)
    metadata = {
        "requestId": request_id[:MAX_ID_CHARS].encode("utf-8", "replace").decode(),
        "code": sendable_text(code[:MAX_CODE_CHARS]),
        "message": said,
        "context": sendable_context(context),
    }
    text = dump(metadata)
    if len(text) > _LARGEST_SENT_METADATA_BYTES:
        text = dump({**metadata, "message": said[:200], "context": {}})
    return _PREFIX.pack(VERSION, ERROR, len(text)) + text


def _response_metadata(request_id: str, status_code: int, headers: HeaderMap) -> bytes:
    """Written by hand: a third of what a JSON encoder takes, for each response of each Guest."""
    quote = encode_basestring
    try:
        said = ",".join(
            [
                f"{quote(name)}:{quote(value)}"
                if isinstance(value, str)
                else f"{quote(name)}:[{','.join(map(quote, value))}]"
                for name, value in headers.items()
            ]
        )
        text = f'{{"requestId":{quote(request_id)},"statusCode":{status_code},"headers":{{{said}}}}}'
        return text.encode()
    except TypeError:
        reason = "a name or a value of its headers, or its id, is no text"
    except UnicodeEncodeError:
        reason = "a text in it holds half of a surrogate pair"
    raise VerserProtocolError(f"The response head cannot be said in JSON: {reason}.")


class EnvelopeParser:
    """Assembles one head from however many pieces it comes in.

    `feed` returns the head once, when it is complete. Body bytes that came with it are in `rest`;
    so are those of a later `feed`, which returns None. At most 65,542 bytes are kept.

    Example:
        parser = EnvelopeParser()
        head = parser.feed(data)
        if head is not None:
            body = parser.rest
    """

    __slots__ = ("_error", "_waiting", "complete", "rest", "started")

    rest: bytes
    """Bytes of the last `feed` that lie behind the head."""
    started: bool
    """Whether any byte has come."""
    complete: bool
    """Whether the head was returned."""

    def __init__(self) -> None:
        self.rest = b""
        self.started = False
        self.complete = False
        self._waiting: bytearray | None = None
        self._error: str | None = None

    def feed(self, data: bytes) -> Head | None:
        """Takes the next bytes of the stream.

        Raises:
            VerserProtocolError: version, type, length or metadata are wrong. The stream is beyond
                repair: any further call raises the same.
        """
        if self.complete:
            self.rest = data
            return None
        if self._error is not None:
            raise VerserProtocolError(self._error)
        if not data:
            return None
        self.started = True
        try:
            return self._take(data)
        except VerserProtocolError as error:
            self._error = error.message
            self._waiting = None
            raise

    def _take(self, data: bytes) -> Head | None:
        waiting = self._waiting
        if waiting is None:
            end = _head_end(data)
            if end is None or len(data) < end:
                self._waiting = bytearray(data)
                return None
            start = data
            metadata = data[ENVELOPE_PREFIX_BYTES:end]
            rest = data[end:]
        else:
            had = len(waiting)
            waiting += data[: ENVELOPE_PREFIX_BYTES + MAX_METADATA_BYTES - had]
            end = _head_end(waiting)
            if end is None or len(waiting) < end:
                return None
            start = bytes(waiting[:ENVELOPE_PREFIX_BYTES])
            metadata = bytes(waiting[ENVELOPE_PREFIX_BYTES:end])
            rest = data[end - had :]
        head = _READERS[start[1]](parse_object(metadata, "Envelope metadata"))
        self._waiting = None
        self.rest = rest
        self.complete = True
        return head


def _head_end(data: bytes | bytearray) -> int | None:
    """Where the head ends, or None where that cannot be known yet. Checks what can be checked."""
    if data[0] != VERSION:
        raise VerserProtocolError(f"The envelope is of version {data[0]}; only version 1 is known.")
    if len(data) > 1 and data[1] not in _READERS:
        raise VerserProtocolError(f"The envelope is of type {data[1]}; only types 1 to 3 are known.")
    if len(data) < ENVELOPE_PREFIX_BYTES:
        return None
    length: int = _PREFIX.unpack_from(data)[2]
    if length > MAX_METADATA_BYTES:
        raise VerserProtocolError(
            f"The envelope announces {length:,} bytes of metadata; at most {MAX_METADATA_BYTES:,} are read."
        )
    return ENVELOPE_PREFIX_BYTES + length


def _read_request(values: dict[str, Any]) -> RequestHead:
    what = "The request envelope"
    request_id = _read_id(values, what)
    method = text_field(values, "method", what)
    if not is_token(method):
        raise VerserProtocolError(f"{what} has {excerpt(method)} as method, which is not a token.")
    path = text_field(values, "path", what)
    check_path(path, what)
    return RequestHead(
        request_id,
        text_field(values, "sourceId", what, ""),
        text_field(values, "targetId", what, ""),
        method,
        path,
        flat_headers_field(values, "headers", what),
        optional_text_field(values, "routeDomain", what),
        milliseconds_field(values, "timeoutMs", what),
    )


def _read_response(values: dict[str, Any]) -> ResponseHead:
    what = "The response envelope"
    request_id = _read_id(values, what)
    status = integer_field(values, "statusCode", what, MIN_STATUS, MAX_STATUS)
    return ResponseHead(request_id, status, header_map_field(values, "headers", what))


def _read_error(values: dict[str, Any]) -> ErrorHead:
    what = "The error envelope"
    message = values.get("message")
    return ErrorHead(
        _read_id(values, what),
        text_field(values, "code", what),
        message if isinstance(message, str) else "",
        context_of(values.get("context")),
    )


def _read_id(values: dict[str, Any], what: str) -> str:
    request_id = text_field(values, "requestId", what)
    if len(request_id) > MAX_ID_CHARS:
        raise VerserProtocolError(
            f"{what} has a requestId of {len(request_id):,} characters; at most {MAX_ID_CHARS:,} are read."
        )
    return request_id


_READERS: Final[dict[int, Callable[[dict[str, Any]], Head]]] = {
    REQUEST: _read_request,
    RESPONSE: _read_response,
    ERROR: _read_error,
}


def _refuse_status(status_code: object) -> None:
    raise VerserProtocolError(
        f"The status {excerpt(status_code)} cannot be said: it has to be an integer from 200 to 599."
    )

"""A Guest's envelope as an answer to a Broker: what passes, what is stripped, what is refused.

Apart from the exchange because these are rules about values (protocol.md §6, §8, §13), without
streams.
"""

from __future__ import annotations

from dataclasses import dataclass

from verser2_guest_python.errors import LocalHandlerFailureError, VerserError, VerserProtocolError
from verser2_guest_python.wire.envelopes import ErrorHead, RequestHead, ResponseHead
from verser2_guest_python.wire.headers import header_block_bytes, response_fields
from verser2_guest_python.wire.limits import MAX_BROKER_HEADER_BLOCK_BYTES

_OWN_FIELDS_BYTES = 256  # room for `:status`, `date` and `server-timing`
_MAX_CONTENT_LENGTH_DIGITS = 18
_BODILESS = frozenset({204, 304})  # RFC 9110 §6.4.1; a HEAD answer besides


@dataclass(slots=True)
class Answer:
    """A response head, ready to be sent. `content_length` is None where no body of known length follows."""

    status: int
    fields: list[tuple[bytes, bytes]]
    content_length: int | None
    skip_body: bool
    dated: bool


def read_answer(
    head: RequestHead | ResponseHead | ErrorHead, request_id: str, method: str
) -> Answer | VerserError:
    """What the Guest said: an answer, or an error that the Broker is told.

    Raises `VerserProtocolError` for what no Guest may say.
    """
    if head.request_id != request_id:
        raise VerserProtocolError("The Guest answered another request than the one on its lease.")
    if isinstance(head, ResponseHead):
        return _answer(head, method)
    if isinstance(head, ErrorHead):
        return _error(head)
    raise VerserProtocolError("The Guest sent a request envelope where an answer is due.")


def _error(head: ErrorHead) -> VerserError:
    """Deployed Brokers know one code from here; every other becomes `protocol-error` (protocol.md §6)."""
    if head.code == LocalHandlerFailureError.default_code:
        return LocalHandlerFailureError(head.message, context=head.context)
    return VerserProtocolError(head.message, context=head.context)


def _answer(head: ResponseHead, method: str) -> Answer:
    fields = response_fields(head.headers)
    if header_block_bytes(fields) > MAX_BROKER_HEADER_BLOCK_BYTES - _OWN_FIELDS_BYTES:
        raise VerserProtocolError("The response headers are too large to be passed on (64 KiB).")
    status = head.status_code
    bodiless = method == "HEAD" or status in _BODILESS
    length: bytes | None = None
    dated = False
    for name, value in fields:
        if name == b"content-length":
            if length is not None and length != value:
                raise VerserProtocolError("The response has two different content-length headers.")
            length = value
        elif name == b"date":
            dated = True
    if length is None or bodiless:
        # The tunnelled request is a POST: with content-length, no body would look like a cut one (§13).
        if length is not None:
            fields = [field for field in fields if field[0] != b"content-length"]
        return Answer(status, fields, None, bodiless, dated)
    if not length.isdigit() or len(length) > _MAX_CONTENT_LENGTH_DIGITS:
        raise VerserProtocolError("The response's content-length is not a number.")
    return Answer(status, fields, int(length), skip_body=False, dated=dated)

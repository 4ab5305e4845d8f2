"""What a Host says for itself: JSON answers and error objects, and how it takes leave of a stream.

Apart because every path answers errors the same way (protocol.md §8), and because the small answer
to a peer that does not read must not hold anybody up, nor wait for ever.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

from verser2_guest_python.errors import WIRE_CODES, VerserError, VerserProtocolError
from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.http2 import ErrorCode, FieldBlock, Http2Error, Stream
from verser2_guest_python.wire.errors_wire import encode_error_object
from verser2_guest_python.wire.names import ERROR_FIELD, JSON_TYPE

ERROR_STATUS = 502
HEAD_TOO_LARGE_STATUS = 431

_JSON = (b"content-type", JSON_TYPE)


class HttpDate:
    """The `date` header's value, made once a second (RFC 9110 §6.6.1)."""

    __slots__ = ("_second", "_value")

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._value = formatdate(second, usegmt=True).encode("ascii")
        return self._value


def error_mark(error: VerserError) -> tuple[bytes, bytes]:
    """The field that marks an answer as an error of the Host's own (protocol.md §14)."""
    code = error.code if error.code in WIRE_CODES else VerserProtocolError.default_code
    return (ERROR_FIELD, code.encode("ascii"))


def dismiss(stream: Stream) -> None:
    """Our side of the stream has ended, and the rest of the peer's is of no use.

    A peer that still sends is asked to stop (RFC 9113 §8.1); the answer stays valid (protocol.md §7).
    """
    if stream.ended:
        stream.discard()
    else:
        stream.reset(ErrorCode.NO_ERROR)


class Answers:
    """Sends the Host's own answers."""

    def __init__(self, tasks: Tasks, wait_seconds: float) -> None:
        self.date = HttpDate()
        self._tasks = tasks
        self._wait_seconds = wait_seconds
        self._json: dict[int, FieldBlock] = {}

    def send_error(self, stream: Stream, error: VerserError, status: int = ERROR_STATUS) -> None:
        """Answers with an error object, and ends the stream."""
        self.send_json(stream, status, encode_error_object(error), error_mark(error))

    def send_json(self, stream: Stream, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
        """Answers with a JSON body, and ends the stream; one that is gone already needs no answer."""
        if stream.error is not None:
            return
        block = self._json.get(status)
        if block is None:
            block = self._json[status] = FieldBlock([(b":status", b"%d" % status), _JSON])
        length = (b"content-length", b"%d" % len(body))
        try:
            stream.send_fields(block, [length, (b"date", self.date()), *extra])
            if stream.write_now(body, end=True):
                dismiss(stream)
                return
        except Http2Error:
            return
        self._tasks.spawn(self._send_slowly(stream, body), "verser host: answer")

    async def _send_slowly(self, stream: Stream, body: bytes) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await stream.write(body, end=True)
        except Http2Error:
            return
        except TimeoutError:
            stream.reset(ErrorCode.CANCEL)
            return
        dismiss(stream)

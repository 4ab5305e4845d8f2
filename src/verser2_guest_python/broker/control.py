"""The control stream of a Broker: its registration, and what the Host says of routes ever after.

Apart because it is a conversation of its own, in lines (protocol.md §3): the first one answers the
registration, all later ones change the route table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from verser2_guest_python.errors import StreamFailureError, VerserError, VerserProtocolError
from verser2_guest_python.http2 import Http2Error, Session, Stream
from verser2_guest_python.peer import HostAddress, peer_block, refused, status_of, verser_error
from verser2_guest_python.wire.limits import MAX_CONTROL_LINE_BYTES, MAX_EXCHANGE_BODY_BYTES
from verser2_guest_python.wire.lines import LineParser
from verser2_guest_python.wire.names import JSON_TYPE, REGISTER_PATH
from verser2_guest_python.wire.registration import (
    Registration,
    encode_registration,
    parse_registration_answer,
)
from verser2_guest_python.wire.routes import Lifecycle, Registered, RoutesTable, parse_control_line

ControlMessage: TypeAlias = Registered | RoutesTable | Lifecycle


class ControlStream:
    """The registration stream of one session."""

    def __init__(self, session: Session, address: HostAddress) -> None:
        self._session = session
        self._address = address
        self._block = peer_block(address, REGISTER_PATH)
        self._lines = LineParser(MAX_CONTROL_LINE_BYTES)
        self._stream: Stream | None = None
        self._early: list[bytes] = []

    async def register(self, registration: Registration) -> Registered:
        """Registers; returns the Host's first line, or raises why it refused."""
        try:
            stream = self._stream = self._session.open(self._block, ((b"content-type", JSON_TYPE),))
            await stream.write(encode_registration(registration), end=True)
            status = status_of(await stream.wait_fields())
            if status != 200:
                return self._read_answer(registration, status, await _whole(stream))
            while not self._early:
                chunk = await stream.read()
                self._early = self._lines.feed(chunk or b"\n")  # a refusal may end without a newline
                if not chunk and not self._early:
                    raise StreamFailureError("The Host ended the registration before it answered.")
        except Http2Error as error:
            raise verser_error(error) from error
        return self._read_answer(registration, status, self._early.pop(0))

    def _read_answer(self, registration: Registration, status: int, body: bytes) -> Registered:
        try:
            return parse_registration_answer(status, body)
        except VerserError as error:
            raise refused(error, self._address, registration.peer_id) from None

    async def follow(self, on_message: Callable[[ControlMessage], None]) -> None:
        """Gives every further message to `on_message`, until the Host ends the stream.

        Raises `VerserProtocolError` for a line that is not JSON or too long, and what reading the
        stream raises.
        """
        stream = self._stream
        if stream is None:
            raise RuntimeError("follow() comes after register()")
        lines, self._early = self._early, []
        while True:
            for line in lines:
                message = parse_control_line(line)
                if message is not None:
                    on_message(message)
            chunk = await stream.read()
            if not chunk:
                return
            lines = self._lines.feed(chunk)


async def _whole(stream: Stream) -> bytes:
    body = bytearray()
    while chunk := await stream.read():
        body += chunk
        if len(body) > MAX_EXCHANGE_BODY_BYTES:
            raise VerserProtocolError("The Host's answer to the registration is too long.")
    return bytes(body)

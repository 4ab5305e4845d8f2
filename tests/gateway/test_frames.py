"""Frames that no WebSocket client should send, as the Autobahn suite tries them: each has its close code."""

from __future__ import annotations

import struct

import pytest

from tests.gateway.raw import Raw, connected
from tests.gateway.test_websockets import sockets
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import Certificates
from tests.support.waiting import until

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HANDSHAKE = (
    f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """A frame; its mask is four zeros, which leaves the data as it is."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask = 0x80 if masked else 0
    if len(data) < 126:
        head = struct.pack("!BB", first, mask | len(data))
    elif len(data) < 65_536:
        head = struct.pack("!BBH", first, mask | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, mask | 127, len(data))
    return head + (bytes(4) if masked else b"") + data


async def answer(raw: Raw) -> tuple[int, bytes]:
    """Opcode and data of the next frame."""
    first, second = await raw.reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", await raw.reader.readexactly(2))
    return first & 0x0F, await raw.reader.readexactly(length)


WRONG = {
    "a reserved opcode": (frame(3, b"x"), 1002),
    "a reserved control opcode": (frame(11), 1002),
    "a reserved bit": (frame(TEXT, b"x", reserved=4), 1002),
    "no mask": (frame(TEXT, b"x", masked=False), 1002),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a ping in pieces": (frame(PING, b"x", fin=False), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a text within a text": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "bytes that are no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "UTF-8 that is cut": (frame(TEXT, b"\xe2\x82"), 1007),
    "no UTF-8 in pieces": (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x28\xa1"), 1007),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close with 1005": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "a close with 999": (frame(CLOSE, struct.pack("!H", 999)), 1002),
    "a close whose reason is no UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "a length of 2^63": (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1009),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_frames(certs: Certificates, name: str) -> None:
    data, code = WRONG[name]
    async with sockets(certs) as place, connected(place.port) as raw:
        raw.say(HANDSHAKE)
        assert (await raw.head())[0] == 101
        raw.say(frame(TEXT, b"before") + data)
        told = [await answer(raw)]
        while told[-1][0] != CLOSE:
            told.append(await answer(raw))
        assert struct.unpack("!H", told[-1][1][:2])[0] in {code, 1002}
        await raw.rest()
        await until(lambda: place.diary.active == 0)  # the app learns of it
        assert all(record.close_code for record in await place.recorded(1))


async def test_control_frames_between_pieces(certs: Certificates) -> None:
    async with sockets(certs) as place, connected(place.port) as raw:
        raw.say(HANDSHAKE)
        assert (await raw.head())[0] == 101
        raw.say(frame(TEXT, b"\xe2\x82", fin=False) + frame(PING, b"p" * 125))
        assert await answer(raw) == (PONG, b"p" * 125)
        raw.say(frame(PONG, b"not asked for") + frame(CONTINUATION, b"\xac", fin=False) + frame(CONTINUATION))
        assert await answer(raw) == (TEXT, "\u20ac".encode())
        raw.say(frame(CLOSE))
        assert (await answer(raw))[0] == CLOSE
        await until(lambda: bool(place.diary.events))

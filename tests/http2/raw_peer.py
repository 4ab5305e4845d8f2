"""A peer that speaks TLS and TCP by itself and HTTP/2 by hand: it sees what is on the wire.

It decrypts record by record, so that it can tell which frames lie in which TLS record, and it sends
exactly the bytes that a test wants, right or wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tests.http2 import frames as h2f
from tests.http2.frames import Frame, Hpack

RECORD_HEADER_BYTES = 5


@dataclass
class Record:
    """The plaintext of one TLS record, and whether whole frames fill it."""

    data: bytes
    frames: list[Frame]
    whole: bool


@dataclass
class Outcome:
    """How the connection ended, as this end saw it."""

    close_notify: bool = False
    eof: bool = False
    error: Exception | None = None
    lost: bool = False
    failure: ssl.SSLError | None = None


@dataclass
class Answer:
    """What came on one stream."""

    fields: list[h2f.Fields] = field(default_factory=list)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None


class RawPeer(asyncio.Protocol):
    """One end of a connection; `server_side` says which."""

    def __init__(
        self, tls: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._server_side = server_side
        self._cipher = b""
        self._plain = b""
        self._preface_left = len(h2f.PREFACE) if server_side else 0
        self._wakers: list[asyncio.Future[None]] = []
        self._auto_credit = False
        self.handshaken = False
        self.answers_pings = True
        self.tcp: asyncio.Transport
        self.records: list[Record] = []
        self.frames: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.hpack = Hpack()
        self.outcome = Outcome()
        self._block = b""
        self._next_id = 1

    # --- Making one -----------------------------------------------------------------------

    @classmethod
    async def dial(cls, port: int, tls: ssl.SSLContext, host: str = "127.0.0.1") -> RawPeer:
        """A client that has said nothing yet but TLS."""
        loop = asyncio.get_running_loop()
        peer = cls(tls, server_hostname="localhost")
        await loop.create_connection(lambda: peer, host, port)
        await peer.until(lambda: peer.handshaken or peer.outcome.lost)
        return peer

    def greet(self, settings: dict[int, int] | None = None, *, window: int = 0) -> None:
        """The preface (of a client), SETTINGS, an ACK of theirs, and more connection window."""
        self.send(
            b"" if self._server_side else h2f.PREFACE,
            h2f.settings_frame(settings),
            h2f.SETTINGS_ACK,
            h2f.window_update(0, window) if window else b"",
        )

    # --- TCP ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tcp = cast("asyncio.Transport", transport)
        if not self._server_side:
            self._handshake()

    def data_received(self, data: bytes) -> None:
        self._cipher += data
        while len(self._cipher) >= RECORD_HEADER_BYTES:
            end = RECORD_HEADER_BYTES + int.from_bytes(self._cipher[3:5], "big")
            if len(self._cipher) < end:
                break
            self._incoming.write(self._cipher[:end])
            self._cipher = self._cipher[end:]
            self._record()
        self._wake()

    def eof_received(self) -> bool:
        self.outcome.eof = True
        self._wake()
        return True  # stay half open: the test decides

    def connection_lost(self, exc: Exception | None) -> None:
        self.outcome.lost = True
        self.outcome.error = exc
        self._wake()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
            self.handshaken = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.outcome.failure = error
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.tcp.write(self._outgoing.read())

    def _record(self) -> None:
        if not self.handshaken:
            self._handshake()
            if not self.handshaken:
                return
        plain = b""
        try:
            while chunk := self._tls.read(65_536):
                plain += chunk
            self.outcome.close_notify = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.outcome.close_notify = True
        except ssl.SSLError as error:
            self.outcome.failure = error
        if plain:
            self._understand(plain)

    # --- HTTP/2 ---------------------------------------------------------------------------

    def _understand(self, plain: bytes) -> None:
        began_whole = not self._plain
        data = self._plain + plain
        if self._preface_left:
            assert data[: self._preface_left] == h2f.PREFACE[-self._preface_left :][: len(data)]
            taken = min(len(data), self._preface_left)
            data = data[taken:]
            self._preface_left -= taken
        found, self._plain = h2f.split_frames(data)
        self.records.append(Record(plain, found, began_whole and not self._plain))
        for one in found:
            self.frames.append(one)
            self._account(one)

    def _account(self, one: Frame) -> None:
        answer = self.answers.setdefault(one.stream_id, Answer()) if one.stream_id else Answer()
        if one.kind in (h2f.HEADERS, h2f.CONTINUATION):
            self._block += one.payload
            if one.flags & h2f.END_HEADERS:
                answer.fields.append(self.hpack.decode(self._block))
                self._block = b""
        elif one.kind == h2f.DATA:
            answer.data += one.payload
            if self._auto_credit and one.payload:
                size = len(one.payload)
                self.send(h2f.window_update(0, size))
                if not one.end_stream:
                    self.send(h2f.window_update(one.stream_id, size))
        elif one.kind == h2f.RST_STREAM:
            answer.reset = one.number
        elif one.kind == h2f.PING and not one.flags & h2f.ACK and self.answers_pings:
            self.send(h2f.ping(one.payload, ack=True))
        if one.end_stream:
            answer.ended = True

    def auto_credit(self) -> None:
        """From now on every byte is credited as it comes."""
        self._auto_credit = True

    def send(self, *parts: bytes) -> None:
        """Plaintext, in one write to TLS."""
        data = b"".join(parts)
        if data:
            self._tls.write(data)
            self._flush()

    def send_fields(self, stream_id: int, fields: h2f.Fields, **options: Any) -> None:
        self.send(h2f.headers_frames(stream_id, self.hpack.encode(fields), **options))

    def request(self, fields: h2f.Fields | None = None, *, end: bool = False) -> int:
        """Opens a stream (as a client); its id."""
        stream_id = self._next_id
        self._next_id += 2
        self.send_fields(stream_id, fields or h2f.REQUEST, end=end)
        return stream_id

    def answer(self, stream_id: int) -> Answer:
        """What has come on a stream up to now."""
        return self.answers.setdefault(stream_id, Answer())

    def of_kind(self, kind: int, stream_id: int | None = None) -> list[Frame]:
        return [one for one in self.frames if one.kind == kind and stream_id in (None, one.stream_id)]

    # --- Waiting and ending ---------------------------------------------------------------

    def _wake(self) -> None:
        wakers, self._wakers = self._wakers, []
        for waker in wakers:
            if not waker.done():
                waker.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Until something that came makes the condition true."""
        while not condition():
            assert not self.outcome.lost or condition(), f"the connection ended: {self.outcome}"
            waker = asyncio.get_running_loop().create_future()
            self._wakers.append(waker)
            await waker

    async def sync(self) -> None:
        """Until all that was sent before has been processed at the other end, and its answers are here."""
        opaque = (len(self.frames) + 1).to_bytes(8, "big")
        before = len(self.of_kind(h2f.PING))
        self.send(h2f.ping(opaque))
        await self.until(
            lambda: any(one.payload == opaque and one.flags & 1 for one in self.of_kind(h2f.PING)[before:])
        )

    def shut_down(self) -> None:
        """close_notify and the end of this side of TCP."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        if self.tcp.can_write_eof():
            self.tcp.write_eof()

    def abort(self) -> None:
        self.tcp.abort()

    async def gone(self) -> None:
        """Closes TCP, and waits until it is."""
        self.tcp.close()
        await self.until(lambda: self.outcome.lost)


class RawServer:
    """A TLS port whose connections are `RawPeer`s."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.peers: asyncio.Queue[RawPeer] = asyncio.Queue()
        self.all: list[RawPeer] = []
        self.port = 0

    def _make(self) -> RawPeer:
        peer = RawPeer(self._tls, server_side=True)
        self.all.append(peer)
        self.peers.put_nowait(peer)
        return peer

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for peer in self.all:
            if not peer.outcome.lost:
                peer.tcp.abort()
                await peer.until(lambda peer=peer: peer.outcome.lost)

    async def accept(self) -> RawPeer:
        """The next connection, once its TLS handshake is over."""
        peer = await self.peers.get()
        await peer.until(lambda: peer.handshaken or peer.outcome.lost)
        return peer


@contextlib.asynccontextmanager
async def raw_server(tls: ssl.SSLContext) -> AsyncIterator[RawServer]:
    """A `RawServer` for the length of a test."""
    server = RawServer(tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

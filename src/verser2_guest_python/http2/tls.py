"""TLS over a plain TCP transport, driven through `ssl.MemoryBIO`.

The TLS transports of asyncio and uvloop cannot half-close, may leave out close_notify, and join
writes so that frames straddle records. Here one write of at most 16,384 bytes is one record
(protocol.md §12.2), and an end is an orderly one (§12.8).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, cast

from .errors import AlpnError, ConnectError, ConnectTimeout, HandshakeFailed, HostUnreachable
from .handshakes import explain, explain_client
from .options import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from .door import Door
    from .session import Session

_HUNG_UP = "the other end closed it"
_HINT = ": it may want a client certificate, or not trust ours"  # some servers say so by hanging up

_TURN_BYTES = 131_072  # of one read, behind which other connections have their turn
_GOODBYE_SECONDS = 1.0  # for what still waits when the other end has closed
_HIGH_WATER_BYTES = 256 * 1024  # of bytes that wait for the kernel, above which bodies pause
_KEEPALIVE_IDLE_SECONDS = 30
_KEEPALIVE_INTERVAL_SECONDS = 10
_KEEPALIVE_PROBES = 3


def at(host: str, port: int) -> str:
    """An address as people write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _State(Enum):
    CONNECTING = "connecting"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class TlsTransport(asyncio.Protocol):
    """One TLS connection with ALPN `h2`, and the session on it.

    Attributes:
        ready: Done when the handshake is: with the session, or with the ConnectError that ended it.
        failure: What a TLS failure after the handshake means, for example a refused certificate.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make_session: Callable[[TlsTransport], Session],
        *,
        address: str,
        server_hostname: str | None = None,
        server_side: bool = False,
        door: Door | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Session] = self._loop.create_future()
        self.failure: ConnectError | None = None
        self.address = address
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._make_session = make_session
        self._door = door
        self._session: Session | None = None
        self._state = _State.CONNECTING
        self._tcp: asyncio.Transport | None = None
        self._peer_ended = False
        self._hung_up: set[str] = {_HUNG_UP}  # ends of the connection for which TLS had no words
        self._close_timer: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()

    # --- Facts ----------------------------------------------------------------------------

    @property
    def peer_address(self) -> tuple[str, int]:
        """Address and port of the other end."""
        name = self._tcp.get_extra_info("peername") if self._tcp is not None else None
        return (name[0], name[1]) if name else ("", 0)

    @property
    def attached(self) -> bool:
        """Whether it owns a TCP connection, or did."""
        return self._tcp is not None

    @property
    def peer_certificate(self) -> bytes | None:
        """The other end's certificate in DER, if it showed one that was verified."""
        return self._object.getpeercert(binary_form=True)

    @property
    def tls_version(self) -> str:
        """For example `TLSv1.3`."""
        return self._object.version() or ""

    @property
    def backlog(self) -> int:
        """Bytes that wait for the kernel."""
        return self._tcp.get_write_buffer_size() if self._tcp is not None else 0

    # --- TCP ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up: start TLS."""
        tcp = self._tcp = cast(asyncio.Transport, transport)
        tcp.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        sock = tcp.get_extra_info("socket")
        if sock is not None:
            _tune(sock)
        self.address = self.address or at(*self.peer_address)
        if self._door is not None and not self._door.admits(self, self.peer_address[0]):
            self.turn_away()
            return
        self._state = _State.HANDSHAKE
        self._handshake()

    def data_received(self, data: bytes) -> None:
        """Ciphertext came."""
        if self._state is _State.OPEN:
            self._incoming.write(data)
            self._read()
            if len(data) >= _TURN_BYTES:
                self._let_others_go_first()
        elif self._state is _State.HANDSHAKE:
            self._incoming.write(data)
            self._handshake()
        # else: read and drop until the other end closes (§12.8)

    def _let_others_go_first(self) -> None:
        """More may wait in the kernel, and uvloop would bring up to 32 times as much in one turn."""
        if self._tcp is not None and not self._tcp.is_closing():
            self._tcp.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._tcp is not None and not self._tcp.is_closing():
            self._tcp.resume_reading()

    def eof_received(self) -> bool | None:
        """The other end has ended its side of TCP."""
        self._peer_ended = True
        if self._state is _State.HANDSHAKE:
            self._fail_handshake(self._hang_up("it closed the connection during the TLS handshake"))
        elif self._state is _State.OPEN:
            self._incoming.write_eof()
            self._lose(_HUNG_UP)
            self.close(_GOODBYE_SECONDS)
        return None  # TCP closes now, once what waits has left

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is gone."""
        before, self._state = self._state, _State.CLOSED
        if self._close_timer is not None:
            self._close_timer.cancel()
        reason = _reason(exc)
        if before is _State.HANDSHAKE:
            self._fail_handshake(self._hang_up(reason))
        self._hung_up.add(reason)
        self._lose(reason)
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        if self._session is not None:
            self._session.pause_writing()

    def resume_writing(self) -> None:
        """The kernel takes more again."""
        if self._session is not None:
            self._session.resume_writing()

    # --- TLS ------------------------------------------------------------------------------

    def _handshake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except ssl.SSLError as error:
            self._send()  # the alert that tells the other end why
            self._fail_handshake(self._explain(error))
            return
        self._send()
        selected = self._object.selected_alpn_protocol()
        if selected != "h2":
            self._fail_handshake(AlpnError(self.address, selected))
            return
        self._state = _State.OPEN
        session = self._session = self._make_session(self)
        session.start()
        if not self.ready.done():
            self.ready.set_result(session)
        self._read()

    def _explain(self, error: ssl.SSLError) -> ConnectError:
        if self._object.server_side:
            return explain_client(error, self.address)
        return explain(error, self.address, self._object.cipher() is not None)

    def _fail_handshake(self, error: ConnectError) -> None:
        if self._object.server_side and not isinstance(error, HandshakeFailed):
            error = explain_client(error, self.address)
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # the connecting task may have given up
        if self._state is _State.HANDSHAKE and self._tcp is not None:
            self._state = _State.CLOSING
            self._tcp.close()

    def _read(self) -> None:
        read = self._object.read
        incoming = self._incoming
        records: list[bytes] = []
        ended = False
        try:
            while incoming.pending:  # to ask once more than there are records costs an exception each time
                record = read(MAX_RECORD_BYTES)
                if not record:
                    ended = True
                    break
                records.append(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # close_notify
            ended = True
        except ssl.SSLError as error:
            self.failure = self._explain(error)
            self._deliver(records)
            self._lose(str(self.failure))
            self._send()
            self.close(0.0)
            return
        if self._outgoing.pending:
            self._send()
        self._deliver(records)
        if ended and self._state is _State.OPEN:
            self._lose(_HUNG_UP)
            self.close(_GOODBYE_SECONDS)

    def _deliver(self, records: list[bytes]) -> None:
        if records and self._session is not None:
            self._session.records_received(records)

    def write(self, records: Iterable[bytes]) -> None:
        """Plaintext, each piece one TLS record, in one write to TCP."""
        if self._state is not _State.OPEN:
            return
        write = self._object.write
        try:
            for record in records:
                write(record)
        except ssl.SSLError as error:
            self._lose(f"TLS failed ({error.reason or error})")
            self.abort()
            return
        self._send()

    def _send(self) -> None:
        if self._tcp is not None and self._outgoing.pending and not self._tcp.is_closing():
            self._tcp.write(self._outgoing.read())

    # --- The end --------------------------------------------------------------------------

    def close(self, timeout: float) -> None:
        """Starts an orderly end (§12.8) that takes at most `timeout` seconds; see `wait_closed`."""
        if self._state in (_State.CLOSING, _State.CLOSED) or self._tcp is None:
            return
        self._state = _State.CLOSING
        self._say_goodbye()
        self._close_timer = self._loop.call_later(timeout, self._tcp.abort)
        if self._peer_ended or self._tcp.is_closing():
            self._tcp.close()
        elif self._tcp.can_write_eof():
            self._tcp.write_eof()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # SSLWantRead: their close_notify is not here yet
            self._object.unwrap()
        self._send()

    def abort(self) -> None:
        """Ends TCP now."""
        if self._tcp is not None and self._state is not _State.CLOSED:
            self._state = _State.CLOSING
            self._tcp.abort()

    def turn_away(self) -> None:
        """Ends TCP now, before there is a session; nobody is told."""
        self.ready.cancel()
        self.abort()

    def hurry(self, seconds: float) -> None:
        """Ends a connection on which the other end has not said anything yet, after so many seconds."""
        if self._state is _State.HANDSHAKE:
            self._fail_handshake(ConnectTimeout(self.address, seconds))
            self.abort()
        elif self._session is not None and not self._session.settings_seen:
            self._lose(f"the other end said nothing within {seconds:g} s", limit="handshake")
            self.abort()

    def before_settings(self, reason: str) -> ConnectError:
        """What it means that the session ended before the server's SETTINGS."""
        if self.failure is not None:
            return self.failure
        return self._hang_up(reason) if reason in self._hung_up else HostUnreachable(self.address, reason)

    def _hang_up(self, reason: str) -> HostUnreachable:
        """It ended without a word of TLS; behind the handshake that may be about our certificate."""
        agreed = not self._object.server_side and self._object.cipher() is not None
        return HostUnreachable(self.address, reason + _HINT if agreed else reason)

    async def wait_closed(self) -> None:
        """Until TCP is gone."""
        if self._tcp is not None:
            await asyncio.shield(self._closed)

    def _lose(self, reason: str, limit: str = "") -> None:
        if self._session is not None:
            self._session.connection_lost(reason, limit)


def _reason(error: Exception | None) -> str:
    if error is None:
        return "it was closed"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _tune(sock: socket.socket) -> None:
    """Small writes leave at once (§12.8), and a peer that vanished is noticed some day."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

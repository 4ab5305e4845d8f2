"""Dialling out and listening: from a host and a port to a `Session`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

from .deadline import call_within, within
from .dialing import open_tcp
from .door import Door, DoorLimits
from .errors import ConnectionLost, ConnectTimeout, HandshakeFailed, HostUnreachable
from .options import SessionOptions
from .session import Session
from .tls import TlsTransport, at

_DEFAULT_OPTIONS = SessionOptions()


def why(error: OSError) -> str:
    """What the system says, without what asyncio or uvloop put around it."""
    if isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        reason = error.strerror or str(error)
    else:
        reason = os.strerror(error.errno)
    return reason[:1].lower() + reason[1:]


async def connect(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext,
    server_hostname: str | None = None,
    options: SessionOptions = _DEFAULT_OPTIONS,
    timeout: float = 10.0,
    open_socket: Callable[[str, int], Awaitable[socket.socket]] = open_tcp,
) -> Session:
    """Dials a server, and returns once its SETTINGS are there: only then is a session known to work.

    Under TLS 1.3 a server that refuses our certificate says so after the handshake, which is why the
    first read is waited for. `timeout` is in seconds and covers all of it. `open_socket` makes the
    connected socket, for example through a proxy; what it raises must be OSError or ConnectError.

    Raises:
        HostUnreachable, TlsTrustError, CertificateRefused, AlpnError, ConnectTimeout: see `errors`.
    """
    address = at(host, port)
    loop = asyncio.get_running_loop()
    try:
        transport = TlsTransport(
            tls,
            lambda transport: Session(transport, True, options),
            address=address,
            server_hostname=server_hostname or host,
        )
    except ValueError as error:
        raise HostUnreachable(address, "that is no name of a host") from error
    sock: socket.socket | None = None
    try:
        async with within(timeout):
            try:
                sock = await open_socket(host, port)
                await loop.create_connection(lambda: transport, sock=sock)
            except OSError as error:
                raise HostUnreachable(address, why(error)) from error
            except UnicodeError as error:  # of a label that is empty or too long
                raise HostUnreachable(address, "that is no name of a host") from error
            session = await transport.ready
            try:
                await session.wait_settings()
            except ConnectionLost as error:
                raise transport.before_settings(error.reason) from error
            return session
    except BaseException as error:
        transport.abort()
        if sock is not None and not transport.attached:
            sock.close()
        if isinstance(error, TimeoutError):
            raise ConnectTimeout(address, timeout) from error
        raise


class Listener:
    """A TLS port that accepts sessions; made by `listen`."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Addresses and ports that it listens on."""
        return [sock.getsockname()[:2] for sock in self._server.sockets]

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0][1]

    def close(self) -> None:
        """Stops accepting; sessions that are open go on."""
        self._server.close()

    async def wait_closed(self) -> None:
        """Until the port is free."""
        # Not Server.wait_closed(): since Python 3.12 it waits for connections too, and those may go on.
        await asyncio.sleep(0)


async def listen(
    address: str,
    port: int,
    *,
    tls: ssl.SSLContext | Callable[[], ssl.SSLContext],
    on_session: Callable[[Session], None],
    options: SessionOptions = _DEFAULT_OPTIONS,
    on_error: Callable[[HandshakeFailed], None] | None = None,
    limits: DoorLimits | None = None,
    on_refused: Callable[[str, str], None] | None = None,
) -> Listener:
    """Listens for TLS HTTP/2 sessions; port 0 takes a free one.

    `tls` may be a function that gives the context for each connection, so that it can change.
    `on_session` is called with each session once TLS is up, before any of its streams; `on_error`
    with what a handshake came to that failed. With `limits`, connections
    beyond them are closed before their handshake, and `on_refused` is told the peer's address and the
    limit (`connections`, `handshakes`).
    """
    loop = asyncio.get_running_loop()
    door = Door(limits, loop.time, on_refused) if limits is not None else None

    def make_session(transport: TlsTransport) -> Session:
        session = Session(transport, False, options)
        on_session(session)
        return session

    def accept() -> TlsTransport:
        context = tls if isinstance(tls, ssl.SSLContext) else tls()
        transport = TlsTransport(context, make_session, address="", server_side=True, door=door)
        seconds = options.handshake_timeout_seconds
        deadline = call_within(loop, seconds, partial(transport.hurry, seconds))

        def ready(future: asyncio.Future[Session]) -> None:
            if door is not None:
                door.left(transport)
            error = None if future.cancelled() else future.exception()
            if error is not None or future.cancelled():
                deadline.cancel()
                if on_error is not None and isinstance(error, HandshakeFailed):
                    on_error(error)

        transport.ready.add_done_callback(ready)
        return transport

    return Listener(await loop.create_server(accept, address, port))

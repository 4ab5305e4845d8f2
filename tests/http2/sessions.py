"""Sessions of the code under test, with counterparts: each other, or a `RawPeer` that sees the wire."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.http2.raw_peer import RawPeer, raw_server
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import (
    FieldBlock,
    Session,
    SessionOptions,
    Stream,
    client_context,
    connect,
    listen,
    server_context,
)

REQUEST_BLOCK = FieldBlock(
    [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost:1"), (b":path", b"/x")]
)
RESPONSE_BLOCK = FieldBlock([(b":status", b"200"), (b"content-type", b"application/octet-stream")])


def client_tls(certs: Certificates) -> ssl.SSLContext:
    return client_context(certs.ca)


def server_tls(certs: Certificates) -> ssl.SSLContext:
    return server_context(certs.host, certs.host_key)


class Inbox:
    """Takes the streams that a server's peer opens."""

    def __init__(self, session: Session) -> None:
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.count = 0
        session.on_stream = self._take

    def _take(self, stream: Stream) -> None:
        self.count += 1
        self._streams.put_nowait(stream)

    async def next(self) -> Stream:
        return await self._streams.get()


@dataclass
class Pair:
    """A client and a server of ours on one connection."""

    client: Session
    server: Session
    inbox: Inbox

    async def stream(self, *, end: bool = False) -> tuple[Stream, Stream]:
        """One stream, as the client and as the server sees it."""
        ours = self.client.open(REQUEST_BLOCK, end=end)
        return ours, await self.inbox.next()


@contextlib.asynccontextmanager
async def session_pair(
    certs: Certificates,
    client_options: SessionOptions | None = None,
    server_options: SessionOptions | None = None,
) -> AsyncIterator[Pair]:
    """A client of ours connected to a server of ours; both are closed at the end."""
    accepted: asyncio.Queue[tuple[Session, Inbox]] = asyncio.Queue()
    listener = await listen(
        "127.0.0.1",
        0,
        tls=server_tls(certs),
        on_session=lambda session: accepted.put_nowait((session, Inbox(session))),
        options=server_options or SessionOptions(),
    )
    client = await connect(
        "127.0.0.1", listener.port, tls=client_tls(certs), options=client_options or SessionOptions()
    )
    server, inbox = await accepted.get()
    try:
        yield Pair(client, server, inbox)
    finally:
        listener.close()
        await client.close()
        await server.close()
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def server_and_raw(
    certs: Certificates, options: SessionOptions | None = None
) -> AsyncIterator[tuple[Session, Inbox, RawPeer]]:
    """A server of ours and a raw client, which has not greeted yet."""
    accepted: asyncio.Queue[tuple[Session, Inbox]] = asyncio.Queue()
    listener = await listen(
        "127.0.0.1",
        0,
        tls=server_tls(certs),
        on_session=lambda session: accepted.put_nowait((session, Inbox(session))),
        options=options or SessionOptions(),
    )
    peer = await RawPeer.dial(listener.port, client_tls(certs))
    session, inbox = await accepted.get()
    try:
        yield session, inbox, peer
    finally:
        listener.close()
        if not peer.outcome.lost:
            await peer.gone()
        await session.close()
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def client_and_raw(
    certs: Certificates,
    options: SessionOptions | None = None,
    *,
    settings: dict[int, int] | None = None,
    window: int = 0,
) -> AsyncIterator[tuple[Session, RawPeer]]:
    """A client of ours and a raw server, which has greeted with `settings`."""
    async with raw_server(server_tls(certs)) as server:
        connecting = asyncio.create_task(
            connect("127.0.0.1", server.port, tls=client_tls(certs), options=options or SessionOptions())
        )
        peer = await server.accept()
        peer.greet(settings, window=window)
        session = await connecting
        try:
            yield session, peer
        finally:
            if not peer.outcome.lost:
                await peer.gone()
            await session.close()


def assert_idle(*sessions: Session) -> None:
    """Nothing of all that went on is left behind."""
    for session in sessions:
        assert session.open_streams == 0
        assert session.unread_bytes == 0
        assert not session.sender.waiting

"""Dialling and listening: every way in which there may be no session, told as what it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.http2.raw_peer import RawPeer, raw_server
from tests.http2.sessions import REQUEST_BLOCK, Inbox, client_tls, server_tls
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python.http2 import (
    AlpnError,
    CertificateRefused,
    ConnectError,
    ConnectTimeout,
    HostUnreachable,
    Session,
    SessionOptions,
    TlsTrustError,
    client_context,
    connect,
    listen,
    server_context,
)

pytestmark = pytest.mark.limit(15)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@contextlib.asynccontextmanager
async def tcp_server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Anything that listens; its connections end with it."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def our_server(
    tls: ssl.SSLContext, options: SessionOptions | None = None
) -> AsyncIterator[tuple[int, list[Session], list[tuple[str, Exception]]]]:
    """Its port, its sessions, and what went wrong there."""
    sessions: list[Session] = []
    errors: list[tuple[str, Exception]] = []
    listener = await listen(
        "127.0.0.1",
        0,
        tls=tls,
        on_session=sessions.append,
        options=options or SessionOptions(),
        on_error=lambda error: errors.append((error.address, error)),
    )
    try:
        yield listener.port, sessions, errors
    finally:
        listener.close()
        await listener.wait_closed()
        for session in sessions:
            await session.close()


def sentence(error: Exception) -> str:
    """What people get to read."""
    text = str(error)
    assert not text[:1].islower()
    assert "Errno" not in text
    assert "ssl.c" not in text
    assert not any(sign in text for sign in "{}<>")
    return text


# --- TCP ----------------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_nobody_listens(certs: Certificates, host: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(HostUnreachable) as caught:
            await connect(host, port, tls=client_tls(certs))
    text = sentence(caught.value)
    assert caught.value.address == (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    assert caught.value.address in text
    assert "refused" in text or host == "::1"  # where there is no IPv6, there is no route


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "a..b", "x" * 64 + ".test", "snow man.test", "", "."]
)
async def test_a_name_that_does_not_exist_or_cannot(certs: Certificates, host: str) -> None:
    with pytest.raises(HostUnreachable) as caught:
        await connect(host, 4_433, tls=client_tls(certs))
    assert "4433" in sentence(caught.value)


@pytest.mark.both_loops
async def test_no_answer_to_tcp_at_all(certs: Certificates) -> None:
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with pytest.raises(ConnectTimeout) as caught:
            await connect("127.0.0.1", full.getsockname()[1], tls=client_tls(certs), timeout=0.2)
    assert caught.value.seconds == 0.2
    assert "within 0.2 s" in sentence(caught.value)


# --- No TLS, or not for long --------------------------------------------------------------


async def close_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def close_after_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1 << 16)
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass


def say(what: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(what)
        await writer.drain()
        await say_nothing(reader, writer)

    return handler


@pytest.mark.both_loops
@pytest.mark.parametrize("handler", [close_at_once, reset_at_once, close_after_hello])
async def test_a_server_that_hangs_up(certs: Certificates, handler: Handler) -> None:
    async with tcp_server(handler) as port:
        with pytest.raises(HostUnreachable) as caught:
            await connect("127.0.0.1", port, tls=client_tls(certs))
        assert "clos" in sentence(caught.value) or "reset" in str(caught.value)


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "banner",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"220 mail.example ESMTP\r\n",
        bytes(100),
        b"\xff" * 100,
        b"\x16\x03\x03\xff\xff" + bytes(70_000),
    ],
)
async def test_a_port_that_does_not_speak_tls(certs: Certificates, banner: bytes) -> None:
    async with tcp_server(say(banner)) as port:
        with pytest.raises(ConnectError) as caught:
            await connect("127.0.0.1", port, tls=client_tls(certs))
        assert isinstance(caught.value, HostUnreachable)
        assert "does not speak TLS" in sentence(caught.value)


@pytest.mark.both_loops
async def test_no_answer_to_the_tls_handshake(certs: Certificates) -> None:
    async with tcp_server(say_nothing) as port:
        with pytest.raises(ConnectTimeout):
            await connect("127.0.0.1", port, tls=client_tls(certs), timeout=0.1)


# --- Trust --------------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("untrusted", "unable to get local issuer"),
        ("expired", "expired"),
        ("other_name", "is not valid for"),
    ],
)
async def test_a_certificate_that_is_not_to_be_trusted(
    certs: Certificates, identity: str, words: str, version: ssl.TLSVersion
) -> None:
    tls = server_context(getattr(certs, identity), getattr(certs, f"{identity}_key"))
    tls.maximum_version = version
    async with our_server(tls) as (port, sessions, errors):
        with pytest.raises(TlsTrustError) as caught:
            await connect("127.0.0.1", port, tls=client_tls(certs))
        assert words in sentence(caught.value)
        await until(lambda: errors or sessions)
        assert sessions == []
        address, error = errors[0]
        assert address.startswith("127.0.0.1:")
        assert isinstance(error, ConnectError)
        assert error.address == address
        assert address in sentence(error)


async def test_no_cipher_in_common_is_not_taken_for_a_missing_certificate(certs: Certificates) -> None:
    tls = server_tls(certs)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    mine = client_tls(certs)
    mine.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    async with our_server(tls) as (port, _, _):
        with pytest.raises(TlsTrustError) as caught:
            await connect("127.0.0.1", port, tls=mine)
        assert "handshake failure" in sentence(caught.value)


async def test_the_name_may_be_given_apart_from_the_address(certs: Certificates) -> None:
    tls = server_context(certs.other_name, certs.other_name_key)
    async with our_server(tls) as (port, _, _):
        session = await connect(
            "127.0.0.1", port, tls=client_tls(certs), server_hostname="other.example.test"
        )
        await session.close()


# --- Client certificates ------------------------------------------------------------------

IDENTITIES = {
    "guest": True,
    "untrusted": False,
    "expired": False,
    "none": False,
}


@pytest.mark.both_loops
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("identity", IDENTITIES)
async def test_client_certificates(certs: Certificates, identity: str, version: ssl.TLSVersion) -> None:
    """Under TLS 1.3 the refusal comes after a handshake that looks complete."""
    tls = server_context(certs.host, certs.host_key, client_ca_file=certs.ca, require_client_certificate=True)
    tls.maximum_version = version
    mine = client_tls(certs)
    if identity != "none":
        mine = client_context(certs.ca, getattr(certs, identity), getattr(certs, f"{identity}_key"))
    async with our_server(tls) as (port, sessions, errors):
        if IDENTITIES[identity]:
            session = await connect("127.0.0.1", port, tls=mine)
            await until(lambda: sessions)
            assert sessions[0].peer_certificate == der(certs.guest)
            assert session.peer_certificate == der(certs.host)
            assert session.tls_version == version.name.replace("_", ".")
            await session.close()
            return
        with pytest.raises(CertificateRefused) as caught:
            await connect("127.0.0.1", port, tls=mine)
        assert "certificate" in sentence(caught.value)
        await until(lambda: errors)
        assert sessions == []
        assert isinstance(errors[0][1], ConnectError)


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


async def test_an_optional_client_certificate(certs: Certificates) -> None:
    tls = server_context(certs.host, certs.host_key, client_ca_file=certs.ca)
    async with our_server(tls) as (port, sessions, _):
        session = await connect("127.0.0.1", port, tls=client_tls(certs))
        assert sessions[0].peer_certificate is None
        await session.close()
        stranger = client_context(certs.ca, certs.untrusted, certs.untrusted_key)
        with pytest.raises(CertificateRefused):
            await connect("127.0.0.1", port, tls=stranger)


# --- HTTP/2 -------------------------------------------------------------------------------


def foreign_tls(certs: Certificates, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.host, certs.host_key)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@pytest.mark.both_loops
@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
async def test_a_server_without_http2(certs: Certificates, protocols: list[str]) -> None:
    async with tcp_server(say_nothing, foreign_tls(certs, protocols)) as port:
        with pytest.raises(AlpnError) as caught:
            await connect("127.0.0.1", port, tls=client_tls(certs))
        assert caught.value.selected is None
        assert "h2" in sentence(caught.value)


async def test_a_server_that_selects_something_else(certs: Certificates) -> None:
    mine = client_tls(certs)
    mine.set_alpn_protocols(["h2", "http/1.1"])
    async with tcp_server(say_nothing, foreign_tls(certs, ["http/1.1"])) as port:
        with pytest.raises(AlpnError) as caught:
            await connect("127.0.0.1", port, tls=mine)
        assert caught.value.selected == "http/1.1"
        assert "'http/1.1'" in sentence(caught.value)


@pytest.mark.both_loops
async def test_no_settings_after_the_handshake(certs: Certificates) -> None:
    async with raw_server(server_tls(certs)) as server:
        with pytest.raises(ConnectTimeout):
            await connect("127.0.0.1", server.port, tls=client_tls(certs), timeout=0.2)
        peer = await server.accept()
        await peer.until(lambda: peer.outcome.lost or peer.outcome.eof)


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["shut_down", "abort"])
async def test_the_end_instead_of_settings(certs: Certificates, how: str) -> None:
    async with raw_server(server_tls(certs)) as server:
        connecting = asyncio.create_task(connect("127.0.0.1", server.port, tls=client_tls(certs)))
        peer = await server.accept()
        getattr(peer, how)()
        with pytest.raises(HostUnreachable) as caught:
            await connecting
        assert str(server.port) in sentence(caught.value)
        assert "client certificate" in str(caught.value)


@pytest.mark.both_loops
async def test_something_else_instead_of_settings(certs: Certificates) -> None:
    async with raw_server(server_tls(certs)) as server:
        connecting = asyncio.create_task(connect("127.0.0.1", server.port, tls=client_tls(certs)))
        peer = await server.accept()
        peer.send(b"HTTP/1.1 400 Bad Request\r\nserver: old\r\n\r\n")
        with pytest.raises(HostUnreachable) as caught:
            await connecting
        sentence(caught.value)


# --- Giving up ----------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("phase", ["start", "tcp", "tls", "settings"])
async def test_a_cancelled_connect_leaves_nothing_behind(certs: Certificates, phase: str) -> None:
    """The test's own supervision finds sockets and tasks that are left."""
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if phase == "settings":
            server = await stack.enter_async_context(raw_server(server_tls(certs)))
            port = server.port
        else:
            port = await stack.enter_async_context(tcp_server(say_nothing))
        connecting = asyncio.create_task(connect("127.0.0.1", port, tls=client_tls(certs)))
        if server is not None:
            peer = await server.accept()
            await peer.until(lambda: peer.frames)
        elif phase == "tls":
            await asyncio.sleep(0.05)
        elif phase == "tcp":
            for _ in range(2):
                await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        if server is not None:
            await peer.until(lambda: peer.outcome.lost or peer.outcome.eof)


# --- Listening ----------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_who_does_not_finish_the_handshake_is_sent_away(certs: Certificates) -> None:
    options = SessionOptions(handshake_timeout_seconds=0.1)
    async with our_server(server_tls(certs), options) as (port, sessions, errors):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        own = writer.get_extra_info("sockname")
        await until(lambda: errors)
        assert [address for address, _ in errors] == [f"127.0.0.1:{own[1]}"]
        assert errors[0][1].reason == "the client did not finish the TLS handshake within 0.1 s"
        assert f"127.0.0.1:{own[1]}" in sentence(errors[0][1])
        assert sessions == []
        writer.transport.abort()


@pytest.mark.both_loops
async def test_who_says_nothing_after_the_handshake_is_sent_away(certs: Certificates) -> None:
    options = SessionOptions(handshake_timeout_seconds=0.2, close_timeout_seconds=0.1)
    async with our_server(server_tls(certs), options) as (port, sessions, _):
        silent = await RawPeer.dial(port, client_tls(certs))
        talking = await connect("127.0.0.1", port, tls=client_tls(certs))
        await silent.until(lambda: silent.outcome.eof or silent.outcome.lost)
        await until(lambda: sessions[0].lost is not None)
        assert await talking.ping() > 0
        silent.abort()
        await talking.close()


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "what", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"", bytes(10_000), b"\x16\x03\x01\x00\x05hello"]
)
async def test_who_does_not_speak_tls_is_reported(certs: Certificates, what: bytes) -> None:
    async with our_server(server_tls(certs)) as (port, sessions, errors):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(what)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.transport.abort()
        await until(lambda: errors)
        assert len(errors) == 1
        assert isinstance(errors[0][1], ConnectError)
        assert errors[0][1].address == errors[0][0]
        sentence(errors[0][1])
        assert sessions == []


async def test_a_client_without_http2_is_refused(certs: Certificates) -> None:
    async with our_server(server_tls(certs)) as (port, sessions, errors):
        context = ssl.create_default_context(cafile=str(certs.ca))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            assert await reader.read() == b""
        await until(lambda: errors)
        assert errors[0][1].reason == "the client does not offer HTTP/2 (h2 in TLS ALPN)"
        assert sessions == []
        writer.transport.abort()
        await asyncio.sleep(0.01)


@pytest.mark.both_loops
async def test_a_closed_listener_frees_its_port_and_leaves_its_sessions(certs: Certificates) -> None:
    inboxes: list[Inbox] = []
    sessions: list[Session] = []

    def take(session: Session) -> None:
        sessions.append(session)
        inboxes.append(Inbox(session))

    listener = await listen("127.0.0.1", 0, tls=server_tls(certs), on_session=take)
    port = listener.port
    try:
        assert listener.addresses == [("127.0.0.1", port)]
        with pytest.raises(OSError, match="in use"):
            await listen("127.0.0.1", port, tls=server_tls(certs), on_session=take)
        session = await connect("127.0.0.1", port, tls=client_tls(certs))
    finally:
        listener.close()
        await listener.wait_closed()
    with pytest.raises(HostUnreachable):
        await connect("127.0.0.1", port, tls=client_tls(certs))
    stream = session.open(REQUEST_BLOCK, end=True)
    assert (await inboxes[0].next()).id == stream.id
    again = await listen("127.0.0.1", port, tls=server_tls(certs), on_session=take)
    again.close()
    await again.wait_closed()
    await session.close()
    await sessions[0].close()


@pytest.mark.both_loops
async def test_an_ipv6_address(certs: Certificates) -> None:
    sessions: list[Session] = []
    try:
        listener = await listen("::1", 0, tls=server_tls(certs), on_session=sessions.append)
    except OSError:
        pytest.skip("this machine has no IPv6")
    try:
        session = await connect("::1", listener.port, tls=client_tls(certs))
        assert session.peer_address == ("::1", listener.port)
        await session.close()
    finally:
        listener.close()
        await listener.wait_closed()
        for session in sessions:
            await session.close()

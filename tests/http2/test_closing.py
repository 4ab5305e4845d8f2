"""The end of a session (protocol.md §12.8): orderly, whoever begins it, and the same error everywhere."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from tests.http2 import frames as h2f
from tests.http2.raw_peer import RawPeer
from tests.http2.sessions import (
    REQUEST_BLOCK,
    RESPONSE_BLOCK,
    assert_idle,
    client_and_raw,
    client_tls,
    server_and_raw,
    session_pair,
)
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import (
    ConnectionLost,
    ErrorCode,
    Goaway,
    Session,
    SessionClosing,
    SessionOptions,
    Stream,
)

pytestmark = pytest.mark.limit(15)

# Long enough that a close which waits for it shows as a test that takes too long.
PATIENT = SessionOptions(close_timeout_seconds=60.0)
HASTY = SessionOptions(close_timeout_seconds=0.2)


@pytest.mark.both_loops
async def test_a_close_is_goaway_close_notify_and_a_half_close(certs: Certificates) -> None:
    async with client_and_raw(certs, PATIENT) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answer(1).fields)
        lost: list[ConnectionLost] = []
        session.on_lost = lost.append
        closing = asyncio.create_task(session.close(reason="going home"))
        await peer.until(lambda: peer.outcome.eof)
        assert peer.frames[-1].kind == h2f.GOAWAY
        assert peer.frames[-1].payload == bytes(8)
        assert peer.outcome.close_notify
        assert session.lost is not None
        assert "going home" in str(session.lost)
        assert stream.error is session.lost
        # It reads on: what we still send must not be answered with a TCP reset.
        for _ in range(50):
            peer.send(h2f.data_frames(1, bytes(10_000)))
            await asyncio.sleep(0)
        assert not closing.done()
        peer.shut_down()
        await closing
        await peer.gone()
        assert peer.outcome.error is None
        assert lost == [session.lost]
        await session.close()
        assert lost == [session.lost]


@pytest.mark.both_loops
async def test_all_that_was_written_arrives_before_the_end(certs: Certificates) -> None:
    async with client_and_raw(certs, PATIENT, settings={4: 1 << 24}, window=1 << 24) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await stream.write(bytes(3 << 20), end=True)
        closing = asyncio.create_task(session.close())
        await peer.until(lambda: peer.outcome.eof)
        assert len(peer.answer(1).data) == 3 << 20
        assert peer.answer(1).ended
        assert peer.outcome.close_notify
        peer.shut_down()
        await closing


@pytest.mark.both_loops
async def test_a_peer_that_never_closes_is_waited_for_only_so_long(certs: Certificates) -> None:
    async with client_and_raw(certs, HASTY) as (session, peer):
        await asyncio.gather(session.close(), session.close())
        await peer.until(lambda: peer.outcome.lost or peer.outcome.eof)


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["close_notify and FIN", "FIN alone", "TCP reset"])
async def test_a_peer_that_ends_the_connection_fails_everybody(certs: Certificates, how: str) -> None:
    async with client_and_raw(certs) as (session, peer):
        lost: list[ConnectionLost] = []
        session.on_lost = lost.append
        stream, other = session.open(REQUEST_BLOCK), session.open(REQUEST_BLOCK)
        told: list[Stream] = []
        stream.listener = told.append
        await stream.write(bytes(65_535))
        peer.send_fields(3, h2f.RESPONSE)
        await other.wait_fields()
        peer.answers_pings = False
        waiting = [
            asyncio.create_task(stream.wait_fields()),
            asyncio.create_task(other.read()),
            asyncio.create_task(stream.write(b"more than there is room for")),
            asyncio.create_task(session.ping()),
        ]
        watching = [
            asyncio.create_task(stream.wait_error()),
            asyncio.create_task(stream.wait_closed()),
            asyncio.create_task(session.wait_lost()),
        ]
        await peer.sync()
        if how == "close_notify and FIN":
            peer.shut_down()
        elif how == "FIN alone":
            peer.tcp.write_eof()
        else:
            peer.abort()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results == [session.lost] * 4
        assert await asyncio.gather(*watching) == [session.lost, None, None]
        assert isinstance(session.lost, ConnectionLost)
        assert told == [stream]
        for call in (
            lambda: session.open(REQUEST_BLOCK),
            lambda: stream.write_now(b"x"),
            lambda: stream.send_fields(RESPONSE_BLOCK),
        ):
            with pytest.raises(ConnectionLost):
                call()
        for wait in (stream.read(), stream.write(b"x"), stream.wait_fields(), session.ping()):
            with pytest.raises(ConnectionLost):
                await wait
        stream.reset()
        session.goaway()
        await session.wait_lost()
        assert lost == [session.lost]
        assert_idle(session)


@pytest.mark.both_loops
async def test_a_peer_that_closes_gets_our_close_notify(certs: Certificates) -> None:
    async with server_and_raw(certs, PATIENT) as (session, _, peer):
        peer.greet()
        await peer.sync()
        peer.shut_down()
        await peer.until(lambda: peer.outcome.eof)
        assert peer.outcome.close_notify
        assert peer.outcome.error is None
        await session.close()


async def test_an_answer_that_came_with_the_end_can_still_be_read(certs: Certificates) -> None:
    """GOAWAY, a whole answer, close_notify and FIN in one go."""
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        block = h2f.headers_frames(1, peer.hpack.encode(h2f.RESPONSE))
        peer.send(h2f.goaway(1) + block + h2f.data_frame(1, b"the answer", end=True))
        peer.shut_down()
        await session.wait_lost()
        assert await stream.read() == b"the answer"
        assert await stream.read() == b""
        assert_idle(session)


async def test_the_code_of_a_goaway_is_told_when_the_session_ends_with_it(certs: Certificates) -> None:
    """A Host that ends a session says why in its GOAWAY (protocol.md §12.10)."""
    async with client_and_raw(certs) as (session, peer):
        peer.send(h2f.goaway(0, ErrorCode.ENHANCE_YOUR_CALM, b"too many resets"))
        peer.shut_down()
        await session.wait_lost()
        await session.close()
        assert session.lost is not None
        assert str(session.lost).endswith('and said why: ENHANCE_YOUR_CALM, "too many resets"')


async def test_a_peer_that_breaks_http2_gets_goaway_and_an_orderly_end(certs: Certificates) -> None:
    async with client_and_raw(certs, PATIENT) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answer(1).fields)
        peer.send(h2f.frame(h2f.WINDOW_UPDATE, 0, bytes(4)), h2f.data_frames(1, bytes(100_000)))
        await peer.until(lambda: peer.outcome.eof)
        assert peer.frames[-1].kind == h2f.GOAWAY
        assert peer.frames[-1].payload[4:] == b"\0\0\0\1"
        assert peer.outcome.close_notify
        peer.send(h2f.data_frames(1, bytes(100_000)))
        peer.shut_down()
        await session.close()
        await peer.gone()
        assert peer.outcome.error is None
        assert isinstance(stream.error, ConnectionLost)
        assert "window update" in str(stream.error)


@pytest.mark.both_loops
async def test_closing_in_the_middle_of_transfers_sends_no_tcp_reset(certs: Certificates) -> None:
    """Both ends are sending; a reset would throw away what the other end has not read."""
    async with client_and_raw(certs, PATIENT) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        writing = asyncio.create_task(stream.write(bytes(1 << 20)))
        peer.send_fields(1, h2f.RESPONSE)
        await peer.until(lambda: len(peer.answer(1).data) == 65_535)
        for _ in range(20):
            peer.send(h2f.data_frames(1, bytes(50_000)))
        closing = asyncio.create_task(session.close())
        await asyncio.sleep(0)
        for _ in range(20):
            peer.send(h2f.data_frames(1, bytes(50_000)))
            await asyncio.sleep(0)
        with pytest.raises(ConnectionLost):
            await writing
        await peer.until(lambda: peer.outcome.eof)
        peer.shut_down()
        await closing
        await peer.gone()
        assert peer.outcome.error is None
        assert peer.outcome.close_notify


async def until_stalled(session: Session, stream: Stream) -> asyncio.Task[None]:
    """A writer that TCP does not let go on."""
    writing = asyncio.create_task(stream.write(bytes(40 << 20)))
    before = -1
    while session._transport.backlog != before or before <= 0:
        before = session._transport.backlog
        await asyncio.sleep(0.02)
    return writing


@pytest.mark.both_loops
@pytest.mark.parametrize("before", ["", "close_notify and FIN", "FIN alone"])
async def test_a_close_ends_also_when_the_peer_reads_nothing(certs: Certificates, before: str) -> None:
    """What cannot be sent must not keep the connection for ever."""
    wide = {h2f.INITIAL_WINDOW_SIZE: 1 << 26}
    async with client_and_raw(certs, HASTY, settings=wide, window=1 << 26) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answer(1).fields)
        peer.tcp.pause_reading()
        writing = await until_stalled(session, stream)
        if before == "close_notify and FIN":
            peer.shut_down()
        elif before:
            peer.tcp.write_eof()
        if before:
            await session.wait_lost()
        await session.close()
        with pytest.raises(ConnectionLost):
            await writing


async def test_a_peer_that_asks_and_never_reads_is_given_up(certs: Certificates) -> None:
    """Answers that nobody reads, PING by PING, must not fill the memory."""
    options = SessionOptions(max_backlog_bytes=200_000)
    async with server_and_raw(certs, options) as (session, _, peer):
        peer.greet()
        await peer.sync()
        peer.tcp.pause_reading()
        for end in (peer.tcp, session._transport._tcp):
            sock = end.get_extra_info("socket")  # type: ignore[union-attr]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        pings = h2f.ping() * 3_000
        while session.lost is None:
            peer.send(pings)
            await asyncio.sleep(0)
        assert "does not read" in str(session.lost)
        peer.tcp.resume_reading()


async def test_abort_ends_at_once(certs: Certificates) -> None:
    async with client_and_raw(certs, PATIENT) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        session.abort("enough")
        assert isinstance(stream.error, ConnectionLost)
        await session.close()
        await peer.until(lambda: peer.outcome.lost or peer.outcome.eof)
        assert "enough" in str(session.lost)


async def test_after_goaway_nothing_new_is_opened_but_the_rest_goes_on(certs: Certificates) -> None:
    async with session_pair(certs) as pair:
        said: list[Goaway] = []
        pair.client.on_goaway = said.append
        ours, theirs = await pair.stream()
        pair.server.goaway(ErrorCode.ENHANCE_YOUR_CALM)
        await pair.client.ping()
        assert said == [Goaway(ErrorCode.ENHANCE_YOUR_CALM)]
        assert pair.client.closing
        assert pair.server.closing
        with pytest.raises(SessionClosing):
            pair.client.open(REQUEST_BLOCK)
        await ours.write(b"ask", end=True)
        assert await theirs.read() == b"ask"
        theirs.send_fields(RESPONSE_BLOCK)
        await theirs.write(b"answer", end=True)
        assert await ours.read() == b"answer"
        assert await ours.read() == b""
        assert_idle(pair.client, pair.server)


async def test_our_own_goaway_closes_the_door_as_well(certs: Certificates) -> None:
    async with session_pair(certs) as pair:
        ours, theirs = await pair.stream()
        pair.client.goaway()
        with pytest.raises(SessionClosing):
            pair.client.open(REQUEST_BLOCK)
        await ours.write(b"ask", end=True)
        assert await theirs.read() == b"ask"
        theirs.send_fields(RESPONSE_BLOCK, end=True)
        await ours.wait_closed()
        assert pair.server.lost is None


async def test_a_lingering_socket_of_a_peer_is_no_reset_for_us(certs: Certificates) -> None:
    """SO_LINGER 0 makes the peer's close a TCP reset: reported as a lost connection, nothing else."""
    async with server_and_raw(certs) as (session, _, peer):
        peer.greet()
        await peer.sync()
        sock = peer.tcp.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.tcp.abort()
        await session.wait_lost()
        assert isinstance(session.lost, ConnectionLost)


@pytest.mark.both_loops
async def test_facts_of_the_peer_can_be_asked_after_the_end(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, _, peer):
        peer.greet()
        await peer.sync()
        address = session.peer_address
        assert address == peer.tcp.get_extra_info("sockname")[:2]
        assert session.tls_version == "TLSv1.3"
        assert session.peer_certificate is None
        peer.shut_down()
        await session.close()
        assert session.peer_address == address
        assert session.tls_version == "TLSv1.3"


async def test_dialling_a_server_and_going_away_at_once(certs: Certificates) -> None:
    """Nothing is left of a client that leaves before it has said a word of HTTP/2."""
    async with server_and_raw(certs) as (session, _, peer):
        second = await RawPeer.dial(session._transport._tcp.get_extra_info("sockname")[1], client_tls(certs))  # type: ignore[union-attr]
        second.abort()
        await second.until(lambda: second.outcome.lost)
        peer.abort()
        await session.wait_lost()

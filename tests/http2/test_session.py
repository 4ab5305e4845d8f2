"""Streams of a session as callers use them: reading, writing, listeners, PING, and what idle ones cost."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.http2 import frames as h2f
from tests.http2.memory import MemorySession, turns
from tests.http2.sessions import (
    REQUEST_BLOCK,
    RESPONSE_BLOCK,
    assert_idle,
    client_and_raw,
    server_and_raw,
    session_pair,
)
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import ErrorCode, FieldBlock, SessionOptions, Stream, StreamReset

pytestmark = pytest.mark.limit(15)


@contextmanager
def complaints_of_the_loop() -> Iterator[list[dict[str, Any]]]:
    """What the loop's handler of exceptions is told."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        yield complaints
    finally:
        loop.set_exception_handler(before)


@pytest.mark.both_loops
async def test_a_request_and_its_answer(certs: Certificates) -> None:
    async with session_pair(certs) as pair:
        assert pair.client.is_client
        assert not pair.server.is_client
        ours = pair.client.open(REQUEST_BLOCK, [(b"x-lease", b"1")], secret=[(b"authorization", b"s")])
        await ours.write(b"hello", end=True)
        theirs = await pair.inbox.next()
        assert dict(theirs.fields or ()) == {
            **dict(REQUEST_BLOCK.constant),
            b"x-lease": b"1",
            b"authorization": b"s",
        }
        assert await theirs.read() == b"hello"
        assert await theirs.read() == b""
        assert theirs.at_end
        theirs.send_fields(RESPONSE_BLOCK, [(b"x-more", b"yes")])
        await theirs.write(b"world")
        assert (await ours.wait_fields())[-1] == (b"x-more", b"yes")
        assert await ours.read() == b"world"
        await theirs.write(b"", end=True)
        assert await ours.read() == b""
        await ours.wait_closed()
        await theirs.wait_closed()
        assert ours.error is None
        assert await ours.wait_error() is None
        assert_idle(pair.client, pair.server)


@pytest.mark.both_loops
async def test_many_streams_echo_at_once(certs: Certificates) -> None:
    async with session_pair(certs) as pair:

        async def echo(stream: Stream) -> None:
            stream.send_fields(RESPONSE_BLOCK)
            while data := await stream.read():
                await stream.write(data)
            await stream.write(b"", end=True)

        async def ask(number: int) -> bool:
            body = bytes([number % 256]) * (number * 997 % 90_000)
            stream = pair.client.open(REQUEST_BLOCK)
            sending = asyncio.create_task(stream.write(body, end=True))
            got = b""
            while data := await stream.read(30_000):
                got += data
            await sending
            return got == body

        async with asyncio.TaskGroup() as group:
            pair.server.on_stream = lambda stream: group.create_task(echo(stream)) and None
            assert all(await asyncio.gather(*[ask(number) for number in range(150)]))
        assert_idle(pair.client, pair.server)


async def test_reading_takes_no_more_than_was_asked_for() -> None:
    one = MemorySession(is_client=True)
    one.feed(h2f.settings_frame({}))
    stream = one.session.open(REQUEST_BLOCK, end=True)
    one.feed(h2f.headers_frames(1, h2f.Hpack().encode(h2f.RESPONSE)))
    body = bytes(range(256)) * 100
    one.feed(h2f.data_frames(1, body, size=1_000, end=True))
    got = b""
    sizes = iter([1, 999, 1_000, 1_500, 2_500, 7] + [3_333] * 20)
    while data := await stream.read(limit := next(sizes)):
        assert len(data) <= limit
        assert stream.unread == len(body) - len(got) - len(data)
        got += data
    assert got == body
    assert stream.take() == b""
    assert stream.take_frame() == b""
    await one.session.close()


async def test_taking_frame_by_frame() -> None:
    one = MemorySession(is_client=True)
    one.feed(h2f.settings_frame({}))
    stream = one.session.open(REQUEST_BLOCK)
    one.feed(h2f.headers_frames(1, h2f.Hpack().encode(h2f.RESPONSE)))
    one.feed(h2f.data_frame(1, b"one") + h2f.data_frame(1, b"two") + h2f.data_frame(1, b"three", padding=4))
    assert stream.take_frame() == b"one"
    assert not stream.at_end
    assert stream.take() == b"twothree"
    assert stream.unread == 0
    one.feed(h2f.data_frame(1, b"four", padding=4) + h2f.data_frame(1, b"", padding=4))
    assert stream.take_frame() == b"four"
    assert stream.unread == 0
    await one.session.close()


# --- Listeners ----------------------------------------------------------------------------


def answered(one: MemorySession, *stream_ids: int) -> bytes:
    hpack = h2f.Hpack()
    return b"".join(h2f.headers_frames(one_id, hpack.encode(h2f.RESPONSE)) for one_id in stream_ids)


async def test_a_listener_hears_once_a_read_when_all_of_it_was_understood() -> None:
    one = MemorySession(is_client=True)
    one.feed(h2f.settings_frame({}))
    heard: list[tuple[int, int, bool]] = []
    listener = lambda stream: heard.append((stream.id, stream.unread, stream.ended))  # noqa: E731
    first, second = (one.session.open(REQUEST_BLOCK, listener=listener) for _ in range(2))
    one.feed(
        answered(one, 1, 3)
        + h2f.data_frame(1, b"a")
        + h2f.data_frame(3, b"bc")
        + h2f.data_frame(1, b"d", end=True)
    )
    assert heard == [(1, 2, True), (3, 2, False)]
    first.listener = None
    second.listener = lambda stream: heard.append((0, 0, False))
    one.feed(h2f.data_frame(3, b"", end=True) + h2f.rst_stream(1, 8))
    assert heard[2:] == [(0, 0, False)]
    assert isinstance(first.error, StreamReset)
    await one.session.close()


async def test_a_listener_hears_of_the_end_of_the_session_once() -> None:
    one = MemorySession(is_client=True)
    one.feed(h2f.settings_frame({}))
    heard: list[Stream] = []
    one.session.open(REQUEST_BLOCK, listener=heard.append)
    quiet = one.session.open(REQUEST_BLOCK, listener=heard.append)
    quiet.reset()
    assert heard == []  # who gives a stream up needs not be told
    one.session.abort("over")
    one.session.abort("again")
    assert [stream.id for stream in heard] == [1]


async def test_a_listener_may_do_anything_in_its_call() -> None:
    """Answer, open, reset, give up the session: the rest of the read is still told."""
    one = MemorySession(is_client=True)
    one.feed(h2f.settings_frame({}))
    opened: list[Stream] = []

    def busy(stream: Stream) -> None:
        stream.listener = None
        stream.take()
        stream.write_now(b"answer", end=True)
        opened.append(one.session.open(REQUEST_BLOCK, end=True))
        other.reset()

    first = one.session.open(REQUEST_BLOCK, listener=busy)
    heard: list[Stream] = []
    other = one.session.open(REQUEST_BLOCK, listener=heard.append)
    one.feed(answered(one, 1, 3) + h2f.data_frame(1, b"ask") + h2f.data_frame(3, b"x"))
    await turns()
    assert first.write_ended
    assert [stream.id for stream in opened] == [5]
    assert isinstance(other.error, StreamReset)
    assert other.take() == b""
    last = one.session.open(REQUEST_BLOCK, listener=lambda stream: one.session.abort("enough"))
    one.feed(answered(one, 5, last.id))
    assert one.session.lost is not None
    assert one.session.unread_bytes == 0


async def test_a_listener_that_fails_harms_its_own_stream_alone() -> None:
    with complaints_of_the_loop() as complaints:
        one = MemorySession(is_client=True)
        one.feed(h2f.settings_frame({}))

        def broken(stream: Stream) -> None:
            raise ValueError("a mistake")

        first = one.session.open(REQUEST_BLOCK, listener=broken)
        second = one.session.open(REQUEST_BLOCK)
        reading = asyncio.create_task(first.read())
        await turns()
        one.feed(answered(one, 1, 3) + h2f.data_frame(1, b"x") + h2f.data_frame(3, b"fine", end=True))
        assert await second.read() == b"fine"
        with pytest.raises(StreamReset):
            await reading
        await turns()
        resets = [(sent.stream_id, sent.number) for sent in one.written() if sent.kind == h2f.RST_STREAM]
        assert resets == [(1, ErrorCode.INTERNAL_ERROR)]
        assert one.session.lost is None
        await one.session.close()
    assert len(complaints) == 1
    assert isinstance(complaints[0]["exception"], ValueError)


async def test_a_reader_is_woken_also_when_its_listener_fails_at_the_very_end() -> None:
    with complaints_of_the_loop() as complaints:
        one = MemorySession(is_client=True)
        one.feed(h2f.settings_frame({}))

        def broken(stream: Stream) -> None:
            raise ValueError("a mistake")

        stream = one.session.open(REQUEST_BLOCK, end=True)
        one.feed(answered(one, 1))
        stream.listener = broken
        reading = asyncio.create_task(stream.read())
        waiting = asyncio.create_task(stream.wait_closed())
        await turns()
        one.feed(h2f.data_frame(1, b"", end=True))
        assert await asyncio.wait_for(reading, 30) == b""
        await asyncio.wait_for(waiting, 30)
        await one.session.close()
    assert len(complaints) == 1


async def test_streams_that_nobody_takes_are_refused(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, _, peer):
        session.on_stream = None
        peer.greet()
        stream_id = peer.request()
        await peer.until(lambda: peer.answer(stream_id).reset == ErrorCode.REFUSED_STREAM)
        assert_idle(session)


async def test_a_stream_that_was_opened_and_reset_in_one_read(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        block = h2f.headers_frames(1, peer.hpack.encode(h2f.REQUEST))
        peer.send(block + h2f.data_frame(1, b"x") + h2f.rst_stream(1, 8))
        stream = await inbox.next()
        assert isinstance(stream.error, StreamReset)
        with pytest.raises(StreamReset):
            stream.send_fields(RESPONSE_BLOCK)
        assert_idle(session)


async def test_many_streams_opened_and_reset_at_once_are_no_burden(certs: Certificates) -> None:
    """CVE-2023-44487: each costs its peer as much as us, and nothing is kept."""
    async with server_and_raw(certs, SessionOptions(max_concurrent_streams=50)) as (session, inbox, peer):
        peer.greet()
        for _ in range(40):
            wire = b""
            for _ in range(50):
                wire += h2f.headers_frames(peer._next_id, peer.hpack.encode(h2f.REQUEST))
                wire += h2f.rst_stream(peer._next_id, 8)
                peer._next_id += 2
            peer.send(wire)
        await peer.sync()
        assert inbox.count == 2_000
        assert_idle(session)
        assert session.lost is None


# --- PING ---------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_ping_tells_the_round_trip(certs: Certificates) -> None:
    async with session_pair(certs) as pair:
        assert pair.client.last_rtt is None
        assert 0 < await pair.client.ping() < 10
        assert pair.client.last_rtt is not None
        both = await asyncio.gather(pair.server.ping(), pair.server.ping(), pair.client.ping())
        assert all(0 < seconds < 10 for seconds in both)


async def test_ping_returns_behind_the_whole_read_that_held_its_answer(certs: Certificates) -> None:
    """protocol.md §9: ACKs overtake DATA, but not within a read."""
    async with client_and_raw(certs) as (session, peer):
        peer.answers_pings = False
        stream = session.open(REQUEST_BLOCK, end=True)
        heard: list[int] = []
        stream.listener = lambda stream: heard.append(stream.unread)
        pinging = asyncio.create_task(session.ping())
        await peer.until(lambda: peer.of_kind(h2f.PING))
        opaque = peer.of_kind(h2f.PING)[0].payload
        block = h2f.headers_frames(1, peer.hpack.encode(h2f.RESPONSE))
        peer.send(h2f.ping(opaque, ack=True) + block + h2f.data_frame(1, b"behind it"))
        await pinging
        assert heard == [9]


async def test_answers_to_pings_that_were_never_sent_are_ignored(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        peer.send(h2f.ping(b"whatever", ack=True))
        assert await session.ping() > 0


# --- Mistakes of callers ------------------------------------------------------------------


async def test_fields_are_sent_once(certs: Certificates) -> None:
    """A second time they would be trailers, a third time the end of the session."""
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request(end=True)
        stream = await inbox.next()
        stream.send_fields(RESPONSE_BLOCK)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="already"):
                stream.send_fields(RESPONSE_BLOCK)
        await stream.write(b"fine", end=True)
        with pytest.raises(RuntimeError, match="ended"):
            stream.send_fields(RESPONSE_BLOCK)
        await peer.until(lambda: peer.answer(stream_id).ended)
        assert len(peer.answer(stream_id).fields) == 1
        assert session.lost is None


# --- Idle streams -------------------------------------------------------------------------


async def test_what_two_thousand_idle_streams_cost() -> None:
    """A figure to look at (`pytest -rP`); `bench/` measures it for real."""
    block = FieldBlock([*h2f.REQUEST, (b"x-verser-peer-id", b"guest-a")])
    one = MemorySession(is_client=True)
    one.feed(h2f.settings_frame({}))
    tasks = len(asyncio.all_tasks())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        streams = [
            one.session.open(block, [(b"x-verser-lease-id", b"%d" % number)], listener=str)
            for number in range(2_000)
        ]
        await turns()
        one.transport.records.clear()
        hpack = h2f.Hpack()
        for stream in streams:
            one.feed(h2f.headers_frames(stream.id, hpack.encode([(b":status", b"200"), (b"date", b"now")])))
            stream.listener = None
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(asyncio.all_tasks()) == tasks
    print(f"an idle stream costs {(after - before) / len(streams):,.0f} bytes")
    assert one.session.open_streams == 2_000
    await one.session.close()

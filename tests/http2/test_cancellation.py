"""Every wait can be cancelled, and nothing is left of it: no stream, no byte, no place in a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.http2 import frames as h2f
from tests.http2.memory import MemorySession, turns
from tests.http2.sessions import (
    REQUEST_BLOCK,
    RESPONSE_BLOCK,
    assert_idle,
    client_and_raw,
    session_pair,
)
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import ErrorCode, SessionOptions, Stream, StreamReset

pytestmark = pytest.mark.limit(15)


async def cancelled(wait: Coroutine[Any, Any, Any]) -> None:
    """Lets it begin to wait, and cancels it."""
    task = asyncio.create_task(wait)
    await turns()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Pipe(MemorySession):
    """A client with streams that its peer has answered."""

    def __init__(
        self, count: int = 3, *, initial: int = 65_535, options: SessionOptions | None = None
    ) -> None:
        super().__init__(is_client=True, options=options)
        self.feed(h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: initial}))
        self.streams = [self.session.open(REQUEST_BLOCK) for _ in range(count)]
        self.hpack = h2f.Hpack()

    def data(self, stream: Stream) -> bytes:
        sent = [one for one in self.written() if (one.kind, one.stream_id) == (h2f.DATA, stream.id)]
        return b"".join(one.payload for one in sent)

    def resets(self) -> dict[int, int]:
        return {one.stream_id: one.number for one in self.written() if one.kind == h2f.RST_STREAM}

    async def done(self) -> None:
        """Ends all streams from both sides; nothing may be left then."""
        self.session.resume_writing()
        self.feed(h2f.window_update(0, 1 << 24))
        for stream in self.streams:
            if stream.error is None:
                self.feed(h2f.window_update(stream.id, 1 << 24))
                await stream.write(b"", end=True)
                self.feed(h2f.headers_frames(stream.id, self.hpack.encode(h2f.RESPONSE), end=True))
                stream.take()
                assert stream.closed
        await turns()
        assert_idle(self.session)
        assert all(stream._pending is None for stream in self.streams)
        await self.session.close()


async def test_waiting_for_fields() -> None:
    pipe = Pipe()
    stream = pipe.streams[0]
    await cancelled(stream.wait_fields())
    pipe.feed(h2f.headers_frames(1, pipe.hpack.encode(h2f.RESPONSE), end=True))
    assert (await stream.wait_fields())[0] == (b":status", b"200")
    await stream.write(b"", end=True)
    pipe.streams.remove(stream)
    await pipe.done()


async def test_reading_loses_no_byte() -> None:
    pipe = Pipe()
    stream = pipe.streams[0]
    pipe.feed(h2f.headers_frames(1, pipe.hpack.encode(h2f.RESPONSE)))
    await cancelled(stream.read())
    pipe.feed(h2f.data_frame(1, b"first"))
    assert await stream.read() == b"first"
    # Cancelled in the very turn in which the bytes come.
    task = asyncio.create_task(stream.read())
    await turns()
    pipe.feed(h2f.data_frame(1, b"second"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stream.read() == b"second"
    pipe.feed(h2f.data_frame(1, b"", end=True))
    assert await stream.read() == b""
    await stream.write(b"", end=True)
    pipe.streams.remove(stream)
    await pipe.done()


async def test_one_reader_at_a_time_also_after_a_cancelled_one() -> None:
    pipe = Pipe()
    stream = pipe.streams[0]
    reading = asyncio.create_task(stream.read())
    await turns()
    with pytest.raises(RuntimeError, match="read already"):
        await stream.read()
    reading.cancel()
    await turns()
    await cancelled(stream.read())
    await pipe.done()


@pytest.mark.parametrize("head", [0, 500])
async def test_writing_without_stream_window(head: int) -> None:
    """Nothing was sent: the stream is unharmed."""
    pipe = Pipe(initial=0)
    stream, other, _ = pipe.streams
    await cancelled(stream.write(bytes(1_000), head=head))
    pipe.feed(h2f.window_update(stream.id, 10) + h2f.window_update(other.id, 10))
    await turns()
    assert pipe.data(stream) == b""
    assert stream.error is None
    await stream.write(b"later", head=min(head, 5))
    await other.write(b"other")
    await turns()
    assert pipe.data(stream) == b"later"
    await pipe.done()


@pytest.mark.parametrize("head", [0, 500])
async def test_writing_without_connection_window(head: int) -> None:
    pipe = Pipe()
    filler, stream, other = pipe.streams
    await filler.write(bytes(65_535))
    await cancelled(stream.write(bytes(1_000), head=head, end=True))
    waiting = asyncio.create_task(other.write(b"my turn"))
    pipe.feed(h2f.window_update(0, 7))
    await waiting
    await turns()
    assert pipe.data(stream) == b""
    assert not stream.write_ended
    assert pipe.data(other) == b"my turn"
    await pipe.done()


@pytest.mark.parametrize("head", [0, 500])
async def test_writing_to_a_transport_that_is_full(head: int) -> None:
    pipe = Pipe()
    pipe.session.pause_writing()
    await cancelled(pipe.streams[0].write(bytes(1_000), head=head))
    pipe.session.resume_writing()
    await turns()
    assert pipe.data(pipe.streams[0]) == b""
    await pipe.done()


async def test_a_head_that_gives_up_lets_the_bodies_behind_it_go() -> None:
    """A head waits for room for all of it, and everybody waits for the head."""
    pipe = Pipe()
    filler, heady, other = pipe.streams
    await filler.write(bytes(65_535 - 100))
    head = asyncio.create_task(heady.write(bytes(5_000), head=5_000))
    await turns()
    body = asyncio.create_task(other.write(bytes(90)))
    await turns()
    assert not body.done()
    head.cancel()
    await body
    await turns()
    assert len(pipe.data(other)) == 90
    await pipe.done()


@pytest.mark.parametrize("burst", [10, 0])
async def test_a_head_whose_stream_fails_lets_the_bodies_behind_it_go(burst: int) -> None:
    """Also when its reset has to wait."""
    pipe = Pipe(options=SessionOptions(reset_burst=burst, resets_per_second=0.001))
    filler, heady, other = pipe.streams
    await filler.write(bytes(65_535 - 100))
    head = asyncio.create_task(heady.write(bytes(5_000), head=5_000))
    await turns()
    body = asyncio.create_task(other.write(bytes(90)))
    await turns()
    heady.reset()
    await asyncio.wait_for(body, 30)
    with pytest.raises(StreamReset):
        await head
    assert len(pipe.data(other)) == 90
    await pipe.session.close()


async def test_a_write_cancelled_half_way_resets_the_stream() -> None:
    """A body with a hole in it must not look whole."""
    pipe = Pipe(initial=1_000)
    stream = pipe.streams[0]
    await cancelled(stream.write(bytes(5_000)))
    await turns()
    assert len(pipe.data(stream)) == 1_000
    assert pipe.resets() == {stream.id: ErrorCode.CANCEL}
    with pytest.raises(StreamReset):
        await stream.write(b"more")
    assert isinstance(await stream.wait_error(), StreamReset)
    await pipe.done()


async def test_a_write_that_waits_for_another_of_its_stream() -> None:
    """The first goes on or fails as a whole; in no case is there a hole."""
    pipe = Pipe(initial=0)
    stream = pipe.streams[0]
    first = asyncio.create_task(stream.write(b"first "))
    await turns()
    await cancelled(stream.write(b"second "))
    third = asyncio.create_task(stream.write(b"third"))
    await turns()
    pipe.feed(h2f.window_update(stream.id, 100))
    await asyncio.gather(first, third, return_exceptions=True)
    await turns()
    sent = pipe.data(stream)
    assert sent in (b"first third", b"first ", b"")
    if sent != b"first third":
        assert stream.id in pipe.resets()
    await pipe.done()


async def test_a_write_cancelled_when_it_is_already_out() -> None:
    pipe = Pipe(initial=0)
    stream = pipe.streams[0]
    task = asyncio.create_task(stream.write(b"out"))
    await turns()
    pipe.feed(h2f.window_update(stream.id, 100))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stream.write(b" and on")
    await turns()
    assert pipe.data(stream) == b"out and on"
    assert pipe.resets() == {}
    await pipe.done()


async def test_waiting_for_the_end_of_a_stream() -> None:
    pipe = Pipe()
    stream = pipe.streams[0]
    for wait in (stream.wait_closed, stream.wait_error):
        await cancelled(wait())
    other = asyncio.create_task(stream.wait_closed())
    await cancelled(stream.wait_closed())
    stream.reset()
    await other
    await pipe.done()


async def test_pings_and_the_end_of_the_session() -> None:
    pipe = Pipe()
    await cancelled(pipe.session.ping())
    with pytest.raises(TimeoutError):
        await pipe.session.ping(timeout=0.01)
    await cancelled(pipe.session.wait_lost())
    opaque = [one.payload for one in pipe.written() if one.kind == h2f.PING]
    pipe.feed(b"".join(h2f.ping(one, ack=True) for one in opaque))
    assert pipe.session.last_rtt is None
    ping = asyncio.create_task(pipe.session.ping())
    await turns()
    answered = [one.payload for one in pipe.written() if one.kind == h2f.PING][-1]
    pipe.feed(h2f.ping(answered, ack=True))
    assert await ping == pipe.session.last_rtt
    await pipe.done()


@pytest.mark.both_loops
async def test_a_cancelled_close_still_closes(certs: Certificates) -> None:
    options = SessionOptions(close_timeout_seconds=0.3)
    async with client_and_raw(certs, options) as (session, peer):
        closing = asyncio.create_task(session.close())
        await peer.until(lambda: peer.outcome.eof)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert session.lost is not None
        await session.close()


@pytest.mark.both_loops
async def test_a_thousand_cancelled_transfers_leave_nothing(certs: Certificates) -> None:
    """Over the network, in all phases; then the session works as on its first day."""
    options = SessionOptions(
        stream_window_bytes=65_535,
        connection_window_bytes=200_000,
        reset_burst=5_000,
        max_unread_bytes=100_000,
    )
    async with session_pair(certs, options, options) as pair:
        serving: set[asyncio.Task[None]] = set()

        async def serve(stream: Stream) -> None:
            stream.send_fields(RESPONSE_BLOCK)
            while data := await stream.read(10_000):
                await stream.write(data)
            await stream.write(b"", end=True)

        def accept(stream: Stream) -> None:
            task = asyncio.create_task(serve(stream))
            serving.add(task)
            task.add_done_callback(serving.discard)
            task.add_done_callback(lambda task: task.cancelled() or task.exception())

        pair.server.on_stream = accept

        async def transfer(number: int) -> int:
            stream = pair.client.open(REQUEST_BLOCK)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(stream.write(bytes(number * 500), end=True))
                    size = 0
                    while data := await stream.read():
                        size += len(data)
                return size
            finally:
                stream.reset()

        for round_number in range(10):
            tasks = [asyncio.create_task(transfer(number)) for number in range(100)]
            for _ in range(round_number * 3):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await pair.client.ping()
        await pair.server.ping()
        await asyncio.gather(*serving, return_exceptions=True)
        await pair.client.ping()
        assert_idle(pair.client, pair.server)
        assert await asyncio.gather(*[transfer(400) for _ in range(8)]) == [200_000] * 8
        await asyncio.gather(*serving)
        assert_idle(pair.client, pair.server)

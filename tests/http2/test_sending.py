"""Who sends when: windows obeyed, heads whole, turns taken, nothing lost, whatever the peer's windows do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2 import frames as h2f
from tests.http2.memory import MemorySession, run, turns
from tests.http2.sessions import REQUEST_BLOCK, RESPONSE_BLOCK, assert_idle, session_pair
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import Session, SessionOptions, Stream

DEFAULT_WINDOW = 65_535


@dataclass
class Ledger:
    """The peer's view: windows as RFC 9113 §6.9 counts them, and what came on each stream."""

    initial: int = DEFAULT_WINDOW
    connection: int = DEFAULT_WINDOW
    windows: dict[int, int] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)
    sizes: dict[int, list[int]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    announced: list[int] = field(default_factory=list)  # initial windows that are not acknowledged yet
    position: int = 0

    def read(self, one: MemorySession) -> None:
        """Takes what was written since the last time."""
        frames = one.written()
        for sent in frames[self.position :]:
            if sent.kind == h2f.SETTINGS and sent.flags & h2f.ACK:
                self._acknowledged(self.announced.pop(0))
            if sent.kind != h2f.DATA:
                continue
            stream_id, size = sent.stream_id, len(sent.payload)
            assert stream_id not in self.ended
            self.connection -= size
            self.windows[stream_id] = self.windows.get(stream_id, self.initial) - size
            if size:
                assert self.connection >= 0, "the connection window was overrun"
                assert self.windows[stream_id] >= 0, "the window of a stream was overrun"
            assert size <= h2f.MAX_PAYLOAD_BYTES
            self.data[stream_id] = self.data.get(stream_id, b"") + sent.payload
            self.sizes.setdefault(stream_id, []).append(size)
            if sent.end_stream:
                self.ended.add(stream_id)
        self.position = len(frames)

    def update(self, stream_id: int, increment: int) -> bytes:
        if stream_id:
            self.windows[stream_id] = self.windows.get(stream_id, self.initial) + increment
        else:
            self.connection += increment
        return h2f.window_update(stream_id, increment)

    def announce(self, initial: int) -> bytes:
        self.announced.append(initial)
        return h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: initial})

    def _acknowledged(self, initial: int) -> None:
        """What comes behind the ACK was sent under the new window, what came before under the old one."""
        for stream_id in self.windows:
            self.windows[stream_id] += initial - self.initial
        self.initial = initial


SIZES = st.sampled_from([0, 1, 10, 5_000, 16_375, 16_376, 40_000, 300_000])
WRITES = st.tuples(st.integers(0, 5), SIZES, st.sampled_from([0, 0, 1, 9, 3_000, 16_375]))
UPDATES = st.tuples(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6]), st.sampled_from([1, 8, 100, 5_000, 70_000]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), WRITES),
        st.tuples(st.just("update"), UPDATES),
        st.tuples(st.just("settings"), st.sampled_from([0, 1, 100, 20_000, 65_535, 100_000])),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, initial=st.sampled_from([0, 50, 16_375, 65_535]), heads=st.booleans())
def test_any_writes_under_any_windows(steps: list[tuple[str, object]], initial: int, heads: bool) -> None:
    """Six streams; in the end windows are opened wide, and everything must have arrived, in order."""

    async def body() -> None:
        one = MemorySession(is_client=True)
        ledger = Ledger()
        one.feed(ledger.announce(initial))
        streams = [one.session.open(REQUEST_BLOCK) for _ in range(6)]
        written: dict[int, bytes] = {stream.id: b"" for stream in streams}
        first_head: dict[int, int] = {}
        tasks: list[asyncio.Task[None]] = []
        for number, (kind, what) in enumerate(steps):
            if kind == "write":
                assert isinstance(what, tuple)
                index, size, head = what
                stream = streams[index]
                data = bytes([33 + number]) * size
                head = min(head, size) if heads and not written[stream.id] else 0
                if head:
                    first_head[stream.id] = head
                written[stream.id] += data
                tasks.append(asyncio.create_task(stream.write(data, head=head)))
                await turns(1)
            elif kind == "update":
                assert isinstance(what, tuple)
                place, increment = what
                one.feed(ledger.update(0 if place == 0 else streams[place - 1].id, increment))
            elif kind == "settings":
                assert isinstance(what, int)
                one.feed(ledger.announce(what))
            elif kind == "pause":
                (one.session.pause_writing if what else one.session.resume_writing)()
            else:
                await turns(2)
            ledger.read(one)
        tasks += [asyncio.create_task(stream.write(b"!", end=True)) for stream in streams]
        await turns(1)
        one.session.resume_writing()
        one.feed(ledger.update(0, 1 << 26))
        for stream in streams:
            one.feed(ledger.update(stream.id, 1 << 25))
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
        await turns(2)
        ledger.read(one)
        for stream in streams:
            assert ledger.data.get(stream.id, b"") == written[stream.id] + b"!"
            assert stream.id in ledger.ended
            sizes = [size for size in ledger.sizes[stream.id] if size]
            assert sizes[0] >= first_head.get(stream.id, 0), "a head was split"
        assert not one.session.sender.waiting
        await one.session.close()

    run(body)


def opened(streams: int, options: SessionOptions | None = None) -> tuple[MemorySession, list[Stream], Ledger]:
    one = MemorySession(is_client=True, options=options)
    ledger = Ledger()
    one.feed(ledger.announce(1 << 20))
    return one, [one.session.open(REQUEST_BLOCK) for _ in range(streams)], ledger


async def test_fifty_streams_share_a_scarce_connection_window() -> None:
    """While the window trickles in, no stream gets ahead of the others by more than a frame or two."""
    one, streams, ledger = opened(50)
    tasks = [asyncio.create_task(stream.write(bytes(200_000), end=True)) for stream in streams]
    await turns()
    ledger.read(one)
    assert list(ledger.data) == [1]  # nobody else waited when it took the whole window
    ledger.data[1] = b""
    for _ in range(300):
        one.feed(ledger.update(0, 20_000))
        await turns()
        ledger.read(one)
        counts = [len(ledger.data.get(stream.id, b"")) for stream in streams]
        assert max(counts) - min(counts) <= 2 * h2f.MAX_PAYLOAD_BYTES
    one.feed(ledger.update(0, 1 << 25))
    await asyncio.gather(*tasks)
    await turns()
    ledger.read(one)
    sizes = [len(ledger.data[stream.id]) for stream in streams]
    assert sizes == [200_000 - DEFAULT_WINDOW] + [200_000] * 49
    await one.session.close()


async def test_streams_that_write_again_and_again_do_not_starve_one_that_waits() -> None:
    one, streams, ledger = opened(10)
    stop = False

    async def chatter(stream: Stream) -> None:
        while not stop:
            await stream.write(bytes(2_000), head=10)

    await streams[0].write(bytes(DEFAULT_WINDOW))
    patient = asyncio.create_task(streams[0].write(bytes(300_000), end=True))
    tasks = [asyncio.create_task(chatter(stream)) for stream in streams[1:]]
    await turns()
    for _ in range(400):
        one.feed(ledger.update(0, 3_000))
        await turns()
        ledger.read(one)
    got = Counter({stream.id: len(ledger.data.get(stream.id, b"")) for stream in streams})
    got[streams[0].id] -= DEFAULT_WINDOW
    assert min(got.values()) > 90_000
    assert max(got[stream.id] for stream in streams[1:]) < 130_000
    stop = True
    for stream in streams[1:]:
        stream.reset()
    await asyncio.gather(*tasks, return_exceptions=True)
    one.feed(ledger.update(0, 1 << 20))
    await patient
    await one.session.close()


async def test_a_stream_without_window_holds_nobody_up() -> None:
    one, streams, ledger = opened(3)
    one.feed(ledger.announce(0))
    stuck = asyncio.create_task(streams[0].write(bytes(1_000), head=500))
    also = asyncio.create_task(streams[1].write(bytes(1_000)))
    await turns()
    one.feed(ledger.update(streams[2].id, 100))
    assert streams[2].write_now(bytes(100))
    one.feed(ledger.update(streams[0].id, 499) + ledger.update(streams[1].id, 1))
    await turns()
    ledger.read(one)
    assert ledger.sizes == {streams[1].id: [1], streams[2].id: [100]}
    one.feed(ledger.announce(1_000))
    await asyncio.gather(stuck, also)
    await one.session.close()


async def test_all_of_a_turn_leaves_in_one_write() -> None:
    """protocol.md §12.5."""
    one, streams, ledger = opened(100)
    await turns()
    before = one.transport.writes
    for stream in streams:
        await stream.write(b"head and body", head=4, end=True)
    await turns()
    assert one.transport.writes - before == 1
    ledger.read(one)
    assert all(ledger.sizes[stream.id] == [13] for stream in streams)
    assert len(ledger.ended) == 100
    await one.session.close()


async def test_what_a_read_asks_for_leaves_in_one_write() -> None:
    """Answers of listeners, credit, and acknowledgements of one read go together."""
    one, streams, ledger = opened(40)
    await turns()
    for stream in streams:
        stream.listener = lambda stream: stream.take() and stream.write_now(b"answer", end=True)
    hpack = h2f.Hpack()
    blocks = b"".join(h2f.headers_frames(stream.id, hpack.encode(h2f.RESPONSE)) for stream in streams)
    before = one.transport.writes
    one.feed(blocks + h2f.ping() + b"".join(h2f.data_frame(stream.id, b"ask") for stream in streams))
    await turns()
    assert one.transport.writes - before == 1
    ledger.read(one)
    assert len(ledger.ended) == 40
    await one.session.close()


async def test_a_small_write_does_not_suspend() -> None:
    one, streams, _ = opened(1)
    coroutine = streams[0].write(b"small", end=True)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    await one.session.close()


async def test_write_now_is_all_or_nothing() -> None:
    one, streams, ledger = opened(2)
    first, second = streams
    assert not first.write_now(bytes(DEFAULT_WINDOW + 1))
    assert first.write_now(bytes(DEFAULT_WINDOW - 10))
    assert not second.write_now(bytes(11))
    assert second.write_now(bytes(10))
    assert not first.write_now(b"x")
    assert second.write_now(b"", end=True)
    await turns()
    ledger.read(one)
    assert [len(ledger.data[stream.id]) for stream in streams] == [DEFAULT_WINDOW - 10, 10]
    with pytest.raises(RuntimeError, match="ended already"):
        second.write_now(b"more")
    await one.session.close()


async def test_a_write_behind_one_that_ends_the_stream_is_a_mistake_of_the_caller() -> None:
    """It must not reach the engine: the session would pay for it."""
    one, streams, ledger = opened(2)
    await streams[0].write(bytes(DEFAULT_WINDOW))
    last = asyncio.create_task(streams[1].write(b"the last words", end=True))
    await turns()
    with pytest.raises(RuntimeError, match="end"):
        streams[1].write_now(b"more")
    with pytest.raises(RuntimeError, match="end"):
        await asyncio.wait_for(streams[1].write(b"more"), 30)
    one.feed(ledger.update(0, 1_000))
    await last
    await turns()
    ledger.read(one)
    assert ledger.data[streams[1].id] == b"the last words"
    assert one.session.lost is None
    await one.session.close()


async def test_writers_wait_for_a_transport_that_is_full() -> None:
    one, streams, ledger = opened(2)
    one.session.pause_writing()
    writing = [asyncio.create_task(stream.write(bytes(500), head=9, end=True)) for stream in streams]
    await turns()
    assert not any(task.done() for task in writing)
    assert one.session.open(REQUEST_BLOCK, end=True).id == 5  # headers do not wait: they are small
    one.session.resume_writing()
    await asyncio.gather(*writing)
    await turns()
    ledger.read(one)
    assert len(ledger.ended) == 2
    await one.session.close()


async def write_all(stream: Stream, size: int) -> None:
    await stream.write(bytes(size), end=True)


async def read_all(stream: Stream) -> int:
    size = 0
    while data := await stream.read():
        size += len(data)
    return size


@pytest.mark.both_loops
@pytest.mark.limit(30)
async def test_two_ends_that_both_write_a_lot_do_not_wait_for_each_other(certs: Certificates) -> None:
    """protocol.md §12.7: more than sockets and windows hold, both ways at once, before anybody reads."""
    size = 6 << 20
    wide = SessionOptions(stream_window_bytes=8 << 20, connection_window_bytes=64 << 20)
    async with session_pair(certs, wide, wide) as pair:
        pairs = [await pair.stream() for _ in range(4)]
        ends = [end for both in pairs for end in both]
        for _, theirs in pairs:
            theirs.send_fields(RESPONSE_BLOCK)
        async with asyncio.TaskGroup() as group:
            for end in ends:
                group.create_task(write_all(end, size))
        assert [await read_all(end) for end in ends] == [size] * 8
        assert_idle(pair.client, pair.server)


@pytest.mark.both_loops
async def test_a_peer_that_stops_reading_stops_our_writers(certs: Certificates) -> None:
    """Backpressure of TCP reaches `write`, and what waits in memory stays small."""
    wide = SessionOptions(stream_window_bytes=64 << 20, connection_window_bytes=128 << 20)
    async with session_pair(certs, server_options=wide) as pair:
        ours, theirs = await pair.stream()
        transport = pair.server._transport._tcp
        assert transport is not None
        await pair.client.ping()
        transport.pause_reading()
        writing = asyncio.create_task(ours.write(bytes(48 << 20), end=True))
        backlog = await settled(pair.client)
        assert not writing.done()
        assert backlog < 2 << 20
        transport.resume_reading()
        assert await read_all(theirs) == 48 << 20
        await writing


async def settled(session: Session) -> int:
    """Bytes that wait for the kernel, once they stay the same for a while."""
    last, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.005)
        now = session._transport.backlog
        same = same + 1 if now == last else 0
        last = now
    return last

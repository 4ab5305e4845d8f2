"""One end of a VWS/1 WebSocket over real streams (protocol.md §11): against another, and against lines."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.http2 import frames as h2f
from tests.http2.sessions import REQUEST_BLOCK, Pair, client_and_raw, session_pair
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import ErrorCode, FieldBlock, SessionOptions, Stream, StreamReset
from verser2_guest_python.peer.websocket import (
    MAX_WAITING_BYTES,
    MAX_WAITING_MESSAGES,
    ChannelClosed,
    WebSocketChannel,
)
from verser2_guest_python.wire.limits import MAX_VWS_LINE_BYTES
from verser2_guest_python.wire.vws import (
    Binary,
    Close,
    Message,
    Ping,
    Pong,
    Text,
    VwsParser,
    VwsViolation,
    encode,
)

OK = FieldBlock([(b":status", b"200")])
SMALL_WINDOW = SessionOptions(stream_window_bytes=65_535)
LARGEST_TEXT = "x" * (MAX_VWS_LINE_BYTES - len(b'{"type":"text","data":""}'))
ABNORMAL = Close(1006, "")


class Lines:
    """The other end as a test plays it: lines in, lines out, nothing by itself."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = VwsParser()
        self._messages: list[Message] = []

    async def next(self) -> Message | None:
        """The next message; None at the end of the stream."""
        while not self._messages:
            data = await self.stream.read()
            if not data:
                assert self._parser.pending == 0, "a line was cut off"
                return None
            self._messages = self._parser.feed(data)
        return self._messages.pop(0)

    async def say(self, *messages: Message | bytes, end: bool = False) -> None:
        """Writes messages, or bytes as they are, in one piece."""
        data = b"".join(one if isinstance(one, bytes) else encode(one) for one in messages)
        await self.stream.write(data, end=end)

    async def in_step(self) -> None:
        """Until the channel has understood all that was said."""
        await self.stream.session.ping()


async def open_stream(pair: Pair) -> tuple[Stream, Stream]:
    ours, theirs = await pair.stream()
    theirs.send_fields(OK)
    await ours.wait_fields()
    return ours, theirs


@contextlib.asynccontextmanager
async def two_ends(
    certs: Certificates, **options: Any
) -> AsyncIterator[tuple[WebSocketChannel, WebSocketChannel]]:
    """Two channels that talk to each other. In the end no stream is left."""
    async with session_pair(certs, **options) as pair:
        ours, theirs = await open_stream(pair)
        one, other = WebSocketChannel(ours, pongs=True), WebSocketChannel(theirs, pongs=True)
        one.start()
        other.start()
        yield one, other
        await assert_over(pair, ours, theirs)


@contextlib.asynccontextmanager
async def against_lines(certs: Certificates, **options: Any) -> AsyncIterator[tuple[WebSocketChannel, Lines]]:
    """A channel, and what the test says to it. In the end no stream is left."""
    async with session_pair(certs, **options) as pair:
        ours, theirs = await open_stream(pair)
        channel = WebSocketChannel(ours, pongs=True)
        channel.start()
        yield channel, Lines(theirs)
        await assert_over(pair, ours, theirs)


async def assert_over(pair: Pair, *streams: Stream) -> None:
    if pair.client.lost is None:
        for stream in streams:
            await stream.wait_closed()
        await pair.client.ping()
        assert pair.client.open_streams == pair.server.open_streams == 0
        assert pair.client.unread_bytes == pair.server.unread_bytes == 0


# --- Messages -----------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_messages_both_ways(certs: Certificates) -> None:
    messages = [Text("hé"), Text(""), Binary(b""), Binary(bytes(range(256))), Text(LARGEST_TEXT)]
    messages += [Text("a\nb\0\u2028"), Binary(b"x" * 700_000), Text("🎉" * 1000), Ping("n"), Ping()]
    async with two_ends(certs) as (one, other):
        for message in messages:
            for sender, receiver in ((one, other), (other, one)):
                await sender.send(message)
                if isinstance(message, Ping):  # answered by the library
                    assert await sender.receive() == Pong(message.data)
                else:
                    assert await receiver.receive() == message
        one.close()
        await one.wait_closed()


async def test_messages_in_the_order_in_which_they_were_sent(certs: Certificates) -> None:
    async with two_ends(certs) as (one, other):

        async def send() -> None:
            for number in range(1_000):
                await one.send(Text(str(number)))

        sending = asyncio.create_task(send())
        assert [(await other.receive()).data for _ in range(1_000)] == [str(n) for n in range(1_000)]
        await sending
        other.close()
        await other.wait_closed()


async def test_a_line_that_comes_byte_by_byte(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        for byte in encode(Text("hé")) + b"\n" + encode(Close(1000, "bye")):
            await peer.say(bytes([byte]))
        assert await channel.receive() == Text("hé")
        assert await channel.receive() == Close(1000, "bye")


async def test_pings_are_answered_and_pongs_told_where_they_are_wanted(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        await peer.say(Ping("n"), Pong("nobody asked"), Text("x"))
        assert await peer.next() == Pong("n")
        assert [await channel.receive(), await channel.receive()] == [Pong("nobody asked"), Text("x")]
        channel.abort()
    async with session_pair(certs) as pair:
        ours, theirs = await open_stream(pair)
        channel = WebSocketChannel(ours)
        channel.start()
        await Lines(theirs).say(Pong("x"), Text("only this"), Close())
        assert await channel.receive() == Text("only this")


async def test_messages_that_came_with_the_negotiation(certs: Certificates) -> None:
    async with session_pair(certs) as pair:
        ours, theirs = await open_stream(pair)
        peer = Lines(theirs)
        parser = VwsParser()
        first = parser.feed(encode(Text("one")) + b'{"type":"text","da')
        await peer.say(b'ta":"two"}\n', Close())
        await peer.in_step()
        channel = WebSocketChannel(ours, parser)
        channel.start(first)
        assert [await channel.receive() for _ in range(3)] == [Text("one"), Text("two"), Close()]


async def test_messages_of_one_turn_share_a_frame(certs: Certificates) -> None:
    async with client_and_raw(certs, settings={}, window=1 << 20) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answers)
        peer.send_fields(stream.id, [(b":status", b"200")])
        await stream.wait_fields()
        channel = WebSocketChannel(stream)
        channel.start()
        for turn in range(3):
            for number in range(10):
                await channel.send(Text(f"{turn} {number}"))
            await peer.sync()
            frames = peer.of_kind(h2f.DATA, stream.id)
            assert len(frames) == turn + 1
            lines = frames[-1].payload.splitlines()
            assert [json.loads(line)["data"] for line in lines] == [f"{turn} {n}" for n in range(10)]
        channel.abort()


# --- What one message may be --------------------------------------------------------------


async def test_a_message_that_is_too_large_is_refused_and_nothing_else_happens(certs: Certificates) -> None:
    async with two_ends(certs) as (one, other):
        for message in (Text(LARGEST_TEXT + "x"), Binary(b"x" * 786_500), Ping(LARGEST_TEXT + "x")):
            with pytest.raises(VwsViolation) as caught:
                await one.send(message)
            assert caught.value.close_code == 1009
        with pytest.raises(VwsViolation):
            await one.send(Text("\ud800"))
        for close in ((1005, ""), (999, ""), (5000, ""), (1000, "x" * 124)):
            with pytest.raises(VwsViolation):
                one.close(*close)
        await one.send(Text("fine"))
        assert await other.receive() == Text("fine")
        one.close()
        await one.wait_closed()


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage\n", 1002),
        (b"[1]\n", 1002),
        (b"\xff\n", 1002),
        (b'{"type":"later"}\n', 1002),
        (b'{"type":"text"}\n', 1002),
        (b'{"type":"text","data":5}\n', 1002),
        (b'{"type":"binary","data":"A"}\n', 1002),
        (b'{"type":"close","code":1006}\n', 1002),
        (b'{"type":"accept"}\n', 1002),
        (b'{"type":"open","domain":"x"}\n', 1002),
        (b"x" * (MAX_VWS_LINE_BYTES + 1), 1009),
        (encode(Text(LARGEST_TEXT))[:-4] + b'xxx"}\n', 1009),
    ],
)
async def test_what_is_no_message_ends_it_behind_the_good_ones(
    certs: Certificates, line: bytes, code: int
) -> None:
    async with against_lines(certs) as (channel, peer):
        saying = asyncio.create_task(peer.say(Text("good"), Binary(b"too"), line, Text("never")))
        assert [await channel.receive(), await channel.receive()] == [Text("good"), Binary(b"too")]
        close = await channel.receive()
        assert isinstance(close, Close)
        assert close.code == code
        assert channel.closed == close
        assert not channel.clean
        with pytest.raises(ChannelClosed):
            await channel.send(Text("late"))
        told = await peer.next()
        assert isinstance(told, Close)
        assert told.code == code
        assert told.reason
        assert await channel.wait_closed() == close
        error = await peer.stream.wait_error()
        assert isinstance(error, StreamReset)
        await asyncio.wait([saying])
        saying.exception()


async def test_the_largest_line_comes_through_the_smallest_window(certs: Certificates) -> None:
    async with against_lines(certs, client_options=SMALL_WINDOW) as (channel, peer):
        saying = asyncio.create_task(peer.say(Text(LARGEST_TEXT), Close()))
        assert await channel.receive() == Text(LARGEST_TEXT)
        assert await channel.receive() == Close()
        await saying


async def test_a_violator_that_ends_its_side_is_not_waited_for(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        await peer.say(b"garbage\n", end=True)
        assert (await channel.wait_closed()).code == 1002
        assert isinstance(await peer.next(), Close)
        assert await peer.next() is None, "the side was ended, not reset"


# --- Closing ------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_we_close(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        channel.close(3001, "dönë")
        channel.close(1000, "not said twice")
        with pytest.raises(ChannelClosed):
            await channel.send(Text("late"))
        assert await peer.next() == Close(3001, "dönë")
        await peer.say(Text("too late for you"), Ping("unanswered"))
        await peer.in_step()
        assert channel.closed is None
        await peer.say(Close(3001, "dönë"), end=True)
        assert await channel.wait_closed() == Close(3001, "dönë")
        assert channel.clean
        assert await channel.receive() == Close(3001, "dönë")
        assert await peer.next() is None


@pytest.mark.both_loops
async def test_they_close(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        await channel.send(Text("still leaves"))
        await peer.say(Text("last"), Close(4000, "bye"), Text("behind the end"))
        assert [await channel.receive() for _ in range(3)] == [Text("last"), *[Close(4000, "bye")] * 2]
        assert await channel.wait_closed() == Close(4000, "bye")
        assert channel.clean
        with pytest.raises(ChannelClosed) as caught:
            await channel.send(Text("late"))
        assert caught.value.close == Close(4000, "bye")
        assert [await peer.next() for _ in range(3)] == [Text("still leaves"), Close(4000, "bye"), None]
        await peer.stream.write(b"", end=True)


async def test_both_close_at_once(certs: Certificates) -> None:
    async with two_ends(certs) as (one, other):
        one.close(3001, "one")
        other.close(3002, "other")
        assert await one.wait_closed() == Close(3002, "other")
        assert await other.wait_closed() == Close(3001, "one")
        assert one.clean
        assert other.clean


async def test_a_receiver_hears_of_our_own_close(certs: Certificates) -> None:
    async with two_ends(certs) as (one, _other):
        receiving = asyncio.create_task(one.receive())
        await asyncio.sleep(0)
        one.close(1001, "")
        assert await receiving == Close(1001, "")


async def test_closing_with_half_a_frame_understood(certs: Certificates) -> None:
    """Lines behind a full queue are skipped, not torn apart, so that the other end's close is heard."""
    async with against_lines(certs) as (channel, peer):
        lines = b"".join(encode(Text(str(number))) for number in range(200))
        await peer.say(lines + b'{"type":"text","da')
        await peer.in_step()
        channel.close()
        await peer.say(b'ta":"x"}\n')
        assert await peer.next() == Close()
        await peer.say(Close(), end=True)
        assert await channel.wait_closed() == Close()
        assert channel.clean


async def test_a_close_that_is_not_answered(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        channel.close()
        assert await channel.wait_closed() == ABNORMAL
        assert not channel.clean
        error = await peer.stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL


async def test_a_close_to_somebody_who_does_not_read(certs: Certificates) -> None:
    async with against_lines(certs, server_options=SMALL_WINDOW) as (channel, peer):
        await channel.send(Binary(b"x" * 700_000))
        channel.close()
        assert await channel.wait_closed() == ABNORMAL
        assert isinstance(await peer.stream.wait_error(), StreamReset)


async def test_a_close_from_somebody_who_does_not_read(certs: Certificates) -> None:
    async with against_lines(certs, server_options=SMALL_WINDOW) as (channel, peer):
        await channel.send(Binary(b"x" * 700_000))
        await peer.say(Close(3000, "bye"))
        assert await channel.wait_closed() == Close(3000, "bye")
        assert isinstance(await peer.stream.wait_error(), StreamReset)


async def test_an_end_without_close(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        await peer.say(Text("last"), end=True)
        assert await channel.receive() == Text("last")
        assert await channel.receive() == ABNORMAL
        assert await channel.wait_closed() == ABNORMAL
        assert not channel.clean
        assert await peer.next() is None


async def test_an_end_without_close_behind_a_full_queue(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        await peer.say(*[Text(str(number)) for number in range(300)], end=True)
        await peer.in_step()
        assert [(await channel.receive()).data for _ in range(300)] == [str(n) for n in range(300)]
        assert await channel.receive() == ABNORMAL


async def test_an_end_without_close_from_somebody_who_does_not_read(certs: Certificates) -> None:
    async with against_lines(certs, server_options=SMALL_WINDOW) as (channel, peer):
        await channel.send(Binary(b"x" * 700_000))
        await peer.say(end=True)
        assert await channel.wait_closed() == ABNORMAL
        assert isinstance(await peer.stream.wait_error(), StreamReset)


async def test_a_side_that_is_not_ended_behind_its_close(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        await peer.say(Close())
        assert await channel.wait_closed() == Close()
        assert [await peer.next(), await peer.next()] == [Close(), None]
        assert isinstance(await peer.stream.wait_error(), StreamReset)


async def test_abort(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        receiving = asyncio.create_task(channel.receive())
        await asyncio.sleep(0)
        channel.abort()
        channel.abort()
        channel.close()
        assert await receiving == ABNORMAL
        assert await channel.wait_closed() == ABNORMAL
        with pytest.raises(ChannelClosed):
            await channel.send(Text("late"))
        error = await peer.stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL


# --- A slow end slows the other -----------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize(("size", "count"), [(10, 5_000), (300_000, 20)])
async def test_a_slow_reader_slows_the_sender(certs: Certificates, size: int, count: int) -> None:
    options = {"client_options": SMALL_WINDOW, "server_options": SMALL_WINDOW}
    async with two_ends(certs, **options) as (one, other):
        sent = 0

        async def send() -> None:
            nonlocal sent
            for number in range(count):
                await one.send(Text(str(number).rjust(size)))
                sent += 1

        sending = asyncio.create_task(send())
        stuck = -1
        while stuck != sent:
            stuck = sent
            for _ in range(3):
                await one.stream.session.ping()
        assert not sending.done()
        waiting = len(other._received)
        assert waiting <= MAX_WAITING_MESSAGES
        assert other._received_bytes <= MAX_WAITING_BYTES + size
        assert one.buffered_amount <= MAX_WAITING_BYTES
        # what is neither with the sender nor with the receiver fits into the window of the stream
        line = len(encode(Text("x" * size)))
        assert (sent - waiting) * line <= MAX_WAITING_MESSAGES * line + 3 * 65_535 + MAX_WAITING_BYTES
        for number in range(count):
            assert (await other.receive()).data == str(number).rjust(size)
        await sending
        assert one.buffered_amount == 0
        other.close()
        await other.wait_closed()


async def test_two_ends_that_only_echo_do_not_lock_each_other(certs: Certificates) -> None:
    options = {"client_options": SMALL_WINDOW, "server_options": SMALL_WINDOW}
    async with two_ends(certs, **options) as (one, other):

        async def echo() -> None:
            while isinstance(message := await other.receive(), Text):
                await other.send(message)

        async def collect() -> int:
            return sum([len((await one.receive()).data) for _ in range(200)])

        echoing = asyncio.create_task(echo())
        collecting = asyncio.create_task(collect())
        for _ in range(200):
            await one.send(Text("x" * 20_000))
        assert await collecting == 200 * 20_000
        one.close()
        await echoing


async def test_pings_of_somebody_who_does_not_read_take_no_memory(certs: Certificates) -> None:
    async with against_lines(certs, server_options=SMALL_WINDOW) as (channel, peer):
        for number in range(300):
            await peer.say(Ping(f"{number} ".ljust(20_000)))
        await peer.in_step()
        assert channel.buffered_amount <= MAX_WAITING_BYTES
        last = None
        await peer.say(Text("the end"))
        assert await channel.receive() == Text("the end")
        while last != "299":
            pong = await peer.next()
            assert isinstance(pong, Pong)
            last = pong.data.strip()
        assert channel.buffered_amount == 0
        channel.abort()


async def test_a_sender_that_waits_for_room_hears_of_the_end(certs: Certificates) -> None:
    async with against_lines(certs, server_options=SMALL_WINDOW) as (channel, peer):
        sending = [asyncio.create_task(channel.send(Binary(b"x" * 500_000))) for _ in range(5)]
        await peer.in_step()
        assert not sending[-1].done()
        peer.stream.reset(ErrorCode.INTERNAL_ERROR)
        await asyncio.wait(sending)
        with pytest.raises(ChannelClosed) as caught:
            sending[-1].result()
        assert caught.value.close == ABNORMAL
        assert await channel.receive() == ABNORMAL
        for task in sending:
            task.exception()


# --- Cancelling, resets, and the loss of the session --------------------------------------


async def test_cancelling_a_receiver_loses_no_message(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        for number in range(50):
            receiving = asyncio.create_task(channel.receive())
            await asyncio.sleep(0)
            await peer.say(Text(str(number)))
            if number % 2:
                await peer.in_step()
            receiving.cancel()
            await asyncio.wait([receiving])
            message = await channel.receive() if receiving.cancelled() else receiving.result()
            assert message == Text(str(number))
        channel.abort()


async def test_cancelling_a_sender_that_waits_for_room(certs: Certificates) -> None:
    async with against_lines(certs, server_options=SMALL_WINDOW) as (channel, peer):
        data = b"x" * 500_000
        tasks = [asyncio.create_task(channel.send(Binary(data + str(n).encode()))) for n in range(5)]
        await peer.in_step()
        waiting = [number for number, task in enumerate(tasks) if not task.done()]
        assert waiting
        for number in waiting[:2]:
            tasks[number].cancel()
        await peer.in_step()
        expected = [n for n, task in enumerate(tasks) if not task.cancelled()]
        for number in expected:
            message = await peer.next()
            assert isinstance(message, Binary)
            assert message.data == data + str(number).encode()
        channel.close()
        assert await peer.next() == Close()
        await peer.say(Close(), end=True)
        await channel.wait_closed()
        assert len(expected) == 3


async def test_cancelling_whoever_waits_for_the_end(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        waiting = [asyncio.create_task(channel.wait_closed()) for _ in range(3)]
        channel.close()
        await peer.next()
        waiting.pop().cancel()
        await peer.say(Close(), end=True)
        assert await asyncio.gather(*waiting) == [Close()] * 2


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["reset", "session lost", "session closed"])
async def test_the_stream_fails(certs: Certificates, how: str) -> None:
    async with session_pair(certs) as pair:
        ours, theirs = await open_stream(pair)
        channel = WebSocketChannel(ours)
        channel.start()
        await Lines(theirs).say(Text("before"))
        await pair.server.ping()
        waiting = asyncio.create_task(channel.wait_closed())
        end: dict[str, Callable[[], Awaitable[None]]] = {"session closed": pair.client.close}
        if how == "reset":
            theirs.reset(ErrorCode.CANCEL)
        elif how == "session lost":
            pair.server.abort("the test says so")
        else:
            await end[how]()
        assert await waiting == ABNORMAL
        assert [await channel.receive() for _ in range(2)] == [Text("before"), ABNORMAL]
        with pytest.raises(ChannelClosed):
            await channel.send(Text("late"))
        channel.close()
        channel.abort()
        assert not channel.clean


async def test_one_receiver_at_a_time(certs: Certificates) -> None:
    async with against_lines(certs) as (channel, peer):
        receiving = asyncio.create_task(channel.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one receiver"):
            await channel.receive()
        await peer.say(Text("x"))
        assert await receiving == Text("x")
        channel.abort()


async def test_thousands_leave_nothing_behind(certs: Certificates) -> None:
    async with session_pair(certs) as pair:

        async def one(number: int) -> None:
            ours, theirs = await open_stream(pair)
            channel, peer = WebSocketChannel(ours), WebSocketChannel(theirs)
            channel.start()
            peer.start()
            await channel.send(Text(str(number)))
            assert await peer.receive() == Text(str(number))
            match number % 4:
                case 0:
                    channel.close()
                case 1:
                    peer.close()
                case 2:
                    channel.abort()
                case 3:
                    theirs.write_now(b"", end=True)
            await channel.wait_closed()
            await peer.wait_closed()

        for number in range(400):
            await one(number)
        await pair.client.ping()
        assert pair.client.open_streams == pair.server.open_streams == 0
        gc.collect()
        assert sum(isinstance(thing, WebSocketChannel) for thing in gc.get_objects()) < 20

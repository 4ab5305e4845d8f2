"""What a session makes of the frames that a peer sends, legal and odd (RFC 9113 §4 to §8)."""

from __future__ import annotations

import asyncio

import pytest

from tests.http2 import frames as h2f
from tests.http2.raw_peer import RawPeer
from tests.http2.sessions import REQUEST_BLOCK, RESPONSE_BLOCK, assert_idle, client_and_raw, server_and_raw
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import ErrorCode, Goaway, Session, SessionOptions, Stream, StreamReset

pytestmark = pytest.mark.limit(3)

HOW = [{"pieces": 3}, {"pieces": 40}, {"padding": 9}, {"priority": True}, {"padding": 0, "priority": True}]


async def still_serves(session: Session, peer: RawPeer) -> None:
    """The connection works: a new stream gets its answer."""
    if session.is_client:
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(stream.id).ended)
        peer.send_fields(stream.id, h2f.RESPONSE)
        peer.send(h2f.data_frame(stream.id, b"fine", end=True))
        assert await stream.read() == b"fine"
        assert await stream.read() == b""
    else:
        taken = session.on_stream
        opened: asyncio.Queue[Stream] = asyncio.Queue()
        session.on_stream = opened.put_nowait
        stream_id = peer.request(end=True)
        stream = await opened.get()
        session.on_stream = taken
        stream.send_fields(RESPONSE_BLOCK)
        await stream.write(b"fine", end=True)
        await peer.until(lambda: peer.answer(stream_id).ended)
        assert peer.answer(stream_id).data == b"fine"
    assert session.lost is None


async def reset_of(stream: Stream) -> StreamReset:
    error = await stream.wait_error()
    assert isinstance(error, StreamReset)
    return error


# --- Header blocks ------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
async def test_requests_in_pieces_padded_and_with_priority(certs: Certificates, how: dict[str, int]) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        peer.send_fields(1, h2f.REQUEST, end=True, **how)
        stream = await inbox.next()
        assert list(stream.fields or ()) == h2f.REQUEST
        assert stream.at_end
        stream.send_fields(RESPONSE_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        assert_idle(session)


@pytest.mark.parametrize("how", HOW)
async def test_responses_in_pieces_padded_and_with_priority(certs: Certificates, how: dict[str, int]) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, [*h2f.RESPONSE, (b"content-length", b"4")], **how)
        assert (await stream.wait_fields())[0] == (b":status", b"200")
        peer.send(h2f.data_frame(1, b"body", end=True))
        assert await stream.read() == b"body"
        assert await stream.read() == b""
        assert_idle(session)


async def test_a_block_that_repeats_in_every_shape_reads_the_same(certs: Certificates) -> None:
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet()
        block = peer.hpack.encode(h2f.REQUEST)
        again = peer.hpack.encode(h2f.REQUEST)
        shapes: list[dict[str, int]] = [{}, {}, {"pieces": 2}, {"padding": 3}, {"priority": True}, {}]
        for number, how in enumerate(shapes):
            peer.send(h2f.headers_frames(number * 2 + 1, block if number == 0 else again, end=True, **how))
        streams = [await inbox.next() for _ in shapes]
        assert [list(one.fields or ()) for one in streams] == [h2f.REQUEST] * len(shapes)


async def test_informational_responses_are_dropped(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, [(b":status", b"103"), (b"link", b"</a>")])
        peer.send_fields(1, [(b":status", b"100")], pieces=2)
        peer.send_fields(1, [(b":status", b"102")], padding=4)
        peer.send_fields(1, h2f.RESPONSE, end=True)
        assert list(await stream.wait_fields()) == h2f.RESPONSE
        assert await stream.read() == b""


@pytest.mark.parametrize("how", [{}, {"pieces": 2}, {"padding": 1}])
async def test_an_informational_response_that_ends_the_stream_fails_it(
    certs: Certificates, how: dict[str, int]
) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, [(b":status", b"103")], end=True, **how)
        assert (await reset_of(stream)).code == ErrorCode.PROTOCOL_ERROR
        await still_serves(session, peer)
        assert_idle(session)


@pytest.mark.parametrize("how", [{}, {"pieces": 2}, {"padding": 1}])
async def test_trailers_end_a_body_and_are_dropped(certs: Certificates, how: dict[str, int]) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, h2f.RESPONSE)
        peer.send(h2f.data_frame(1, b"body"))
        peer.send_fields(1, [(b"checksum", b"1"), (b"checksum", b"2")], end=True, **how)
        assert await stream.read() == b"body"
        assert await stream.read() == b""
        assert list(stream.fields or ()) == h2f.RESPONSE
        assert_idle(session)


async def test_trailers_of_a_request_end_it(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request()
        peer.send(h2f.data_frame(stream_id, b"body"))
        peer.send_fields(stream_id, [(b"x-late", b"1")], end=True)
        stream = await inbox.next()
        assert await stream.read() == b"body"
        assert await stream.read() == b""
        await still_serves(session, peer)


MALFORMED_REQUESTS = {
    "no path": h2f.REQUEST[:3],
    "upper case": [*h2f.REQUEST, (b"X-Loud", b"1")],
    "connection": [*h2f.REQUEST, (b"connection", b"close")],
    "line break": [*h2f.REQUEST, (b"x", b"a\r\nb: c")],
    "pseudo-field behind others": [(b"x", b"1"), *h2f.REQUEST],
    "pseudo-field twice": [*h2f.REQUEST, (b":path", b"/y")],
    "response": h2f.RESPONSE,
    "nothing at all": [],
    "empty name": [*h2f.REQUEST, (b"", b"1")],
}


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("how", [{}, {"pieces": 2}, {"padding": 1}, {"priority": True}])
@pytest.mark.parametrize("what", MALFORMED_REQUESTS)
async def test_a_malformed_request_is_an_error_of_its_stream_alone(
    certs: Certificates, what: str, how: dict[str, int], end: bool
) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        before = peer.request()
        open_one = await inbox.next()
        peer.send_fields(3, MALFORMED_REQUESTS[what], end=end, **how)
        await peer.until(lambda: peer.answer(3).reset == ErrorCode.PROTOCOL_ERROR)
        peer.send(h2f.data_frame(before, b"unharmed", end=True))
        assert await open_one.read() == b"unharmed"
        peer._next_id = 5
        await still_serves(session, peer)
        assert inbox.count == 1


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("how", [{}, {"pieces": 2}, {"padding": 1}])
@pytest.mark.parametrize(
    "fields", [[(b":status", b"200"), (b"X", b"y")], [(b"x", b"y")], h2f.REQUEST, [(b":status", b"200")] * 2]
)
async def test_a_malformed_response_is_an_error_of_its_stream_alone(
    certs: Certificates, fields: h2f.Fields, how: dict[str, int], end: bool
) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, fields, end=end, **how)
        assert (await reset_of(stream)).code == ErrorCode.PROTOCOL_ERROR
        await still_serves(session, peer)
        assert_idle(session)


# --- Lengths: nobody counts here (protocol.md §7) -----------------------------------------


@pytest.mark.parametrize("length", [b"0", b"3", b"5", b"-1", b"many", b"", b"99999999999999999999999"])
@pytest.mark.parametrize("how", [{}, {"pieces": 2}, {"padding": 1}])
async def test_a_wrong_content_length_is_left_to_the_caller(
    certs: Certificates, length: bytes, how: dict[str, int]
) -> None:
    fields = [(b":status", b"200"), (b"content-length", length)]
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, fields, **how)
        peer.send(h2f.data_frame(1, b"bo", padding=7), h2f.data_frame(1, b"dy", end=True))
        assert list(await stream.wait_fields()) == fields
        assert await stream.read(2) == b"bo"
        assert await stream.read(2) == b"dy"
        assert await stream.read() == b""
        await still_serves(session, peer)


@pytest.mark.parametrize("status", [b"200", b"204", b"304"])
@pytest.mark.parametrize("empty_data", [False, True])
async def test_a_content_length_without_a_body_is_no_error(
    certs: Certificates, status: bytes, empty_data: bool
) -> None:
    """HEAD, 304 and careless apps: all legal or harmless."""
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        fields = [(b":status", status), (b"content-length", b"1234")]
        peer.send_fields(1, fields, end=not empty_data)
        if empty_data:
            peer.send(h2f.data_frame(1, b"", end=True))
        assert list(await stream.wait_fields()) == fields
        assert await stream.read() == b""
        await still_serves(session, peer)


async def test_a_wrong_content_length_of_an_upload_is_left_to_the_caller(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        for extra in (b"1", b"100", b"x"):
            stream_id = peer.request([*h2f.REQUEST, (b"content-length", extra)])
            peer.send(h2f.data_frame(stream_id, b"body", end=True))
            stream = await inbox.next()
            assert await stream.read() == b"body"
            assert await stream.read() == b""
        await still_serves(session, peer)


# --- DATA ---------------------------------------------------------------------------------


async def test_padding_is_not_read_but_credited(certs: Certificates) -> None:
    """600 frames of padding pass a window that holds 255 of them, though each holds one byte to read."""
    options = SessionOptions(stream_window_bytes=65_535, connection_window_bytes=65_535)
    async with server_and_raw(certs, options) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request()
        stream = await inbox.next()
        for _ in range(6):
            for _ in range(100):
                peer.send(h2f.data_frame(stream_id, b"x", padding=255))
            await peer.sync()
            assert stream.take() == b"x" * 100
        peer.send(h2f.data_frame(stream_id, b"", end=True, padding=10))
        await peer.sync()
        assert stream.at_end
        assert session.unread_bytes == 0
        assert session.lost is None


async def test_empty_data_wakes_nobody_but_its_end_does(certs: Certificates) -> None:
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet()
        stream_id = peer.request()
        stream = await inbox.next()
        calls: list[bool] = []
        stream.listener = lambda one: calls.append(one.ended)
        peer.send(h2f.data_frame(stream_id, b""), h2f.data_frame(stream_id, b"", padding=3))
        await peer.sync()
        assert calls == []
        peer.send(h2f.data_frame(stream_id, b"", end=True))
        await peer.sync()
        assert calls == [True]


@pytest.mark.parametrize("padding", [None, 5])
async def test_data_behind_the_end_is_an_error_of_that_stream(
    certs: Certificates, padding: int | None
) -> None:
    """RFC 9113 §5.1, half-closed (remote)."""
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request(end=True)
        stream = await inbox.next()
        peer.send(h2f.data_frame(stream_id, b"more", padding=padding))
        await peer.until(lambda: peer.answer(stream_id).reset == ErrorCode.STREAM_CLOSED)
        assert (await reset_of(stream)).code == ErrorCode.STREAM_CLOSED
        stream.reset()
        with pytest.raises(StreamReset):
            await stream.write(b"x")
        await still_serves(session, peer)
        assert_idle(session)


@pytest.mark.parametrize("how", [{}, {"pieces": 2}, {"padding": 1}])
async def test_fields_behind_the_end_are_an_error_of_that_stream(
    certs: Certificates, how: dict[str, int]
) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request(end=True)
        stream = await inbox.next()
        peer.send_fields(stream_id, [(b"x-late", b"1")], end=True, **how)
        assert (await reset_of(stream)).code == ErrorCode.STREAM_CLOSED
        await peer.until(lambda: peer.answer(stream_id).reset == ErrorCode.STREAM_CLOSED)
        await still_serves(session, peer)
        assert_idle(session)


# --- Frames on closed streams -------------------------------------------------------------


async def test_frames_on_a_stream_that_we_reset_are_dropped_and_credited(certs: Certificates) -> None:
    options = SessionOptions(connection_window_bytes=65_535)
    async with server_and_raw(certs, options) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request()
        stream = await inbox.next()
        stream.reset()
        await peer.until(lambda: peer.answer(stream_id).reset == ErrorCode.CANCEL)
        peer.send(h2f.data_frames(stream_id, bytes(30_000)), h2f.data_frame(stream_id, bytes(9), padding=9))
        peer.send_fields(stream_id, [(b"x-late", b"1")], end=True, pieces=2)
        peer.send(h2f.window_update(stream_id, 5), h2f.rst_stream(stream_id, 8))
        await peer.sync()
        assert sum(one.number for one in peer.of_kind(h2f.WINDOW_UPDATE, 0)) > 16_000
        await still_serves(session, peer)
        assert_idle(session)


async def test_frames_on_a_stream_that_has_ended_are_dropped(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, h2f.RESPONSE, end=True)
        assert await stream.read() == b""
        peer.send(h2f.window_update(1, 5), h2f.rst_stream(1, 8), h2f.frame(h2f.PRIORITY, 1, bytes(5)))
        await still_serves(session, peer)


# --- Resets -------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
async def test_an_end_with_a_reset_right_behind_it_is_a_reset(certs: Certificates, together: bool) -> None:
    """protocol.md §5.5: deployed Hosts end a cancelled upload like this."""
    async with server_and_raw(certs) as (_, inbox, peer):
        peer.greet()
        stream_id = peer.request()
        stream = await inbox.next()
        seen: list[tuple[bool, bool]] = []
        stream.listener = lambda one: seen.append((one.ended, one.error is not None))
        end, reset = h2f.data_frame(stream_id, b"", end=True), h2f.rst_stream(stream_id, 8)
        if together:
            peer.send(end + reset)
        else:
            peer.send(end)
            await peer.sync()
            peer.send(reset)
        assert (await reset_of(stream)).code == ErrorCode.CANCEL
        assert seen == ([(True, True)] if together else [(True, False), (True, True)])
        with pytest.raises(StreamReset):
            await stream.read()


async def test_a_response_cut_by_end_and_reset_is_not_read_as_whole(certs: Certificates) -> None:
    """protocol.md §7: both sides have ended when the reset comes."""
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK, end=True)
        await peer.until(lambda: peer.answer(1).ended)
        peer.send_fields(1, h2f.RESPONSE)
        peer.send(h2f.data_frame(1, b"half", end=True) + h2f.rst_stream(1, 2))
        with pytest.raises(StreamReset) as caught:
            await stream.read()
        assert caught.value.code == ErrorCode.INTERNAL_ERROR
        assert caught.value.remote
        assert_idle(session)


@pytest.mark.parametrize("together", [True, False])
async def test_no_error_behind_a_whole_answer_keeps_it(certs: Certificates, together: bool) -> None:
    """protocol.md §7: a 502 during an upload may be followed by RST_STREAM NO_ERROR."""
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        writing = asyncio.create_task(stream.write(bytes(200_000), end=True))
        await peer.until(lambda: len(peer.answer(1).data) == 65_535)
        peer.send_fields(1, h2f.RESPONSE)
        answer, reset = h2f.data_frame(1, b"no", end=True), h2f.rst_stream(1, 0)
        if together:
            peer.send(answer + reset)
        else:
            peer.send(answer)
            await peer.sync()
            peer.send(reset)
        with pytest.raises(StreamReset) as caught:
            await writing
        assert caught.value.code == ErrorCode.NO_ERROR
        assert await stream.read() == b"no"
        assert await stream.read() == b""
        await asyncio.wait_for(stream.wait_closed(), 30)
        assert stream.error is None
        with pytest.raises(StreamReset):
            await stream.write(b"more")
        stream.reset()
        await peer.sync()
        assert peer.answer(1).reset is None
        assert_idle(session)


async def test_no_error_in_the_middle_of_an_answer_is_a_failure(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answer(1).fields)
        peer.send_fields(1, h2f.RESPONSE)
        peer.send(h2f.data_frame(1, b"ha") + h2f.rst_stream(1, 0))
        with pytest.raises(StreamReset):
            await stream.read()
        assert_idle(session)


async def test_an_unknown_error_code_is_kept_as_a_number(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        stream = session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answer(1).fields)
        peer.send(h2f.rst_stream(1, 0xDEADBEEF))
        error = await reset_of(stream)
        assert (error.code, error.remote) == (0xDEADBEEF, True)
        assert "0xdeadbeef" in str(error)


# --- GOAWAY -------------------------------------------------------------------------------


async def test_goaway_does_not_end_the_streams_that_are_open(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        said: list[Goaway] = []
        session.on_goaway = said.append
        first, second, third = (session.open(REQUEST_BLOCK) for _ in range(3))
        await peer.until(lambda: peer.answer(5).fields)
        peer.send(h2f.goaway(3, 0, b"debug text"))
        error = await reset_of(third)
        assert (error.code, error.remote) == (ErrorCode.REFUSED_STREAM, True)
        assert session.closing
        for stream in (first, second):
            peer.send_fields(stream.id, h2f.RESPONSE)
            peer.send(h2f.data_frame(stream.id, b"still here"))
            assert await stream.read() == b"still here"
            await stream.write(b"and we, too", end=True)
            peer.send(h2f.data_frame(stream.id, b"", end=True))
            assert await stream.read() == b""
            await peer.until(lambda stream=stream: peer.answer(stream.id).ended)
        assert peer.answer(1).data == b"and we, too"
        assert await session.ping() > 0
        assert said == [Goaway(ErrorCode.NO_ERROR, "debug text")]
        assert session.lost is None
        assert_idle(session)


async def test_a_second_goaway_may_give_up_more_streams(certs: Certificates) -> None:
    async with client_and_raw(certs) as (session, peer):
        first, second = session.open(REQUEST_BLOCK), session.open(REQUEST_BLOCK)
        await peer.until(lambda: peer.answer(3).fields)
        peer.send(h2f.goaway(2**31 - 1), h2f.settings_frame({}), h2f.ping())
        await peer.sync()
        assert first.error is None
        assert second.error is None
        peer.send(h2f.goaway(1))
        assert (await reset_of(second)).code == ErrorCode.REFUSED_STREAM
        assert first.error is None


async def test_streams_opened_behind_our_goaway_are_not_served(certs: Certificates) -> None:
    """RFC 9113 §6.8: the peer takes them for not processed, and may send them elsewhere."""
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        first = peer.request()
        stream = await inbox.next()
        session.goaway()
        late = peer.request()
        peer.send(h2f.data_frame(late, b"late", end=True))
        peer.send(h2f.data_frame(first, b"in time", end=True))
        assert await stream.read() == b"in time"
        await peer.sync()
        assert [one.number for one in peer.of_kind(h2f.GOAWAY)] == [first]
        assert inbox.count == 1
        stream.send_fields(RESPONSE_BLOCK, end=True)
        await peer.until(lambda: peer.answer(first).ended)
        assert_idle(session)


# --- Everything else ----------------------------------------------------------------------


async def test_unknown_frames_and_priority_are_ignored(certs: Certificates) -> None:
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        peer.send(
            h2f.frame(0xBE, 0, b"what"),
            h2f.frame(0xEF, 77, bytes(16_384), 0xFF),
            h2f.frame(h2f.PRIORITY, 9, bytes(4) + b"\x01"),
            h2f.frame(0xA, 0, b"\x00\x01o" + b"altsvc"),
            h2f.frame(0xC, 0, b"\x00\x01o"),
        )
        stream_id = peer.request()
        peer.send(h2f.frame(0xBE, stream_id, b"what"), h2f.frame(h2f.PRIORITY, stream_id, bytes(5)))
        stream = await inbox.next()
        peer.send(h2f.data_frame(stream_id, b"fine", end=True))
        assert await stream.read() == b"fine"
        await still_serves(session, peer)


async def test_ping_is_answered_with_the_same_bytes(certs: Certificates) -> None:
    async with server_and_raw(certs) as (_, _inbox, peer):
        peer.greet()
        peer.send(h2f.ping(b"one two "), h2f.ping(b"\xff" * 8))
        await peer.until(lambda: len(peer.of_kind(h2f.PING)) == 2)
        assert [(one.payload, one.flags) for one in peer.of_kind(h2f.PING)] == [
            (b"one two ", 1),
            (b"\xff" * 8, 1),
        ]


async def test_settings_are_acknowledged(certs: Certificates) -> None:
    async with server_and_raw(certs) as (_, _inbox, peer):
        peer.greet({0xF00: 1, h2f.MAX_FRAME_SIZE: 1 << 20})
        await peer.until(lambda: any(one.flags == 1 for one in peer.of_kind(h2f.SETTINGS)))


async def test_more_streams_than_allowed_are_refused_one_by_one(certs: Certificates) -> None:
    """RFC 9113 §5.1.2; a client may well open them before it knows the limit."""
    async with server_and_raw(certs, SessionOptions(max_concurrent_streams=3)) as (session, inbox, peer):
        peer.greet()
        ids = [peer.request() for _ in range(6)]
        streams = [await inbox.next() for _ in range(3)]
        await peer.until(lambda: peer.answer(ids[-1]).reset is not None)
        assert [peer.answer(one).reset for one in ids] == [None] * 3 + [ErrorCode.REFUSED_STREAM] * 3
        for stream in streams:
            stream.send_fields(RESPONSE_BLOCK, end=True)
            peer.send(h2f.data_frame(stream.id, b"", end=True))
        await peer.until(lambda: peer.answer(ids[2]).ended)
        await still_serves(session, peer)
        assert inbox.count == 3


async def test_a_stream_window_that_grows_too_large_is_an_error_of_that_stream(certs: Certificates) -> None:
    """RFC 9113 §6.9.1."""
    async with server_and_raw(certs) as (session, inbox, peer):
        peer.greet()
        stream_id = peer.request()
        stream = await inbox.next()
        peer.send(h2f.window_update(stream_id, 2**31 - 1))
        await peer.until(lambda: peer.answer(stream_id).reset == ErrorCode.FLOW_CONTROL_ERROR)
        assert (await reset_of(stream)).code == ErrorCode.FLOW_CONTROL_ERROR
        await still_serves(session, peer)

"""What a Host should never do to a Guest, frame by frame.

The session survives where the protocol allows it, the Guest always does, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import struct
from collections.abc import Callable

import pytest

from tests.guest.guests import (
    Call,
    Events,
    Witness,
    ask,
    guest_at_scripted_host,
    hello,
    host_call,
    lease_host,
    make_guest,
    next_lease,
    no_lifespan,
    other_streams,
    request_head,
    session_of,
)
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, raw_reset, send_head
from tests.support.waiting import until
from verser2_guest_python import VerserConnectionError, VerserGuest
from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.guest.http_leases import HttpLeases
from verser2_guest_python.http2 import ErrorCode, Session, SessionOptions, Stream
from verser2_guest_python.wire.envelopes import encode_request

IDLE = 8
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, WINDOW_UPDATE = 0, 1, 3, 4, 5, 6, 8
END_STREAM, END_HEADERS, PADDED = 1, 4, 8


def put(session: Session, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> None:
    """Any frame, past all rules."""
    session.engine.put(struct.pack(">LBL", len(payload) << 8 | kind, flags, stream_id) + payload)
    session.wrote()


def leases_of(guest: VerserGuest) -> HttpLeases:
    return guest._keepers.sessions[0].leases


async def at_rest(guest: VerserGuest) -> None:
    """Until nothing is left of any request."""
    await until(lambda: guest._calls.running == 0)
    await until(
        lambda: (
            bool(guest._keepers.sessions)
            and session_of(guest).open_streams == len(leases_of(guest).idle) + other_streams(guest)
        )
    )
    assert session_of(guest).unread_bytes == 0


# --- A reset at every point -----------------------------------------------------------------------


async def test_a_reset_at_every_byte_of_a_request(certs: Certificates) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, _send: Send) -> None:
        await no_lifespan(scope)
        while (message := await receive())["type"] != "http.disconnect":
            seen.append(message["type"])

    async with guest_at_scripted_host(certs, app) as (host, guest):
        session = session_of(guest)
        data = encode_request(request_head("/items", "POST", request_id="r")) + b"body"
        for position in range(len(data) + 1):
            stream = await next_lease(host)
            if position:
                stream.write_now(data[:position])
            if position % 3 == 0:
                await host.session.ping()  # in a read of its own
            raw_reset(stream, ErrorCode.CANCEL if position % 2 else ErrorCode.INTERNAL_ERROR)
        await at_rest(guest)
        assert session_of(guest) is session


RESETS: list[Callable[[Call], None]] = [
    lambda call: raw_reset(call.stream, ErrorCode.CANCEL),
    lambda call: raw_reset(call.stream, ErrorCode.NO_ERROR),
    lambda call: call.end_and_cancel(),
]


@pytest.mark.parametrize("reset", RESETS, ids=["cancel", "no error", "end and cancel"])
async def test_a_reset_at_every_step_of_an_answer(
    certs: Certificates, reset: Callable[[Call], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Between any two things that an app does."""
    steps = 12
    now = asyncio.Event()
    reached = asyncio.Event()
    stop_at = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        count = 0

        async def step() -> None:
            nonlocal count
            if count == stop_at:
                reached.set()
                await now.wait()
            count += 1

        await step()
        await receive()
        await step()
        await send({"type": "http.response.start", "status": 200})
        for _ in range(steps - 4):
            await step()
            await send({"type": "http.response.body", "body": b"x" * 2_000, "more_body": True})
        await step()
        await send({"type": "http.response.body"})
        await step()
        await receive()

    async with guest_at_scripted_host(certs, app) as (host, guest):
        for number in range(steps):
            stop_at = number
            now.clear()
            reached.clear()
            call = await host_call(host, method="POST", body=b"some", end=False)
            await reached.wait()
            reset(call)
            await host.session.ping()
            now.set()
            await at_rest(guest)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- Odd frames that are allowed ------------------------------------------------------------------


async def test_frames_that_nobody_knows(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        session = session_of(guest)
        stream = await next_lease(host)
        for kind in (0x10, 0x42, 0xEE, 0xFF):
            put(host.session, kind, 0xFF, stream.id, b"whatever")
            put(host.session, kind, 0, 0, b"")
        call = Call(stream)
        call.send_head(request_head("/items"), end=True)
        assert (await call.reply()).body == b"/items"
        assert session_of(guest) is session


@pytest.mark.parametrize("padding", [0, 1, 200])
async def test_padded_data(certs: Certificates, padding: int) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        stream = await next_lease(host)
        await host.session.ping()
        head = encode_request(request_head("/padded"))
        put(host.session, DATA, PADDED | END_STREAM, stream.id, bytes([padding]) + head + b"\0" * padding)
        call = Call(stream)
        assert (await call.reply()).body == b"/padded"
        raw_reset(stream, ErrorCode.CANCEL)
        assert session_of(guest).unread_bytes == 0


async def test_empty_frames_without_end(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        stream = await next_lease(host)
        await host.session.ping()
        for _ in range(5_000):
            put(host.session, DATA, 0, stream.id)
        call = Call(stream)
        call.send_head(request_head("/items"), end=True)
        assert (await call.reply()).body == b"/items"
        await at_rest(guest)


async def test_a_flood_of_pings_and_settings(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        session = session_of(guest)
        for number in range(2_000):
            put(host.session, PING, 0, 0, number.to_bytes(8, "big"))
            if number % 100 == 0:
                put(host.session, SETTINGS, 0, 0, struct.pack(">HL", 4, 65_535 + number))
        assert (await ask(host, "/after")).body == b"/after"
        assert session_of(guest) is session


async def test_windows_that_shrink_below_zero_and_grow_again(certs: Certificates) -> None:
    """RFC 9113 §6.9.2: a head still leaves in one frame (protocol.md §12.1)."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await send({"type": "http.response.start", "status": 200})
        for _ in range(4):
            await send({"type": "http.response.body", "body": b"x" * 30_000, "more_body": True})
        await send({"type": "http.response.body"})

    options = SessionOptions(stream_window_bytes=65_535)
    async with guest_at_scripted_host(certs, app, host={"options": options}) as (host, guest):
        first = await host_call(host)
        await until(lambda: first.stream.unread >= 60_000)
        put(host.session, SETTINGS, 0, 0, struct.pack(">HL", 4, 0))
        second = await host_call(host)
        await host.session.ping()
        await host.session.ping()
        assert second.stream.unread == 0
        put(host.session, SETTINGS, 0, 0, struct.pack(">HL", 4, 200_000))
        for call in (second, first):
            # The Host's own idea of its windows is of no use any more: it is told what it gave
            call.stream.h2._inbound_window_manager.current_window_size = 200_000
        assert len((await second.reply()).body) == 120_000
        assert len((await first.reply()).body) == 120_000
        await at_rest(guest)


async def test_trailers_behind_a_request(certs: Certificates) -> None:
    """They are dropped (protocol.md §1 knows none); the body is whole."""
    app = Witness()
    async with guest_at_scripted_host(certs, app) as (host, _guest):
        call = await host_call(host, method="POST", body=b"whole", end=False)
        await until(lambda: app.body == b"whole")
        block = b"\x00\x03x-a\x011"  # a literal without indexing
        put(host.session, HEADERS, END_HEADERS | END_STREAM, call.stream.id, block)
        await until(lambda: app.complete)
        assert app.body == b"whole"
        raw_reset(call.stream, ErrorCode.CANCEL)
        await app.saw_disconnect()


async def test_informational_answers_to_a_lease(certs: Certificates) -> None:
    def on_lease(stream: Stream) -> None:
        put(stream.session, HEADERS, END_HEADERS, stream.id, b"\x08\x03103")
        send_head(stream, 200, {"content-type": "application/octet-stream"})
        queue.put_nowait(stream)

    queue: asyncio.Queue[Stream] = asyncio.Queue()
    async with guest_at_scripted_host(certs, host={"on_lease": on_lease}):
        call = Call(await queue.get())
        call.send_head(request_head("/items"), end=True)
        assert (await call.reply()).body == b"/items"


# --- What ends a session --------------------------------------------------------------------------


def push(session: Session, lease: int) -> None:
    put(session, PUSH_PROMISE, END_HEADERS, lease, struct.pack(">L", 2) + b"\x82\x87\x84\x01\x01a")


def empty_window_update(session: Session, _lease: int) -> None:
    put(session, WINDOW_UPDATE, 0, 0, bytes(4))


def too_much_window(session: Session, _lease: int) -> None:
    for _ in range(2):
        put(session, WINDOW_UPDATE, 0, 0, struct.pack(">L", 0x7FFFFFFF))


def idle_stream(session: Session, _lease: int) -> None:
    put(session, DATA, 0, 99_999, b"x")


def large_frame(session: Session, lease: int) -> None:
    put(session, DATA, 0, lease, b"x" * 70_000)


def broken_hpack(session: Session, lease: int) -> None:
    put(session, HEADERS, END_HEADERS | END_STREAM, lease, b"\xff\xff\xff\xff\xff\xff\xff\xff")


def bad_settings(session: Session, _lease: int) -> None:
    put(session, SETTINGS, 0, 0, struct.pack(">HL", 4, 0xFFFFFFFF))


def no_http2(session: Session, _lease: int) -> None:
    session.engine.put(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    session.wrote()


def no_tls(session: Session, _lease: int) -> None:
    session._transport._tcp.write(b"this is not TLS, and has not been for a while")  # type: ignore[union-attr]


def half_closed(session: Session, _lease: int) -> None:
    fd = session._transport._tcp.get_extra_info("socket").fileno()  # type: ignore[union-attr]
    with socket.socket(fileno=os.dup(fd)) as same:
        same.shutdown(socket.SHUT_WR)


def tcp_reset(session: Session, _lease: int) -> None:
    session._transport._tcp.abort()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fault",
    [
        push,
        empty_window_update,
        too_much_window,
        idle_stream,
        large_frame,
        broken_hpack,
        bad_settings,
        no_http2,
        no_tls,
        half_closed,
        tcp_reset,
    ],
)
async def test_what_breaks_the_session_does_not_break_the_guest(
    certs: Certificates, fault: Callable[[Session, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Its calls see a disconnect, it says why, and registers anew."""
    app = Witness()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        await host_call(host)
        await app.begun.wait()
        lease = await next_lease(host)
        fault(host.session, lease.id)
        lost = await events.wait("disconnected")
        assert lost.fields["reason"]
        await app.saw_disconnect()
        await events.wait("registered")
        await at_rest(guest)
        assert not [record for record in caplog.records if record.exc_info]


async def test_a_host_that_breaks_every_session_is_not_dialled_in_a_loop(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        for count in range(1, 6):
            no_http2(host.session, 0)
            await events.wait("registered", count=count)
        delays = [event.fields["delay_seconds"] for event in events.find("reconnecting")]
        assert delays[0] == 0.0
        assert all(isinstance(delay, float) and delay > 0 for delay in delays[1:])
        assert guest.connected


# --- A port that is no Host -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 100]
)
async def test_a_port_where_something_else_listens(certs: Certificates, says: bytes) -> None:
    async def on_client(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    class Somewhere:
        url = f"https://localhost:{port}"

    guest = make_guest(Somewhere(), certs, hello, connect_timeout=5.0)
    with pytest.raises(VerserConnectionError) as caught:
        await guest.connect()
    assert str(port) in str(caught.value)
    await guest.close()
    server.close()
    await server.wait_closed()


async def test_a_port_that_never_answers(certs: Certificates) -> None:
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: taken.append(writer), "127.0.0.1", 0)

    class Somewhere:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"

    guest = make_guest(Somewhere(), certs, hello, connect_timeout=0.3)
    with pytest.raises(VerserConnectionError, match=r"0\.3 s"):
        await guest.connect()
    await guest.close()
    for writer in taken:
        writer.close()
    server.close()
    await server.wait_closed()


# --- Ten thousand ---------------------------------------------------------------------------------


@pytest.mark.limit(300)
@pytest.mark.parametrize(
    "how", ["cancel", "end_and_cancel", "answered", pytest.param("early", marks=pytest.mark.slow)]
)
async def test_ten_thousand_aborted_requests(certs: Certificates, how: str) -> None:
    """Tasks, streams and memory return to the baseline, and the session survives (protocol.md §12.10)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        if how == "answered":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    unlimited = {"options": SessionOptions(reset_burst=1_000_000)}
    async with guest_at_scripted_host(certs, app, host=unlimited, min_waiting_streams=64) as (host, guest):
        session = session_of(guest)

        async def abort(count: int) -> None:
            batch = 1 if how == "early" else 50
            for _ in range(count // batch):
                calls = [await host_call(host, method="POST", body=b"half", end=False) for _ in range(batch)]
                if how != "early":
                    await host.session.ping()  # the app has them
                for call in calls:
                    if how == "end_and_cancel":
                        call.end_and_cancel()
                    else:
                        call.cancel()
            await host.session.ping()
            await at_rest(guest)

        await abort(1_000)
        gc.collect()
        objects, tasks = len(gc.get_objects()), len(asyncio.all_tasks())
        await abort(10_000)
        gc.collect()
        assert session_of(guest) is session
        assert len(asyncio.all_tasks()) <= tasks
        grown = len(gc.get_objects()) - objects
        assert grown < 2_000, f"{grown} objects more"


async def test_requests_that_the_guest_cuts_off_by_the_thousand(certs: Certificates) -> None:
    """Each is a reset of its own; they are rationed, so that no Host ends the session (§12.10)."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with guest_at_scripted_host(certs, app, min_waiting_streams=64) as (host, guest):
        session = session_of(guest)
        calls = [await host_call(host) for _ in range(2_000)]
        await host.session.ping()
        cut = sum(call.stream.error is not None for call in calls)
        assert 900 <= cut < 1_900
        assert not any(call.stream.ended for call in calls)  # the others do not look whole either
        assert session_of(guest) is session


async def test_hundreds_of_sessions(certs: Certificates) -> None:
    """A Host that drops its Guest again and again leaves no sessions and no tasks behind."""
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        await guest.connect()
        events = Events(guest)
        keeper = guest._keepers.all[0]
        keeper._backoff.next_delay = lambda _now: 0.0  # type: ignore[method-assign]
        tasks = len(asyncio.all_tasks())
        for count in range(1, 301):
            host.session.abort("the test says so")
            await events.wait("registered", count=count)
            await _drop_what_waits(host)
        await until(lambda: len(keeper._retired) == 0)
        gc.collect()
        sessions = [one for one in gc.get_objects() if isinstance(one, Session) and one.is_client]
        assert len(sessions) <= 2
        assert len(asyncio.all_tasks()) <= tasks
        await guest.close()


async def _drop_what_waits(host: ScriptedHost) -> None:
    for queue in host._streams.values():
        while not queue.empty():
            queue.get_nowait()

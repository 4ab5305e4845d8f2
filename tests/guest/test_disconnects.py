"""A Broker that leaves, a session that is lost: what the app learns, and what is left (protocol.md §5.5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from tests.guest.guests import (
    LEASE_PATH,
    Call,
    Events,
    Gate,
    Witness,
    ask,
    guest_at_scripted_host,
    hello,
    host_call,
    no_lifespan,
    other_streams,
    request_head,
    respond,
    session_of,
)
from tests.support.certificates import Certificates
from tests.support.scripted_host import raw_reset
from tests.support.waiting import until
from verser2_guest_python import VerserGuest
from verser2_guest_python.asgi.types import Message, Receive, Scope, Send
from verser2_guest_python.http2 import ErrorCode, SessionOptions

IDLE_LEASES = 8


async def all_idle(guest: VerserGuest) -> None:
    """Until nothing is left of any request: no stream beyond those that wait for the next ones."""
    await until(lambda: session_of(guest).open_streams == IDLE_LEASES + other_streams(guest))
    assert session_of(guest).unread_bytes == 0


@pytest.mark.both_loops
@pytest.mark.parametrize("started", [False, True])
async def test_cancelled_while_the_app_waits(certs: Certificates, started: bool) -> None:
    app = Witness(start=started)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host)
        await app.begun.wait()
        call.cancel()
        await app.saw_disconnect()
        assert app.complete
        assert isinstance(app.send_error, OSError)
        completed = await events.wait("request-completed")
        assert completed.fields["reason"] == "cancelled"
        await all_idle(guest)


@pytest.mark.parametrize("started", [False, True])
async def test_cancelled_in_the_middle_of_an_upload(certs: Certificates, started: bool) -> None:
    app = Witness(start=started)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = await host_call(host, method="POST", body=b"half", end=False)
        await until(lambda: app.body == b"half")
        call.cancel()
        await app.saw_disconnect()
        assert not app.complete
        assert isinstance(app.send_error, OSError)
        await all_idle(guest)


@pytest.mark.parametrize("length", [None, "100"])
@pytest.mark.parametrize("started", [False, True])
async def test_an_end_with_a_reset_behind_it_is_no_complete_upload(
    certs: Certificates, length: str | None, started: bool
) -> None:
    """In one packet, as deployed Hosts send them."""
    app = Witness(start=started)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        headers = {"content-length": length} if length else {}
        call = await host_call(host, method="POST", headers=headers, body=b"half", end=False)
        await until(lambda: app.body == b"half")
        call.end_and_cancel()
        await app.saw_disconnect()
        assert not app.complete
        await all_idle(guest)


@pytest.mark.parametrize("size", [0, 4, 99])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_an_upload_that_ends_short_was_cancelled(
    certs: Certificates, size: int, started: bool, reset: bool
) -> None:
    """The reset comes in a packet of its own, or never: `content-length` tells."""
    app = Witness(start=started)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = await host_call(host, method="POST", headers={"content-length": "100"}, end=False)
        await app.begun.wait()
        await call.stream.write(b"x" * size, end=True)
        await app.saw_disconnect()
        assert not app.complete
        assert isinstance(app.send_error, OSError)
        if reset:
            raw_reset(call.stream, ErrorCode.CANCEL)
        await all_idle(guest)
        await call.failed()


async def test_head_end_and_reset_in_one_packet_never_reach_the_app(certs: Certificates) -> None:
    app = Witness()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = Call(await host.accept(LEASE_PATH))
        call.send_head(request_head("/", "POST"), b"body", end=True)
        raw_reset(call.stream, ErrorCode.CANCEL)
        await host.session.ping()
        assert not app.begun.is_set()
        await all_idle(guest)


@pytest.mark.parametrize(
    "code", [ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR, ErrorCode.STREAM_CLOSED, 0x77]
)
@pytest.mark.parametrize("end", [False, True])
async def test_any_reset_is_a_disconnect(certs: Certificates, code: int, end: bool) -> None:
    """Behind a whole request too: there NO_ERROR means that nobody wants the answer."""
    app = Witness(start=True)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host, method="POST", body=b"x", end=end)
        await call.head()
        raw_reset(call.stream, code)
        await app.saw_disconnect()
        assert isinstance(app.send_error, OSError)
        assert (await events.wait("request-completed")).fields["reason"] == "cancelled"
        await all_idle(guest)


@pytest.mark.parametrize("code", [ErrorCode.NO_ERROR, ErrorCode.CANCEL])
async def test_an_app_that_only_sends_learns_of_it_too(
    certs: Certificates, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[BaseException] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await respond(send, more=True)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1_000, "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            ended.append(error)
            raise

    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host)
        await call.head()
        raw_reset(call.stream, code)
        assert (await events.wait("request-completed")).fields["reason"] == "cancelled"
        assert len(ended) == 1
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
        await all_idle(guest)


async def test_cancelled_while_a_response_waits_for_window(certs: Certificates) -> None:
    errors: list[BaseException] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        try:
            await respond(send, b"x" * 1_000_000)
        except OSError as error:
            errors.append(error)

    options = SessionOptions(stream_window_bytes=65_535)
    async with guest_at_scripted_host(certs, app, host={"options": options}) as (host, guest):
        call = await host_call(host)
        await until(lambda: call.stream.unread > 60_000)
        call.cancel()
        await until(lambda: bool(errors))
        await all_idle(guest)


async def test_a_receive_that_waits_for_an_upload_ends_with_the_response(certs: Certificates) -> None:
    """ASGI HTTP: `http.disconnect` once the response is complete, also while an upload stalls."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await respond(send, b"done")
        seen.append(await waiting)

    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host, method="POST", end=False)
        assert (await call.reply()).body == b"done"
        await events.wait("request-completed")
        assert seen == [{"type": "http.disconnect"}]


async def test_a_receive_that_waits_for_an_upload_ends_with_a_response_that_had_to_wait(
    certs: Certificates,
) -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await respond(send, b"x" * 300_000)
        seen.append(await waiting)

    options = SessionOptions(stream_window_bytes=65_535)
    async with guest_at_scripted_host(certs, app, host={"options": options}) as (host, guest):
        events = Events(guest)
        call = await host_call(host, method="POST", end=False)
        assert len((await call.reply()).body) == 300_000
        await events.wait("request-completed")
        assert seen == [{"type": "http.disconnect"}]


async def test_two_receives_at_a_time(certs: Certificates) -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        seen.extend(await asyncio.gather(receive(), receive()))
        await respond(send)

    async with guest_at_scripted_host(certs, app) as (host, _guest):
        call = await host_call(host, method="POST", end=False)
        await host.session.ping()
        await call.stream.write(b"one")
        await host.session.ping()
        await call.stream.write(b"two", end=True)
        assert (await call.reply()).status == 200
        assert [message["body"] for message in seen] == [b"one", b"two"]


# --- The session ----------------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("started", [False, True])
async def test_a_lost_session_is_a_disconnect(certs: Certificates, started: bool) -> None:
    app = Witness(start=started)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        await host_call(host)
        await app.begun.wait()
        host.session.abort("the test says so")
        await app.saw_disconnect()
        assert isinstance(app.send_error, OSError)
        await events.wait("disconnected")
        await events.wait("registered")
        assert guest.connected


async def test_an_app_that_ignores_the_disconnect_delays_nobody(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        await host_call(host, "/stuck")
        await app.until(1)
        host.session.abort("the test says so")
        await events.wait("registered")
        call = await host_call(host, "/next")
        await app.until(2)
        app.open()
        assert (await call.reply()).body == b"/next"
        await app.until(0)


# --- Nothing leaks --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "end_and_cancel", "short"])
async def test_a_few_hundred_cancelled_requests_leave_nothing(certs: Certificates, how: str) -> None:
    """The session survives: its own resets are rationed (protocol.md §12.10)."""

    async def app(scope: Scope, receive: Receive, _send: Send) -> None:
        await no_lifespan(scope)
        while (await receive())["type"] != "http.disconnect":
            pass

    async with guest_at_scripted_host(certs, app) as (host, guest):
        session = session_of(guest)
        for _ in range(200):
            call = await host_call(
                host, method="POST", headers={"content-length": "9"}, body=b"half", end=False
            )
            if how == "cancel":
                call.cancel()
            elif how == "end_and_cancel":
                call.end_and_cancel()
            else:
                await call.stream.write(b"", end=True)
        await host.session.ping()
        assert session_of(guest) is session
        calls = guest._calls
        await until(lambda: calls.running == 0)
        await until(
            lambda: session.open_streams - other_streams(guest) == len(guest._keepers.sessions[0].leases.idle)
        )
        assert session.unread_bytes == 0


async def test_an_idle_host_is_still_served_after_all_that(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, hello) as (host, guest):
        for _ in range(50):
            (await host_call(host, method="POST", end=False)).cancel()
        assert (await ask(host, "/after")).body == b"/after"
        await all_idle(guest)


@pytest.mark.parametrize("where", ["upload", "download"])
async def test_what_frameworks_make_of_a_disconnect_is_no_error_of_the_app(
    certs: Certificates, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Starlette has an exception of its own for it; each cancelled download would fill the log."""
    requests = pytest.importorskip("starlette.requests")
    responses = pytest.importorskip("starlette.responses")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        if where == "upload":
            await requests.Request(scope, receive).body()
        await responses.StreamingResponse(endless())(scope, receive, send)

    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host, method="POST", body=b"half", end=where == "download")
        if where == "download":
            await call.head()
        else:
            await host.session.ping()
        call.cancel()
        assert (await events.wait("request-completed")).fields["reason"] == "cancelled"
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

"""The leases of a Guest: opened, used, replaced, refused, lost (protocol.md §5, §12.10)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from tests.guest.guests import (
    DOMAIN,
    GUEST_ID,
    LEASE_PATH,
    Call,
    Gate,
    ask,
    guest_at_scripted_host,
    hello,
    host_call,
    next_lease,
    no_lifespan,
    other_streams,
    request_head,
    respond,
    session_of,
)
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, allow_streams, answer_error, raw_reset, send_head
from tests.support.waiting import until
from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.http2 import ErrorCode, SessionOptions, Stream

OK = {"content-type": "application/octet-stream"}


def waiting_leases(host: ScriptedHost) -> int:
    """Leases that the Host has accepted and the test has not taken."""
    return host._queue(LEASE_PATH).qsize()


async def settled(host: ScriptedHost) -> None:
    """Until both ends have seen what the other has said so far, and what it said to that."""
    for _ in range(3):
        await host.session.ping()


# --- Opening and replacing ------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [1, 8, 50])
async def test_so_many_leases_are_idle_at_rest(certs: Certificates, idle: int) -> None:
    async with guest_at_scripted_host(certs, min_waiting_streams=idle) as (host, _guest):
        await settled(host)
        assert waiting_leases(host) == idle
        ids = set()
        for _ in range(idle):
            stream = await host.accept(LEASE_PATH)
            fields = dict(stream.fields or ())
            assert fields[b":method"] == b"POST"
            assert fields[b":scheme"] == b"https"
            assert fields[b":authority"] == f"localhost:{host.port}".encode()
            assert fields[b"x-verser-peer-id"] == GUEST_ID.encode()
            assert not stream.ended
            ids.add(fields[b"x-verser-lease-id"])
        assert len(ids) == idle
        assert b"" not in ids
        control = await host.accept("/verser/guest/control")
        assert dict(control.fields or ())[b"x-verser-peer-id"] == GUEST_ID.encode()
        assert not control.ended


async def test_no_stream_is_opened_before_the_registration_is_answered(certs: Certificates) -> None:
    """protocol.md §2"""
    async with guest_at_scripted_host(certs) as (host, _guest):
        control = await host.accept("/verser/guest/control")
        lease = await host.accept(LEASE_PATH)
        assert min(control.id, lease.id) > 1
        assert host.registrations


@pytest.mark.both_loops
async def test_a_lease_is_replaced_as_soon_as_it_turns_active(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, _guest):
        await settled(host)
        calls = [await host_call(host, f"/{number}") for number in range(3)]
        await app.until(3)
        await settled(host)
        assert waiting_leases(host) == 8
        app.open()
        for number, call in enumerate(calls):
            assert (await call.reply()).body == f"/{number}".encode()
        await settled(host)
        assert waiting_leases(host) == 8


async def test_a_lease_carries_one_request(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, _guest):
        seen = {(await host_call(host)).stream.id for _ in range(30)}
        assert len(seen) == 30


async def test_leases_are_used_in_any_order(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, _guest):
        calls = [Call(await host.accept(LEASE_PATH)) for _ in range(8)]
        for number in (5, 0, 7, 3):
            calls[number].send_head(request_head(f"/{number}"), end=True)
            assert (await calls[number].reply()).body == f"/{number}".encode()


@pytest.mark.both_loops
async def test_a_burst_on_an_idle_guest_waits_one_round_trip_at_most(certs: Certificates) -> None:
    """Beyond the first batch: 200 requests, of which 8 find an idle lease."""
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, _guest):
        await settled(host)
        first = [await host_call(host) for _ in range(8)]
        await host.session.ping()  # one round trip …
        await host.session.ping()  # … and what left behind its PING
        assert waiting_leases(host) >= 200 - 8
        rest = [await host_call(host) for _ in range(192)]
        await app.until(200)
        app.open()
        await asyncio.gather(*[call.reply() for call in first + rest])


async def test_a_burst_that_comes_one_by_one_outruns_the_pool_too(certs: Certificates) -> None:
    """The Host has used up its leases as soon as it takes one the moment that it comes."""
    app = Gate()
    async with guest_at_scripted_host(certs, app, min_waiting_streams=2) as (host, _guest):
        for _ in range(6):
            await host_call(host)
        await settled(host)
        assert waiting_leases(host) >= 194
        app.open()
        await app.until(0)


async def test_a_few_requests_at_a_time_do_not_enlarge_the_pool(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        for _ in range(20):
            await settled(host)
            for call in [await host_call(host) for _ in range(4)]:
                await call.reply()
        await settled(host)
        assert waiting_leases(host) == 8
        assert session_of(guest).open_streams == 8 + other_streams(guest)


# --- limit_concurrency ----------------------------------------------------------------------------


async def test_the_limit_of_concurrency_is_hard(certs: Certificates) -> None:
    app = Gate()
    options = {"min_waiting_streams": 4, "limit_concurrency": 6}
    async with guest_at_scripted_host(certs, app, **options) as (host, _guest):
        calls = []
        for _ in range(6):
            calls.append(await host_call(host))
            await settled(host)
        assert waiting_leases(host) == 0
        await app.until(6)
        app.open()
        for call in calls:
            await call.reply()
        await settled(host)
        assert 4 <= waiting_leases(host) <= 6
        assert app.most == 6


async def test_a_burst_beyond_the_limit_waits_at_the_host(certs: Certificates) -> None:
    app = Gate()
    options = {"min_waiting_streams": 8, "limit_concurrency": 20}
    async with guest_at_scripted_host(certs, app, **options) as (host, _guest):
        calls = [await host_call(host) for _ in range(20)]
        await settled(host)
        assert waiting_leases(host) == 0
        assert app.running == 20
        app.open()
        for call in calls:
            await call.reply()


async def test_cancelled_calls_that_still_run_count(certs: Certificates) -> None:
    app = Gate()
    options = {"min_waiting_streams": 2, "limit_concurrency": 2}
    async with guest_at_scripted_host(certs, app, **options) as (host, _guest):
        for _ in range(2):
            call = await host_call(host)
            await settled(host)
            call.cancel()
        await settled(host)
        assert (app.running, waiting_leases(host)) == (2, 0)
        app.open()
        await app.until(0)
        assert (await ask(host, "/next")).body == b"/next"
        assert app.most == 2


async def test_calls_of_a_lost_session_that_still_run_count(certs: Certificates) -> None:
    app = Gate()
    options = {"min_waiting_streams": 2, "limit_concurrency": 3}
    async with guest_at_scripted_host(certs, app, **options) as (host, guest):
        for _ in range(2):
            await host_call(host)
        await app.until(2)
        host.session.abort("the test says so")
        await until(lambda: len(host.registrations) == 2 and guest.connected)
        call = await host_call(host)
        await settled(host)
        assert (app.running, waiting_leases(host)) == (3, 0)
        app.open()
        await call.reply()
        await app.until(0)
        await settled(host)
        assert waiting_leases(host) >= 2
        assert app.most == 3


# --- Few streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [3, 8, 9, 10, 12, 40])
async def test_a_host_that_allows_few_streams(certs: Certificates, streams: int) -> None:
    options = SessionOptions(max_concurrent_streams=streams)
    async with guest_at_scripted_host(certs, host={"options": options}) as (host, guest):
        for number in range(3 * streams):
            assert (await ask(host, f"/{number}")).body == f"/{number}".encode()
        assert session_of(guest).open_streams <= streams
        await guest.revoke_routes([DOMAIN])  # there is always a stream left for that


async def test_leases_come_when_the_host_allows_more_streams(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, hello) as (host, guest):
        await settled(host)
        allow_streams(host.session, 1)
        await host.session.ping()
        for number in range(20):  # as long as there are leases
            if waiting_leases(host):
                assert (await ask(host, f"/{number}")).status == 200
                await settled(host)
        assert waiting_leases(host) == 0
        allow_streams(host.session, 100)
        assert (await ask(host, "/again")).body == b"/again"
        await until(lambda: session_of(guest).open_streams > 20)


async def test_leases_come_back_when_streams_end_that_were_answered_early(certs: Certificates) -> None:
    """The app is done, its streams are not: their end makes room, not that of an app call."""
    options = SessionOptions(max_concurrent_streams=12)
    async with guest_at_scripted_host(certs, hello, host={"options": options}) as (host, _guest):
        await settled(host)
        uploads = []
        while waiting_leases(host):
            call = await host_call(host, method="POST", end=False)
            await call.reply()
            uploads.append(call)
            await settled(host)
        assert len(uploads) >= 3
        for upload in uploads:
            await upload.stream.write(b"", end=True)
        assert (await ask(host, "/next")).body == b"/next"


# --- Leases that end without a request ------------------------------------------------------------

LeaseEnd = Callable[[Stream], None]


def refuse(stream: Stream) -> None:
    """502 and an error object, END_STREAM."""
    task = asyncio.ensure_future(answer_error(stream, "timeout", "too many leases"))
    task.add_done_callback(lambda done: done.exception())


def refuse_without_body(stream: Stream) -> None:
    send_head(stream, 502, end=True)


def refuse_and_stay(stream: Stream) -> None:
    """502 and half of a body, which never ends."""
    send_head(stream, 502)
    stream.write_now(b'{"error":')


def accept_and_end(stream: Stream) -> None:
    send_head(stream, 200, OK, end=True)


def accept_then_end(stream: Stream) -> None:
    send_head(stream, 200, OK)
    stream.write_now(b"", end=True)


def accept_then_reset(stream: Stream) -> None:
    send_head(stream, 200, OK)
    raw_reset(stream, ErrorCode.CANCEL)


def reset(stream: Stream) -> None:
    raw_reset(stream, ErrorCode.REFUSED_STREAM)


def reset_without_error(stream: Stream) -> None:
    send_head(stream, 502, end=True)
    raw_reset(stream, ErrorCode.NO_ERROR)


def end_in_the_head(stream: Stream) -> None:
    send_head(stream, 200, OK)
    stream.write_now(b"\x01\x01\x00", end=True)


def reset_in_the_head(stream: Stream) -> None:
    send_head(stream, 200, OK)
    stream.write_now(b"\x01\x01\x00")
    raw_reset(stream, ErrorCode.INTERNAL_ERROR)


ENDS = [
    refuse,
    refuse_without_body,
    refuse_and_stay,
    accept_and_end,
    accept_then_end,
    accept_then_reset,
    reset,
    reset_without_error,
    end_in_the_head,
    reset_in_the_head,
]


class ChangeableHost:
    """Does something to each lease until it is told to be kind; then leases go to the queue."""

    def __init__(self, end: LeaseEnd) -> None:
        self.end: LeaseEnd | None = end
        self.seen: list[Stream] = []
        self.host: ScriptedHost | None = None

    def __call__(self, stream: Stream) -> None:
        self.seen.append(stream)
        if self.end is not None:
            self.end(stream)
        else:
            assert self.host is not None
            send_head(stream, 200, OK)
            self.host._queue(LEASE_PATH).put_nowait(stream)


@pytest.mark.parametrize("end", ENDS)
async def test_leases_that_are_refused_or_lost_are_opened_anew(
    certs: Certificates, end: LeaseEnd, caplog: pytest.LogCaptureFixture
) -> None:
    """More slowly each time, without streams that nobody needs, and the session goes on."""
    leases = ChangeableHost(end)
    async with guest_at_scripted_host(certs, host={"on_lease": leases}) as (host, guest):
        leases.host = host
        session = session_of(guest)
        await until(lambda: len(leases.seen) >= 24)
        opened = len(leases.seen)
        await host.session.ping()
        assert len(leases.seen) <= opened + 16  # no busy loop
        assert session.open_streams <= 8 + other_streams(guest)
        leases.end = None
        assert (await ask(host, "/at-last")).body == b"/at-last"
        await until(lambda: waiting_leases(host) == 8)
        await until(lambda: session.open_streams == 8 + other_streams(guest))
        assert session_of(guest) is session
        if end in (refuse, refuse_without_body, accept_and_end):
            assert any(record.levelno == logging.WARNING for record in caplog.records)


async def test_what_the_host_says_to_a_refused_lease_is_logged_once_in_a_while(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    leases = ChangeableHost(refuse)
    async with guest_at_scripted_host(certs, host={"on_lease": leases}):
        await until(lambda: len(leases.seen) >= 32)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "too many leases" in warnings[0].getMessage()
    assert len(warnings) < len(leases.seen)


async def test_idle_leases_that_are_reset_again_and_again(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        session = session_of(guest)
        for round_number in range(20):
            for _ in range(8):
                (await host.accept(LEASE_PATH)).reset(ErrorCode.CANCEL)
            if round_number % 5 == 4:
                assert (await ask(host, "/between")).body == b"/between"
        assert (await ask(host, "/after")).body == b"/after"
        await until(lambda: session.open_streams == 8 + other_streams(guest))
        assert session_of(guest) is session


async def test_active_and_idle_leases_reset_together(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, _guest):
        calls = [await host_call(host) for _ in range(4)]
        await app.until(4)
        streams = [call.stream for call in calls]
        await settled(host)
        streams += [await host.accept(LEASE_PATH) for _ in range(8)]
        for stream in streams:
            stream.reset(ErrorCode.CANCEL)
        app.open()
        await app.until(0)
        assert (await ask(host, "/after")).body == b"/after"


# --- What no Host should send ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x02\x01\x00\x00\x00\x02{}", id="version 2"),
        pytest.param(b"\x00", id="version 0"),
        pytest.param(b"\x01\x09\x00\x00\x00\x02{}", id="type 9"),
        pytest.param(b"\x01\x02\x00\x00\x00\x02{}", id="a response"),
        pytest.param(b"\x01\x03\x00\x00\x00\x02{}", id="an error"),
        pytest.param(
            b'\x01\x02\x00\x00\x00\x30{"requestId":"x","statusCode":200,"headers":{}}  ',
            id="a whole response",
        ),
        pytest.param(b"\x01\x01\x00\x01\x00\x01", id="65,537 bytes of metadata"),
        pytest.param(b"\x01\x01\xff\xff\xff\xff", id="4 GiB of metadata"),
        pytest.param(b"\x01\x01\x00\x00\x00\x00", id="no metadata"),
        pytest.param(b"\x01\x01\x00\x00\x00\x02[]", id="an array"),
        pytest.param(b"\x01\x01\x00\x00\x00\x02{}", id="an empty object"),
        pytest.param(b"\x01\x01\x00\x00\x00\x04\xff\xfe{}", id="no UTF-8"),
        pytest.param(b"\x01\x01\x00\x00\x00\x03{x}", id="no JSON"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"\x01\x01\x00\x00\x27\x10" + b"[" * 10_000, id="deep JSON"),
    ],
)
@pytest.mark.parametrize("end", [False, True])
async def test_garbage_for_an_envelope(
    certs: Certificates, data: bytes, end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`protocol-error`, and the stream is reset (protocol.md §6); the session and its leases go on."""
    async with guest_at_scripted_host(certs) as (host, guest):
        session = session_of(guest)
        stream = await host.accept(LEASE_PATH)
        stream.write_now(data, end=end)
        call = Call(stream)
        assert await call.failed() == ErrorCode.PROTOCOL_ERROR
        assert any(record.levelno == logging.WARNING for record in caplog.records)
        assert (await ask(host, "/after")).body == b"/after"
        await until(lambda: session.open_streams == 8 + other_streams(guest))
        assert session_of(guest) is session


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("path", ""),
        ("path", "items"),
        ("path", "/a b"),
        ("path", "/\xe4"),
        ("path", "/\r\n"),
        ("method", ""),
        ("method", "GE T"),
        ("method", "GET\r\n"),
        ("request_id", ""),
    ],
)
async def test_a_request_head_that_cannot_be(certs: Certificates, change: str, value: str) -> None:
    async with guest_at_scripted_host(certs) as (host, _guest):
        call = Call(await host.accept(LEASE_PATH))
        head = request_head()
        setattr(head, change, value)
        call.send_head(head, end=True)
        async with asyncio.timeout(10):
            error = await call.stream.wait_error()
        if change != "request_id":
            assert error is not None
        assert (await ask(host, "/after")).body == b"/after"


async def test_a_head_of_the_largest_size(certs: Certificates) -> None:
    seen: list[int] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        seen.append(max(len(value) for _, value in scope["headers"]))
        await respond(send)

    async with guest_at_scripted_host(certs, app) as (host, _guest):
        assert (await ask(host, headers={"x-large": "a" * 16_000})).status == 200
        # Deployed Hosts may split what is larger than a record; up to 65,536 bytes it is served
        call = Call(await next_lease(host))
        metadata = (
            b'{"requestId":"r","sourceId":"b","targetId":"g","method":"GET","path":"/","headers":{"x":"'
            + b"a" * 65_000
            + b'"}}'
        )
        await call.stream.write(
            b"\x01\x01" + len(metadata).to_bytes(4, "big") + metadata + b" " * 0, end=True
        )
        assert (await call.reply()).status == 200
    assert seen == [16_000, 65_000]


@pytest.mark.parametrize("how", ["cancel", "end_and_cancel"])
async def test_requests_that_are_cancelled_at_once_do_not_slow_the_next_ones(
    certs: Certificates, how: str
) -> None:
    """Head and reset in one packet look like an idle lease that was lost; they are none of its faults."""
    async with guest_at_scripted_host(certs) as (host, _guest):
        for _ in range(150):
            call = await host_call(host, method="POST", body=b"x", end=False)
            getattr(call, how)()
        assert (await ask(host, "/after")).body == b"/after"

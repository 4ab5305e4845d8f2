"""One request on a lease, from its envelope to its answer (protocol.md §5, §6, §13)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from tests.guest.guests import (
    DOMAIN,
    GUEST_ID,
    LEASE_PATH,
    Call,
    Events,
    ask,
    echo,
    guest_at_scripted_host,
    hello,
    host_call,
    no_lifespan,
    request_head,
    respond,
)
from tests.support.certificates import Certificates
from verser2_guest_python.asgi.types import ASGIApp, Receive, Scope, Send
from verser2_guest_python.http2 import ErrorCode, SessionOptions
from verser2_guest_python.wire.envelopes import encode_request

MIB = 1 << 20
BLOCK = bytes(range(256)) * 256


def app_of(handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await handler(scope, receive, send)

    return app


def remembering(seen: list[Scope]) -> ASGIApp:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        seen.append(scope)
        await respond(send)

    return app


# --- The request ----------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_request_and_its_answer(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, _guest):
        assert host.registrations[0].peer_id == GUEST_ID
        assert host.registrations[0].routed_domains == (DOMAIN,)
        reply = await ask(host, "/items", request_id="broker-a-7")
        assert (reply.status, reply.body) == (200, b"/items")
        assert reply.head.request_id == "broker-a-7"
        assert reply.headers == {"content-length": "6"}


async def test_what_the_app_reads_about_a_request(certs: Certificates) -> None:
    seen: list[Scope] = []
    async with guest_at_scripted_host(certs, remembering(seen), root_path="/root") as (host, _guest):
        headers = {"content-type": "text/plain", "x-latin": "\xe9", "cookie": "a=1; b=2"}
        await ask(host, "/a%20b?q=%C3%BC", method="POST", headers=headers, request_id="broker-a-1")
    (scope,) = seen
    assert scope["method"] == "POST"
    assert scope["path"] == "/root/a b"
    assert scope["raw_path"] == b"/root/a%20b"
    assert scope["query_string"] == b"q=%C3%BC"
    assert (scope["http_version"], scope["scheme"], scope["client"], scope["server"]) == (
        "1.1",
        "http",
        None,
        None,
    )
    assert scope["headers"] == [
        (b"host", DOMAIN.encode()),
        (b"content-type", b"text/plain"),
        (b"x-latin", b"\xe9"),
        (b"cookie", b"a=1; b=2"),
    ]
    assert scope["extensions"]["verser"] == {
        "request_id": "broker-a-1",
        "source_id": "broker-a",
        "guest_id": GUEST_ID,
        "route_domain": DOMAIN,
    }


async def test_hop_by_hop_headers_of_a_request_do_not_reach_the_app(certs: Certificates) -> None:
    """Deployed Hosts pass `te` and `transfer-encoding` on (protocol.md §13)."""
    seen: list[Scope] = []
    async with guest_at_scripted_host(certs, remembering(seen)) as (host, _guest):
        dropped = {"te": "trailers", "transfer-encoding": "chunked", "connection": "x-mine", "x-mine": "1"}
        await ask(host, headers={**dropped, "x-other": "2"})
    assert [name for name, _ in seen[0]["headers"]] == [b"host", b"x-other"]


@pytest.mark.parametrize("size", [1, 5, 6, 7, 100])
async def test_a_head_in_pieces_is_put_together(certs: Certificates, size: int) -> None:
    """Hosts of this world do not split heads, but a Guest that meets one that does serves it."""
    async with guest_at_scripted_host(certs, echo) as (host, _guest):
        call = Call(await host.accept(LEASE_PATH))
        data = encode_request(request_head("/items", "POST")) + b"body"
        for position in range(0, len(data), size):
            await call.stream.write(data[position : position + size])
            if position < 20:
                await host.session.ping()  # in reads of their own, too
        await call.stream.write(b"", end=True)
        assert (await call.reply()).body == b"body"


@pytest.mark.parametrize("size", [0, 1, 16_000, 16_375, 70_000, 5 * MIB])
@pytest.mark.both_loops
async def test_request_bodies_arrive_unchanged(certs: Certificates, size: int) -> None:
    data = (BLOCK * (size // len(BLOCK) + 1))[:size]
    async with guest_at_scripted_host(certs, echo) as (host, _guest):
        call = await host_call(host, method="POST", headers={"content-length": str(size)}, end=False)
        upload = asyncio.create_task(call.stream.write(data, end=True))
        assert (await call.reply()).body == data
        await upload


async def test_a_body_behind_the_head_in_one_frame(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, echo) as (host, _guest):
        assert (await ask(host, method="POST", body=b"all at once")).body == b"all at once"


async def test_an_answer_may_come_before_the_request_body_has_ended(certs: Certificates) -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"early ", more=True)
        message = await receive()
        await send({"type": "http.response.body", "body": message["body"]})

    async with guest_at_scripted_host(certs, app_of(app)) as (host, _guest):
        call = await host_call(host, method="POST", end=False)
        await call.head()
        assert await call.read() == b"early "
        await call.stream.write(b"late", end=True)
        assert await call.read() == b"late"
        assert await call.read() == b""


async def test_the_rest_of_an_upload_that_nobody_reads_is_dropped(certs: Certificates) -> None:
    """And credited (protocol.md §12.4): a Host that waits for window would wait for ever."""
    async with guest_at_scripted_host(certs, hello) as (host, guest):
        call = await host_call(host, method="POST", end=False)
        assert (await call.reply()).status == 200
        async with asyncio.timeout(30):
            for _ in range(64):
                await call.stream.write(BLOCK)
            await call.stream.write(b"", end=True)
        await call.stream.session.ping()  # all of it has left: there is room for the next head
        assert (await ask(host)).status == 200
        assert guest.connected


# --- The answer -----------------------------------------------------------------------------------


async def test_repeated_headers_stay_apart_and_hop_by_hop_ones_go(certs: Certificates) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [
            (b"Set-Cookie", b"a=1; Path=/"),
            (b"set-cookie", b"b=2"),
            (b"X-Latin", b"\xe9"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Connection", b"close, x-mine"),
            (b"X-Mine", b"1"),
            (b"keep-alive", b"5"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    async with guest_at_scripted_host(certs, app_of(app)) as (host, _guest):
        assert (await ask(host)).headers == {
            "set-cookie": ["a=1; Path=/", "b=2"],
            "x-latin": "\xe9",
            "content-length": "1",
        }


@pytest.mark.parametrize("size", [0, 1, 16_375, 70_000, 5 * MIB])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_response_bodies_arrive_unchanged(certs: Certificates, size: int, pieces: int) -> None:
    data = (BLOCK * (size // len(BLOCK) + 1))[:size]
    step = size // pieces + 1

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for position in range(0, size, step):
            await send(
                {"type": "http.response.body", "body": data[position : position + step], "more_body": True}
            )
        await send({"type": "http.response.body"})

    async with guest_at_scripted_host(certs, app_of(app)) as (host, _guest):
        assert (await ask(host)).body == data


async def test_a_small_answer_is_one_frame(certs: Certificates) -> None:
    """protocol.md §12.5: head, body and END_STREAM together."""
    async with guest_at_scripted_host(certs) as (host, _guest):
        call = await host_call(host, "/items")
        async with asyncio.timeout(10):
            data = await call.stream.read()
        assert data.endswith(b"/items")
        assert call.stream.at_end


@pytest.mark.parametrize("window", [1, 50, 200])
async def test_a_head_waits_for_window_rather_than_being_split(certs: Certificates, window: int) -> None:
    """protocol.md §12.1: a deployed Host that gets part of a head stops serving everyone."""
    options = SessionOptions(stream_window_bytes=window)
    async with guest_at_scripted_host(certs, echo, host={"options": options}) as (host, _guest):
        call = await host_call(host, method="POST", body=b"x" * 5_000)
        await host.session.ping()
        await host.session.ping()
        head_bytes = 300
        if call.stream.unread:
            assert window >= call.stream.unread > 50
        else:
            host.session.engine.credit_stream(call.stream, head_bytes)  # now there is room for the head
            host.session.wrote()
        async with asyncio.timeout(10):
            await call.head()


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [200, 204, 304])
async def test_head_204_and_304(certs: Certificates, method: str, status: int) -> None:
    bodyless = method == "HEAD" or status != 200

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        data = b"hello" if scope["method"] == "HEAD" or status == 200 else b""
        await respond(send, data, status, {"content-length": "5", "etag": '"x"'})

    async with guest_at_scripted_host(certs, app_of(app)) as (host, _guest):
        reply = await ask(host, method=method)
        assert (reply.status, reply.body) == (status, b"" if bodyless else b"hello")
        assert reply.headers == {"etag": '"x"'} | ({} if bodyless else {"content-length": "5"})


# --- What goes wrong ------------------------------------------------------------------------------


async def failing_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError("secret detail")


@pytest.mark.parametrize("debug", [False, True])
async def test_an_app_that_fails_before_it_answers(
    certs: Certificates, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with guest_at_scripted_host(certs, app_of(failing_app), debug=debug) as (host, _guest):
        reply = await ask(host, "/items?token=1", request_id="broker-a-3")
    error = reply.error
    assert (error.request_id, error.code) == ("broker-a-3", "local-handler-failure")
    assert ("secret detail" in error.message) is debug
    assert error.context["guestId"] == GUEST_ID
    assert error.context["requestId"] == "broker-a-3"
    assert reply.body == b""
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "secret detail" in str(record.exc_info[1])
    assert "token" not in record.getMessage()
    assert vars(record)["request_id"] == "broker-a-3", (
        "so that it can be found in the logs of Host and Broker"
    )


async def silent_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


async def start_only(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})


async def start_and_fail(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    raise ValueError("after the start")


async def own_cancellation(_scope: Scope, _receive: Receive, _send: Send) -> None:
    other = asyncio.create_task(asyncio.sleep(60))
    other.cancel()
    await other


async def bad_header(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"x", headers={"x-a": "1\r\nx-b: 2"})


async def too_large_head(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"x", headers={"x-a": "a" * 16_375})


async def too_long(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", headers={"content-length": "4"})


async def too_short(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", headers={"content-length": "6"})


@pytest.mark.parametrize(
    "app",
    [
        failing_app,
        silent_app,
        start_only,
        start_and_fail,
        own_cancellation,
        bad_header,
        too_large_head,
        too_long,
        too_short,
    ],
)
@pytest.mark.parametrize("end", [True, False])
async def test_no_answer_is_invented(
    certs: Certificates, app: ASGIApp, end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kept the head from leaving: the Broker learns of it, and the log says why."""
    async with guest_at_scripted_host(certs, app_of(app)) as (host, guest):
        events = Events(guest)
        call = await host_call(host, "/items", method="POST", end=end)
        reply = await call.reply()
        assert reply.error.code == "local-handler-failure"
        completed = await events.wait("request-completed")
        assert completed.fields["reason"]
        assert (completed.fields["status"], completed.fields["bytes_out"]) == (0, 0)
        assert any(record.levelno == logging.ERROR for record in caplog.records)
        assert (await ask(host)).error.code == "local-handler-failure"


async def fails_later(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", more=True)
    raise ValueError("in the middle")


async def stops_later(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", more=True)


async def too_long_later(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", headers={"content-length": "6"}, more=True)
    await send({"type": "http.response.body", "body": b"!!"})


async def too_short_later(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", headers={"content-length": "6"}, more=True)
    await send({"type": "http.response.body"})


async def cancelled_later(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, b"hello", more=True)
    await own_cancellation(_scope, _receive, send)


@pytest.mark.parametrize("app", [fails_later, stops_later, too_long_later, too_short_later, cancelled_later])
@pytest.mark.parametrize("end", [True, False])
async def test_what_is_cut_off_never_ends_as_if_it_were_whole(
    certs: Certificates, app: ASGIApp, end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """protocol.md §5.6"""
    async with guest_at_scripted_host(certs, app_of(app)) as (host, guest):
        events = Events(guest)
        call = await host_call(host, method="POST", end=end)
        assert await call.failed() == ErrorCode.INTERNAL_ERROR
        assert (await events.wait("request-completed")).fields["reason"]
        assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_failure_after_the_answer_changes_nothing(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, b"hello")
        raise ValueError("in a background task")

    async with guest_at_scripted_host(certs, app_of(app)) as (host, guest):
        events = Events(guest)
        reply = await ask(host)
        assert (reply.status, reply.body) == (200, b"hello")
        completed = await events.wait("request-completed")
        assert completed.fields["status"] == 200
        assert "ValueError" in str(completed.fields["reason"])
        assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_domain_without_an_app(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, None) as (host, _guest):
        reply = await ask(host)
        assert reply.error.code == "local-handler-failure"
        assert "app" in reply.error.message


async def test_request_headers_that_http_does_not_allow(certs: Certificates) -> None:
    seen: list[Scope] = []
    async with guest_at_scripted_host(certs, remembering(seen)) as (host, _guest):
        for headers in ({"x-a": "1\r\nx-b: 2"}, {"x a": "1"}, {"x-a": "€"}, {"": "1"}):
            call = Call(await host.accept(LEASE_PATH))
            call.send_head(request_head("/items", headers=headers), end=True)
            assert (await call.reply()).error.code == "protocol-error"
        assert (await ask(host)).status == 200
    assert len(seen) == 1


# --- Several at a time ----------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_many_at_a_time_do_not_mix(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, echo) as (host, _guest):

        async def one(number: int) -> None:
            data = b"%d " % number * (number * 100 + 1)
            call = await host_call(host, method="POST", request_id=f"b-{number}", end=False)
            upload = asyncio.create_task(call.stream.write(data, end=True))
            reply = await call.reply()
            await upload
            assert (reply.head.request_id, reply.body) == (f"b-{number}", data)

        await asyncio.gather(*[one(number) for number in range(60)])


async def test_the_events_of_a_request(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, echo) as (host, guest):
        events = Events(guest)
        call = await host_call(host, "/items?q=1", method="POST", body=b"hello", request_id="broker-a-9")
        await call.reply()
        completed = await events.wait("request-completed")
        started = events.find("request-started")[0]
    common = {"request_id": "broker-a-9", "source_id": "broker-a", "method": "POST", "path": "/items?q=1"}
    assert started.fields == common
    assert isinstance(completed.fields["duration_ms"], float)
    assert {k: v for k, v in completed.fields.items() if k not in ("duration_ms", "session_id")} == common | {
        "status": 200,
        "bytes_in": 5,
        "bytes_out": 5,
        "reason": None,
    }

"""Taking leave: nothing that the Host has sent or queued is lost (protocol.md §9)."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from tests.guest.guests import (
    DOMAIN,
    LEASE_PATH,
    Call,
    Events,
    Gate,
    Witness,
    ask,
    guest_at_scripted_host,
    hello,
    host_call,
    lease_host,
    make_guest,
    next_lease,
    no_lifespan,
    request_head,
    respond,
)
from tests.host.peers import Broker, running_host
from tests.support.certificates import Certificates
from tests.support.scripted_host import answer
from tests.support.waiting import until
from verser2_guest_python import VerserGuest
from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.http2 import Stream, StreamReset


def closing(guest: VerserGuest, **options: float) -> asyncio.Task[None]:
    return asyncio.create_task(guest.close("the test drains", **options), name="test: close")


async def ended(stream: Stream) -> None:
    """Until the Guest has ended its side of an idle lease, without a reset."""
    await until(lambda: stream.ended)
    assert not isinstance(stream.error, StreamReset)


@pytest.mark.both_loops
async def test_an_idle_guest_leaves_at_once(certs: Certificates) -> None:
    """Routes first, then the leases, then the session; nothing is reset (protocol.md §12.10)."""
    order: list[str] = []

    async def on_revoke(stream: Stream, asked: bytes) -> None:
        order.append("revoked")
        assert json.loads(asked) == {"domains": [DOMAIN]}
        await answer(stream, 200, {"content-type": "application/json"}, b'{"status":"ack"}')

    async with guest_at_scripted_host(certs, host={"on_revoke": on_revoke}) as (host, guest):
        leases = [await host.accept(LEASE_PATH) for _ in range(8)]
        events = Events(guest)
        task = closing(guest)
        for lease in leases:
            await ended(lease)
        order.append("leases ended")
        await task
        assert order == ["revoked", "leases ended"]
        assert host.session.lost is not None
        assert [kind for kind in events.types if kind in ("draining", "closed")] == ["draining", "closed"]
        assert not guest.connected


async def test_active_requests_are_finished(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        calls = [await host_call(host, f"/{number}") for number in range(5)]
        await app.until(5)
        task = closing(guest)
        idle = await next_lease(host)
        await ended(idle)
        assert not task.done()
        app.open()
        for number, call in enumerate(calls):
            assert (await call.reply()).body == f"/{number}".encode()
        await task


async def test_a_download_that_takes_its_time_is_finished(certs: Certificates) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await respond(send, b"first ", more=True)
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        await send({"type": "http.response.body"})

    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = await host_call(host)
        await call.head()
        task = closing(guest)
        await ended(await next_lease(host))
        go_on.set()
        size = 0
        while piece := await call.read():
            size += len(piece)
        assert size == 1_000_006
        await task


async def test_what_the_host_has_queued_is_served(certs: Certificates) -> None:
    """As long as leases turn active there is a queue: they are replaced until one stays idle."""
    app = Gate()
    async with guest_at_scripted_host(certs, app, min_waiting_streams=2) as (host, guest):
        revoked = asyncio.Event()
        first = [await host_call(host, f"/first-{number}") for number in range(2)]
        await app.until(2)
        task = closing(guest)
        app.open()
        queued = [await host_call(host, f"/queued-{number}") for number in range(25)]
        revoked.set()
        for call in first + queued:
            assert (await call.reply()).status == 200
        await task
        assert app.answered == 27


async def test_a_queue_at_the_limit_of_concurrency_is_served(certs: Certificates) -> None:
    app = Gate()
    limits = {"min_waiting_streams": 2, "limit_concurrency": 2}
    async with guest_at_scripted_host(certs, app, **limits) as (host, guest):
        calls = [await host_call(host) for _ in range(2)]
        await app.until(2)
        task = closing(guest, timeout=20)
        await host.session.ping()
        app.open()
        calls += [await host_call(host) for _ in range(6)]
        for call in calls:
            assert (await call.reply()).status == 200
        await task
        assert app.most == 2


async def test_our_host_loses_nothing_when_its_guest_drains(certs: Certificates) -> None:
    app = Gate()
    async with running_host(certs) as host, Broker(host, certs) as broker:
        guest = make_guest(host, certs, app, min_waiting_streams=2, limit_concurrency=4)
        await guest.connect()
        await broker.change()
        streams = [broker.request("GET", f"/{number}") for number in range(40)]
        await app.until(4)
        task = closing(guest)
        events, _ = await broker.change()
        assert events == [("removed", DOMAIN, "revoked")]
        app.open()
        answers = [await broker.answer(stream) for stream in streams]
        assert [one.body for one in answers] == [f"/{number}".encode() for number in range(40)]
        await task
        refused = await broker.fetch("GET", "/too-late")
        assert refused.error["code"] == "missing-guest"


async def test_what_is_not_done_in_time_is_cut(certs: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    app = Witness(start=True)
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host, "/long")
        await call.head()
        await guest.close(timeout=0.2)
        (completed,) = events.find("request-completed", path="/long")
        assert completed.fields["reason"]
        assert app.done.is_set()
        assert call.stream.error is not None
        assert any("0.2 s" in record.getMessage() for record in caplog.records)


async def test_a_timeout_of_nothing_cuts_at_once(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = await host_call(host)
        await app.until(1)
        await guest.close(timeout=0)
        assert (app.running, app.answered) == (0, 0)
        assert call.stream.error is not None


async def test_an_app_that_ignores_its_cancellation_does_not_hold_the_end_up(
    certs: Certificates, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verser2_guest_python.guest.session.CANCEL_SECONDS", 0.1)
    let_go = asyncio.Event()
    begun = asyncio.Event()

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        await no_lifespan(scope)
        begun.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with guest_at_scripted_host(certs, app) as (host, guest):
        await host_call(host)
        await begun.wait()
        async with asyncio.timeout(10):
            await guest.close(timeout=0)
        assert any(record.levelno == logging.ERROR for record in caplog.records)
        let_go.set()


async def test_background_work_after_the_answer_is_waited_for(certs: Certificates) -> None:
    done: list[bool] = []
    go_on = asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await respond(send, b"answer")
        await go_on.wait()
        done.append(True)

    async with guest_at_scripted_host(certs, app) as (host, guest):
        assert (await ask(host)).body == b"answer"
        task = closing(guest)
        await ended(await next_lease(host))
        assert not task.done()
        go_on.set()
        await task
        assert done == [True]


async def test_background_work_is_waited_for_although_the_session_is_lost(certs: Certificates) -> None:
    """Before the drain or in it: the app may take the time that the drain has."""
    done: list[str] = []
    go_on = asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await respond(send, b"answer")
        await go_on.wait()
        done.append(scope["path"])

    for lost_first in (False, True):
        go_on.clear()
        async with guest_at_scripted_host(certs, app) as (host, guest):
            assert (await ask(host, f"/{lost_first}")).body == b"answer"
            if lost_first:
                host.listener.close()  # type: ignore[union-attr]
                host.session.abort("the test says so")
                await until(lambda guest=guest: not guest.connected)
            task = closing(guest, timeout=20)
            if not lost_first:
                await ended(await next_lease(host))
                host.session.abort("the test says so")
            await until(lambda guest=guest: not guest.connected)
            for _ in range(5):
                await asyncio.sleep(0)
            go_on.set()
            await task
    assert done == ["/False", "/True"]


# --- Hosts that do not help -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"status":"error","message":"not yours","failedDomains":[]}'),
        (403, b'{"status":"error","message":"another session"}'),
        (
            200,
            b'{"status":"partial","message":"some","failedDomains":[{"domain":"a.local.test","error":"no"}]}',
        ),
        (200, b"garbage"),
        (502, b'{"error":{"code":"protocol-error","message":"no such path"}}'),
        (500, b""),
    ],
)
async def test_a_revocation_that_fails_does_not_stop_the_drain(
    certs: Certificates, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_revoke(stream: Stream, _asked: bytes) -> None:
        await answer(stream, status, {"content-type": "application/json"}, body)

    app = Gate()
    async with guest_at_scripted_host(certs, app, host={"on_revoke": on_revoke}) as (host, guest):
        call = await host_call(host)
        await app.until(1)
        task = closing(guest)
        await ended(await next_lease(host))
        app.open()
        assert (await call.reply()).status == 200
        await task
    if status != 200 or body == b"garbage":
        assert any(record.levelno == logging.WARNING for record in caplog.records)


async def test_a_revocation_that_is_reset(certs: Certificates) -> None:
    async def on_revoke(stream: Stream, _asked: bytes) -> None:
        stream.reset()

    async with guest_at_scripted_host(certs, host={"on_revoke": on_revoke}) as (host, guest):
        task = closing(guest)
        await ended(await next_lease(host))
        await task


async def test_a_guest_without_routes_drains_too(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, routed_domains=[]) as (host, guest):
        task = closing(guest)
        await ended(await next_lease(host))
        await task


async def test_idle_leases_that_are_lost_do_not_hold_the_drain_up(certs: Certificates) -> None:
    """All of them are reset just when it begins: a replacement comes, stays idle, and that is enough."""

    async def on_revoke(stream: Stream, _asked: bytes) -> None:
        for lease in leases:
            lease.reset()
        await answer(stream, 200, {"content-type": "application/json"}, b'{"status":"ack"}')

    leases: list[Stream] = []
    async with guest_at_scripted_host(certs, host={"on_revoke": on_revoke}) as (host, guest):
        leases.extend([await host.accept(LEASE_PATH) for _ in range(8)])
        async with asyncio.timeout(20):
            await guest.close(timeout=60)


@pytest.mark.parametrize("requests", [0, 2])
async def test_goaway_before_the_drain(
    certs: Certificates, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stream can be opened any more, so no lease is replaced."""
    monkeypatch.setattr("verser2_guest_python.guest.session.QUEUE_SECONDS", 0.2)
    app = Gate()
    options = {"min_waiting_streams": 2, "limit_concurrency": 2, "handover": False}
    async with guest_at_scripted_host(certs, app, **options) as (host, guest):
        calls = [await host_call(host) for _ in range(requests)]
        await app.until(requests)
        host.refuse_registration(502, {"error": {"code": "invalid-registration", "message": "no"}})
        host.session.goaway()
        await host.session.ping()
        task = closing(guest, timeout=60)
        await host.session.ping()
        app.open()
        for call in calls:
            assert (await call.reply()).status == 200
        async with asyncio.timeout(20):
            await task


async def test_a_session_that_is_lost_while_it_drains(certs: Certificates) -> None:
    app = Witness()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        await host_call(host)
        await app.begun.wait()
        task = closing(guest, timeout=60)
        await ended(await next_lease(host))
        host.session.abort("the test says so")
        async with asyncio.timeout(20):
            await task
        await app.saw_disconnect()


async def test_a_request_whose_head_has_come_half_is_waited_for(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, hello) as (host, guest):
        call = Call(await host.accept(LEASE_PATH))
        data = _encoded("/half")
        await call.stream.write(data[:9])
        await host.session.ping()
        task = closing(guest)
        await ended(await next_lease(host))
        await call.stream.write(data[9:], end=True)
        assert (await call.reply()).body == b"/half"
        await task


def _encoded(path: str) -> bytes:
    from verser2_guest_python.wire.envelopes import encode_request

    return encode_request(request_head(path))


# --- close() at any time --------------------------------------------------------------------------


async def test_close_twice_waits_for_the_same_end(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host)
        await app.until(1)
        tasks = [closing(guest) for _ in range(3)]
        await ended(await next_lease(host))
        assert not any(task.done() for task in tasks)
        app.open()
        await asyncio.gather(*tasks)
        await guest.close()
        assert (await call.reply()).status == 200
        assert events.types.count("draining") == 1
        assert events.types.count("closed") == 1


async def test_a_close_whose_caller_gives_up_goes_on(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = await host_call(host)
        await app.until(1)
        task = closing(guest)
        await ended(await next_lease(host))
        task.cancel()
        await asyncio.wait({task})
        app.open()
        assert (await call.reply()).status == 200
        await guest.close()
        assert host.session.lost is not None


async def test_close_of_a_guest_that_never_connected(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        await guest.close()
        await guest.close()
        assert host.sessions == []


class Slow:
    """A lifespan that takes until a test lets it go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.events: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await respond(send)
            return
        await receive()
        self.begun.set()
        await self.go_on.wait()
        self.events.append("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize("how", ["connect", "serve_forever"])
async def test_close_while_the_app_starts(certs: Certificates, how: str) -> None:
    app = Slow()
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, app)
        task = asyncio.create_task(getattr(guest, how)())
        await app.begun.wait()
        await guest.close()
        await asyncio.wait({task}, timeout=10)
        assert task.done()
        if how == "connect":
            assert task.exception() is not None
        else:
            assert task.exception() is None
        assert host.registrations == []
        assert host.sessions == []


@pytest.mark.parametrize("how", ["connect", "serve_forever"])
async def test_close_while_it_registers(certs: Certificates, how: str) -> None:
    app = Slow()
    app.go_on.set()
    async with lease_host(certs) as host:
        host.silent = True
        guest = make_guest(host, certs, app)
        task = asyncio.create_task(getattr(guest, how)())
        await host.accept("/verser/register")
        await guest.close()
        await asyncio.wait({task}, timeout=10)
        assert task.done()
        assert (task.exception() is not None) is (how == "connect")
        assert not guest.connected
        assert app.events == ["startup", "shutdown"]
        await until(lambda: host.session.lost is not None)


async def test_close_while_it_connects_again(certs: Certificates) -> None:
    app = Slow()
    app.go_on.set()
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, app)
        await guest.connect()
        host.silent = True
        host.session.abort("the test says so")
        await host.accept("/verser/register")
        async with asyncio.timeout(10):
            await guest.close()
        assert app.events == ["startup", "shutdown"]
        await until(lambda: host.session.lost is not None)


async def test_close_between_two_attempts(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        await guest.connect()
        events = Events(guest)
        host.listener.close()  # type: ignore[union-attr]
        host.session.abort("the test says so")
        await events.wait("reconnecting", count=3)
        async with asyncio.timeout(10):
            await guest.close()


async def test_the_app_is_stopped_after_the_last_request(certs: Certificates) -> None:
    order: list[str] = []
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            order.append("startup")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            order.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await go_on.wait()
        order.append("request")
        await respond(send)

    async with guest_at_scripted_host(certs, app) as (host, guest):
        call = await host_call(host)
        task = closing(guest)
        await ended(await next_lease(host))
        go_on.set()
        await call.reply()
        await task
    assert order == ["startup", "request", "shutdown"]


async def test_serve_forever_returns_after_the_drain(certs: Certificates) -> None:
    app = Gate()
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, app)
        serving = asyncio.create_task(guest.serve_forever())
        call = await host_call(host)
        await app.until(1)
        task = closing(guest)
        await ended(await next_lease(host))
        assert not serving.done()
        app.open()
        await call.reply()
        await asyncio.gather(serving, task)


async def test_a_session_that_lingers_after_a_loss_is_waited_for_and_then_cut(certs: Certificates) -> None:
    """Calls of a lost session may still work; the end of the Guest is the end of them all."""
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        await host_call(host)
        await app.until(1)
        host.session.abort("the test says so")
        await events.wait("registered")
        await guest.close(timeout=0.2)
        assert app.running == 0

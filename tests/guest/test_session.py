"""The sessions of a Guest: registered, refused, lost, handed over (protocol.md §2, §4, §12.11)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.guest.guests import (
    DOMAIN,
    GUEST_ID,
    LEASE_PATH,
    Call,
    Events,
    Gate,
    ask,
    guest_at_scripted_host,
    hello,
    host_call,
    lease_host,
    make_guest,
    next_lease,
    request_head,
    session_of,
)
from tests.host.peers import Broker, running_host
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, answer, send_head
from tests.support.waiting import until
from verser2_guest_python import (
    AuthorizationDeniedError,
    DisconnectedTargetError,
    InvalidRegistrationError,
    RequestTimeoutError,
    StreamFailureError,
    VerserConnectionError,
    VerserError,
    VerserProtocolError,
    create_verser_guest,
)
from verser2_guest_python.errors import ConnectFailure
from verser2_guest_python.host import VerserHost
from verser2_guest_python.http2 import ErrorCode, SessionOptions, Stream

SECOND_ID = f"{GUEST_ID}~2"
TAKEN = {"error": {"code": "invalid-registration", "message": "Peer is already registered"}}
DENIED = {"status": "closed", "reason": "not welcome here"}


def fresh_leases(host: ScriptedHost) -> int:
    """Leases in the test's queue that are of the newest session."""
    waiting: list[Stream] = list(host._queue(LEASE_PATH)._queue)  # type: ignore[attr-defined]
    return sum(stream.session is host.session and stream.error is None for stream in waiting)


async def fresh_call(host: ScriptedHost, path: str = "/") -> Call:
    """A request on a lease of the newest session."""
    while True:
        stream = await next_lease(host)
        if stream.session is host.session:
            call = Call(stream)
            call.send_head(request_head(path), end=True)
            return call


# --- Registrations that fail ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (502, TAKEN, InvalidRegistrationError, "already registered"),
        (403, DENIED, AuthorizationDeniedError, "not welcome here"),
        (
            403,
            {**DENIED, "error": {"code": "authorization-denied", "message": "not welcome here"}},
            AuthorizationDeniedError,
            "not welcome here",
        ),
        (502, {"error": {"code": "protocol-error", "message": "bad JSON"}}, VerserProtocolError, "bad JSON"),
        (502, {"error": {"code": "of-tomorrow", "message": "what"}}, VerserError, ""),
        (200, {"status": "maybe"}, VerserError, ""),
        (200, b"", VerserProtocolError, ""),
        (200, b"<html>", VerserProtocolError, ""),
        (200, b"[]", VerserProtocolError, ""),
        (404, b"Not Found", VerserProtocolError, "404"),
        (200, {"status": "registered", "routes": 7}, VerserProtocolError, "routes"),
        (
            200,
            b'{"status":"registered","routes":[]' + b" " * 1_100_000 + b"}",
            VerserProtocolError,
            "1048576",
        ),
    ],
)
async def test_a_registration_that_is_refused(
    certs: Certificates, status: int, body: Any, error: type[VerserError], words: str
) -> None:
    async with lease_host(certs) as host:
        host.refuse_registration(status, body)
        guest = make_guest(host, certs, hello)
        with pytest.raises(error) as caught:
            await guest.connect()
        assert words in str(caught.value)
        assert not guest.connected
        await until(lambda: host.session.lost is not None)  # nothing is left open
        await guest.close()


async def test_a_registration_that_is_not_answered(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        host.silent = True
        guest = make_guest(host, certs, hello, connect_timeout=2)
        with pytest.raises(RequestTimeoutError):
            await guest.connect()
        await until(lambda: host.session.lost is not None)
        await guest.close()


@pytest.mark.parametrize("how", ["reset", "goaway", "abort", "close", "half"])
async def test_a_registration_that_is_cut_off(certs: Certificates, how: str) -> None:
    async with lease_host(certs) as host:
        host.silent = True
        guest = make_guest(host, certs, hello, connect_timeout=30)
        task = asyncio.create_task(guest.connect())
        stream = await host.accept("/verser/register")
        if how == "reset":
            stream.reset(ErrorCode.INTERNAL_ERROR)
        elif how == "half":
            send_head(stream, 200)
            await stream.write(b'{"status":')
            stream.reset(ErrorCode.INTERNAL_ERROR)
        elif how == "goaway":
            host.session.goaway()
            stream.reset(ErrorCode.REFUSED_STREAM)
        elif how == "abort":
            host.session.abort("the test says so")
        else:
            await host.session.close()
        with pytest.raises((StreamFailureError, DisconnectedTargetError)):
            await task
        await guest.close()


@pytest.mark.parametrize("how", ["goaway", "abort", "close"])
@pytest.mark.parametrize("forever", [False, True])
async def test_a_host_that_leaves_right_behind_its_answer(
    certs: Certificates, how: str, forever: bool
) -> None:
    """No stream can be opened then; the Guest tries again, if it is to."""
    async with lease_host(certs) as host:
        host.silent = True
        guest = make_guest(host, certs, hello, connect_timeout=30)
        events = Events(guest)
        task = asyncio.create_task(guest.serve_forever() if forever else guest.connect())
        stream = await host.accept("/verser/register")
        body = b'{"status":"registered","routes":[]}'
        await answer(stream, 200, {"content-type": "application/json"}, body)
        if how == "goaway":
            host.session.goaway()
        elif how == "abort":
            host.session.abort("the test says so")
        else:
            await host.session.close()
        host.silent = False
        if forever:
            await events.wait("registered")
            await until(lambda: bool(host.registrations))
        done, _ = await asyncio.wait({task}, timeout=0.0 if forever else 30.0)
        if done and task.exception() is not None:
            assert isinstance(task.exception(), VerserError)
        await guest.close(timeout=1.0)
        await asyncio.wait({task})
        assert not task.cancelled()
        assert task.exception() is None or isinstance(task.exception(), VerserError)


async def test_a_final_refusal_ends_a_daemon_that_never_registered(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        host.refuse_registration(403, DENIED)
        guest = make_guest(host, certs, hello)
        with pytest.raises(AuthorizationDeniedError):
            await guest.serve_forever()
        assert len(host.sessions) == 1
        assert guest.state.name == "CLOSED"


async def test_a_refusal_is_retried_by_a_daemon_that_was_registered(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        host.refuse_registration(403, DENIED)
        host.session.abort("the test says so")
        await until(lambda: len(host.registrations) >= 4)
        assert any("not welcome" in record.getMessage() for record in caplog.records)
        host.refusal = None
        await until(lambda: guest.connected)
        assert (await ask(host, "/after")).body == b"/after"


@pytest.mark.parametrize("first", [True, False])
async def test_a_taken_peer_id_is_retried_with_one_warning(
    certs: Certificates, first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        serving = asyncio.create_task(guest.serve_forever())
        if not first:
            await until(lambda: guest.connected)
        host.refuse_registration(502, TAKEN)
        if not first:
            host.session.abort("the test says so")
        before = len(host.registrations)
        await until(lambda: len(host.registrations) >= before + 4)
        assert not serving.done()
        host.refusal = None
        await until(lambda: guest.connected)
        warnings = [record for record in caplog.records if "already registered" in record.getMessage()]
        assert len(warnings) == 1
        await guest.close()
        await serving


async def test_a_taken_peer_id_is_final_if_it_was_asked_to_be(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        host.refuse_registration(502, TAKEN)
        guest = make_guest(host, certs, hello, fail_if_registered=True)
        with pytest.raises(InvalidRegistrationError):
            await guest.serve_forever()
        assert len(host.registrations) == 1


async def test_a_wrong_certificate_is_final_at_first_and_retried_later(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        guest = create_verser_guest(
            host_url=host.url,
            guest_id=GUEST_ID,
            routed_domains=[DOMAIN],
            app=hello,
            tls_ca_file=certs.untrusted_ca,
        )
        with pytest.raises(VerserConnectionError) as caught:
            await guest.serve_forever()
        assert caught.value.reason is ConnectFailure.TRUST


# --- Lost and found -------------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_lost_session_is_dialled_again(certs: Certificates, how: str) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        if how == "abort":
            host.session.abort("the test says so")
        else:
            await host.session.close()
        await events.wait("registered")
        assert [registration.peer_id for registration in host.registrations] == [GUEST_ID, GUEST_ID]
        assert (await ask(host, "/after")).body == b"/after"
        kinds = [kind for kind in events.types if not kind.startswith("request-")]
        assert kinds == ["disconnected", "reconnecting", "connected", "registered"]
        assert events.find("disconnected")[0].fields["reason"]
        assert guest.connected


async def test_a_host_that_was_away_is_found_again(certs: Certificates) -> None:
    async with running_host(certs) as host:
        port = host.port
        guest = make_guest(host, certs, hello)
        await guest.connect()
        events = Events(guest)
        await host.close(timeout=0)
        await events.wait("reconnecting", count=3)
        assert not guest.connected
        again = running_host(certs, port=port)
        async with again as host_again, Broker(host_again, certs) as broker:
            await events.wait("registered")
            if not broker.registered["routes"]:
                await broker.change()
            assert (await broker.fetch("GET", "/after")).body == b"/after"
            await guest.close()


async def test_tls_files_are_read_anew_at_every_connect(certs: Certificates, tmp_path: Any) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certs.ca.read_bytes())
    async with lease_host(certs) as host:
        guest = create_verser_guest(
            host_url=host.url, guest_id=GUEST_ID, routed_domains=[DOMAIN], app=hello, tls_ca_file=ca
        )
        await guest.connect()
        events = Events(guest)
        ca.write_bytes(certs.untrusted_ca.read_bytes())
        host.session.abort("the test says so")
        await events.wait("reconnecting", count=3)
        ca.write_text("no certificate at all")
        await events.wait("reconnecting", count=5)
        ca.write_bytes(certs.ca.read_bytes())
        await events.wait("registered")
        await guest.close()


async def test_a_host_that_answers_no_ping_is_gone(certs: Certificates) -> None:
    """It reads nothing any more, and TCP does not tell."""
    async with guest_at_scripted_host(certs, ping_interval=0.1, ping_timeout=1.5) as (host, guest):
        events = Events(guest)
        host.session._transport._tcp.pause_reading()  # type: ignore[union-attr]
        lost = await events.wait("disconnected")
        assert "PING" in str(lost.fields["reason"])
        await events.wait("registered")
        assert (await fresh_call(host, "/after")).stream.session is host.session
        assert guest.connected


async def test_pings_that_are_answered_keep_the_session(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, ping_interval=0.02, ping_timeout=5.0) as (host, guest):
        session = session_of(guest)
        times: set[float | None] = set()

        def answered_again() -> bool:
            times.add(session.last_rtt)
            return len(times) > 10

        await until(answered_again)
        assert session_of(guest) is session
        assert len(host.sessions) == 1


# --- Handover -------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_goaway_hands_over_without_a_gap(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        calls = [await host_call(host, f"/{number}") for number in range(4)]
        await app.until(4)
        old = host.session
        old.goaway()
        await events.wait("registered", guest_id=SECOND_ID)
        assert host.registrations[-1].routed_domains == (DOMAIN,)
        assert old.lost is None
        new = await fresh_call(host, "/new")
        await app.until(5)
        app.open()
        for number, call in enumerate(calls):
            assert (await call.reply()).body == f"/{number}".encode()
        assert (await new.reply()).body == b"/new"
        await until(lambda: old.lost is not None)
        assert guest.connected
        assert not events.find("disconnected")


async def test_the_next_handover_takes_the_plain_id_again(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        for expected in (SECOND_ID, GUEST_ID, SECOND_ID):
            old = host.session
            old.goaway()
            await until(lambda old=old: old.lost is not None)
            assert host.registrations[-1].peer_id == expected
            reply = await (await fresh_call(host, "/x")).reply()
            assert reply.body == b"/x"
        assert guest.guest_id == GUEST_ID


async def test_leases_of_the_second_session_say_its_id(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, _guest):
        old = host.session
        old.goaway()
        await until(lambda: old.lost is not None)
        call = await fresh_call(host)
        assert dict(call.stream.fields or ())[b"x-verser-peer-id"] == SECOND_ID.encode()


async def test_a_loss_after_a_handover_registers_under_the_same_id(certs: Certificates) -> None:
    """So that a Host gives its degraded routes back (protocol.md §10)."""
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        old = host.session
        old.goaway()
        await until(lambda: old.lost is not None)
        host.session.abort("the test says so")
        await events.wait("registered", count=2)
        assert host.registrations[-1].peer_id == SECOND_ID
        assert guest.connected


async def test_a_handover_whose_id_is_taken_goes_on_serving(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        await host.session.ping()
        host.refuse_registration(502, TAKEN)
        old = host.session
        old.goaway()
        await until(lambda: len(host.registrations) >= 4)
        assert old.lost is None  # and still serves
        waiting = [await next_lease(host) for _ in range(3)]
        assert all(stream.session is old for stream in waiting)
        host.refusal = None
        await events.wait("registered")
        await until(lambda: old.lost is not None)
        assert guest.connected


async def test_the_old_session_may_be_lost_in_a_handover(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        host.refuse_registration(502, TAKEN)
        old = host.session
        old.goaway()
        await until(lambda: len(host.registrations) >= 3)
        old.abort("the test says so")
        await events.wait("disconnected")
        host.refusal = None
        await events.wait("registered")
        assert guest.connected
        assert (await (await fresh_call(host, "/x")).reply()).body == b"/x"


async def test_without_handover_the_old_session_drains_first(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app, handover=False) as (host, guest):
        events = Events(guest)
        call = await host_call(host, "/old")
        await app.until(1)
        old = host.session
        old.goaway()
        await events.wait("reconnecting")
        assert len(host.sessions) == 1
        app.open()
        assert (await call.reply()).body == b"/old"
        await events.wait("registered")
        assert old.lost is not None
        assert host.registrations[-1].peer_id == GUEST_ID
        assert guest.connected


async def test_close_while_the_old_session_drains_without_handover(certs: Certificates) -> None:
    app = Gate()
    async with guest_at_scripted_host(certs, app, handover=False) as (host, guest):
        events = Events(guest)
        call = await host_call(host, "/old")
        await app.until(1)
        host.session.goaway()
        await events.wait("reconnecting")
        task = asyncio.create_task(guest.close(timeout=20))
        await host.session.ping()
        app.open()
        assert (await call.reply()).body == b"/old"
        await task


async def test_close_while_the_old_session_drains_after_a_handover(certs: Certificates) -> None:
    """Both sessions drain at a time: what is left of the old one is not cut by the new one's end."""
    app = Gate()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        events = Events(guest)
        call = await host_call(host, "/old")
        await app.until(1)
        old = host.session
        old.goaway()
        await events.wait("registered")
        new = await fresh_call(host, "/new")
        await app.until(2)
        task = asyncio.create_task(guest.close(timeout=20))
        await host.session.ping()
        app.open()
        assert (await call.reply()).body == b"/old"
        assert (await new.reply()).body == b"/new"
        await task


async def test_the_limit_holds_over_both_sessions_of_a_handover(certs: Certificates) -> None:
    app = Gate()
    options = {"min_waiting_streams": 4, "limit_concurrency": 4}
    async with guest_at_scripted_host(certs, app, **options) as (host, guest):
        events = Events(guest)
        calls = [await host_call(host) for _ in range(3)]
        await app.until(3)
        old = host.session
        old.goaway()
        await events.wait("registered")
        for _ in range(3):
            await old.ping()
            await host.session.ping()
        while host._queue(LEASE_PATH).qsize():
            calls.append(await host_call(host))
            await host.session.ping()
        await app.until(4)
        await host.session.ping()
        assert app.running == 4
        app.open()
        for call in calls:
            assert (await call.reply()).status == 200
        assert app.most == 4
        await until(lambda: old.lost is not None)
        assert (await (await fresh_call(host, "/x")).reply()).body == b"/x"
        assert guest.connected


async def test_stream_ids_run_out(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """protocol.md §12.11, with a lowered limit: nothing is lost, and the routes are revoked in order."""
    monkeypatch.setattr("verser2_guest_python.guest.session.QUEUE_SECONDS", 0.2)
    revoked: list[bytes] = []

    async def on_revoke(stream: Stream, asked: bytes) -> None:
        revoked.append(asked)
        await answer(stream, 200, {"content-type": "application/json"}, b'{"status":"ack"}')

    async with lease_host(certs, on_revoke=on_revoke) as host:
        guest = make_guest(host, certs, hello, session_options=SessionOptions(last_stream_id=2_001))
        await guest.connect()
        for number in range(1_800):
            reply = await (await fresh_call(host, f"/{number}")).reply()
            assert reply.body == f"/{number}".encode()
        assert len(host.registrations) >= 3
        assert {one.peer_id for one in host.registrations} == {GUEST_ID, SECOND_ID}
        assert len(revoked) >= len(host.registrations) - 2
        await guest.close()


async def test_the_end_of_the_control_stream_hands_over(certs: Certificates) -> None:
    """protocol.md §4: the session is going down."""
    async with guest_at_scripted_host(certs) as (host, guest):
        old = host.session
        control = await host.accept("/verser/guest/control")
        await control.write(b'{"type":"of-tomorrow"}\n' * 100)
        await old.ping()
        assert len(host.sessions) == 1
        await control.write(b"", end=True)
        await until(lambda: old.lost is not None)
        assert host.registrations[-1].peer_id == SECOND_ID
        assert (await (await fresh_call(host, "/x")).reply()).body == b"/x"
        assert guest.connected


async def test_lines_without_end_on_the_control_stream_are_dropped(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        control = await host.accept("/verser/guest/control")
        async with asyncio.timeout(30):
            for _ in range(300):
                await control.write(b"x" * 65_536)
        assert session_of(guest).unread_bytes == 0
        assert (await ask(host, "/after")).body == b"/after"


async def test_a_host_that_always_leaves_is_not_dialled_in_a_loop(certs: Certificates) -> None:
    """It accepts, registers, and says GOAWAY each time: the pauses grow."""
    async with guest_at_scripted_host(certs, reconnect_max_delay=30.0) as (host, guest):
        events = Events(guest)
        for count in range(1, 5):
            host.session.goaway()
            await events.wait("registered", count=count)
        delays = [event.fields["delay_seconds"] for event in events.find("reconnecting")]
        assert delays[0] == 0.0
        assert all(isinstance(delay, float) and delay >= 0.1 for delay in delays[1:])
        assert guest.connected


# --- Through our own Host -------------------------------------------------------------------------


def peer_sessions(host: VerserHost, role: str) -> list[Any]:
    assert host._run is not None
    return [
        caller
        for caller in host._run.core._sessions
        if caller.peer is not None and caller.peer.role == role and not caller.session.closing
    ]


@pytest.mark.both_loops
async def test_nothing_is_lost_under_load_when_sessions_are_handed_over(certs: Certificates) -> None:
    """This project's Broker takes the session that is there (protocol.md §12.11)."""
    async with running_host(certs) as host:
        guest = make_guest(host, certs, hello)
        await guest.connect()
        events = Events(guest)
        answered = 0
        stop = asyncio.Event()

        async with broker_at(host, certs) as broker:
            await broker.wait_for_route(DOMAIN)

            async def client(number: int) -> None:
                nonlocal answered
                count = 0
                while not stop.is_set():
                    count += 1
                    response = await broker.get(f"http://{DOMAIN}/{number}/{count}")
                    assert (response.status, await response.read()) == (200, f"/{number}/{count}".encode())
                    answered += 1

            clients = [asyncio.create_task(client(number)) for number in range(8)]
            for handover in range(1, 4):
                seen = answered
                await until(lambda seen=seen: answered >= seen + 50)
                guest.renew("the test says so")
                await events.wait("registered", count=handover)
            seen = answered
            await until(lambda: answered >= seen + 50)
            stop.set()
            await asyncio.gather(*clients)
        await guest.close()


async def test_log_lines_of_a_loss_are_few(certs: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        host.session.abort("the test says so")
        await events.wait("registered")
        assert guest.connected
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 2

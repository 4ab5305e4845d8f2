"""A Broker outlives its sessions: it dials again after a loss, and hands over before one ends."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.http2 import frames as h2f
from tests.support.brokers import DOMAIN, ROUTES, broker_at, scripted
from tests.support.certificates import Certificates
from tests.support.proxies import http_proxy
from tests.support.scripted_host import ScriptedHost, answer, read_all, scripted_host, send_head
from tests.support.waiting import until
from verser2_guest_python import (
    DisconnectedTargetError,
    InvalidRegistrationError,
    MissingGuestError,
    RequestTimeoutError,
    VerserBroker,
    VerserConnectionError,
    VerserProtocolError,
    VerserUsageError,
    create_verser_broker,
)
from verser2_guest_python.http2 import SessionOptions

URL = f"http://{DOMAIN}/"
TAKEN = {"error": {"code": "invalid-registration", "message": "Peer is already registered"}}
LOGGER = "verser2_guest_python.broker"


def ids(host: ScriptedHost) -> list[str]:
    return [registration.peer_id for registration in host.registrations]


async def served(host: ScriptedHost, broker: VerserBroker, text: bytes = b"hello") -> None:
    """One request and its answer."""
    call = asyncio.create_task(broker.get(URL))
    await answer(await host.accept("/verser/request"), 200, (), text)
    assert await (await call).read() == text


async def lose_session(host: ScriptedHost, broker: VerserBroker) -> None:
    """Ends the session, and waits until the Broker has noticed."""
    before = broker._keeper.link
    host.session.abort("the test says so")
    await until(lambda: broker._keeper.link is not before)


async def registered(host: ScriptedHost, times: int) -> None:
    """Until a Broker has registered so many times, and knows it."""
    for _ in range(times):
        await host.accept("/verser/register")
    await host.session.ping()


# --- After a loss ---------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_lost_session_is_dialled_again(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        under_way = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        reading = asyncio.create_task(broker.get(URL))
        send_head(await host.accept("/verser/request"), 200)
        response = await reading
        await lose_session(host, broker)
        for failing in (under_way, response.read()):
            with pytest.raises(DisconnectedTargetError):
                await failing
        del stream
        await served(host, broker)
        assert ids(host) == ["broker-a", "broker-a"]
        assert broker.connected
        facts = broker.facts()
        assert facts.session is not None
        assert (facts.session.host, facts.session.peer_id) == (host.url, "broker-a")
        assert facts.reconnects == {"connection-lost": 1}


async def test_an_upload_that_takes_long_to_end_holds_nobody_up(certs: Certificates) -> None:
    may_end = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1_000
                await asyncio.sleep(0)
        finally:
            await may_end.wait()

    async with scripted(certs) as (host, broker):
        upload = asyncio.create_task(broker.post(URL, body=body()))
        stream = await host.accept("/verser/request")
        await stream.read()
        await lose_session(host, broker)
        await served(host, broker)
        may_end.set()
        with pytest.raises(DisconnectedTargetError):
            await upload


async def test_requests_in_an_outage_wait_for_the_next_session(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted(certs) as (host, broker):
        host.refuse_registration(502, {"error": {"code": "protocol-error", "message": "not yet"}})
        await lose_session(host, broker)
        calls = [asyncio.create_task(broker.post(URL, body=b"%d" % number)) for number in range(3)]
        await until(lambda: len(host.registrations) >= 4)
        assert not any(call.done() for call in calls)
        assert not broker.connected
        facts = broker.facts()
        assert facts.session is None
        assert facts.reconnects.keys() == {"connection-lost", "connect-failed"}
        host.refusal = None
        for _ in calls:
            stream, _ = await host.accept_request()
            await answer(stream, 200, (), await read_all(stream))
        assert sorted([await (await call).read() for call in calls]) == [b"0", b"1", b"2"]
        said = [record.getMessage() for record in caplog.records if record.name == LOGGER]
        assert len([text for text in said if "not yet" in text]) == 1, "told once an outage"


async def test_an_outage_that_is_too_long(certs: Certificates) -> None:
    async with scripted(certs, broker={"connect_timeout": 0.4}) as (host, broker):
        host.refuse_registration(502, {"error": {"code": "protocol-error", "message": "never"}})
        await lose_session(host, broker)
        with pytest.raises(DisconnectedTargetError, match=r"no new one within 0\.4 s.*never"):
            await broker.get(URL)


async def test_the_time_limit_of_a_request_holds_in_an_outage(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        host.refuse_registration(502, b"{}")
        await lose_session(host, broker)
        for limits in ({"timeout": 0.05}, {"total_timeout": 0.05}):
            with pytest.raises(RequestTimeoutError, match=r"within 0\.05 s"):
                await broker.get(URL, **limits)


async def test_cancelling_and_closing_in_an_outage(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        host.refuse_registration(502, b"{}")
        await lose_session(host, broker)
        calls = [asyncio.create_task(broker.get(URL)) for _ in range(2)]
        waiting = asyncio.create_task(broker.wait_for_route("never.test"))
        await until(lambda: len(host.registrations) >= 2)
        calls[0].cancel()
        await asyncio.wait([calls[0]])
        await broker.close()
        for call in (calls[1], waiting):
            with pytest.raises(VerserUsageError, match="closed"):
                await call
        count = len(host.registrations)
        host.refusal = None
        await broker.connect()
        await served(host, broker)
        assert len(host.registrations) == count + 1


async def test_connect_during_an_outage_waits_for_its_end(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        host.refuse_registration(502, b"{}")
        await lose_session(host, broker)
        await until(lambda: len(host.registrations) >= 2)
        connecting = asyncio.create_task(broker.connect())
        await asyncio.sleep(0)
        host.refusal = None
        await connecting
        await served(host, broker)
        with pytest.raises(VerserUsageError, match="already"):
            await broker.connect()


async def test_a_taken_id_may_be_our_own_of_before(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """A Host keeps the id of a session that vanished without a word (protocol.md §13)."""
    async with scripted(certs) as (host, broker):
        host.refuse_registration(502, TAKEN)
        await lose_session(host, broker)
        await until(lambda: len(host.registrations) >= 2)
        host.refusal = None
        call = asyncio.create_task(broker.get(URL))
        stream, request = await host.accept_request()
        await answer(stream, 200)
        await (await call).aclose()
        assert ids(host) == ["broker-a", "broker-a", "broker-a~2"]
        assert request.source_id == "broker-a~2"
        assert broker.broker_id == "broker-a"
        assert broker.facts().reconnects == {"connection-lost": 1, "refused": 1}


async def test_a_taken_id_at_first_is_final(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        host.refuse_registration(502, TAKEN)
        broker = create_verser_broker(host_url=host.url, broker_id="broker-a", tls_ca_file=certs.ca)
        with pytest.raises(InvalidRegistrationError):
            await broker.connect()
        assert ids(host) == ["broker-a"]


async def test_tls_files_are_read_anew_and_trust_is_retried(
    certs: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(certs.ca, ca)
    async with scripted_host(certs, routes=ROUTES) as host:
        broker = create_verser_broker(host_url=host.url, broker_id="broker-a", tls_ca_file=ca)
        await broker.connect()
        shutil.copy(certs.untrusted_ca, ca)
        await lose_session(host, broker)
        await until(lambda: host.handshake_errors)
        shutil.copy(certs.ca, ca)
        await served(host, broker)
        assert [r for r in caplog.records if r.levelno == logging.ERROR and r.name == LOGGER]
        await broker.close()


@asynccontextmanager
async def broker_at_hosts(certs: Certificates, *hosts: Any, **options: Any) -> AsyncIterator[VerserBroker]:
    async with create_verser_broker(
        host_url=[host if isinstance(host, str) else host.url for host in hosts],
        broker_id="broker-a",
        tls_ca_file=certs.ca,
        **options,
    ) as broker:
        yield broker


async def test_several_hosts(certs: Certificates) -> None:
    async with scripted_host(certs, routes=ROUTES) as one, scripted_host(certs, routes=ROUTES) as other:
        async with broker_at_hosts(certs, "https://localhost:1", one, other) as broker:
            await served(one, broker)
            await lose_session(one, broker)
            await served(other, broker)
            await lose_session(other, broker)
            await served(one, broker)
        assert (len(one.registrations), len(other.registrations)) == (2, 1)
    with pytest.raises(VerserConnectionError):
        await create_verser_broker(host_url=["https://localhost:1", "https://localhost:2"]).connect()
    with pytest.raises(VerserUsageError, match="no Host"):
        create_verser_broker(host_url=[])


async def test_through_a_proxy(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_proxy() as proxy, scripted_host(certs, routes=ROUTES) as host:
        async with broker_at(host, certs, proxy=proxy.url) as broker:
            await served(host, broker)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with broker_at(host, certs) as broker:
            await served(host, broker)
        async with broker_at(host, certs, proxy="") as broker:
            await served(host, broker)
        assert proxy.targets == [f"localhost:{host.port}"] * 2
    with pytest.raises(VerserUsageError, match="proxy"):
        create_verser_broker(host_url="https://localhost", proxy="ftp://name:geheim@x")
    quiet = create_verser_broker(host_url="https://localhost", proxy="http://name:geheim@x")
    assert "geheim" not in repr(quiet._options)


# --- Routes over several sessions -------------------------------------------------------------------


async def test_listeners_hear_of_what_has_changed_in_between(certs: Certificates) -> None:
    async with scripted(certs, routes=[*ROUTES, ("guest-b", "b.test")]) as (host, broker):
        changes: list[tuple[str, str]] = []
        broker.on_route_change(lambda change: changes.append((change.type, change.target_id)))
        host.routes = [route for route in host.routes if route.target_id != "guest-b"]
        host.routes.append(type(host.routes[0])("guest-c", "c.test"))
        await lose_session(host, broker)
        await broker.wait_for_route("c.test")
        assert changes == [("removed", "guest-b"), ("added", "guest-c")]


async def test_a_guest_that_returns_later_than_the_broker_is_waited_for(certs: Certificates) -> None:
    """A Host that was started anew has no routes yet: those of before may be on their way."""
    async with scripted(certs) as (host, broker):
        host.routes = []
        await lose_session(host, broker)
        call = asyncio.create_task(broker.get(URL))
        with pytest.raises(MissingGuestError):
            await broker.get("http://never.test/")
        await registered(host, 2)
        assert not call.done()
        await host.say_lifecycle(("added", "guest-a", DOMAIN, "registered"))
        await answer(await host.accept("/verser/request"), 200, (), b"back")
        assert await (await call).read() == b"back"


async def test_waiting_for_a_route_goes_on_over_a_loss(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        waiting = asyncio.create_task(broker.wait_for_route("b.test"))
        await lose_session(host, broker)
        await registered(host, 2)
        assert not waiting.done()
        await host.say_lifecycle(("added", "guest-b", "b.test", "registered"))
        assert (await waiting).target_id == "guest-b"


# --- Handing over -----------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_goaway_leaves_no_gap(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        first = host.session
        old = asyncio.create_task(broker.get(URL))
        old_stream = await host.accept("/verser/request")
        first.goaway()
        new = asyncio.create_task(broker.get(URL))
        new_stream, request = await host.accept_request()
        assert new_stream.session is not first
        assert (request.source_id, ids(host)) == ("broker-a~2", ["broker-a", "broker-a~2"])
        await answer(new_stream, 200, (), b"new")
        assert await (await new).read() == b"new"
        assert first.lost is None
        await answer(old_stream, 200, (), b"old")
        assert await (await old).read() == b"old"
        await first.wait_lost()
        host.session.goaway()
        call = asyncio.create_task(broker.get(URL))
        stream, request = await host.accept_request()
        assert request.source_id == "broker-a", "the plain id is free again"
        assert broker.facts().reconnects == {"goaway": 2}
        await answer(stream, 200)
        await (await call).aclose()


async def test_a_websocket_outlives_the_handover(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        first = host.session
        opening = asyncio.create_task(broker.websocket(URL))
        stream = await host.accept("/verser/websocket")
        send_head(stream, 200)
        async with await opening as socket:
            first.goaway()
            await served(host, broker)
            await socket.send_text("still here")
            assert b"still here" in await stream.read()
            closing = asyncio.create_task(socket.close())
            await stream.write(await stream.read(), end=True)
            await closing
        await first.wait_lost()


async def test_a_request_behind_the_goaway_is_sent_again(certs: Certificates) -> None:
    """The Host says which streams it will not serve (RFC 9113 §6.8): even a POST may go elsewhere."""
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"once"))
        stream, request = await host.accept_request()
        session = host.session
        session.closing = True
        session.engine.put(h2f.goaway(stream.id - 2))
        session.wrote()
        again, second = await host.accept_request()
        assert (request.request_id, second.request_id) == ("broker-a-1", "broker-a-2")
        assert await read_all(again) == b"once"
        await answer(again, 200, (), b"served once")
        assert await (await call).read() == b"served once"


async def test_goaway_without_reconnecting(certs: Certificates) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        host.session.goaway()
        await host.session.ping()
        with pytest.raises(DisconnectedTargetError, match="closing"):
            await broker.get(URL)
        assert len(host.registrations) == 1


@pytest.mark.both_loops
async def test_stream_ids_that_run_out(certs: Certificates) -> None:
    few = {"session_options": SessionOptions(last_stream_id=201)}
    async with scripted(certs, broker=few) as (host, broker):

        async def serve() -> None:
            while True:
                stream, request = await host.accept_request(timeout=60)
                await answer(stream, 200, (), request.path.encode())

        async def fetch(number: int) -> bytes:
            return await (await broker.get(f"{URL}{number}")).read()

        async def some(start: int) -> None:
            for number in range(start, start + 50):
                assert await fetch(number) == b"/%d" % number

        serving = asyncio.create_task(serve())
        async with asyncio.TaskGroup() as group:
            for start in range(0, 1_000, 50):
                group.create_task(some(start))
        serving.cancel()
        await asyncio.wait([serving])
        assert len(host.sessions) >= 10
        assert set(ids(host)) >= {"broker-a", "broker-a~2"}
        for session in host.sessions[:-1]:
            await session.wait_lost()
        assert host.session.open_streams == 1
        await until(lambda: not broker._keeper._retired)


async def test_more_requests_at_once_than_a_session_has_ids(certs: Certificates) -> None:
    few = {"session_options": SessionOptions(last_stream_id=41)}
    async with scripted(certs, broker=few) as (host, broker):
        calls = [asyncio.create_task(broker.get(f"{URL}{number}")) for number in range(100)]
        for _ in calls:
            stream, request = await host.accept_request()
            await answer(stream, 200, (), request.path.encode())
        for number, call in enumerate(calls):
            assert await (await call).read() == b"/%d" % number


async def test_the_end_of_the_control_stream_moves_on(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        first = host.session
        old = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        await host.control.write(b"", end=True)
        await registered(host, 2)
        await served(host, broker)
        assert first.lost is None
        await answer(stream, 200, (), b"old")
        assert await (await old).read() == b"old"
        await first.wait_lost()


async def test_garbage_on_the_control_stream_begins_anew(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await host.accept("/verser/request")
        await host.say(b"garbage\n")
        with pytest.raises(VerserProtocolError, match="control stream"):
            await call
        await served(host, broker)


async def test_a_host_that_ends_each_session_at_once_is_not_flooded(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        for _ in range(4):
            await host.accept("/verser/register")
            await host.control.write(b"", end=True)
        await host.accept("/verser/register")
        assert broker._keeper._backoff.attempt >= 3, "each of them counts as part of one outage"
        await served(host, broker)


async def test_the_session_is_lost_while_the_next_one_is_dialled(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        first = host.session
        host.silent = True  # the next registration is not answered
        first.goaway()
        await host.accept("/verser/register")
        await host.accept("/verser/register")
        first.abort("the test says so")
        host.silent = False
        host.session.abort("that one too")
        await served(host, broker)


async def test_closing_during_a_handover(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        first = host.session
        old = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        first.goaway()
        await registered(host, 2)
        new = asyncio.create_task(broker.get(URL))
        new_stream = await host.accept("/verser/request")
        closing = asyncio.create_task(broker.close(timeout=30))
        await host.session.ping()
        await answer(stream, 200, (), b"old")
        await answer(new_stream, 200, (), b"new")
        assert await (await old).read() == b"old"
        assert await (await new).read() == b"new"
        await closing
        for session in host.sessions:
            await session.wait_lost()


async def test_closing_while_the_next_session_is_dialled(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        host.silent = True
        host.session.goaway()
        await host.accept("/verser/register")
        await host.accept("/verser/register")
        await broker.close()
        for session in host.sessions:
            await session.wait_lost()

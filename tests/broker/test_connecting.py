"""Connecting, being refused, losing the session and closing."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.brokers import DOMAIN, broker_at, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import answer, scripted_host, send_head
from verser2_guest_python import (
    AuthorizationDeniedError,
    DisconnectedTargetError,
    InvalidRegistrationError,
    RequestTimeoutError,
    StreamFailureError,
    VerserBroker,
    VerserConfigurationError,
    VerserConnectionError,
    VerserProtocolError,
    VerserUsageError,
    create_verser_broker,
)
from verser2_guest_python.errors import ConnectFailure

URL = f"http://{DOMAIN}/"


def broker_for(url: str, certs: Certificates, **options: object) -> VerserBroker:
    return create_verser_broker(host_url=url, broker_id="broker-a", **{"tls_ca_file": certs.ca, **options})


@pytest.mark.both_loops
async def test_registration(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        async with broker_at(host, certs, registration_token="let me in") as broker:
            assert broker.connected
            assert broker.get_routes() == []
            assert all(seconds > 0 for seconds in broker.connect_times)
        (registration,) = host.registrations
        assert (registration.peer_id, registration.role) == ("broker-a", "broker")
        assert registration.token == "let me in"
        assert not broker.connected
        await host.session.wait_lost()


async def test_ids_are_made_up_when_none_is_given(certs: Certificates) -> None:
    ids = {create_verser_broker(host_url="https://localhost").broker_id for _ in range(10)}
    assert len(ids) == 10


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, {"error": {"code": "invalid-registration", "message": "Peer is already registered"}}, None),
        (403, {"status": "closed", "reason": "not on the list"}, AuthorizationDeniedError),
        (502, {"error": {"code": "protocol-error", "message": "bad JSON"}}, VerserProtocolError),
        (500, b"oops", VerserProtocolError),
        (200, {"status": "closed", "reason": "not today"}, AuthorizationDeniedError),
    ],
)
async def test_refusals(certs: Certificates, status: int, body: object, kind: type[Exception] | None) -> None:
    async with scripted_host(certs) as host:
        host.refuse_registration(status, body)
        broker = broker_for(host.url, certs)
        with pytest.raises(kind or InvalidRegistrationError) as caught:
            await broker.connect()
        if kind is None:
            assert caught.value.taken
        assert not broker.connected
        await host.session.wait_lost()
        host.refusal = None
        await broker.connect()
        await broker.close()


async def test_a_host_that_does_not_answer_the_registration(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        host.silent = True
        with pytest.raises(RequestTimeoutError, match="registration"):
            await broker_for(host.url, certs, connect_timeout=2).connect()
        await host.session.wait_lost()


@pytest.mark.parametrize("first_line", [b"", b"garbage\n", b'{"type":"routes","routes":[]}\n'])
async def test_a_registration_answered_with_nonsense(certs: Certificates, first_line: bytes) -> None:
    async with scripted_host(certs) as host:
        host.silent = True
        connecting = asyncio.create_task(broker_for(host.url, certs).connect())
        stream = await host.accept("/verser/register")
        send_head(stream, 200)
        await stream.write(first_line, end=True)
        with pytest.raises((VerserProtocolError, StreamFailureError)):
            await connecting
        await host.session.wait_lost()


async def test_a_cancelled_connect_leaves_nothing_behind(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        host.silent = True
        broker = broker_for(host.url, certs)
        connecting = asyncio.create_task(broker.connect())
        await host.accept("/verser/register")
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await host.session.wait_lost()
        assert not broker.connected


async def test_closing_while_connecting(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        host.silent = True
        broker = broker_for(host.url, certs)
        connecting = asyncio.create_task(broker.connect())
        stream = await host.accept("/verser/register")
        await broker.close()
        send_head(stream, 200)
        await stream.write(b'{"status":"registered","routes":[]}\n')
        with pytest.raises(VerserUsageError, match="closed while"):
            await connecting
        await host.session.wait_lost()


async def test_failures_to_connect_say_why(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        with pytest.raises(VerserConnectionError, match="tls_ca_file") as caught:
            await broker_for(host.url, certs, tls_ca_file=certs.untrusted_ca).connect()
        assert caught.value.reason is ConnectFailure.TRUST
        assert caught.value.code == "certificate-verification-failure"
        with pytest.raises(VerserConfigurationError, match=r"nowhere\.pem"):
            await broker_for(host.url, certs, tls_ca_file=certs.directory / "nowhere.pem").connect()
        port = host.port
    with pytest.raises(VerserConnectionError) as caught:
        await broker_for(f"https://localhost:{port}", certs).connect()
    assert caught.value.reason is ConnectFailure.UNREACHABLE
    assert caught.value.code == "disconnected-target"


async def test_client_certificates(certs: Certificates) -> None:
    async with scripted_host(certs, client_ca=certs.ca) as host:
        with pytest.raises(VerserConnectionError) as caught:
            await broker_for(host.url, certs).connect()
        assert caught.value.reason is ConnectFailure.CERTIFICATE_REFUSED
        for options in (
            {"tls_cert_file": certs.broker, "tls_key_file": certs.broker_key},
            {"tls_pfx_file": certs.guest_pfx, "tls_pfx_password": certs.password},
        ):
            async with broker_at(host, certs, **options) as broker:
                assert broker.connected
                assert host.session.peer_certificate is not None


@pytest.mark.parametrize(
    "options",
    [
        {"host_url": "http://localhost"},
        {"host_url": "localhost:8443"},
        {"broker_id": ""},
        {"broker_id": "bröker"},
        {"broker_id": "x" * 300},
        {"connect_timeout": 0},
        {"ping_interval": -1},
        {"timeout": 0},
        {"total_timeout": 0},
        {"reconnect_max_delay": 0},
    ],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(VerserUsageError):
        create_verser_broker(**{"host_url": "https://localhost", "broker_id": "b", **options})


async def test_connecting_twice_is_an_error(certs: Certificates) -> None:
    async with scripted(certs) as (_host, broker):
        with pytest.raises(VerserUsageError, match="already"):
            await broker.connect()


async def test_connecting_again_after_a_loss_and_after_a_close(certs: Certificates) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        host.session.abort("the test says so")
        with pytest.raises(DisconnectedTargetError):
            await broker.wait_for_route("never.test")
        assert not broker.connected
        changes: list[str] = []
        broker.on_route_change(lambda change: changes.append(f"{change.type} {change.target_id}"))
        host.routes = [*host.routes, type(host.routes[0])("guest-b", DOMAIN)]
        await broker.connect()
        assert changes == ["added guest-b"], "what was known before is not reported again"
        await broker.close()
        assert broker.get_routes() == []
        await broker.connect()
        call = asyncio.create_task(broker.get(URL))
        await answer(await host.accept("/verser/request"), 200, (), b"again")
        assert await (await call).read() == b"again"


async def test_closing_fails_what_is_under_way(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await host.accept("/verser/request")
        await broker.close("the test is over", timeout=0)
        await broker.close()
        with pytest.raises(DisconnectedTargetError, match="the test is over"):
            await call


async def test_closing_may_wait_for_what_is_under_way(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        closing = asyncio.create_task(broker.close(timeout=30))
        await host.session.ping()
        with pytest.raises(VerserUsageError, match="closed"):
            await broker.get(URL)
        await answer(stream, 200, (), b"in time")
        assert await (await call).read() == b"in time"
        await closing


async def test_a_host_that_says_goodbye_takes_no_new_requests(certs: Certificates) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        host.session.goaway()
        await host.session.ping()
        with pytest.raises(DisconnectedTargetError, match="closing"):
            await broker.get(URL)
        await answer(stream, 200, (), b"the old one goes on")
        assert await (await call).read() == b"the old one goes on"


async def test_a_host_that_falls_silent_is_noticed(certs: Certificates) -> None:
    async with scripted(certs, broker={"ping_interval": 0.02, "ping_timeout": 0.5}) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await host.accept("/verser/request")
        host.session.records_received = lambda records: None  # type: ignore[method-assign]
        with pytest.raises(DisconnectedTargetError, match="PING"):
            await call


def test_passwords_do_not_show() -> None:
    broker = create_verser_broker(
        host_url="https://localhost", broker_id="b", tls_key_password="geheim", registration_token="geheim"
    )
    assert "geheim" not in repr(broker) + repr(broker._options)

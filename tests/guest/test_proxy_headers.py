"""Proxy headers on their way into a scope: off by default, and believed of whom."""

from __future__ import annotations

import asyncio

import pytest

from tests.guest.guests import DOMAIN, ask, guest_at_scripted_host, no_lifespan, respond
from tests.support.certificates import Certificates
from verser2_guest_python import (
    VerserUsageError,
    create_verser_broker,
    create_verser_guest,
    create_verser_host,
)
from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.wire.vws import Accept, Open, VwsParser, encode

SAID = {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https", "x-forwarded-host": "www.example"}
FILLED = b"https 192.0.2.1 www.example"
PLAIN = b"http None a.local.test"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers, or accepts, with what it knows of the client."""
    if scope["type"] == "websocket":
        await receive()
        host = dict(scope["headers"])[b"host"].decode()
        seen = f"{scope['scheme']} {host}".encode()
        await send({"type": "websocket.accept", "headers": [(b"x-seen", seen)]})
        return
    await no_lifespan(scope)
    client = scope["client"]
    host = dict(scope["headers"])[b"host"].decode()
    await respond(send, f"{scope['scheme']} {client[0] if client else None} {host}".encode())


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({}, PLAIN),
        ({"forwarded_allow_brokers": ["broker-a"]}, PLAIN),
        ({"proxy_headers": True}, FILLED),
        ({"proxy_headers": True, "forwarded_allow_brokers": ["*"]}, FILLED),
    ],
)
async def test_only_when_asked_for(certs: Certificates, options: dict[str, object], answer: bytes) -> None:
    async with guest_at_scripted_host(certs, app, **options) as (host, _guest):
        assert (await ask(host, headers=SAID)).body == answer


@pytest.mark.parametrize(
    ("extensions", "allowed", "answer"),
    [
        (["stage"], "broker-a", FILLED),
        (["stage"], "broker-b", PLAIN),
        (["something-new"], "broker-a", PLAIN),
        ([], "broker-a", PLAIN),
    ],
)
async def test_a_list_needs_a_host_that_knows_its_brokers(
    certs: Certificates,
    extensions: list[str],
    allowed: str,
    answer: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """protocol.md §13: deployed Hosts do not check who a request says that it comes from."""
    options = {"proxy_headers": True, "forwarded_allow_brokers": [allowed]}
    async with guest_at_scripted_host(certs, app, host={"extensions": extensions}, **options) as (host, _):
        assert (await ask(host, headers=SAID)).body == answer
    warned = [record for record in caplog.records if "proxy headers" in record.getMessage()]
    assert len(warned) == ("stage" not in extensions)


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({}, "ws a.local.test"),
        ({"proxy_headers": True}, "wss www.example"),
        ({"proxy_headers": True, "forwarded_allow_brokers": ["broker-a"]}, "ws a.local.test"),
    ],
)
async def test_websockets(certs: Certificates, options: dict[str, object], accepted: str) -> None:
    """`open` does not say which Broker it comes from: with a list nobody is believed."""
    options = {**options, "min_waiting_websocket_streams": 1}
    async with guest_at_scripted_host(certs, app, host={"extensions": ["ws-headers"]}, **options) as (
        host,
        _,
    ):
        lease = await host.accept("/verser/guest/websocket-lease")
        await lease.write(encode(Open(DOMAIN, headers=SAID)))
        async with asyncio.timeout(10):
            (message,) = VwsParser().feed(await lease.read())
        assert message == Accept("", {"x-seen": accepted})


async def test_through_our_host(certs: Certificates) -> None:
    host = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)
    async with host:
        common = {"host_url": host.url, "tls_ca_file": certs.ca}
        guest = create_verser_guest(
            guest_id="guest-a",
            app=app,
            routed_domains=[DOMAIN],
            proxy_headers=True,
            forwarded_allow_brokers=["gateway"],
            **common,
        )
        async with (
            guest,
            create_verser_broker(broker_id="gateway", **common) as gateway,
            create_verser_broker(broker_id="stranger", **common) as stranger,
        ):
            for broker, answer in ((gateway, FILLED), (stranger, PLAIN)):
                response = await broker.get(f"http://{DOMAIN}/", headers=SAID)
                assert await response.read() == answer


async def test_direct_requests_are_the_callers_own(certs: Certificates) -> None:
    guest = create_verser_guest(
        host_url="https://localhost:1",
        guest_id="guest-a",
        app=app,
        routed_domains=[DOMAIN],
        proxy_headers=True,
        forwarded_allow_brokers=["tests"],
    )
    for source, answer in (("tests", FILLED), ("others", PLAIN)):
        metadata = {"sourceId": source, "headers": {"host": DOMAIN, **SAID}}
        assert (await guest.dispatch_routed_request(metadata)).body == answer
    await guest.close()


def test_a_list_is_a_list() -> None:
    with pytest.raises(VerserUsageError, match="forwarded_allow_brokers"):
        create_verser_guest(
            host_url="https://localhost:1",
            guest_id="guest-a",
            routed_domains=[DOMAIN],
            forwarded_allow_brokers="broker-a",
        )

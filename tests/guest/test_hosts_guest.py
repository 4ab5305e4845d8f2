"""A Guest with several Hosts: at one of them, or at each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.guest.guests import DOMAIN, GUEST_ID, Events, Gate, hello, lease_host
from tests.host.peers import running_host
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import (
    AuthorizationDeniedError,
    RevocationFailedError,
    VerserConnectionError,
    VerserGuest,
    VerserHost,
    VerserUsageError,
    create_verser_guest,
)
from verser2_guest_python.asgi.types import ASGIApp, Receive, Scope, Send
from verser2_guest_python.http2 import SessionOptions, Stream
from verser2_guest_python.wire.vws import Accept, Close, Open, VwsParser, encode

DENIED = {
    "status": "closed",
    "reason": "not you",
    "error": {"code": "authorization-denied", "message": "not you"},
}
OTHER_DOMAIN = "b.local.test"


@asynccontextmanager
async def guest_at(
    hosts: list[Any], certs: Certificates, app: ASGIApp = hello, *, connect: bool = True, **options: Any
) -> AsyncIterator[tuple[VerserGuest, Events]]:
    options.setdefault("routed_domains", [DOMAIN])
    guest = create_verser_guest(
        host_url=[host.url for host in hosts], guest_id=GUEST_ID, app=app, tls_ca_file=certs.ca, **options
    )
    events = Events(guest)
    try:
        if connect:
            await guest.connect()
        yield guest, events
    finally:
        await guest.close(timeout=5)


async def ask(host: VerserHost, certs: Certificates, path: str = "/x") -> bytes:
    """What a Broker of this Host gets."""
    async with broker_at(host, certs) as broker:
        await broker.wait_for_route(DOMAIN)
        return await (await broker.get(f"http://{DOMAIN}{path}")).read()


# --- One of them ----------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_lost_host_is_replaced_by_the_next(certs: Certificates) -> None:
    async with running_host(certs) as one, running_host(certs) as two:
        async with guest_at([one, two], certs) as (guest, events):
            assert guest.connected_hosts == (one.url,)
            assert not two.get_routes()
            await one.close(timeout=0)
            await events.wait("registered", 2)
            assert guest.connected_hosts == (two.url,)
            assert await ask(two, certs) == b"/x"
            (lost,) = events.find("disconnected")
            assert lost.fields["host"] == one.url
            assert events.find("reconnecting")[0].fields["host"] == two.url
        assert not guest.connected
        assert guest.connected_hosts == ()


async def test_the_first_that_answers_is_used(certs: Certificates) -> None:
    async with running_host(certs) as gone:
        url = gone.url
    async with running_host(certs) as host:
        gone_host = type("Gone", (), {"url": url})
        async with guest_at([gone_host, host], certs) as (guest, _):
            assert guest.connected_hosts == (host.url,)


async def test_a_host_that_is_about_to_close_hands_over_to_the_next(certs: Certificates) -> None:
    """Its GOAWAY comes while requests still run there: they are finished, the next ones go elsewhere."""
    app = Gate()
    async with (
        running_host(certs) as one,
        running_host(certs) as two,
        guest_at([one, two], certs, app) as (guest, events),
        broker_at(one, certs) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        request = asyncio.create_task(broker.get(f"http://{DOMAIN}/old"))
        await app.until(1)
        closing = asyncio.create_task(one.close(timeout=30))
        await events.wait("registered", 2)
        assert guest.connected_hosts == (two.url,)
        app.open()
        assert await (await request).read() == b"/old"
        await closing
        assert await ask(two, certs) == b"/x"
        assert not events.find("disconnected")


async def test_a_host_that_refuses_is_passed_over(certs: Certificates) -> None:
    async with lease_host(certs) as stern, running_host(certs) as host:
        stern.refuse_registration(403, DENIED)
        async with guest_at([stern, host], certs) as (guest, _):
            assert guest.connected_hosts == (host.url,)


async def test_when_all_refuse_it_is_final_when_none_answers_it_is_not(certs: Certificates) -> None:
    async with lease_host(certs) as one, lease_host(certs) as two:
        one.refuse_registration(403, DENIED)
        two.refuse_registration(403, DENIED)
        async with guest_at([one, two], certs, connect=False) as (guest, _):
            with pytest.raises(AuthorizationDeniedError, match="not you"):
                await guest.serve_forever()
        url = two.url
        await two.session.close()
        two.listener.close()  # type: ignore[union-attr]
        gone = type("Gone", (), {"url": url})
        async with guest_at([one, gone], certs, connect=False) as (guest, _):
            with pytest.raises(VerserConnectionError, match="None of the 2 Hosts"):
                await guest.connect()


# --- Each of them ---------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_brokers_of_each_host_reach_it(certs: Certificates) -> None:
    async with running_host(certs) as one, running_host(certs) as two:
        async with guest_at([one, two], certs, all_hosts=True) as (guest, events):
            assert set(guest.connected_hosts) == {one.url, two.url}
            assert await ask(one, certs, "/one") == b"/one"
            assert await ask(two, certs, "/two") == b"/two"
            port = two.port
            await two.close(timeout=0)
            await events.wait("disconnected", host=two.url)
            assert guest.connected
            assert guest.connected_hosts == (one.url,)
            assert await ask(one, certs) == b"/x"
            async with running_host(certs, port=port) as again:
                await events.wait("registered", 2, host=again.url)
                assert await ask(again, certs) == b"/x"
        assert [event.fields["host"] for event in events.find("registered")].count(one.url) == 1


async def test_one_of_them_is_enough_to_start(certs: Certificates) -> None:
    async with running_host(certs) as gone:
        url, port = gone.url, gone.port
    gone_host = type("Gone", (), {"url": url})
    async with (
        running_host(certs) as host,
        guest_at([gone_host, host], certs, all_hosts=True) as (guest, events),
    ):
        assert guest.connected_hosts == (host.url,)
        await events.wait("reconnecting", host=url)
        async with running_host(certs, port=port) as back:
            await events.wait("registered", host=url)
            assert await ask(back, certs) == b"/x"


async def test_when_no_host_is_there(certs: Certificates) -> None:
    async with running_host(certs) as one, running_host(certs) as two:
        urls = [one.url, two.url]
    hosts = [type("Gone", (), {"url": url}) for url in urls]
    async with guest_at(hosts, certs, all_hosts=True, connect=False) as (guest, _):
        with pytest.raises(VerserConnectionError, match="None of the 2 Hosts") as caught:
            await guest.connect()
        assert all(url.removeprefix("https://") in caught.value.message for url in urls)


async def test_the_refusal_of_one_host_ends_nothing_that_of_all_does(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with lease_host(certs) as stern, running_host(certs) as host:
        stern.refuse_registration(403, DENIED)
        async with guest_at([stern, host], certs, all_hosts=True, connect=False) as (guest, events):
            serving = asyncio.create_task(guest.serve_forever())
            await events.wait("registered", host=host.url)
            await until(lambda: len(stern.registrations) >= 3)
            assert not serving.done()
            stern.refusal = None
            await events.wait("registered", host=stern.url)
            assert len(guest.connected_hosts) == 2
            await guest.close(timeout=5)
            await serving
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) <= 1
        stern.refuse_registration(403, DENIED)
        async with (
            lease_host(certs) as other,
            guest_at([stern, other], certs, all_hosts=True, connect=False) as (guest, _),
        ):
            other.refuse_registration(403, DENIED)
            with pytest.raises(AuthorizationDeniedError):
                await guest.serve_forever()
            assert not guest.connected


async def test_the_limit_holds_over_all_hosts(certs: Certificates) -> None:
    app = Gate()
    async with running_host(certs) as one, running_host(certs) as two:
        options = {"limit_concurrency": 4, "min_waiting_streams": 2}
        async with (
            guest_at([one, two], certs, app, all_hosts=True, **options),
            broker_at(one, certs) as first,
            broker_at(two, certs) as second,
        ):
            requests = []
            for broker in (first, second):
                await broker.wait_for_route(DOMAIN)
                requests += [
                    asyncio.create_task(broker.get(f"http://{DOMAIN}/{n}", lease_timeout=30))
                    for n in range(8)
                ]
            await app.until(4)
            app.open()
            for response in await asyncio.gather(*requests):
                assert (await response.read()).startswith(b"/")
            assert app.most == 4
            assert app.answered == 16


WEBSOCKET_LEASE = "/verser/guest/websocket-lease"


async def websocket_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and stays until the other end has gone."""
    if scope["type"] != "websocket":
        raise NotImplementedError
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def open_websocket(host: Any) -> Stream:
    stream = await host.accept(WEBSOCKET_LEASE)
    await stream.write(encode(Open(DOMAIN)))
    assert VwsParser().feed(await stream.read()) == [Accept()]
    return stream


async def test_the_limit_of_websockets_holds_over_all_hosts(certs: Certificates) -> None:
    options = {"max_websocket_streams": 2, "min_waiting_websocket_streams": 1, "all_hosts": True}
    async with (
        lease_host(certs) as one,
        lease_host(certs) as two,
        guest_at([one, two], certs, websocket_app, **options),
    ):
        first = await open_websocket(one)
        second = await open_websocket(two)
        for host in (one, two):
            for _ in range(2):
                await host.session.ping()
        waiting = [host._queue(WEBSOCKET_LEASE).qsize() for host in (one, two)]
        assert waiting == [1, 0]  # one was opened while there was room, and none is now
        for stream in (first, second):
            await stream.write(encode(Close(1000, "")), end=True)
        third = await open_websocket(two)
        await third.write(encode(Close(1000, "")), end=True)


async def test_websockets_use_up_stream_ids_too(certs: Certificates) -> None:
    options = SessionOptions(last_stream_id=100)
    async with (
        lease_host(certs) as host,
        guest_at([host], certs, websocket_app, session_options=options) as (_, events),
    ):
        while not events.find("registered", guest_id=f"{GUEST_ID}~2"):
            stream = await open_websocket(host)
            await stream.write(encode(Close(1000, "")), end=True)
        assert events.find("reconnecting")[0].fields["reason"] == "the session's stream ids run out"


async def test_routes_are_revoked_everywhere(certs: Certificates) -> None:
    async with running_host(certs) as one, running_host(certs) as two:
        domains = [DOMAIN, OTHER_DOMAIN]
        async with guest_at([one, two], certs, all_hosts=True, routed_domains=domains) as (guest, events):
            await guest.revoke_routes([OTHER_DOMAIN])
            for host in (one, two):
                assert [route.domain for route in host.get_routes()] == [DOMAIN]
            assert guest.routed_domains == (DOMAIN,)
            assert len(events.find("route-revoked", domain=OTHER_DOMAIN)) == 1
            with pytest.raises(RevocationFailedError):
                await guest.revoke_routes(["c.local.test"])


async def test_a_renewal_renews_all(certs: Certificates) -> None:
    async with (
        running_host(certs) as one,
        running_host(certs) as two,
        guest_at([one, two], certs, all_hosts=True) as (guest, events),
    ):
        guest.renew()
        for host in (one, two):
            await events.wait("registered", host=host.url, guest_id=f"{GUEST_ID}~2")
            await until(lambda host=host: len(host.get_routes()) == 1)
            assert await ask(host, certs) == b"/x"


async def test_a_host_twice_is_one_host(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        guest_at([host, host], certs, all_hosts=True) as (guest, events),
    ):
        assert guest.connected_hosts == (host.url,)
        assert len(events.find("registered")) == 1


def test_no_host_at_all() -> None:
    with pytest.raises(VerserUsageError, match="no Host URL"):
        create_verser_guest(host_url=[], guest_id=GUEST_ID, routed_domains=[DOMAIN])

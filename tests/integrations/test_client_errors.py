"""What goes wrong is told in the client's own exceptions, with the VerserError as their cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from tests.integrations.apps import BLOCK, Diary, make_app
from tests.integrations.clients import URL, both_libraries, client_of
from tests.integrations.stacks import broker_behind, guest_at, host_at
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import (
    AuthorizationDeniedError,
    DisconnectedTargetError,
    LocalHandlerFailureError,
    MissingGuestError,
    StreamFailureError,
    VerserError,
    VerserProtocolError,
    VerserUsageError,
    create_verser_broker,
    errors,
)
from verser2_guest_python.host.authorization import Authorization
from verser2_guest_python.integrations.client_errors import ClientTimeout, client_error
from verser2_guest_python.integrations.client_library import ClientLibrary, library_of
from verser2_guest_python.integrations.httpx import SyncVerserTransport, VerserTransport
from verser2_guest_python.integrations.sync import SyncVerserBroker


@both_libraries
async def test_nobody_serves_the_domain(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        with pytest.raises(library.ConnectError, match="No Guest serves") as raised:
            await client.get("http://nobody.test/")
    assert isinstance(raised.value.__cause__, MissingGuestError)
    assert str(raised.value.request.url) == "http://nobody.test/"


@both_libraries
async def test_a_broker_that_is_not_connected(certs: Certificates, library: Any) -> None:
    broker = create_verser_broker(host_url="https://127.0.0.1:1")
    async with library.AsyncClient(transport=VerserTransport(broker)) as client:
        with pytest.raises(library.ConnectError, match=r"connect\(\)") as raised:
            await client.get(f"{URL}/")
    assert isinstance(raised.value.__cause__, VerserUsageError)


@both_libraries
async def test_the_host_goes_away_on_the_way(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with (
        host_at(certs) as host,
        guest_at(host, certs, make_app(diary)),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL, timeout=None) as client,
    ):
        waiting = asyncio.create_task(client.get("/wait"))
        await until(lambda: diary.events == ["waiting"])
        response = await client.send(client.build_request("GET", "/big?blocks=100000"), stream=True)
        await host.close(timeout=0.0)
        # Either is true: the streams were reset, and then the session was over.
        with pytest.raises((library.ReadError, library.RemoteProtocolError)) as raised:
            await waiting
        assert isinstance(raised.value.__cause__, DisconnectedTargetError | StreamFailureError)
        with pytest.raises((library.ReadError, library.RemoteProtocolError)):
            await response.aread()
        await response.aclose()


@both_libraries
async def test_the_broker_is_closed_on_the_way(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with broker_behind(make_app(diary), certs) as broker:
        client = library.AsyncClient(transport=VerserTransport(broker), base_url=URL, timeout=None)
        waiting = asyncio.create_task(client.get("/wait"))
        await until(lambda: diary.events == ["waiting"])
        response = await client.send(client.build_request("GET", "/big?blocks=100000"), stream=True)
        await broker.close(timeout=0)
        with pytest.raises(library.ReadError) as raised:
            await waiting
        assert isinstance(raised.value.__cause__, DisconnectedTargetError)
        with pytest.raises(library.ReadError):
            await response.aread()
        await client.aclose()


@both_libraries
async def test_an_answer_that_is_cut_off(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        with pytest.raises(library.RemoteProtocolError) as raised:
            await client.get("/cut")
    assert isinstance(raised.value.__cause__, StreamFailureError)


@both_libraries
async def test_an_app_that_fails_before_it_answers(certs: Certificates, library: Any) -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError("the app failed")

    async with (
        broker_behind(app, certs) as broker,
        library.AsyncClient(transport=VerserTransport(broker)) as client,
    ):
        with pytest.raises(library.RemoteProtocolError) as raised:
            await client.get(f"{URL}/")
    assert isinstance(raised.value.__cause__, LocalHandlerFailureError)


@both_libraries
async def test_the_host_refuses(certs: Certificates, library: Any) -> None:
    class ReadOnly(Authorization):
        def refuse_request(self, broker_id: str, target_id: str, domain: str, method: str) -> str | None:
            return None if method == "GET" else "only GET is allowed"

    async with (
        host_at(certs, authorization=ReadOnly()) as host,
        guest_at(host, certs, make_app()),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL) as client,
    ):
        assert (await client.get("/")).status_code == 200
        with pytest.raises(library.ProxyError, match="only GET") as raised:
            await client.post("/echo", content=b"no")
    assert isinstance(raised.value.__cause__, AuthorizationDeniedError)


@both_libraries
async def test_requests_that_cannot_be_said(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        with pytest.raises(library.LocalProtocolError, match="x-bad") as raised:
            await client.get("/", headers={"x-bad": "line\r\nbreak"})
        assert isinstance(raised.value.__cause__, VerserProtocolError)
        with pytest.raises(library.LocalProtocolError, match="head of the request"):
            await client.get("/", headers={"x-long": "x" * 100_000})
        with pytest.raises(library.LocalProtocolError) as raised:
            await client.request("NOT A METHOD", "/")
        assert isinstance(raised.value.__cause__, VerserUsageError)
        assert (await client.get("/")).status_code == 200


@both_libraries
async def test_a_body_of_another_length_than_declared(certs: Certificates, library: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"four"

    diary = Diary()
    async with client_of(library, certs, diary) as client:
        for length in ("3", "5"):
            with pytest.raises(library.LocalProtocolError, match="declared"):
                await client.post("/count", content=pieces(), headers={"content-length": length})
        await until(lambda: diary.active == 0)


@both_libraries
async def test_other_schemes(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        with pytest.raises(library.UnsupportedProtocol, match="base_url"):
            await client._transport.handle_async_request(library.Request("GET", "/no/domain"))
        with pytest.raises(library.UnsupportedProtocol, match="ftp"):
            await client.get("ftp://a.local.test/")
        with pytest.raises(library.UnsupportedProtocol, match="WebSocket with the Broker"):
            await client.get("ws://a.local.test/")
        with pytest.raises(library.UnsupportedProtocol, match="WebSocket with the Broker"):
            await client.get("/", headers={"upgrade": "websocket", "connection": "upgrade"})


@both_libraries
async def test_a_body_that_fails_is_the_callers_own_error(certs: Certificates, library: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield BLOCK
        raise LookupError("no second piece")

    diary = Diary()
    async with client_of(library, certs, diary) as client:
        with pytest.raises(LookupError, match="no second piece"):
            await client.post("/echo", content=pieces())
        await until(lambda: diary.active == 0)
        assert (await client.get("/")).status_code == 200


@both_libraries
async def test_a_body_that_runs_into_a_timeout_of_its_own(certs: Certificates, library: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield BLOCK
        raise TimeoutError("the source is too slow")

    async with client_of(library, certs) as client:
        with pytest.raises(TimeoutError, match="the source is too slow"):
            await client.post("/count", content=pieces())


def all_errors(base: type[VerserError] = VerserError) -> list[type[VerserError]]:
    return [base, *(error for child in base.__subclasses__() for error in all_errors(child))]


@pytest.mark.parametrize("module", [httpx2, httpx], ids=["httpx2", "httpx"])
@pytest.mark.parametrize(
    "error_class", [error for error in all_errors() if error.__module__ == errors.__name__]
)
def test_every_error_has_a_name_in_the_library(module: Any, error_class: type[VerserError]) -> None:
    raised = client_error(ClientLibrary(module), error_class("something failed"))
    assert isinstance(raised, module.TransportError)
    assert str(raised) == "something failed"


@pytest.mark.parametrize("phase", ["connect", "pool", "write", "read"])
def test_every_timeout_has_a_name_in_the_library(phase: str) -> None:
    raised = client_error(ClientLibrary(httpx2), ClientTimeout("late", phase))
    assert type(raised).__name__ == f"{phase.capitalize()}Timeout"


def test_what_no_app_has_seen_may_be_sent_again() -> None:
    library = ClientLibrary(httpx2)
    for context in ({"brokerId": "b"}, {"requestId": "r", "stage": "queued"}):
        error = DisconnectedTargetError("gone", context=context)
        assert isinstance(client_error(library, error), httpx2.ConnectError)
    for context in ({}, {"brokerId": "b", "requestId": "r"}, {"requestId": "r", "stage": "sent"}):
        error = DisconnectedTargetError("gone", context=context)
        assert isinstance(client_error(library, error), httpx2.ReadError)
    late = errors.VerserConnectionError("late", reason=errors.ConnectFailure.TIMEOUT)
    assert isinstance(client_error(library, late), httpx2.ConnectTimeout)


def test_a_request_of_nobody_is_refused() -> None:
    with pytest.raises(TypeError, match="httpx2 or httpx"):
        library_of(object())

    class Special(httpx2.Request):
        """Whose module is not the library's."""

    assert library_of(Special("GET", URL)).module is httpx2


def test_transports_do_not_take_each_others_brokers() -> None:
    broker = create_verser_broker(host_url="https://127.0.0.1:1")
    with pytest.raises(VerserUsageError, match="SyncVerserTransport"):
        VerserTransport(SyncVerserBroker(broker))  # type: ignore[arg-type]
    with pytest.raises(VerserUsageError, match="VerserTransport"):
        SyncVerserTransport(broker)  # type: ignore[arg-type]

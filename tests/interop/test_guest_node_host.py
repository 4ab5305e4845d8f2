"""The Guest behind the Node Host in its strict mode: requests of every kind, load, faults, leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.bench_app import app as bench_app
from tests.guest.guests import (
    DOMAIN,
    GUEST_ID,
    Events,
    Gate,
    Witness,
    hello,
    make_guest,
    other_streams,
    session_of,
)
from tests.host.peers import Broker, failed
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import NodeHost, node_host, node_load, node_request
from tests.support.waiting import until
from verser2_guest_python import VerserGuest
from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.guest import GuestEvent
from verser2_guest_python.http2 import StreamReset

pytestmark = pytest.mark.interop

MIB = 1 << 20
URL = f"http://{DOMAIN}"


@asynccontextmanager
async def served(
    certs: Certificates, app: ASGIApp = bench_app, *, host: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[NodeHost, VerserGuest]]:
    """A strict Node Host, and a Guest that is registered there; no rule may be broken to the end."""
    async with node_host(certs, strict=True, **(host or {})) as node:
        guest = make_guest(node, certs, app, **options)
        try:
            await guest.connect()
            yield node, guest
        finally:
            await guest.close(timeout=2.0)
        assert node.violations == []


async def host_stats(host: NodeHost, guest_id: str = GUEST_ID) -> dict[str, Any]:
    stats = await host.ask("stats")
    found: dict[str, Any] = stats["guests"].get(guest_id, {})
    return found


async def idle_at_host(host: NodeHost, count: int, guest_id: str = GUEST_ID) -> None:
    """Until the Host has so many idle leases, and no active ones."""
    async with asyncio.timeout(30):
        while True:
            stats = await host_stats(host, guest_id)
            if stats and stats["idle"] >= count and stats["active"] == 0:
                return
            await asyncio.sleep(0.01)


# --- Load -----------------------------------------------------------------------------------------

LOADS = [
    {"path": "/plain", "concurrency": 1},
    {"path": "/plain", "concurrency": 16},
    {"path": "/big?4", "concurrency": 16},
    {"path": "/plain", "concurrency": 64},
    {"path": "/echo", "concurrency": 16, "body_bytes": 1_024},
    {"path": "/sink", "concurrency": 16, "body_bytes": 4 * MIB},
    {"path": "/echo", "concurrency": 16, "body_bytes": 200_000, "body_chunks": 7},
]


@pytest.mark.parametrize(
    ("window", "order"),
    [
        (None, 1),
        (65_535, -1),
        pytest.param(None, -1, marks=pytest.mark.slow),
        pytest.param(65_535, 1, marks=pytest.mark.slow),
    ],
)
async def test_load_of_every_kind(certs: Certificates, window: int | None, order: int) -> None:
    """No violation, no error, no stall, and nothing is left: on one session, in any order."""
    loads = LOADS[::order]
    async with served(certs, host={"initial_window": window, "quiet": True}) as (host, guest):
        session = session_of(guest)
        for load in loads:
            result = await node_load(host.url, certs, seconds=0.3, **load)  # type: ignore[arg-type]
            assert result["errors"] == {}, load
            assert result["unfinished"] == 0, load
            assert result["requests"] > 0, load
        assert session_of(guest) is session
        await until(lambda: guest._calls.running == 0)
        await idle_at_host(host, 8)
        leases = guest._keepers.sessions[0].leases
        await until(lambda: session.open_streams == len(leases.idle) + other_streams(guest))
        assert session.unread_bytes == 0


# --- One request of each kind ---------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_page(certs: Certificates) -> None:
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        answer = await broker.fetch("GET", "/plain")
        assert (answer.status, answer.body) == (200, b"Hello, World!")
        assert answer.get("content-length") == "13"
        assert answer.get("content-type") == "text/plain"


async def test_what_the_app_reads(certs: Certificates) -> None:
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        headers = {"host": "www.example.test:8080", "x-a": "1", "te": "trailers", "cookie": "a=1; b=2"}
        answer = await broker.fetch("GET", "/headers", headers)
        assert answer.json == {
            "host": DOMAIN,
            "x-forwarded-host": "www.example.test:8080",
            "x-a": "1",
            "cookie": "a=1; b=2",
        }


@pytest.mark.parametrize("path", ["/plain", "/big?1", "/nowhere"])
async def test_head(certs: Certificates, path: str) -> None:
    """protocol.md §13: with a `content-length` it would fail."""
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        answer = await broker.fetch("HEAD", path)
        assert (answer.status, answer.body) == (404 if path == "/nowhere" else 200, b"")
        assert answer.get("content-length") is None


async def test_repeated_headers(certs: Certificates) -> None:
    async with (
        served(certs, host={"keep_header_arrays": True}) as (host, _guest),
        Broker(host, certs) as broker,
    ):
        answer = await broker.fetch("GET", "/cookies")
        assert answer.all("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
    async with served(certs) as (host, _guest), broker_at(host, certs) as client:
        await client.wait_for_route(DOMAIN)
        response = await client.get(f"{URL}/cookies")
        assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]


async def test_an_app_that_fails(certs: Certificates) -> None:
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        answer = await broker.fetch("GET", "/boom")
        error = answer.json["error"]
        assert (answer.status, error["code"]) == (502, "local-handler-failure")
        assert "boom" not in error["message"].replace("/boom", "")
        assert error["context"]["guestId"] == GUEST_ID
        assert (await broker.fetch("GET", "/plain")).status == 200


@pytest.mark.parametrize("path", ["/cut", "/cut?unsized"])
async def test_an_answer_that_is_cut_off_never_ends_cleanly(certs: Certificates, path: str) -> None:
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        stream = broker.request("GET", path)
        with pytest.raises(StreamReset):
            await broker.answer(stream)
        event = await host.event("request", path=path)
        assert event["error"] == "stream-failure"
        assert (await broker.fetch("GET", "/plain")).status == 200


async def test_server_sent_events_arrive_one_by_one(certs: Certificates) -> None:
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        stream = broker.request("GET", "/sse?3")
        await stream.wait_fields()
        first = await stream.read()
        assert first == b"data: 1\n\n"
        rest = b""
        while piece := await stream.read():
            rest += piece
        assert first + rest == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"


async def test_the_node_broker(certs: Certificates) -> None:
    async with served(certs) as (host, _guest):
        answer = await node_request(host.url, certs, f"{URL}/echo", data="hello")
        assert (answer.status, answer.body) == (200, b"hello")


# --- Cancelled ------------------------------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("started", [False, True])
async def test_a_cancelled_request(certs: Certificates, started: bool) -> None:
    app = Witness(start=started)
    async with served(certs, app) as (host, guest), Broker(host, certs) as broker:
        stream = broker.request("GET", "/")
        await app.begun.wait()
        if started:
            await stream.wait_fields()
        stream.reset()
        await app.saw_disconnect()
        assert isinstance(app.send_error, OSError)
        await host.event("request", status="cancelled")
        await until(lambda: guest._calls.running == 0)


async def test_a_cancelled_upload(certs: Certificates) -> None:
    app = Witness()
    async with served(certs, app) as (host, _guest), Broker(host, certs) as broker:
        stream = broker.request("POST", "/", {"content-length": "100000"}, end=False)
        await stream.write(b"x" * 50_000)
        await until(lambda: len(app.body) == 50_000)
        stream.reset()
        await app.saw_disconnect()
        assert not app.complete


async def test_a_broker_that_vanishes(certs: Certificates) -> None:
    app = Witness(start=True)
    async with served(certs, app) as (host, _guest):
        async with Broker(host, certs) as broker:
            stream = broker.request("GET", "/")
            await stream.wait_fields()
            broker.session.abort("the test says so")
        await app.saw_disconnect()


# --- Faults ---------------------------------------------------------------------------------------


async def test_goaway_hands_over_and_finishes_what_runs(certs: Certificates) -> None:
    """The Host says it to Brokers as well, so what comes next comes from a new one."""
    app = Gate()
    async with served(certs, app) as (host, guest):
        events = Events(guest)
        async with Broker(host, certs) as broker:
            streams = [broker.request("GET", f"/{number}") for number in range(12)]
            await app.until(12)
            await host.command("goaway")
            await events.wait("registered", guest_id=f"{GUEST_ID}~2")
            app.open()
            for number, stream in enumerate(streams):
                assert (await broker.answer(stream)).body == f"/{number}".encode()
        async with Broker(host, certs, "broker-b") as broker:
            answer = await broker.fetch("GET", "/new", target=f"{GUEST_ID}~2")
            assert answer.body == b"/new"
        await host.event("disconnected", peer=GUEST_ID)
        assert guest.connected
        assert not events.find("disconnected")


async def test_a_dropped_connection_is_dialled_again(certs: Certificates) -> None:
    app = Witness()
    async with served(certs, app) as (host, guest), Broker(host, certs) as broker:
        events = Events(guest)
        stream = broker.request("GET", "/")
        await app.begun.wait()
        await host.command("drop", peer=GUEST_ID)
        await app.saw_disconnect()
        answer = await broker.answer(stream)
        assert answer.json["error"]["code"] == "disconnected-target"
        await events.wait("registered")
        await idle_at_host(host, 8)


async def test_a_mute_host_is_found_out_by_its_silence(certs: Certificates) -> None:
    options = {"ping_interval": 0.1, "ping_timeout": 0.3}
    async with served(certs, hello, **options) as (host, guest):
        events = Events(guest)
        await host.command("mute", peer=GUEST_ID, ms=1_500)
        lost = await events.wait("disconnected")
        assert "PING" in str(lost.fields["reason"])
        await events.wait("registered")
        async with Broker(host, certs) as broker:
            assert (await broker.fetch("GET", "/after")).body == b"/after"


@pytest.mark.parametrize("rounds", [1, 10])
async def test_leases_that_are_reset_are_opened_anew(certs: Certificates, rounds: int) -> None:
    async with served(certs, hello) as (host, guest), Broker(host, certs) as broker:
        session = session_of(guest)
        for _ in range(rounds):
            await idle_at_host(host, 8)
            await host.command("reset-leases", peer=GUEST_ID)
            await host.event("leases-reset")
            assert (await broker.fetch("GET", "/after")).body == b"/after"
        await idle_at_host(host, 8)
        assert session_of(guest) is session


async def test_active_leases_that_are_reset(certs: Certificates) -> None:
    app = Witness(start=True)
    async with served(certs, app) as (host, _guest), Broker(host, certs) as broker:
        stream = broker.request("GET", "/")
        await stream.wait_fields()
        await host.command("reset-leases", peer=GUEST_ID)
        await app.saw_disconnect()
        await failed(stream)


@pytest.mark.parametrize("fault", ["reset-leases", "drop"])
async def test_load_goes_on_after_faults(certs: Certificates, fault: str) -> None:
    """Requests on the way may fail; none hangs, and afterwards all is as before."""
    async with served(certs, host={"quiet": True}) as (host, guest):
        events = Events(guest)
        completed = 0

        def count(event: GuestEvent) -> None:
            nonlocal completed
            completed += event.type == "request-completed"

        guest.on_lifecycle(count)
        load = asyncio.create_task(node_load(host.url, certs, seconds=1, concurrency=16))
        faults = 0
        while not load.done():
            seen = completed
            await until(lambda seen=seen: completed >= seen + 10 or load.done())  # type: ignore[misc]
            if faults < 3 and not load.done():
                faults += 1
                await host.command(fault, peer=GUEST_ID)
                if fault == "drop":
                    await events.wait("registered", count=faults)
        result = await load
        assert faults > 0
        assert result["unfinished"] == 0
        result = await node_load(host.url, certs, seconds=0.3, concurrency=16)
        assert (result["errors"], result["unfinished"]) == ({}, 0)
        await until(lambda: guest._calls.running == 0)


async def test_a_client_certificate(certs: Certificates) -> None:
    options = {"tls_cert_file": certs.guest, "tls_key_file": certs.guest_key}
    async with served(certs, hello, host={"client_ca": certs.ca}, **options) as (host, _guest):
        assert (await host_stats(host))["idle"] >= 0
    pfx = {"tls_pfx_file": certs.guest_pfx, "tls_pfx_password": certs.password}
    async with served(certs, hello, host={"client_ca": certs.ca}, **pfx) as (_host, guest):
        assert guest.connected


@pytest.mark.parametrize("streams", [4, 12, 100])
async def test_a_host_that_allows_few_streams(certs: Certificates, streams: int) -> None:
    host_options = {"max_concurrent_streams": streams, "quiet": True}
    async with served(certs, host=host_options) as (host, _guest):
        result = await node_load(host.url, certs, seconds=0.3, concurrency=32)
        assert (result["errors"], result["unfinished"]) == ({}, 0)
        assert result["requests"] >= 32


# --- Leaving --------------------------------------------------------------------------------------


async def test_a_guest_that_leaves_answers_what_is_on_its_way(certs: Certificates) -> None:
    app = Gate()
    limits = {"min_waiting_streams": 2, "limit_concurrency": 4}
    async with served(certs, app, **limits) as (host, guest), Broker(host, certs) as broker:
        streams = [broker.request("GET", f"/{number}") for number in range(30)]
        await app.until(4)
        closing = asyncio.create_task(guest.close(timeout=20))
        await host.event("route-revoked", peer=GUEST_ID)
        app.open()
        for number, stream in enumerate(streams):
            assert (await broker.answer(stream)).body == f"/{number}".encode()
        await closing
        await host.event("disconnected", peer=GUEST_ID)


async def test_two_guests_restarted_in_turn_lose_nothing(certs: Certificates) -> None:
    """Behind this project's Broker, which takes the Guest that is there."""
    async with node_host(certs, strict=True, quiet=True) as host, broker_at(host, certs) as broker:
        guests = [make_guest(host, certs, hello, guest_id=name) for name in ("guest-a", "guest-b")]
        for guest in guests:
            await guest.connect()
        await broker.wait_for_route(DOMAIN)
        stop = asyncio.Event()
        answered = 0

        async def client(number: int) -> None:
            nonlocal answered
            count = 0
            while not stop.is_set():
                count += 1
                response = await broker.post(f"{URL}/{number}/{count}", body=b"x")
                assert (response.status, await response.read()) == (200, f"/{number}/{count}".encode())
                answered += 1

        clients = [asyncio.create_task(client(number)) for number in range(8)]
        try:
            for turn in range(6):
                position = turn % 2
                seen = answered
                await until(lambda seen=seen: answered >= seen + 50 or any(one.done() for one in clients))
                await guests[position].close()
                guests[position] = make_guest(host, certs, hello, guest_id=("guest-a", "guest-b")[position])
                await guests[position].connect()
        finally:
            stop.set()
            await asyncio.gather(*clients, return_exceptions=True)
            for guest in guests:
                await guest.close(timeout=2.0)
        for one in clients:
            one.result()
        assert host.violations == []

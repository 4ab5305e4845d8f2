"""This Host between the Node Guest and the Node Broker: every path of their app, alone and under load."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.host.peers import DOMAIN, Broker, Watcher, failed, running_host
from tests.host.test_streaming import active
from tests.support.certificates import Certificates
from tests.support.node_peers import NodePeer, PeerFailed, node_guest, node_load, node_request, node_routes
from verser2_guest_python.host import RequestRecord, VerserHost
from verser2_guest_python.http2 import ErrorCode, SessionOptions

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"
MIB = 1 << 20


@asynccontextmanager
async def served(
    certs: Certificates, *, guest: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[VerserHost, NodePeer]]:
    """A Host, and a Node Guest for a.local.test; nothing may break inside the Host meanwhile."""
    async with running_host(certs, **options) as host:
        watcher = Watcher(host)
        async with node_guest(host.url, certs, **(guest or {})) as node:
            yield host, node
        assert watcher.find("internal-error") is None


@pytest.mark.both_loops
async def test_plain_requests(certs: Certificates) -> None:
    async with served(certs) as (host, _guest):
        answer = await node_request(host.url, certs, f"{URL}/plain")
        assert (answer.status, answer.body) == (200, b"Hello, World!")
        assert answer.headers is not None
        assert answer.headers["content-length"] == "13"
        assert "date" in answer.headers
        answer = await node_request(host.url, certs, f"{URL}/echo", data="hé")
        assert (answer.status, answer.body) == (200, "hé".encode())
        answer = await node_request(host.url, certs, f"{URL}/nothing")
        assert (answer.status, answer.body) == (404, b"Not Found")


async def test_how_long_it_waited_is_a_header_like_any_other(certs: Certificates) -> None:
    for options in ({}, {"server_timing": True}):
        async with served(certs, **options) as (host, _guest):
            answer = await node_request(host.url, certs, f"{URL}/plain")
            assert (answer.status, answer.body) == (200, b"Hello, World!")
            assert answer.headers is not None
            said = answer.headers.get("server-timing", "")
            assert re.fullmatch(r"verser-lease;dur=\d+\.\d{3}" if options else "", said)


async def test_headers_reach_the_app(certs: Certificates) -> None:
    async with served(certs) as (host, _guest):
        answer = await node_request(host.url, certs, f"http://{DOMAIN}:8080/headers")
        headers = json.loads(answer.body)
        assert headers["host"] == DOMAIN
        assert headers["x-forwarded-host"] == f"{DOMAIN}:8080"


async def test_cookies_stay_apart(certs: Certificates) -> None:
    async with served(certs) as (host, _guest):
        answer = await node_request(host.url, certs, f"{URL}/cookies")
        assert answer.headers is not None
        assert answer.headers["set-cookie"] == ["a=1; Path=/", "b=2; Path=/"]


async def test_an_app_that_fails(certs: Certificates) -> None:
    async with served(certs) as (host, _guest):
        answer = await node_request(host.url, certs, f"{URL}/boom")
        assert (answer.error_code, answer.error_message) == ("local-handler-failure", "boom")


@pytest.mark.parametrize("query", ["", "?unsized"])
async def test_an_answer_that_is_cut_never_looks_whole(certs: Certificates, query: str) -> None:
    async with served(certs) as (host, _guest):
        with pytest.raises(PeerFailed, match="stream-failure"):
            await node_request(host.url, certs, f"{URL}/cut{query}")
        # … and the Guest goes on.
        assert (await node_request(host.url, certs, f"{URL}/plain")).status == 200


async def test_events_come_one_by_one(certs: Certificates) -> None:
    async with served(certs) as (host, _guest), Broker(host, certs) as broker:
        stream = broker.request(path="/sse?5")
        assert (await stream.wait_fields())[0] == (b":status", b"200")
        pieces = []
        while piece := await stream.read():
            pieces.append(piece)
        assert b"".join(pieces) == b"".join(b"data: %d\n\n" % number for number in range(1, 6))
        assert len(pieces) > 1


@pytest.mark.both_loops
async def test_a_cancelled_request_is_cancelled_in_the_guest(certs: Certificates) -> None:
    async with served(certs) as (host, guest), Broker(host, certs) as broker:
        stream = broker.request(path="/sse?100000")
        assert await stream.read()  # it has reached the app
        stream.reset()
        assert (await guest.event("cancelled"))["path"] == "/sse"
        upload = broker.request("POST", "/sink", end=False)
        await upload.write(b"x" * 100_000)
        await guest_has_work(host)
        upload.reset()
        assert (await guest.event("cancelled"))["path"] == "/sink"
        await active(host, 0)


async def guest_has_work(host: VerserHost) -> None:
    async with asyncio.timeout(30):
        while host.get_stats().queued_requests or not host.get_stats().active_requests:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_broker_that_vanishes_cancels_its_requests(certs: Certificates) -> None:
    async with served(certs) as (host, guest):
        async with Broker(host, certs) as broker:
            for _ in range(3):
                broker.request(path="/slow?20000")
            await active(host, 3)
            await broker.session.ping()
        await active(host, 0)
        for _ in range(3):
            await guest.event("cancelled", path="/slow")


@pytest.mark.both_loops
@pytest.mark.parametrize("concurrency", [1, 16, 64])
async def test_load(certs: Certificates, concurrency: int) -> None:
    async with served(certs) as (host, _guest):
        records: list[RequestRecord] = []
        host.on_request(records.append)
        for path, size in (("/plain", 0), ("/echo", 1024), ("/headers", 0)):
            result = await node_load(
                host.url, certs, path=path, concurrency=concurrency, body_bytes=size, seconds=0.3
            )
            assert (result["errors"], result["unfinished"]) == ({}, 0)
            assert result["requests"] >= concurrency
        await active(host, 0)
        assert {record.error for record in records} == {None}


@pytest.mark.both_loops
async def test_sixteen_downloads_and_uploads_at_a_time(certs: Certificates) -> None:
    async with served(certs) as (host, _guest):
        loads = [("/big?4", 0), ("/sink", 4 * MIB), ("/echo", MIB)]
        for path, size in loads:
            result = await node_load(host.url, certs, path=path, concurrency=16, body_bytes=size, seconds=0.3)
            assert (result["errors"], result["unfinished"]) == ({}, 0)
        results = await asyncio.gather(
            *(
                node_load(host.url, certs, path=path, concurrency=5, body_bytes=size, seconds=0.5)
                for path, size in loads
            )
        )
        for result in results:
            assert (result["errors"], result["unfinished"]) == ({}, 0)


async def test_windows_of_65535_bytes(certs: Certificates) -> None:
    small = SessionOptions(stream_window_bytes=65_535, connection_window_bytes=65_535)
    async with served(certs, session_options=small) as (host, _guest):
        for path, size in (("/big?1", 0), ("/sink", MIB), ("/echo", MIB), ("/plain", 0)):
            result = await node_load(host.url, certs, path=path, concurrency=16, body_bytes=size, seconds=0.3)
            assert (result["errors"], result["unfinished"]) == ({}, 0)


async def test_more_requests_than_the_guest_has_leases(certs: Certificates) -> None:
    async with served(certs, guest={"idle_leases": 1, "max_leases": 2}) as (host, _guest):
        result = await node_load(host.url, certs, concurrency=64, seconds=0.5)
        assert (result["errors"], result["unfinished"]) == ({}, 0)
        async with Broker(host, certs) as broker:
            busy = [broker.request(path="/slow?20000") for _ in range(2)]
            await active(host, 2)
            answer = await broker.fetch(lease_timeout_ms=100)
            assert answer.error["code"] == "timeout"
            for stream in busy:
                stream.reset(ErrorCode.CANCEL)
            assert (await broker.fetch(path="/plain")).body == b"Hello, World!"


async def test_a_guest_that_dies_in_the_middle(certs: Certificates) -> None:
    async with served(certs) as (host, guest), Broker(host, certs) as broker:
        answered = broker.request(path="/sse?1000")
        await answered.wait_fields()
        waiting = broker.request(path="/slow?20000")
        await active(host, 2)
        await broker.session.ping()
        guest.kill()
        assert await failed(answered) == ErrorCode.INTERNAL_ERROR
        assert (await broker.answer(waiting)).error["code"] == "disconnected-target"
        await active(host, 0)


async def test_client_certificates(certs: Certificates) -> None:
    async with running_host(certs, client_ca_file=certs.ca) as host:
        async with (
            node_guest(host.url, certs, identity=True),
            Broker(host, certs, cert=certs.broker, key=certs.broker_key) as broker,
        ):
            assert (await broker.fetch(path="/plain")).body == b"Hello, World!"
        with pytest.raises(PeerFailed):
            async with node_guest(host.url, certs):
                pass
        with pytest.raises(PeerFailed):
            await node_routes(host.url, certs)

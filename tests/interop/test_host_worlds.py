"""This Host between the Node Broker and either Guest: requests, uploads, cancels, WebSockets.

What this project's Broker does with either Guest through it is in `test_broker_worlds` and
`test_broker_websockets`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.host.peers import DOMAIN, Watcher, running_host
from tests.host.test_streaming import active
from tests.interop.worlds import our_guest
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_load, node_request, node_websocket
from verser2_guest_python import VerserHost
from verser2_guest_python.host import RequestRecord

pytestmark = pytest.mark.interop

URL = f"http://{DOMAIN}"
MIB = 1 << 20


@asynccontextmanager
async def served(certs: Certificates, guest: Any) -> AsyncIterator[VerserHost]:
    async with running_host(certs) as host:
        watcher = Watcher(host)
        async with guest(host.url, certs):
            await watcher.wait("registered", peer="guest-a")
            yield host
            await active(host, 0)
            assert (await node_request(host.url, certs, f"{URL}/plain")).body == b"Hello, World!"
        assert watcher.find("internal-error") is None


either_guest = pytest.mark.parametrize("guest", [node_guest, our_guest], ids=["node", "ours"])


@either_guest
async def test_requests_and_uploads(certs: Certificates, guest: Any) -> None:
    async with served(certs, guest) as host:
        answer = await node_request(host.url, certs, f"{URL}/echo", data="hé")
        assert (answer.status, answer.body) == (200, "hé".encode())
        assert (await node_request(host.url, certs, f"{URL}/boom")).error_code == "local-handler-failure"
        records: list[RequestRecord] = []
        host.on_request(records.append)
        for path, size in (("/plain", 0), ("/echo", 1024), ("/sink", 4 * MIB), ("/big?4", 0)):
            result = await node_load(host.url, certs, path=path, concurrency=16, body_bytes=size, seconds=0.2)
            assert (result["errors"], result["unfinished"]) == ({}, 0), path
            assert result["requests"] >= 16
        assert {record.error for record in records} == {None}
        assert {record.bytes_in for record in records} == {0, 1024, 4 * MIB}


@either_guest
async def test_brokers_that_vanish(certs: Certificates, guest: Any) -> None:
    async with served(certs, guest) as host:
        records: list[RequestRecord] = []
        host.on_request(records.append)
        asking = [
            asyncio.create_task(
                node_request(host.url, certs, f"{URL}/slow?60000", broker_id=f"b-{number}", timeout=60)
            )
            for number in range(3)
        ]
        await active(host, 3)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await active(host, 0)
        assert [record.error for record in records] == ["cancelled"] * 3


@either_guest
async def test_websockets(certs: Certificates, guest: Any) -> None:
    url = f"ws://{DOMAIN}/room"
    async with served(certs, guest) as host, node_websocket(host.url, certs, url) as socket:
        await socket.event("open")
        for text in ("hé", "", "x" * 100_000):
            await socket.write_line(text)
            assert (await socket.event("message"))["text"] == text
        socket.close_input()
        assert (await socket.event("close"))["code"] == 1000
        assert await socket.wait() == 0

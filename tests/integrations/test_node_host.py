"""The doors at the Node.js Host, which speaks as deployed Hosts do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from tests.integrations.apps import BLOCK, make_app
from tests.integrations.clients import URL, both_libraries
from tests.integrations.stacks import DOMAIN, guest_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_host
from verser2_guest_python import create_verser_broker
from verser2_guest_python.integrations.httpx import SyncVerserTransport, VerserTransport
from verser2_guest_python.integrations.sync import SyncVerserBroker

SIZE = 256 * len(BLOCK)


@both_libraries
@pytest.mark.interop
async def test_a_client_at_the_node_host(certs: Certificates, library: Any) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(256):
            yield BLOCK

    async with node_host(certs, strict=True) as host:
        async with (
            guest_at(host, certs, make_app()),
            create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
            library.AsyncClient(transport=VerserTransport(broker), base_url=URL) as client,
        ):
            await broker.wait_for_route(DOMAIN)
            assert (await client.get("/")).text == "Hello, World!"
            assert (await client.head("/")).status_code == 200
            assert (await client.get("/status/204")).content == b""
            await client.get("/login")
            described = (await client.get("/describe/")).json()
            assert described["cookies"] == {"session": "s3cret", "theme": "dark"}
            assert (await client.post("/count", content=blocks())).text == str(SIZE)
            assert len((await client.get("/big?blocks=256&sized=1")).content) == SIZE
            with pytest.raises(library.RemoteProtocolError):
                await client.get("/cut")
            with pytest.raises(library.ConnectError):
                await client.get("http://nobody.test/")
            async with client.stream("GET", "/big?blocks=100000") as response:
                async for _chunk in response.aiter_raw():
                    break
            assert (await client.get("/")).status_code == 200
        assert host.violations == []


@pytest.mark.interop
async def test_a_plain_client_at_the_node_host(certs: Certificates) -> None:
    def use(url: str) -> None:
        def blocks() -> Iterator[bytes]:
            for _ in range(256):
                yield BLOCK

        inner = create_verser_broker(host_url=url, tls_ca_file=certs.ca)
        with (
            SyncVerserBroker(inner) as broker,
            httpx2.Client(transport=SyncVerserTransport(broker), base_url=URL) as client,
        ):
            broker.wait_for_route(DOMAIN)
            assert client.get("/").text == "Hello, World!"
            assert client.post("/count", content=blocks()).text == str(SIZE)
            assert len(client.get("/big?blocks=256&sized=1").content) == SIZE

    async with node_host(certs, strict=True) as host:
        async with guest_at(host, certs, make_app()):
            await asyncio.to_thread(use, host.url)
        assert host.violations == []

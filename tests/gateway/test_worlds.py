"""The gateway before Node.js peers, which speak as deployed ones do, and before several Guests."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.gateways import gateway_before
from tests.gateway.raw import connected
from tests.integrations.apps import BLOCK
from tests.integrations.stacks import DOMAIN, guest_at, host_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host
from tests.support.waiting import until
from verser2_guest_python import create_verser_broker


@pytest.mark.interop
async def test_with_the_node_host_and_the_node_guest(certs: Certificates) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield BLOCK

    async with (
        node_host(certs, strict=True) as host,
        node_guest(host.url, certs, domain=DOMAIN),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        gateway_before(broker, maps={"away.test": "away.local.test"}) as place,
        place.client() as client,
    ):
        await broker.wait_for_route(DOMAIN)
        response = await client.get("/plain")
        assert (response.text, response.headers["content-type"]) == ("Hello, World!", "text/plain")
        assert (await client.head("/plain")).status_code == 200
        assert dict((await client.get("/cookies")).cookies) == {"a": "1", "b": "2"}
        said = (await client.get("/headers", headers={"x-forwarded-for": "6.6.6.6"})).json()
        assert (said["host"], said["x-forwarded-for"]) == (DOMAIN, "127.0.0.1")
        assert (await client.post("/sink", content=blocks())).text == str(64 * len(BLOCK))
        assert (await client.post("/echo", content=BLOCK * 20)).content == BLOCK * 20
        assert len((await client.get("/big?8")).content) == 8 << 20
        assert (await client.get("/sse?3")).text.split() == [w for n in "123" for w in ("data:", n)]
        assert (await client.get("/boom")).status_code == 502
        assert (await client.get("/", headers={"host": "nobody.test"})).status_code == 404
        assert (await client.get("/", headers={"host": "away.test"})).status_code == 503
        async with connected(place.port) as raw:
            raw.say(f"GET /slow?60000 HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
            await until(lambda: place.gateway.active == 1)
            raw.writer.close()
            await until(lambda: place.gateway.active == 0)
        url = f"ws://{DOMAIN}:{place.port}"
        where: dict[str, Any] = {"host": "127.0.0.1", "port": place.port, "proxy": None, "max_size": None}
        # Out of several nothing can be chosen through this Host: only the first is offered
        async with connect(f"{url}/room", subprotocols=["chat.v1", "chat.v2"], **where) as socket:  # type: ignore[list-item]
            assert socket.subprotocol in (None, "chat.v1")
            for message in ("text", b"binary", "é" * 1_000):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send("close 4001 done")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "done")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}/refuse", **where):
                pass
        assert refused.value.response.status_code == 404
        assert host.violations == []


async def test_several_guests_share_the_load(certs: Certificates) -> None:
    served: Counter[str] = Counter()
    full = asyncio.Event()

    def make(name: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            served[name] += 1
            if served.total() == 30:
                full.set()
            await full.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(name).encode()})

        return app

    async with (
        host_at(certs) as host,
        guest_at(host, certs, make("one"), guest_id="one"),
        guest_at(host, certs, make("two"), guest_id="two"),
        guest_at(host, certs, make("three"), guest_id="three"),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        gateway_before(broker) as place,
        place.client() as client,
    ):
        answers = await asyncio.gather(*[client.get("/") for _ in range(30)])
        assert Counter(answer.json() for answer in answers) == {"one": 10, "two": 10, "three": 10}
        records = await place.recorded(30)
        assert Counter(record.target_id for record in records) == {"one": 10, "two": 10, "three": 10}

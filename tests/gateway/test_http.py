"""HTTP through the gateway, by a client that knows nothing of what is behind it."""

from __future__ import annotations

import asyncio
import re
import socket

import httpx2
import pytest
import uvicorn
from websockets.asyncio.client import connect

from tests.gateway.gateways import PUBLIC, gateway_at, gateway_before
from tests.gateway.raw import connected
from tests.integrations.apps import BLOCK, make_app
from tests.integrations.stacks import DOMAIN, broker_behind, guest_at, host_at
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import create_verser_broker
from verser2_guest_python.integrations.gateway import create_gateway


async def test_requests_and_answers(certs: Certificates) -> None:
    async with gateway_at(certs) as place, place.client() as client:
        response = await client.get("/?name=you")
        assert (response.status_code, response.text) == (200, "Hello, you!")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert len(response.headers.get_list("date")) == 1
        described = (await client.post("/describe/a%2Fb%20c?q=%C3%A9&x", content=b"abc")).json()
        assert (described["method"], described["path"]) == ("POST", "/describe/a%2Fb%20c")
        assert (described["query"], described["text"]) == ("q=%C3%A9&x", "abc")
        assert described["headers"]["host"] == DOMAIN
        response = await client.get("/repeated")
        assert response.headers.get_list("x-tag") == ["one", "two, three"]
        await client.get("/login")
        assert dict(client.cookies) == {"session": "s3cret", "theme": "dark"}
        assert [record.status for record in await place.recorded(4)] == [200] * 4
        assert place.gateway.active == 0


@pytest.mark.parametrize("size", [0, 1, 1_000, 65_536, 65_537, 3_000_000])
async def test_uploads_of_all_sizes_come_back(certs: Certificates, size: int) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for start in range(0, size, 50_000):
            yield body[start : start + 50_000]

    body = (BLOCK * 50)[:size]
    async with gateway_at(certs) as place, place.client() as client:
        for content in (body, pieces()):
            response = await client.post("/echo", content=content)
            assert response.content == body
        records = await place.recorded(2)
        assert [record.bytes_in for record in records] == [size, size]
        assert [record.bytes_out for record in records] == [size, size]


async def test_names(certs: Certificates) -> None:
    async with (
        gateway_at(certs, maps={PUBLIC: DOMAIN}, default_domain=DOMAIN) as place,
        place.client() as client,
    ):

        async def status(host: str) -> int:
            return (await client.get("/", headers={"host": host})).status_code

        assert await status(PUBLIC) == 200
        assert await status(f"{PUBLIC.upper()}.:8080") == 200
        for local in ("localhost", "localhost:8080", "any.localhost", "127.0.0.1:8080", "[::1]:8080"):
            assert await status(local) == 200
        for unknown in ("nobody.test", "evil.example.com:8080", "localhost.example.com"):
            assert await status(unknown) == 404


async def test_a_route_that_is_away_is_waited_for(certs: Certificates) -> None:
    app = make_app()
    async with (
        host_at(certs) as host,
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        gateway_before(broker, maps={PUBLIC: DOMAIN}, route_wait=20.0) as place,
        place.client(PUBLIC) as client,
    ):
        early = asyncio.create_task(client.post("/echo", content=b"early"))
        await until(lambda: place.gateway.active == 1)
        assert (await client.get("/", headers={"host": "nobody.test"})).status_code == 404
        async with guest_at(host, certs, app):
            assert (await early).text == "early"
    async with (
        broker_behind(app, certs) as broker,
        gateway_before(broker, maps={PUBLIC: "away.test"}, route_wait=0.01) as place,
        place.client(PUBLIC) as client,
    ):
        response = await client.get("/")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert re.search(
            rf"The app behind {PUBLIC} is away: waited [\d.]+ s for it to come back\.", response.text
        )
        [record] = await place.recorded(1)
        assert re.fullmatch(
            r"Waited [\d.]+ s for a route to come back\. No Guest serves away\.test.*", record.reason
        )


async def test_a_client_of_http_1_0_gets_no_chunks(certs: Certificates) -> None:
    async with gateway_at(certs) as place:
        size = 3 * len(BLOCK)
        for path, length in {"/big?blocks=3": size, "/": 13, "/big?blocks=3&sized=1": size}.items():
            async with connected(place.port) as raw:
                raw.say(f"GET {path} HTTP/1.0\r\nHost: {DOMAIN}\r\nConnection: keep-alive\r\n\r\n".encode())
                status, headers = await raw.head()
                assert (status, headers["connection"]) == (200, "close")
                assert "transfer-encoding" not in headers
                assert len(await raw.rest()) == length


async def test_any_asgi_server_runs_it(certs: Certificates) -> None:
    """Uvicorn as it is, with another parser; its lifespan connects the Broker."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with host_at(certs) as host, guest_at(host, certs, make_app()):
            broker = create_verser_broker(host_url=host.url, tls_ca_file=certs.ca)
            config = uvicorn.Config(
                create_gateway(broker), http="h11", ws="wsproto", lifespan="on", log_config=None
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server._serve([listener]))
            await until(lambda: server.started or serving.done())
            assert broker.connected
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx2.AsyncClient(base_url=url, headers={"host": DOMAIN}, trust_env=False) as client:
                response = await client.get("/")
                assert (response.text, len(response.headers.get_list("date"))) == ("Hello, World!", 1)
                assert (await client.post("/echo", content=BLOCK * 20)).content == BLOCK * 20
                assert (await client.get("/", headers={"host": "nobody.test"})).status_code == 404
            where = {"host": "127.0.0.1", "port": listener.getsockname()[1], "proxy": None}
            async with connect(f"ws://{DOMAIN}/talk", **where) as talk:  # type: ignore[arg-type]
                await talk.send("hello")
                assert await talk.recv() == "hello"
            server.should_exit = True
            await serving
            assert not broker.connected

"""https and wss in front: the same as without, and an answer is read although the client still sends."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.gateway.gateways import gateway_at
from tests.gateway.raw import Raw
from tests.integrations.apps import BLOCK
from tests.integrations.stacks import DOMAIN, until
from tests.support.certificates import Certificates
from verser2_guest_python import VerserConfigurationError
from verser2_guest_python.service.gateway_server import GatewayServer, PublicTls


@pytest.mark.both_loops
async def test_https_and_wss(certs: Certificates) -> None:
    trust = ssl.create_default_context(cafile=certs.ca)
    server = {"tls": PublicTls(certs.host, certs.host_key)}
    async with gateway_at(certs, server=server, maps={"localhost": DOMAIN}) as place:
        assert place.server.url.startswith("https://")
        async with place.client("localhost", verify=trust) as client:
            said = (await client.post("/describe/", content=b"hello")).json()
            assert (said["headers"]["x-forwarded-proto"], said["text"]) == ("https", "hello")
            assert (await client.post("/count", content=BLOCK * 40)).text == str(40 * len(BLOCK))
        url = f"wss://localhost:{place.port}/talk"
        async with connect(url, ssl=trust, proxy=None) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
        reader, writer = await asyncio.open_connection("localhost", place.port, ssl=trust)
        raw = Raw(reader, writer)
        raw.say(b"POST /refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + BLOCK)
        assert (await raw.head())[0] == 413
        raw.say(BLOCK * 10)
        assert await reader.readexactly(8) == b"too much"
        writer.transport.abort()
        reader, writer = await asyncio.open_connection("localhost", place.port, ssl=trust)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: "waiting" in place.diary.events)
        writer.transport.abort()
        await until(lambda: "disconnected" in place.diary.events)
        await until(lambda: place.diary.active == 0 and place.gateway.active == 0)


@pytest.mark.parametrize("wrong", ["certificate", "key", "pair"])
async def test_files_that_cannot_be_used(certs: Certificates, tmp_path: Path, wrong: str) -> None:
    nothing = tmp_path / "nothing.pem"
    files = {
        "certificate": PublicTls(nothing, certs.host_key),
        "key": PublicTls(certs.host, nothing),
        "pair": PublicTls(certs.host, certs.guest_key),
    }
    with pytest.raises(VerserConfigurationError, match="https cannot be used"):
        async with GatewayServer(_nothing, listen="127.0.0.1:0", tls=files[wrong]):
            pass


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("it is never asked")

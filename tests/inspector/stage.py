"""The inspector as `dev` runs it: Host, Guest, Broker, and a real server with the gateway behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.integrations.stacks import guest_at, host_at
from tests.support.certificates import Certificates
from verser2_guest_python import VerserBroker, VerserHost, create_verser_broker
from verser2_guest_python.service.gateway_server.server import GatewayServer
from verser2_guest_python.service.inspector import Inspector, Recorder, create_inspector, with_inspector

DOMAIN = "shop.localhost"
END_SECONDS = 10.0
COOKIE = b"sid=other-secret; HttpOnly"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers as its headers want (`x-want-…`); the body is what it was sent, or `hello`."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is not None:
                await send({"type": "websocket.send", "text": f"you said {text}"})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"]})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = dict(scope["headers"])
    status = int(headers.get(b"x-want-status", b"200"))
    kind = headers.get(b"x-want-type", b"text/plain")
    fields = [(b"content-type", kind), (b"x-seen", headers.get(b"x-show", b"nothing"))]
    if b"x-want-cookie" in headers:
        fields.append((b"set-cookie", COOKIE))
    if b"x-want-encoding" in headers:
        fields.append((b"content-encoding", headers[b"x-want-encoding"]))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body or b"hello"})


async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
    """What stands behind the inspector."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<title>The app</title>the app"})


@dataclass
class Stage:
    """All of it."""

    host: VerserHost
    broker: VerserBroker
    inspector: Inspector
    port: int

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def recorder(self) -> Recorder:
        return self.inspector.recorder

    async def fetch(self, path: str = "/", method: str = "GET", **options: Any) -> bytes:
        response = await self.broker.request(method, f"http://{DOMAIN}{path}", **options)
        return await response.read()

    def client(self, **headers: str) -> httpx2.AsyncClient:
        """A client without a cookie, which is a browser as far as the inspector can tell."""
        return httpx2.AsyncClient(base_url=self.base, headers=headers, trust_env=False, timeout=END_SECONDS)

    async def viewer(self, visitor: httpx2.AsyncClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that gets events; the first one has begun."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        writer.write(self.viewer_head(visitor))
        async with asyncio.timeout(END_SECONDS):
            await reader.readuntil(b"event: all\n")
        return reader, writer

    def viewer_head(self, visitor: httpx2.AsyncClient) -> bytes:
        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        return (
            f"GET /_verser/api/events HTTP/1.1\r\nhost: localhost:{self.port}\r\ncookie: {cookie}\r\n\r\n"
        ).encode()

    @asynccontextmanager
    async def visitor(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A client that has opened the printed URL."""
        async with self.client(origin=self.base) as client:
            response = await client.get(self.inspector.url(""))
            assert response.status_code == 303
            yield client


@asynccontextmanager
async def stage(certs: Certificates, serve: Any = app, **options: Any) -> AsyncIterator[Stage]:
    async with (
        host_at(certs) as host,
        guest_at(host, certs, serve, domain=DOMAIN),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
    ):
        await broker.wait_for_route(DOMAIN)
        inspector = create_inspector(host, broker, **options)
        server = GatewayServer(
            with_inspector(inspector, elsewhere), listen="127.0.0.1:0", timeout_graceful_shutdown=5.0
        )
        async with server:
            try:
                yield Stage(host, broker, inspector, server.port)
            finally:
                inspector.close()

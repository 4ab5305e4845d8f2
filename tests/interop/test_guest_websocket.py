"""WebSockets of our Guest through the Node Host, called by the Node Broker (protocol.md §11)."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.node_peers import node_host, node_websocket
from verser2_guest_python.guest import create_verser_guest

pytestmark = pytest.mark.interop


class EchoApp:
    """Echoes; keeps the scopes that it saw and how each WebSocket ended."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.ends: list[tuple[int, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError("WebSockets only")
        self.scopes.append(scope)
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/refuse":
            await send({"type": "websocket.close"})
            return
        if scope["path"] == "/boom":
            raise ValueError("boom")
        if scope["path"] == "/silent":
            return
        subprotocols = scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.ends.append((message["code"], message["reason"]))
                return
            text = message.get("text")
            if text == "bye":
                await send({"type": "websocket.close", "code": 3001, "reason": "done"})
            elif text == "fail":
                raise ValueError("fail")
            elif text is not None:
                await send({"type": "websocket.send", "text": text})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"]})


@asynccontextmanager
async def served(certs: Certificates, app: Any, **options: Any):
    async with node_host(certs, strict=True) as host:
        guest = create_verser_guest(
            host_url=host.url,
            guest_id="guest-a",
            app=app,
            routed_domains=["a.local.test"],
            tls_ca_file=certs.ca,
            **options,
        )
        async with guest:
            yield host, guest
        assert host.violations == []


@pytest.mark.both_loops
async def test_echo_and_close_by_the_broker(certs: Certificates) -> None:
    app = EchoApp()
    async with (
        served(certs, app) as (host, _),
        node_websocket(host.url, certs, "http://a.local.test/room%20a?x=1", protocol="chat.v1") as socket,
    ):
        assert (await socket.event("open"))["protocol"] == "chat.v1"
        for text in ("hé", "", "x" * 500_000):
            await socket.write_line(text)
            assert (await socket.event("message"))["text"] == text
        socket.close_input()
        assert (await socket.event("close"))["code"] == 1000
    (scope,) = app.scopes
    assert scope["path"] == "/room a"
    assert scope["raw_path"] == b"/room%20a"
    assert scope["query_string"] == b"x=1"
    assert dict(scope["headers"]) == {b"host": b"a.local.test", b"sec-websocket-protocol": b"chat.v1"}
    assert app.ends == [(1000, "")]


async def test_close_by_the_app(certs: Certificates) -> None:
    app = EchoApp()
    async with (
        served(certs, app) as (host, _),
        node_websocket(host.url, certs, "http://a.local.test/") as socket,
    ):
        await socket.event("open")
        await socket.write_line("bye")
        closed = await socket.event("close")
        assert (closed["code"], closed["reason"]) == (3001, "done")


async def test_app_fails_after_accepting(certs: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        served(certs, EchoApp()) as (host, _),
        node_websocket(host.url, certs, "http://a.local.test/") as socket,
    ):
        await socket.event("open")
        await socket.write_line("fail")
        assert (await socket.event("close"))["code"] == 1011
    assert "The app failed on WebSocket /" in caplog.text
    assert any(vars(record).get("request_id", "").startswith("ws-") for record in caplog.records)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/refuse", "missing-guest"),
        ("/boom", "local-handler-failure"),
        ("/silent", "websocket-negotiation-failed"),
    ],
)
async def test_refused(certs: Certificates, path: str, code: str) -> None:
    async with (
        served(certs, EchoApp()) as (host, _),
        node_websocket(host.url, certs, f"http://a.local.test{path}") as socket,
    ):
        error = await socket.failure()
        assert error["code"] == code
        assert "boom" not in error["message"]


async def test_drain_tells_1012_and_waits(certs: Certificates) -> None:
    app = EchoApp()
    async with (
        served(certs, app) as (host, guest),
        node_websocket(host.url, certs, "http://a.local.test/") as socket,
    ):
        await socket.event("open")
        await guest.close("restart")
        assert (await socket.event("close"))["code"] == 1012
    assert app.ends == [(1012, "the service restarts")]


async def test_many_at_once_with_two_idle_leases(certs: Certificates) -> None:
    app = EchoApp()
    data = base64.b64encode(bytes(range(256))).decode()
    async with served(certs, app) as (host, _):
        for _ in range(3):
            async with (
                node_websocket(host.url, certs, "http://a.local.test/a") as one,
                node_websocket(host.url, certs, "http://a.local.test/b") as two,
                node_websocket(host.url, certs, "http://a.local.test/c") as three,
            ):
                for socket in (one, two, three):
                    await socket.event("open")
                    await socket.write_line(data)
                    assert (await socket.event("message"))["text"] == data

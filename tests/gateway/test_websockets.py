"""WebSockets through the gateway, by a client that knows nothing of what is behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.gateways import Place, gateway_at
from tests.gateway.raw import connected
from tests.integrations.apps import Diary
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python.integrations.gateway import GatewayLimits

KIB = 1 << 10
MIB = 1 << 20


def make_socket_app(diary: Diary) -> Any:
    """An echo, with paths for what an echo does not do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        path = scope["path"]
        await receive()
        diary.active += 1
        try:
            if path == "/refuse":
                await send({"type": "websocket.close", "code": 1000})
                return
            if path == "/forbidden":
                await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b"no"})
                return
            if path == "/fail":
                raise RuntimeError("the app failed")
            if path == "/never":
                diary.events.append("asked")
                diary.events.append(f"ended: {(await receive())['code']}")
                return
            offered = scope["subprotocols"]
            chosen = "chat.v2" if "chat.v2" in offered else next(iter(offered), None)
            headers = [(b"x-said", b"hello")]
            await send({"type": "websocket.accept", "subprotocol": chosen, "headers": headers})
            if path == "/headers":
                said = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
                said = {**said, ":path": scope["raw_path"].decode(), ":query": scope["query_string"].decode()}
                await send({"type": "websocket.send", "text": json.dumps(said)})
            if path == "/flood":
                while not diary.go_on.is_set():
                    await send({"type": "websocket.send", "bytes": bytes(256 * KIB)})
                    diary.sent += 1
            await echo(receive, send)
        finally:
            diary.active -= 1

    async def echo(receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is not None and text.startswith("close "):
                _, code, *reason = text.split(" ", 2)
                await send({"type": "websocket.close", "code": int(code), "reason": " ".join(reason)})
                return
            if text is None:
                await send({"type": "websocket.send", "bytes": message["bytes"]})
            else:
                await send({"type": "websocket.send", "text": text})
        diary.events.append(f"closed: {message['code']} {message.get('reason', '')}".strip())

    return app


@asynccontextmanager
async def sockets(certs: Certificates, **options: Any) -> AsyncIterator[Place]:
    diary = Diary()
    async with gateway_at(certs, app=make_socket_app(diary), **options) as place:
        place.diary = diary
        yield place
        await until(lambda: diary.active == 0 and place.gateway.active == 0)


def client(place: Place, path: str = "/", **options: Any) -> Any:
    """A WebSocket client; `host` is what the URL's host says, as browsers send it."""
    options.setdefault("max_size", None)
    return connect(
        f"ws://{DOMAIN}:{place.port}{path}", host="127.0.0.1", port=place.port, proxy=None, **options
    )


async def echoed(socket: ClientConnection, message: Any, expected: Any) -> None:
    await socket.send(message)
    assert await socket.recv() == expected


MESSAGES = {
    "empty text": "",
    "text": "hello",
    "text beyond ASCII": "hé \u20ac \U0001f600",
    "text with every control": "".join(map(chr, range(32))) + '"\\\x7f\u2028',
    "empty binary": b"",
    "all bytes": bytes(range(256)),
    "125 bytes": b"x" * 125,
    "126 bytes": b"x" * 126,
    "65,535 bytes": b"x" * 65_535,
    "65,536 bytes": b"x" * 65_536,
    "700,000 bytes": bytes(range(256)) * 2_734,
    "1,000,000 characters": "x" * 1_000_000,
}


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_come_back_as_they_are(certs: Certificates, compression: str | None) -> None:
    async with sockets(certs) as place, client(place, compression=compression) as socket:
        for message in MESSAGES.values():
            await echoed(socket, message, message)
        for message in MESSAGES.values():  # also when they wait for each other
            await socket.send(message)
        for message in MESSAGES.values():
            assert await socket.recv() == message


async def test_fragments_are_one_message(certs: Certificates) -> None:
    async with sockets(certs) as place, client(place) as socket:
        await echoed(socket, ["frag", "", "mented"], "fragmented")
        await echoed(socket, [b"a"] * 200, b"a" * 200)
        await echoed(socket, ["é"[:1], "\u20ac" * 3], "é\u20ac\u20ac\u20ac")
        pong = await socket.ping(b"between")  # a control frame, also among fragments
        await pong


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "done"), (1001, ""), (1012, "r" * 123), (3000, "é"), (4999, "x")]
)
async def test_whoever_closes_both_know_how(certs: Certificates, code: int, reason: str) -> None:
    async with sockets(certs) as place:
        async with client(place) as socket:
            await socket.close(code, reason)
        await until(lambda: bool(place.diary.events))
        assert place.diary.events == [f"closed: {code} {reason}".strip()]
        async with client(place) as socket:
            await socket.send(f"close {code} {reason}".strip())
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (code, reason)
        records = await place.recorded(2)
        assert [(record.status, record.close_code) for record in records] == [(101, code)] * 2


async def test_a_message_beyond_the_limit_closes_with_1009(certs: Certificates) -> None:
    async with sockets(certs) as place:
        for message in ("x" * 1_048_600, b"x" * 800_000, "\x01" * 400_000):
            async with client(place) as socket:
                await socket.send(message)
                await socket.wait_closed()
                assert socket.close_code == 1009
        await until(lambda: len(place.diary.events) == 3)
        assert {event.split(" ")[1] for event in place.diary.events} == {"1009"}


async def test_subprotocols_and_headers(certs: Certificates) -> None:
    async with sockets(certs) as place:
        async with client(place, subprotocols=["chat.v1", "chat.v2"]) as socket:
            assert socket.subprotocol == "chat.v2"
            assert socket.response is not None
            assert socket.response.headers["x-said"] == "hello"
            assert len(socket.response.headers.get_all("date")) == 1
        async with client(place) as socket:
            assert socket.subprotocol is None
        own = {"Cookie": "session=s3cret", "X-Forwarded-For": "6.6.6.6", "X-Verser-Y": "z", "X-Own": "é"}
        async with client(place, "/headers?a=%20b", additional_headers=own, origin="http://x.test") as socket:
            said = json.loads(await socket.recv())
        assert (said[":path"], said[":query"]) == ("/headers", "a=%20b")
        assert (said["host"], said["x-forwarded-host"]) == (DOMAIN, f"{DOMAIN}:{place.port}")
        assert (said["x-forwarded-for"], said["x-forwarded-proto"]) == ("127.0.0.1", "http")
        assert (said["cookie"], said["origin"], said["x-own"]) == ("session=s3cret", "http://x.test", "é")
        assert "x-verser-y" not in said
        assert "upgrade" not in said


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/refuse", DOMAIN, 403),
        ("/forbidden", DOMAIN, 403),
        ("/fail", DOMAIN, 502),
        ("/", "nobody.test", 404),
    ],
)
async def test_refusals(certs: Certificates, path: str, host: str, status: int) -> None:
    async with sockets(certs, list_routes=True) as place:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://{host}{path}", host="127.0.0.1", port=place.port, proxy=None):
                pass
        response = refused.value.response
        assert response.status_code == status
        assert response.headers["x-request-id"]
        error = json.loads(response.body)["error"]
        assert error["requestId"] == response.headers["x-request-id"]
        assert error.get("routes") == ([DOMAIN] if status == 404 else None)


async def test_bad_handshakes(certs: Certificates) -> None:
    good = (
        "GET / HTTP/1.1\r\nHost: " + DOMAIN + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    async with sockets(certs) as place:
        for bad, status in {
            good.replace("Version: 13", "Version: 8"): 400,
            good.replace("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short"): 400,
            good.replace("Sec-WebSocket-Key", "X-Key"): 400,
            good.replace("GET", "POST"): 405,
            good + "Cookie: " + "x" * 9_000 + "\r\n": 431,
            good + "Cookie: " + "x" * 20_000 + "\r\n": 431,
            good + "X: y\r\n" * 200: 431,
            good.replace(f"Host: {DOMAIN}\r\n", ""): 400,
        }.items():
            async with connected(place.port) as raw:
                raw.say(bad.encode() + b"\r\n")
                assert (await raw.head())[0] == status, bad[:300]
        async with connected(place.port) as raw:  # frames right behind the handshake are not lost
            raw.say(good.encode() + b"\r\n")
            assert (await raw.head())[0] == 101


async def test_a_client_that_leaves_before_it_is_accepted(certs: Certificates) -> None:
    async with sockets(certs) as place:
        task = asyncio.ensure_future(_open(place, "/never"))
        await until(lambda: place.diary.events == ["asked"])
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: len(place.diary.events) == 2)
        assert place.diary.events[1].startswith("ended: ")
        assert [record.status for record in await place.recorded(1)] == [499]


async def test_one_that_still_opens_when_the_gateway_stops_is_told_so(certs: Certificates) -> None:
    diary = Diary()
    async with gateway_at(certs, app=make_socket_app(diary)) as place:
        opening = asyncio.ensure_future(_open(place, "/never"))
        await until(lambda: diary.events == ["asked"])
    with pytest.raises(InvalidStatus) as refused:
        await opening
    response = refused.value.response
    [record] = await place.recorded(1)
    assert response.body is not None
    error = json.loads(response.body)["error"]
    assert (response.status_code, error["code"]) == (502, "gateway-stopped")
    assert error["requestId"] == response.headers["x-request-id"] == record.request_id
    assert (record.status, record.code, record.close_code) == (502, "gateway-stopped", None)
    assert diary.events[1].startswith("ended: ")  # the app has been told too


async def _open(place: Place, path: str) -> None:
    async with client(place, path):
        pass


async def test_a_client_that_vanishes(certs: Certificates) -> None:
    async with sockets(certs) as place:
        async with client(place) as socket:
            await echoed(socket, "hello", "hello")
            socket.transport.abort()
        await until(lambda: place.diary.events == ["closed: 1006"])
        record = (await place.recorded(1))[0]
        assert (record.close_code, record.reason, record.code) == (1006, "the client left", "client-left")


async def test_an_app_that_vanishes(certs: Certificates) -> None:
    async with sockets(certs) as place, client(place) as socket:
        await echoed(socket, "hello", "hello")
        await place.broker.close()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code in (1001, 1014)


async def test_a_client_that_does_not_read_makes_the_app_wait_and_is_cut_off(certs: Certificates) -> None:
    limits = GatewayLimits(write_timeout=0.3)
    async with (
        sockets(certs, limits=limits) as place,
        client(place, "/flood", max_queue=1, compression=None) as socket,
    ):
        await socket.recv()
        await place.recorded(1)
        assert place.diary.sent < 64  # what fits into buffers on the way
        place.diary.go_on.set()
        assert (place.records[0].reason, place.records[0].code) == (
            "the client did not read",
            "client-stalled",
        )
        socket.transport.abort()


async def test_the_end_of_the_server_is_told(certs: Certificates) -> None:
    async with sockets(certs) as place:
        async with client(place) as socket:
            await echoed(socket, "hello", "hello")
            await place.server.__aexit__(None, None, None)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1012
        await until(lambda: place.diary.events == ["closed: 1012"])

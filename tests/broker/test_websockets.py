"""WebSockets of a Broker, with a Host that a test plays: what is said, what may happen, what is left."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.http2.frames import goaway
from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, Stream, answer, answer_error, send_head
from verser2_guest_python import VerserBroker, VerserUsageError, VerserWebSocketError
from verser2_guest_python.broker import VerserBrokerWebSocket
from verser2_guest_python.errors import VerserProtocolError
from verser2_guest_python.http2 import ErrorCode, SessionOptions, StreamReset
from verser2_guest_python.wire.vws import Binary, Close, Message, Ping, Pong, Text, VwsParser, encode
from verser2_guest_python.wire.websocket_request import WebSocketRequest, parse_websocket_request

URL = f"ws://{DOMAIN}/chat"
GUESTS = [("guest-a", DOMAIN), ("guest-b", DOMAIN)]
PATH = "/verser/websocket"
JSON = {"content-type": "application/json"}


class Remote:
    """The other end as the test plays it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = VwsParser()
        self._messages: list[Message] = []

    async def say(self, *messages: Message, end: bool = False) -> None:
        await self.stream.write(b"".join(encode(message) for message in messages), end=end)

    async def next(self) -> Message | None:
        while not self._messages:
            data = await self.stream.read()
            if not data:
                return None
            self._messages = self._parser.feed(data)
        return self._messages.pop(0)

    async def closed_by_the_broker(self) -> Close:
        """Takes part in a closing handshake that the Broker begins."""
        close = await self.next()
        assert isinstance(close, Close)
        await self.say(close, end=True)
        assert await self.next() is None
        return close


async def asked(host: ScriptedHost) -> tuple[Stream, WebSocketRequest]:
    stream = await host.accept(PATH)
    return stream, parse_websocket_request(stream.fields or ())


@asynccontextmanager
async def opened(
    certs: Certificates, headers: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[tuple[ScriptedHost, VerserBroker, VerserBrokerWebSocket, Remote]]:
    """An open WebSocket. In the end nothing of it is left."""
    async with scripted(certs, **options) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        send_head(stream, 200, headers or {})
        socket = await opening
        yield host, broker, socket, Remote(stream)
        await socket.wait_closed()
        await stream.wait_closed()
        if host.session.lost is None:
            await host.session.ping()
        assert_nothing_left(broker)


def assert_nothing_left(broker: VerserBroker) -> None:
    link = broker._keeper.link
    if link is not None:
        assert not link.sockets
        assert link.room.in_flight == 0
        assert link.session.open_streams == 1, "the control stream alone"
        assert all(guest.sockets == 0 for guest in broker._directory.table._guests.values())


# --- What is asked for ----------------------------------------------------------------------


@pytest.mark.both_loops
async def test_what_the_host_is_asked(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(f"wss://{DOMAIN}/rööm?x=1#y", protocol="chat.v1"))
        stream, request = await asked(host)
        assert request == WebSocketRequest("broker-a", "guest-a", DOMAIN, "/r%C3%B6%C3%B6m?x=1", "chat.v1")
        assert not stream.ended
        send_head(stream, 200, {"x-verser-ws-protocol": "chat.v1", "date": "now"})
        socket = await opening
        assert (socket.protocol, socket.target_id, socket.closed) == ("chat.v1", "guest-a", False)
        assert (socket.close_code, socket.close_reason, socket.buffered_amount) == (None, "", 0)
        assert dict(socket.headers) == {"date": "now"}
        closing = asyncio.create_task(socket.close())
        assert await Remote(stream).closed_by_the_broker() == Close(1000, "")
        await closing


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({}, ""),
        ({"protocol": " chat.v1, chat.v2 "}, "chat.v1, chat.v2"),
        ({"subprotocols": ["b", "a"]}, "b, a"),
        ({"subprotocols": ()}, ""),
        ({"headers": {"Sec-WebSocket-Protocol": "from.headers"}}, "from.headers"),
    ],
)
async def test_what_is_offered(certs: Certificates, options: dict[str, Any], protocol: str) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.web_socket(f"{DOMAIN}", **options))
        stream, request = await asked(host)
        assert (request.protocol, request.path) == (protocol, "/")
        send_head(stream, 200)
        socket = await opening
        assert socket.protocol == ""
        socket.abort()


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "ftp://a.local.test/"},
        {"url": ""},
        {"protocol": "a", "subprotocols": ["b"]},
        {"subprotocols": "a"},
        {"subprotocols": ["a b"]},
        {"protocol": "é"},
        {"timeout": 0},
        {"lease_timeout": -1},
        {"headers": {"bad name": "x"}},
        {"headers": {"x": 5}},
    ],
)
async def test_what_cannot_be_asked(certs: Certificates, arguments: dict[str, Any]) -> None:
    async with scripted(certs) as (host, broker):
        with pytest.raises((VerserUsageError, VerserProtocolError, VerserWebSocketError)):
            await broker.websocket(**{"url": URL, **arguments})
        assert host.session.open_streams == 1
        assert_nothing_left(broker)


async def test_before_connect_and_after_close(certs: Certificates) -> None:
    async with scripted(certs) as (_host, broker):
        await broker.close()
        with pytest.raises(VerserUsageError, match="closed"):
            await broker.websocket(URL)


# --- Headers (extension ws-headers) ---------------------------------------------------------


async def test_headers_where_the_host_passes_them_on(certs: Certificates) -> None:
    async with scripted(certs, extensions=["ws-headers"]) as (host, broker):
        headers = {
            "Authorization": "Bearer x",
            "Connection": "upgrade",
            "Sec-WebSocket-Key": "k",
            "x-l": ["1", "2"],
        }
        opening = asyncio.create_task(broker.websocket(f"ws://{DOMAIN}:8443/", headers=headers))
        stream, request = await asked(host)
        assert request.headers == {"host": f"{DOMAIN}:8443", "authorization": "Bearer x", "x-l": "1,2"}
        send_head(stream, 200, [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-verser-own", "no")])
        socket = await opening
        assert socket.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert "x-verser-own" not in socket.headers
        socket.abort()
        opening = asyncio.create_task(broker.websocket(URL))
        stream, request = await asked(host)
        assert request.headers is None
        send_head(stream, 200)
        (await opening).abort()


async def test_headers_where_the_host_does_not(certs: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(certs) as (host, broker):
        for _ in range(3):
            opening = asyncio.create_task(broker.websocket(URL, headers={"authorization": "Bearer secret"}))
            stream, request = await asked(host)
            assert request.headers is None
            send_head(stream, 200)
            (await opening).abort()
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "authorization is dropped" in warning.getMessage()
    assert "secret" not in caplog.text


# --- Messages ---------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_messages_both_ways(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        await socket.send_text("hé")
        await socket.send_bytes(b"\0\xff")
        await socket.send_bytes(memoryview(b"view"))
        await socket.send_bytes(bytearray(b"array"))
        await socket.ping("n")
        await socket.pong()
        expected = [Text("hé"), Binary(b"\0\xff"), Binary(b"view"), Binary(b"array"), Ping("n"), Pong("")]
        assert [await remote.next() for _ in range(6)] == expected
        await remote.say(Text("wörld"), Binary(b"\1"), Pong("n"), Ping("you?"), Close(3000, "done"))
        assert await remote.next() == Pong("you?")
        assert [await socket.receive() for _ in range(5)] == [
            {"type": "text", "data": "wörld"},
            {"type": "binary", "data": b"\1"},
            {"type": "pong", "data": "n"},
            {"type": "close", "code": 3000, "reason": "done"},
            {"type": "close", "code": 3000, "reason": "done"},
        ]
        assert (socket.closed, socket.close_code, socket.close_reason) == (True, 3000, "done")
        await remote.say(end=True)


async def test_data_of_the_wrong_kind(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, _remote):
        for wrong in (5, "text", None, [1]):
            with pytest.raises(TypeError):
                await socket.send_bytes(wrong)  # type: ignore[arg-type]
        for wrong in (5, b"x", None):
            with pytest.raises((TypeError, VerserWebSocketError)):
                await socket.send_text(wrong)  # type: ignore[arg-type]
        assert not socket.closed
        socket.abort()


async def test_a_message_that_is_too_large(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        with pytest.raises(VerserWebSocketError, match="1,048,576") as caught:
            await socket.send_text("x" * 1_048_576)
        assert caught.value.code == "protocol-error"
        await socket.send_text("still open")
        assert await remote.next() == Text("still open")
        socket.abort()


async def test_iterating_until_the_app_closes(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        await remote.say(Text("one"), Pong("not a message"), Binary(b"two"), Close(4000, "enough"), end=True)
        assert [message async for message in socket] == ["one", b"two"]
        assert [message async for message in socket] == []
        assert socket.close_code == 4000


async def test_iterating_until_it_breaks(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        await remote.say(Text("one"), end=True)
        assert await anext(socket) == "one"
        with pytest.raises(VerserWebSocketError, match="without a closing handshake") as caught:
            await anext(socket)
        assert (caught.value.code, caught.value.context["closeCode"]) == ("stream-failure", 1006)
        assert await socket.receive() == {"type": "close", "code": 1006, "reason": ""}


async def test_a_host_that_speaks_nonsense(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        await remote.stream.write(encode(Text("fine")) + b"nonsense\n")
        assert await anext(socket) == "fine"
        with pytest.raises(VerserWebSocketError, match="1002"):
            await anext(socket)
        close = await remote.next()
        assert isinstance(close, Close)
        assert close.code == 1002


# --- The end ------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_leaving_the_block_closes(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        closed = asyncio.create_task(remote.closed_by_the_broker())
        async with socket:
            pass
        assert await closed == Close(1000, "")
        assert socket.close_code == 1000
        await socket.close(3000)
        with pytest.raises(VerserWebSocketError, match="closed with 1000") as caught:
            await socket.send_text("late")
        assert caught.value.code == "stream-failure"
        assert caught.value.context == {"targetId": "guest-a", "closeCode": 1000, "closeReason": ""}


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (1006, ""), (2000, ""), (1000, "x" * 124)])
async def test_a_close_that_cannot_be_said(certs: Certificates, code: int, reason: str) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        with pytest.raises(VerserUsageError):
            await socket.close(code, reason)
        assert not socket.closed
        await socket.send_text("still open")
        assert await remote.next() == Text("still open")
        socket.abort()


async def test_abort(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        receiving = asyncio.create_task(socket.receive())
        await asyncio.sleep(0)
        socket.abort()
        assert await receiving == {"type": "close", "code": 1006, "reason": ""}
        error = await remote.stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL
        assert [message async for message in socket] == []


async def test_the_session_is_lost(certs: Certificates) -> None:
    async with opened(certs) as (host, _broker, socket, _remote):
        host.session.abort("the test says so")
        with pytest.raises(VerserWebSocketError, match="lost with the session") as caught:
            await anext(socket)
        assert caught.value.code == "disconnected-target"
        with pytest.raises(VerserWebSocketError):
            await socket.send_text("late")


async def test_closing_the_broker_closes_its_sockets_with_1001(certs: Certificates) -> None:
    async with opened(certs) as (_host, broker, socket, remote):
        closing = asyncio.create_task(broker.close())
        assert (await remote.closed_by_the_broker()).code == 1001
        await closing
        assert socket.close_code == 1001
        assert [message async for message in socket] == []


async def test_a_socket_that_nobody_holds_is_given_up(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        send_head(stream, 200)
        await opening
        del opening
        gc.collect()
        assert isinstance(await stream.wait_error(), StreamReset)
        await host.session.ping()
        assert_nothing_left(broker)


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "context", "expected"),
    [(502, {}, None), (502, {"status": 404}, 404), (403, {}, 403), (502, {"status": "404"}, None)],
)
async def test_refused(
    certs: Certificates, status: int, context: dict[str, Any], expected: int | None
) -> None:
    said = {"code": "missing-guest", "message": "WebSocket endpoint is unavailable", "context": context}
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        await answer(
            stream, status, {"content-type": "application/json"}, json.dumps({"error": said}).encode()
        )
        with pytest.raises(VerserWebSocketError, match="endpoint is unavailable") as caught:
            await opening
        error = caught.value
        assert (error.code, error.status) == ("missing-guest", expected)
        assert error.context == {"targetId": "guest-a", "domain": DOMAIN, **context}
        await stream.wait_closed()
        await host.session.ping()
        assert_nothing_left(broker)


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"{}", b'{"error":{"code":"unheard-of"}}', b"x" * 100_000]
)
async def test_refused_in_other_words(certs: Certificates, body: bytes) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        send_head(stream, 500)
        writing = asyncio.create_task(stream.write(body, end=True))
        with pytest.raises(VerserWebSocketError, match="answered 500") as caught:
            await opening
        assert (caught.value.code, caught.value.status) == ("websocket-negotiation-failed", 500)
        await asyncio.wait([writing])
        writing.exception()
        await stream.wait_closed()


async def test_a_subprotocol_that_was_not_offered(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL, subprotocols=["a", "b"]))
        stream, _ = await asked(host)
        send_head(stream, 200, {"x-verser-ws-protocol": "c"})
        with pytest.raises(VerserWebSocketError, match="not offered"):
            await opening
        assert isinstance(await stream.wait_error(), StreamReset)
        assert_nothing_left(broker)


async def test_no_such_domain(certs: Certificates) -> None:
    async with scripted(certs) as (_host, broker):
        with pytest.raises(VerserWebSocketError, match=r"No Guest serves b\.local\.test") as caught:
            await broker.websocket("ws://b.local.test/")
        assert caught.value.code == "missing-guest"


@pytest.mark.parametrize("how", ["reset", "session lost"])
async def test_failing_before_the_answer(certs: Certificates, how: str) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        if how == "reset":
            stream.reset(ErrorCode.INTERNAL_ERROR)
        else:
            host.session.abort("the test says so")
        with pytest.raises(VerserWebSocketError) as caught:
            await opening
        assert caught.value.code == ("stream-failure" if how == "reset" else "disconnected-target")
        assert_nothing_left(broker)


async def test_not_open_in_time(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL, timeout=0.3))
        stream, _ = await asked(host)
        with pytest.raises(VerserWebSocketError, match=r"within 0\.3 s") as caught:
            await opening
        assert caught.value.code == "timeout"
        assert isinstance(await stream.wait_error(), StreamReset)
        assert_nothing_left(broker)


async def test_cancelled_while_it_opens(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        opening.cancel()
        assert isinstance(await stream.wait_error(), StreamReset)
        await asyncio.wait([opening])
        assert opening.cancelled()
        assert_nothing_left(broker)


# --- Several Guests, and Guests that are full -----------------------------------------------------


async def test_a_guest_without_a_lease_is_passed_over_where_the_host_says_so(certs: Certificates) -> None:
    async with scripted(certs, routes=GUESTS, extensions=["stage"]) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, first = await asked(host)
        await answer_error(stream, "websocket-negotiation-failed", stage="queued")
        stream, second = await asked(host)
        assert {first.target_id, second.target_id} == {"guest-a", "guest-b"}
        send_head(stream, 200)
        (await opening).abort()


@pytest.mark.parametrize(("extensions", "stage"), [([], "queued"), (["stage"], "sent"), (["stage"], None)])
async def test_a_refusal_that_an_app_may_have_made_stands(
    certs: Certificates, extensions: list[str], stage: str | None
) -> None:
    async with scripted(certs, routes=GUESTS, extensions=extensions) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        context = {"stage": stage} if stage else {}
        await answer_error(stream, "websocket-negotiation-failed", **context)
        with pytest.raises(VerserWebSocketError):
            await opening


async def test_a_lease_is_waited_for_where_the_host_says_that_there_is_none(certs: Certificates) -> None:
    async with scripted(certs, extensions=["stage"]) as (host, broker):
        opening = asyncio.create_task(broker.websocket(URL))
        for _ in range(4):
            stream, _ = await asked(host)
            await answer_error(stream, "websocket-negotiation-failed", stage="queued")
        stream, _ = await asked(host)
        send_head(stream, 200)
        (await opening).abort()
        opening = asyncio.create_task(broker.websocket(URL, lease_timeout=0.001))
        while not opening.done():
            stream, _ = await asked(host)
            await answer_error(stream, "websocket-negotiation-failed", "no lease", stage="queued")
            await asyncio.wait([opening], timeout=0.5)
        with pytest.raises(VerserWebSocketError, match="no lease"):
            opening.result()


async def test_a_guest_that_was_just_lost_is_waited_for(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await host.session.ping()
        opening = asyncio.create_task(broker.websocket(URL))
        await host.session.ping()
        assert not opening.done()
        await host.say_lifecycle(("changed", "guest-a", DOMAIN, "restored"))
        stream, _ = await asked(host)
        send_head(stream, 200)
        (await opening).abort()


async def test_opening_while_sessions_come_and_go(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        session = host.session
        session.goaway()
        opening = asyncio.create_task(broker.websocket(URL))
        stream, request = await asked(host)
        assert stream.session is not session
        assert request.source_id == "broker-a~2"
        session = stream.session
        session.closing = True
        session.engine.put(goaway(stream.id - 2))  # the Host has not looked at it (RFC 9113 §6.8)
        session.wrote()
        stream, _ = await asked(host)
        assert stream.session is not session
        send_head(stream, 200)
        async with await opening as socket:
            host.session.abort("the test says so")
            with pytest.raises(VerserWebSocketError):
                await anext(socket)


async def test_waiting_for_room_among_streams(certs: Certificates) -> None:
    few = SessionOptions(max_concurrent_streams=2)  # the control stream is one of them
    async with scripted(certs, options=few) as (host, broker):
        first = asyncio.create_task(broker.websocket(URL))
        stream, _ = await asked(host)
        send_head(stream, 200)
        second = asyncio.create_task(broker.websocket(URL))
        request = asyncio.create_task(broker.get(URL.replace("ws:", "http:")))
        await host.session.ping()
        (await first).abort()
        stream, _ = await asked(host)
        send_head(stream, 200)
        (await second).abort()
        await answer(await host.accept("/verser/request"), 200)
        await (await request).aclose()


async def test_sockets_go_to_the_guest_with_the_fewest(certs: Certificates) -> None:
    async with scripted(certs, routes=GUESTS) as (host, broker):
        sockets = []
        for _ in range(6):
            opening = asyncio.create_task(broker.websocket(URL))
            stream, request = await asked(host)
            send_head(stream, 200)
            sockets.append((request.target_id, await opening))
        assert sorted(target for target, _ in sockets) == ["guest-a"] * 3 + ["guest-b"] * 3
        freed = [socket for target, socket in sockets if target == "guest-b"]
        for socket in freed[:2]:
            socket.abort()
            await socket.wait_closed()
        await host.session.ping()
        for _ in range(2):
            opening = asyncio.create_task(broker.websocket(URL))
            stream, request = await asked(host)
            assert request.target_id == "guest-b"
            send_head(stream, 200)
            sockets.append((request.target_id, await opening))
        for _, socket in sockets:
            socket.abort()


async def test_frames_of_json_as_the_contract_has_them(certs: Certificates) -> None:
    async with opened(certs) as (_host, _broker, socket, remote):
        await socket.send_text("x")
        assert json.loads(await remote.stream.read()) == {"type": "text", "data": "x"}
        socket.abort()

"""WebSockets on leases of their own, line by line (protocol.md §11)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.guest.guests import (
    DOMAIN,
    GUEST_ID,
    WAIT_SECONDS,
    Events,
    guest_at_scripted_host,
    other_streams,
    respond,
    session_of,
)
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, answer_error, raw_reset, send_head
from tests.support.waiting import until
from verser2_guest_python import VerserGuest
from verser2_guest_python.asgi.types import Message, Receive, Scope, Send
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, SessionOptions, Stream

LEASE_PATH = "/verser/guest/websocket-lease"
HTTP_LEASES = 8
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


@pytest.fixture(autouse=True)
def shorter_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that never close are part of nearly every test here."""
    for module in ("guest.websocket_leases", "peer.websocket"):
        monkeypatch.setattr(f"verser2_guest_python.{module}.CLOSE_SECONDS", 0.2)


class Socket:
    """The Host's end of a WebSocket lease."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._rest = b""

    def say(self, *messages: Any) -> None:
        """Lines in one frame: objects as JSON, bytes as they are."""
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in messages]
        assert self.stream.write_now(b"".join(lines))

    async def send(self, message: Any) -> None:
        """One line of any size."""
        await self.stream.write(json.dumps(message).encode() + b"\n")

    def open(self, path: str = "/room", **more: Any) -> None:
        self.say({"type": "open", "domain": DOMAIN, "path": path, **more})

    async def hear(self) -> dict[str, Any] | None:
        """The next line; None when the Guest has ended its side."""
        async with asyncio.timeout(WAIT_SECONDS):
            while b"\n" not in self._rest:
                data = await self.stream.read()
                if not data:
                    assert not self._rest
                    return None
                self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        heard: dict[str, Any] = json.loads(line)
        return heard

    async def end(self) -> None:
        """The Host ends both sides as soon as one has ended."""
        try:
            assert await self.hear() is None
            self.stream.write_now(b"", end=True)
        except ConnectionLost:
            pass  # a Guest that drains closes its session right behind it


async def next_socket(host: ScriptedHost) -> Socket:
    while True:
        stream = await host.accept(LEASE_PATH)
        if stream.error is None and not stream.ended:
            return Socket(stream)


async def opened(host: ScriptedHost, path: str = "/room", **more: Any) -> Socket:
    """A WebSocket that the app has accepted."""
    socket = await next_socket(host)
    socket.open(path, **more)
    assert await socket.hear() == {"type": "accept"}
    return socket


def serving(certs: Certificates, handler: Handler, **options: Any) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send)
            return
        if scope["type"] != "websocket":
            raise NotImplementedError
        await handler(scope, receive, send)

    options.setdefault("min_waiting_websocket_streams", 2)
    return guest_at_scripted_host(certs, app, **options)


async def accepted(receive: Receive, send: Send, **more: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **more})


class Echo:
    """Echoes, and remembers how each WebSocket ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        try:
            await accepted(receive, send)
            while (message := await receive())["type"] == "websocket.receive":
                kept = {key: value for key, value in message.items() if key in ("text", "bytes")}
                await send({"type": "websocket.send", **kept})
            self.ends.append((message["code"], message.get("reason", "")))
        finally:
            self.running -= 1


async def at_rest(guest: VerserGuest, idle: int = 2) -> None:
    """Until nothing is left of any WebSocket."""
    expected = HTTP_LEASES + idle + other_streams(guest)
    await until(lambda: session_of(guest).open_streams == expected)
    assert session_of(guest).unread_bytes == 0


# --- Leases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [0, 1, 2, 4])
async def test_so_many_leases_are_idle(certs: Certificates, idle: int) -> None:
    async with serving(certs, Echo(), min_waiting_websocket_streams=idle) as (host, _guest):
        for _ in range(3):
            await host.session.ping()
        assert host._queue(LEASE_PATH).qsize() == idle
        for _ in range(idle):
            stream = await host.accept(LEASE_PATH)
            assert dict(stream.fields or ())[b"x-verser-peer-id"] == GUEST_ID.encode()
            assert not stream.ended


@pytest.mark.both_loops
async def test_a_lease_is_replaced_the_moment_it_is_used(certs: Certificates) -> None:
    """There is no queue at the Host: one that finds no lease fails."""
    async with serving(certs, Echo()) as (host, guest):
        sockets = []
        for _ in range(10):
            socket = await next_socket(host)
            socket.open()
            sockets.append(socket)
        for socket in sockets:
            assert await socket.hear() == {"type": "accept"}
        assert session_of(guest).open_streams == HTTP_LEASES + other_streams(guest) + 10 + 2
        for socket in sockets:
            socket.say({"type": "close", "code": 1000})
            assert (await socket.hear()) == {"type": "close", "code": 1000, "reason": ""}
            await socket.end()
        await at_rest(guest)


async def test_no_more_are_open_than_the_limit(certs: Certificates) -> None:
    app = Echo()
    limits = {"min_waiting_websocket_streams": 2, "max_websocket_streams": 3}
    async with serving(certs, app, **limits) as (host, guest):
        sockets = [await opened(host) for _ in range(3)]
        for _ in range(3):
            await host.session.ping()
        assert host._queue(LEASE_PATH).qsize() == 0
        sockets[0].say({"type": "close", "code": 1000})
        assert await sockets[0].hear()
        await sockets[0].end()
        await opened(host)
        assert app.running == 3
        assert guest.connected


REFUSALS: list[Callable[[Stream], None]] = [
    lambda stream: send_head(stream, 502, end=True),
    lambda stream: send_head(stream, 200, end=True),
    lambda stream: raw_reset(stream, ErrorCode.CANCEL),
    lambda stream: (send_head(stream, 502), stream.write_now(b'{"error":'))[0],
]


@pytest.mark.parametrize("refuse", REFUSALS, ids=["502", "ended", "reset", "502 without end"])
async def test_leases_that_are_refused_are_opened_anew_in_a_while(
    certs: Certificates,
    refuse: Callable[[Stream], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("verser2_guest_python.guest.websocket_leases._RETRY_SECONDS", 0.02)
    async with serving(certs, Echo()) as (host, guest):
        plain = host._on_stream
        refused: list[Stream] = []

        def on_stream(stream: Stream) -> None:
            if dict(stream.fields or ())[b":path"].decode() == LEASE_PATH and len(refused) < 20:
                refused.append(stream)
                refuse(stream)
            else:
                plain(stream)

        host.session.on_stream = on_stream
        for _ in range(2):
            (await host.accept(LEASE_PATH)).reset()
        await until(lambda: len(refused) == 20)
        socket = await opened(host)
        socket.say({"type": "close", "code": 1000})
        await socket.hear()
        await socket.end()
        await at_rest(guest)
    if not any(stream.error is not None for stream in refused):  # a reset may be a request that was cancelled
        assert any(record.levelno == logging.WARNING for record in caplog.records)


async def test_a_refusal_with_an_error_object(certs: Certificates) -> None:
    """Deployed Hosts hold four idle leases for a Guest, and say `timeout` to the fifth."""
    async with serving(certs, Echo()) as (host, guest):
        plain = host._on_stream
        answering: list[asyncio.Task[None]] = []

        def on_stream(stream: Stream) -> None:
            if dict(stream.fields or ())[b":path"].decode() == LEASE_PATH and not answering:
                answering.append(asyncio.create_task(answer_error(stream, "timeout", "too many")))
            else:
                plain(stream)

        host.session.on_stream = on_stream
        socket = await opened(host)
        await until(lambda: bool(answering))
        socket.say({"type": "close", "code": 1000})
        await socket.hear()
        await socket.end()
        await at_rest(guest)


# --- Messages -------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_texts_and_bytes_both_ways(certs: Certificates) -> None:
    app = Echo()
    async with serving(certs, app) as (host, guest):
        socket = await opened(host)
        for text in ("hello", "", "hé 😀", "\u2028 \x00", "x" * 700_000):
            sending = asyncio.create_task(socket.send({"type": "text", "data": text}))
            assert await socket.hear() == {"type": "text", "data": text}
            await sending
        for data in (b"", b"\x00\xff\x7f", bytes(range(256)) * 2_000):
            said = {"type": "binary", "data": base64.b64encode(data).decode()}
            sending = asyncio.create_task(socket.send(said))
            assert await socket.hear() == said
            await sending
        socket.say({"type": "close", "code": 3001, "reason": "enough"})
        assert await socket.hear() == {"type": "close", "code": 3001, "reason": "enough"}
        await socket.end()
        await until(lambda: app.ends == [(3001, "enough")])
        await at_rest(guest)


async def test_what_the_app_reads_about_a_websocket(certs: Certificates) -> None:
    seen: list[Scope] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await accepted(receive, send)

    async with serving(certs, handler, root_path="/root") as (host, _guest):
        socket = await next_socket(host)
        socket.open("/a%20b?q=1", protocol="chat.v1, chat.v2")
        await socket.hear()
        socket = await next_socket(host)
        socket.say({"type": "open", "domain": DOMAIN})
        await socket.hear()
    first, second = seen
    assert (first["type"], first["scheme"], first["http_version"]) == ("websocket", "ws", "1.1")
    assert (first["path"], first["raw_path"], first["query_string"]) == ("/root/a b", b"/root/a%20b", b"q=1")
    assert first["subprotocols"] == ["chat.v1", "chat.v2"]
    assert dict(first["headers"]) == {
        b"host": DOMAIN.encode(),
        b"sec-websocket-protocol": b"chat.v1, chat.v2",
    }
    assert first["extensions"]["verser"]["route_domain"] == DOMAIN
    assert (second["path"], second["subprotocols"]) == ("/root/", [])


@pytest.mark.parametrize("extended", [False, True])
async def test_the_chosen_subprotocol(certs: Certificates, extended: bool) -> None:
    """Out of a list nothing can be chosen through deployed Hosts; exactly the offered string can."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send, subprotocol=scope["subprotocols"][0])

    host_options = {"extensions": ["ws-headers"] if extended else []}
    async with serving(certs, handler, host=host_options) as (host, _guest):
        for offered in ("chat.v1", "chat.v1, chat.v2"):
            socket = await next_socket(host)
            socket.open(protocol=offered)
            accept = await socket.hear()
            assert accept is not None
            can = extended or offered == "chat.v1"
            assert accept.get("protocol", "") == ("chat.v1" if can else "")


@pytest.mark.parametrize("extended", [False, True])
async def test_headers_of_both_sides(
    certs: Certificates, extended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Scope] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await accepted(receive, send, headers=[(b"x-app", b"1")])

    host_options = {"extensions": ["ws-headers"] if extended else []}
    async with serving(certs, handler, host=host_options) as (host, _guest):
        socket = await next_socket(host)
        socket.open(headers={"cookie": "a=1"} if extended else None)
        accept = await socket.hear()
        assert accept is not None
        assert accept.get("headers") == ({"x-app": "1"} if extended else None)
    assert ((b"cookie", b"a=1") in seen[0]["headers"]) is extended
    assert any("headers" in record.getMessage() for record in caplog.records) is not extended


async def test_pings_are_answered_by_the_library(certs: Certificates) -> None:
    async with serving(certs, Echo()) as (host, _guest):
        socket = await opened(host)
        socket.say({"type": "ping", "data": "n"}, {"type": "ping"}, {"type": "pong", "data": "unasked"})
        assert await socket.hear() == {"type": "pong", "data": "n"}
        assert await socket.hear() == {"type": "pong", "data": ""}
        socket.say({"type": "text", "data": "still here"})
        assert await socket.hear() == {"type": "text", "data": "still here"}


async def test_a_message_right_behind_open(certs: Certificates) -> None:
    """A client that does not wait for the acceptance is heard after it."""
    async with serving(certs, Echo()) as (host, _guest):
        socket = await next_socket(host)
        socket.open()
        socket.say({"type": "text", "data": "in a frame of its own"})
        assert await socket.hear() == {"type": "accept"}
        assert await socket.hear() == {"type": "text", "data": "in a frame of its own"}


async def test_lines_in_pieces_and_many_in_one_frame(certs: Certificates) -> None:
    async with serving(certs, Echo()) as (host, _guest):
        socket = await next_socket(host)
        line = json.dumps({"type": "open", "domain": DOMAIN, "path": "/x"}).encode() + b"\n"
        for position in range(0, len(line), 7):
            socket.say(line[position : position + 7])
            await host.session.ping()
        assert await socket.hear() == {"type": "accept"}
        socket.say(*[{"type": "text", "data": str(number)} for number in range(500)])
        for number in range(500):
            assert await socket.hear() == {"type": "text", "data": str(number)}


async def test_an_app_that_does_not_receive_slows_its_sender(certs: Certificates) -> None:
    """Credit is held back, no message is dropped (§11, §12.4)."""
    go_on = asyncio.Event()
    received: list[int] = []

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)
        await go_on.wait()
        while (message := await receive())["type"] == "websocket.receive":
            received.append(len(message["text"]))

    async with serving(certs, handler) as (host, guest):
        socket = await opened(host)
        line = json.dumps({"type": "text", "data": "x" * 100_000}).encode() + b"\n"
        upload = asyncio.create_task(_write_all(socket.stream, line * 100))
        await until(lambda: session_of(guest).unread_bytes > 500_000)
        assert not upload.done()
        go_on.set()
        async with asyncio.timeout(30):
            await upload
        socket.say({"type": "close", "code": 1000})
        await socket.hear()
        await socket.end()
        await until(lambda: len(received) == 100)


async def _write_all(stream: Stream, data: bytes) -> None:
    for position in range(0, len(data), 65_536):
        await stream.write(data[position : position + 65_536])


async def test_a_host_that_does_not_read_slows_the_app(certs: Certificates) -> None:
    sent = 0

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await accepted(receive, send)
        for _ in range(100):
            await send({"type": "websocket.send", "text": "x" * 100_000})
            sent += 1

    options = SessionOptions(stream_window_bytes=65_535)
    async with serving(certs, handler, host={"options": options}) as (host, _guest):
        socket = await opened(host)
        before = -1
        while before != sent:
            before = sent
            await host.session.ping()
        assert sent < 30
        for _ in range(100):
            assert await socket.hear()
        closing = await socket.hear()
        assert closing is not None
        assert closing["type"] == "close"


# --- How it ends ----------------------------------------------------------------------------------


async def test_the_app_closes(certs: Certificates) -> None:
    """`close`, then the Host's `close`, and only then the end of the stream."""

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})

    async with serving(certs, handler) as (host, guest):
        socket = await opened(host)
        assert await socket.hear() == {"type": "close", "code": 4001, "reason": "enough"}
        await host.session.ping()
        assert not socket.stream.ended
        socket.say({"type": "close", "code": 4001, "reason": "enough"})
        await socket.end()
        await at_rest(guest)


async def test_an_app_that_returns_closes_with_1000(certs: Certificates) -> None:
    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)

    async with serving(certs, handler) as (host, _guest):
        socket = await opened(host)
        closing = await socket.hear()
        assert closing is not None
        assert (closing["type"], closing["code"]) == ("close", 1000)


async def test_a_host_that_never_answers_a_close(certs: Certificates) -> None:
    """It gets a second; then the stream is reset."""

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)

    async with serving(certs, handler) as (host, guest):
        socket = await opened(host)
        assert await socket.hear()
        async with asyncio.timeout(10):
            error = await socket.stream.wait_error()
        assert error is not None
        await at_rest(guest)


async def test_an_app_that_fails_closes_with_1011(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)
        raise ValueError("secret detail")

    async with serving(certs, handler) as (host, guest):
        events = Events(guest)
        socket = await opened(host)
        closing = await socket.hear()
        assert closing is not None
        assert (closing["type"], closing["code"]) == ("close", 1011)
        assert "secret" not in closing.get("reason", "")
        socket.say(closing)
        await socket.end()
        assert (await events.wait("request-completed")).fields["reason"]
        assert any(record.exc_info for record in caplog.records)


async def refuse_plainly(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def refuse_with_a_response(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"1")]})
    await send({"type": "websocket.http.response.body", "body": b"no"})


async def fail_at_once(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError("secret detail")


async def say_nothing(_scope: Scope, receive: Receive, _send: Send) -> None:
    await receive()


@pytest.mark.parametrize(
    ("handler", "code", "status"),
    [
        (refuse_plainly, "missing-guest", 404),
        (refuse_with_a_response, "missing-guest", 404),
        (fail_at_once, "local-handler-failure", None),
        (say_nothing, "websocket-negotiation-failed", None),
    ],
)
async def test_a_websocket_that_is_not_accepted(
    certs: Certificates, handler: Handler, code: str, status: int | None
) -> None:
    async with serving(certs, handler) as (host, guest):
        socket = await next_socket(host)
        socket.open("/room")
        error = await socket.hear()
        assert error is not None
        assert (error["type"], error["code"]) == ("error", code)
        assert "secret" not in error["message"]
        assert error["context"]["guestId"] == GUEST_ID
        assert error["context"].get("status") == status
        if status is not None:
            assert error["message"] == "WebSocket endpoint is unavailable"
            assert (error["context"]["domain"], error["context"]["path"]) == (DOMAIN, "/room")
        await socket.end()
        await at_rest(guest)


async def test_the_status_of_a_refusal_reaches_extended_hosts(certs: Certificates) -> None:
    async with serving(certs, refuse_with_a_response, host={"extensions": ["ws-headers"]}) as (host, _guest):
        socket = await next_socket(host)
        socket.open()
        error = await socket.hear()
        assert error is not None
        assert error["context"]["status"] == 401


class WebSocketWitness:
    """Waits for its end, then tries to send."""

    def __init__(self, *, accepts: bool) -> None:
        self.accepts = accepts
        self.begun = asyncio.Event()
        self.last: Message | None = None
        self.send_error: BaseException | None = None
        self.done = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self.accepts:
                await accepted(receive, send)
            else:
                assert await receive() == {"type": "websocket.connect"}
            self.begun.set()
            self.last = await receive()
            try:
                await send(
                    {"type": "websocket.send", "text": "x"} if self.accepts else {"type": "websocket.accept"}
                )
            except OSError as error:
                self.send_error = error
        finally:
            self.done.set()


@pytest.mark.parametrize("accepts", [False, True])
@pytest.mark.parametrize("how", ["reset", "end", "end and reset", "session"])
async def test_a_broker_that_is_gone(
    certs: Certificates, accepts: bool, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = WebSocketWitness(accepts=accepts)
    async with serving(certs, app) as (host, guest):
        events = Events(guest)
        socket = await next_socket(host)
        socket.open()
        await app.begun.wait()
        if how == "session":
            host.session.abort("the test says so")
        else:
            if how != "reset":
                socket.stream.write_now(b"", end=True)
            if how != "end":
                raw_reset(socket.stream, ErrorCode.CANCEL)
        async with asyncio.timeout(10):
            await app.done.wait()
        assert app.last is not None
        assert (app.last["type"], app.last["code"]) == ("websocket.disconnect", 1006)
        assert isinstance(app.send_error, OSError)
        await events.wait("request-completed")
        if how == "session":
            await events.wait("registered")
        await at_rest(guest)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- What no Host should send ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "code"),
    [
        pytest.param(b"garbage\n", 1002, id="no JSON"),
        pytest.param(b"[]\n", 1002, id="an array"),
        pytest.param(b'{"type":"text","data":"x"}\n', 1002, id="a text"),
        pytest.param(b'{"type":"accept"}\n', 1002, id="accept"),
        pytest.param(b'{"type":"open"}\n', 1002, id="no domain"),
        pytest.param(b'{"type":"open","domain":""}\n', 1002, id="an empty domain"),
        pytest.param(b'{"type":"open","domain":7}\n', 1002, id="a number"),
        pytest.param(b'{"type":"open","domain":"a.local.test","path":7}\n', 1002, id="path"),
        pytest.param(b'{"type":"of-tomorrow"}\n', 1002, id="unknown type"),
        pytest.param(b"\xff\xfe\n", 1002, id="no UTF-8"),
        pytest.param(b"x" * 1_048_600, 1009, id="a line without end"),
    ],
)
async def test_what_is_no_open(certs: Certificates, first: bytes, code: int) -> None:
    called: list[Scope] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)
        await accepted(receive, send)

    async with serving(certs, handler) as (host, guest):
        session = session_of(guest)
        socket = await next_socket(host)
        upload = asyncio.create_task(_write_all(socket.stream, first))
        heard = await socket.hear()
        assert heard is not None
        assert (heard["type"], heard["code"]) == ("close", code)
        async with asyncio.timeout(10):
            assert await socket.stream.wait_error() is not None
        await asyncio.wait({upload})
        upload.exception()
        assert called == []
        await opened(host)
        assert session_of(guest) is session


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage\n", 1002),
        (b'{"type":"open","domain":"a.local.test"}\n', 1002),
        (b'{"type":"text","data":7}\n', 1002),
        (b'{"type":"binary","data":"not base64!"}\n', 1002),
        (b'{"type":"close","code":1005}\n', 1002),
        (b"x" * 1_048_600 + b"\n", 1009),
    ],
)
async def test_what_breaks_an_open_websocket(certs: Certificates, line: bytes, code: int) -> None:
    app = Echo()
    async with serving(certs, app) as (host, guest):
        socket = await opened(host)
        upload = asyncio.create_task(_write_all(socket.stream, line))
        heard = await socket.hear()
        assert heard is not None
        assert (heard["type"], heard["code"]) == ("close", code)
        await until(lambda: [end[0] for end in app.ends] == [code])
        async with asyncio.timeout(10):
            await socket.stream.wait_error()
        await asyncio.wait({upload})
        upload.exception()
        await at_rest(guest)


async def test_a_domain_without_an_app(certs: Certificates) -> None:
    options = {"min_waiting_websocket_streams": 2}
    async with guest_at_scripted_host(certs, None, **options) as (host, _guest):
        socket = await next_socket(host)
        socket.open()
        error = await socket.hear()
        assert error is not None
        assert (error["type"], error["code"]) == ("error", "missing-guest")


# --- Draining -------------------------------------------------------------------------------------


async def test_a_drain_tells_1012(certs: Certificates) -> None:
    app = Echo()
    async with serving(certs, app) as (host, guest):
        socket = await opened(host)
        idle = await next_socket(host)
        task = asyncio.create_task(guest.close(timeout=20))
        closing = await socket.hear()
        assert closing is not None
        assert (closing["type"], closing["code"]) == ("close", 1012)
        assert await idle.hear() is None
        socket.say(closing)
        await socket.end()
        await task
        assert [end[0] for end in app.ends] == [1012]


async def test_a_drain_waits_for_what_apps_do_behind_their_websocket(certs: Certificates) -> None:
    go_on = asyncio.Event()
    done: list[bool] = []

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)
        assert (await receive())["type"] == "websocket.disconnect"
        await go_on.wait()
        done.append(True)

    async with serving(certs, handler) as (host, guest):
        socket = await opened(host)
        task = asyncio.create_task(guest.close(timeout=20))
        closing = await socket.hear()
        socket.say(closing)
        assert not task.done()
        go_on.set()
        await task
        assert done == [True]


async def test_a_websocket_that_does_not_end_in_time_is_cut(certs: Certificates) -> None:
    begun = asyncio.Event()

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted(receive, send)
        begun.set()
        await asyncio.sleep(60)

    async with serving(certs, handler) as (host, guest):
        events = Events(guest)
        socket = await opened(host)
        await begun.wait()
        async with asyncio.timeout(10):
            await guest.close(timeout=0.2)
        assert socket.stream.error is not None
        told = (await events.wait("request-completed")).fields
        assert (told["status"], told["reason"]) == (101, "cut off by the end of the Guest")


# --- Nothing leaks --------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_hundreds_of_aborted_websockets(certs: Certificates, when: str) -> None:
    app = Echo()
    async with serving(certs, app) as (host, guest):
        session = session_of(guest)
        for _ in range(100):
            socket = await next_socket(host)
            socket.open()
            if when == "after":
                assert await socket.hear() == {"type": "accept"}
            socket.stream.reset(ErrorCode.CANCEL)
        await until(lambda: app.running == 0)
        await at_rest(guest)
        assert session_of(guest) is session

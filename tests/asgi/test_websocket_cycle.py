from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tests.asgi.frameworks  # noqa: F401
from tests.asgi.memory_peer import MemoryPeer, websocket_scope
from verser2_guest_python.asgi.exceptions import AsgiRuleError, ClientDisconnected
from verser2_guest_python.asgi.types import ASGIApp, Headers, Message, Receive, Scope, Send
from verser2_guest_python.asgi.websocket import (
    MAX_DENIAL_BODY_BYTES,
    MAX_EARLY_MESSAGES,
    WebSocketClosed,
    WebSocketCycle,
    WebSocketEnd,
    WebSocketOutcome,
)
from verser2_guest_python.asgi.websocket_messages import is_close_code

ACCEPT: Message = {"type": "websocket.accept"}
CLOSE: Message = {"type": "websocket.close"}
TEXT: Message = {"type": "websocket.send", "text": "hello"}


def text(data: str) -> Message:
    return {"type": "websocket.send", "text": data}


async def run(app: ASGIApp, peer: MemoryPeer | None = None, *subprotocols: str) -> WebSocketOutcome:
    return await WebSocketCycle(app, websocket_scope(*subprotocols), peer or MemoryPeer()).run()


def opened(then: Callable[[Receive, Send], Awaitable[None]]) -> ASGIApp:
    """Make an app that accepts and then does what it is told."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "websocket.connect"}
        await send(ACCEPT)
        await then(receive, send)

    return app


def sending(*messages: Message) -> ASGIApp:
    """Make an app that sends these messages as they are."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)

    return app


async def rule_of(app: ASGIApp, *subprotocols: str) -> str:
    """Return the rule that an app has broken."""
    outcome = await run(app, None, *subprotocols)
    assert isinstance(outcome.error, AsgiRuleError), outcome
    told = str(outcome.error)
    assert "ASGI WebSocket 2.5" in told
    return told


# --- an exchange -----------------------------------------------------------------------------


async def echo(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({**message, "type": "websocket.send"})


@pytest.mark.both_loops
async def test_messages_go_both_ways_and_keep_their_kind() -> None:
    peer = MemoryPeer()
    cycle = asyncio.create_task(run(opened(echo), peer))
    await peer.client_send("hé", b"\x00\xff", "", b"")
    assert [await peer.client_receive() for _ in range(4)] == ["hé", b"\x00\xff", "", b""]
    await peer.client_close(3001, "enough")
    assert await cycle == WebSocketOutcome(WebSocketEnd.DISCONNECTED, True, None, 3001, "enough")


async def test_a_received_message_has_the_key_of_its_kind() -> None:
    seen: list[Message] = []

    async def twice(receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    peer = MemoryPeer()
    await peer.client_send("a", b"b")
    await run(opened(twice), peer)
    assert seen == [{"type": "websocket.receive", "text": "a"}, {"type": "websocket.receive", "bytes": b"b"}]


@pytest.mark.parametrize(
    ("message", "arrives"),
    [
        ({"text": "x", "bytes": None}, "x"),
        ({"text": None, "bytes": b"x"}, b"x"),
        ({"bytes": bytearray(b"x")}, b"x"),
        ({"bytes": memoryview(b"x")}, b"x"),
        ({"text": ""}, ""),
    ],
)
async def test_what_may_be_sent(message: Message, arrives: str | bytes) -> None:
    peer = MemoryPeer()
    outcome = await run(sending(ACCEPT, {"type": "websocket.send", **message}), peer)
    assert outcome.error is None
    received = await peer.client_receive()
    assert received == arrives
    assert type(received) is type(arrives)


async def test_send_waits_for_a_slow_client() -> None:
    sent: list[int] = []

    async def flood(receive: Receive, send: Send) -> None:
        for number in range(10):
            await send(text(str(number)))
            sent.append(number)

    peer = MemoryPeer(room=3)
    cycle = asyncio.create_task(run(opened(flood), peer))
    async with asyncio.timeout(10):
        while len(sent) < 3:  # noqa: ASYNC110 - the next one must not come, and nothing tells of that
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert sent == [0, 1, 2]
    assert [await peer.client_receive() for _ in range(10)] == [str(number) for number in range(10)]
    assert (await cycle).end is WebSocketEnd.CLOSED


# --- accepting -------------------------------------------------------------------------------


async def test_accept_carries_subprotocol_and_headers() -> None:
    peer = MemoryPeer()
    message = {**ACCEPT, "subprotocol": "chat.v1", "headers": [[b"X-One", b"1"], (b"set-cookie", b"a=b")]}
    outcome = await run(sending(message), peer, "chat.v2", "chat.v1")
    assert outcome.accepted
    assert peer.accepted == ("chat.v1", [(b"x-one", b"1"), (b"set-cookie", b"a=b")])


@pytest.mark.parametrize(
    "more", [{}, {"subprotocol": None, "headers": []}, {"subprotocol": "", "headers": None}]
)
async def test_accept_may_leave_everything_out(more: Message) -> None:
    peer = MemoryPeer()
    await run(sending({**ACCEPT, **more}), peer)
    assert peer.accepted == (None, [])


async def test_an_app_may_accept_before_it_receives() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        seen.extend([(await receive())["type"], (await receive())["type"]])

    peer = MemoryPeer()
    await peer.client_send("x")
    await run(app, peer)
    assert seen == ["websocket.connect", "websocket.receive"]


async def test_a_subprotocol_that_was_not_offered_names_the_rule() -> None:
    told = await rule_of(sending({**ACCEPT, "subprotocol": "soap"}), "chat.v1", "chat.v2")
    assert "'soap'" in told
    assert "'chat.v1', 'chat.v2'" in told
    assert "offers none" in await rule_of(sending({**ACCEPT, "subprotocol": "soap"}))


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"subprotocol": b"chat"}, "subprotocol of websocket.accept is a str, not bytes"),
        ({"headers": [("x", "y")]}, "pairs of bytes"),
        ({"headers": [(b"x",)]}, "pairs of bytes"),
        ({"headers": [b"x"]}, "pairs of bytes"),
        ({"headers": 5}, "pairs of bytes"),
        ({"headers": [(b":status", b"200")]}, "no pseudo-header such as :status"),
        ({"headers": [(b"Sec-WebSocket-Protocol", b"x")]}, "use subprotocol"),
    ],
)
async def test_what_accept_may_not_carry(more: Message, rule: str) -> None:
    peer = MemoryPeer()
    outcome = await run(sending({**ACCEPT, **more}), peer)
    assert isinstance(outcome.error, AsgiRuleError)
    assert rule in str(outcome.error)
    assert peer.accepted is None
    assert outcome.end is WebSocketEnd.FAILED


async def test_an_app_may_try_again_after_a_rule_that_it_broke() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(AsgiRuleError):
            await send(TEXT)
        with contextlib.suppress(AsgiRuleError):
            await send({**ACCEPT, "subprotocol": "soap"})
        await send(ACCEPT)

    assert (await run(app)).end is WebSocketEnd.CLOSED


async def test_an_error_of_the_peer_at_accept_reaches_the_app_which_may_close() -> None:
    class Picky(MemoryPeer):
        async def accept(self, subprotocol: str | None, headers: Headers) -> None:
            raise ValueError("these headers cannot be said")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="cannot be said"):
            await send(ACCEPT)
        await send(CLOSE)

    peer = Picky()
    outcome = await run(app, peer)
    assert outcome.end is WebSocketEnd.REFUSED
    assert peer.denied == (403, [], b"")


# --- receive before accept ---------------------------------------------------------------------


async def test_receive_waits_for_the_acceptance_of_another_task() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def reader() -> None:
            seen.extend([await receive(), await receive()])

        async with asyncio.TaskGroup() as group:
            group.create_task(reader())
            await asyncio.sleep(0)
            await send(ACCEPT)
            await peer.client_send("x")

    peer = MemoryPeer()
    await run(app, peer)
    assert seen[1] == {"type": "websocket.receive", "text": "x"}


async def test_a_message_that_overtakes_the_acceptance_waits_for_it() -> None:
    order: list[str] = []

    class Slow(MemoryPeer):
        async def accept(self, subprotocol: str | None, headers: Headers) -> None:
            await self.client_send("early")
            for _ in range(5):
                await asyncio.sleep(0)
            await super().accept(subprotocol, headers)
            order.append("accepted")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

        async def reader() -> None:
            order.append((await receive())["text"])

        async with asyncio.TaskGroup() as group:
            group.create_task(reader())
            await asyncio.sleep(0)
            await send(ACCEPT)

    outcome = await run(app, Slow())
    assert outcome.error is None
    assert order == ["accepted", "early"]


async def test_the_peer_is_asked_anew_after_the_acceptance() -> None:
    seen: list[str] = []

    class Forgetful(MemoryPeer):
        async def receive(self) -> str | bytes | WebSocketClosed:
            if self.accepted is None:
                await asyncio.Event().wait()  # this call never ends
            return await super().receive()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        first = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send(ACCEPT)
        await peer.client_send("x")
        seen.append((await first)["text"])

    peer = Forgetful()
    await run(app, peer)
    assert seen == ["x"]


async def test_messages_before_the_acceptance_wait_for_it() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        first = asyncio.ensure_future(receive())
        await peer.client_send("a", "b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert not first.done()
        await send(ACCEPT)
        await peer.client_send("c")
        seen.extend([(await first)["text"], (await receive())["text"], (await receive())["text"]])

    peer = MemoryPeer()
    assert (await run(app, peer)).error is None
    assert seen == ["a", "b", "c"]


async def test_a_client_that_sends_too_early_and_goes_away_is_seen_to_go() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    peer = MemoryPeer()
    await peer.client_send("too early")
    await peer.client_close(1001)
    outcome = await run(app, peer)
    assert seen[1] == {"type": "websocket.disconnect", "code": 1001, "reason": ""}
    assert outcome == WebSocketOutcome(WebSocketEnd.DISCONNECTED, False)


async def test_a_client_that_floods_before_the_acceptance_is_disconnected() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    peer = MemoryPeer()
    await peer.client_send(*(str(number) for number in range(MAX_EARLY_MESSAGES + 1)))
    outcome = await run(app, peer)
    assert (seen[1]["type"], seen[1]["code"]) == ("websocket.disconnect", 1002)
    assert (outcome.end, outcome.accepted) == (WebSocketEnd.DISCONNECTED, False)


async def test_a_receive_that_is_cancelled_before_the_acceptance_loses_no_message() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await peer.client_send("a", "b")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await receive()
        await send(ACCEPT)
        seen.extend([(await receive())["text"], (await receive())["text"]])

    peer = MemoryPeer()
    assert (await run(app, peer)).error is None
    assert seen == ["a", "b"]


async def test_a_client_that_goes_away_before_the_acceptance() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await peer.client_close(1001)
        with pytest.raises(ClientDisconnected):
            await send(ACCEPT)
        assert await receive() == {"type": "websocket.disconnect", "code": 1001, "reason": ""}

    peer = MemoryPeer()
    outcome = await run(app, peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.DISCONNECTED, False)


# --- refusing --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1006, 403, 4999])
async def test_close_before_accept_refuses_with_403(code: int) -> None:
    # Its code is sent nowhere, so it may be any
    peer = MemoryPeer()
    outcome = await run(sending({**CLOSE, "code": code, "reason": "not you"}), peer)
    assert peer.denied == (403, [], b"")
    assert peer.closed_by_app is None
    assert outcome == WebSocketOutcome(WebSocketEnd.REFUSED, False, status=403)


async def test_receive_after_a_refusal_is_a_disconnect() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(CLOSE)
        assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    assert (await run(app)).error is None


async def test_a_denial_response() -> None:
    peer = MemoryPeer()
    start = {
        "type": "websocket.http.response.start",
        "status": 401,
        "headers": [(b"WWW-Authenticate", b"Basic")],
    }
    outcome = await run(
        sending(
            start,
            {"type": "websocket.http.response.body", "body": b"who ", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"are you?"},
        ),
        peer,
    )
    assert peer.denied == (401, [(b"www-authenticate", b"Basic")], b"who are you?")
    assert outcome == WebSocketOutcome(WebSocketEnd.REFUSED, False, status=401)


async def test_a_denial_without_a_body() -> None:
    peer = MemoryPeer()
    await run(
        sending(
            {"type": "websocket.http.response.start", "status": 404},
            {"type": "websocket.http.response.body"},
        ),
        peer,
    )
    assert peer.denied == (404, [], b"")


async def test_a_denial_that_is_not_finished_is_not_sent() -> None:
    peer = MemoryPeer()
    outcome = await run(sending({"type": "websocket.http.response.start", "status": 404}), peer)
    assert outcome.end is WebSocketEnd.UNANSWERED
    assert peer.denied is None


@pytest.mark.parametrize("status", [101, 199, 600, "404", None, True])
async def test_a_denial_has_a_status_that_can_be_said(status: object) -> None:
    assert "200 to 599" in await rule_of(sending({"type": "websocket.http.response.start", "status": status}))


async def test_a_denial_is_held_up_to_its_limit() -> None:
    start = {"type": "websocket.http.response.start", "status": 404}
    half = {
        "type": "websocket.http.response.body",
        "body": b"x" * (MAX_DENIAL_BODY_BYTES // 2),
        "more_body": True,
    }
    assert f"at most {MAX_DENIAL_BODY_BYTES} bytes" in await rule_of(sending(start, half, half, half))


async def test_a_denial_body_is_bytes() -> None:
    start = {"type": "websocket.http.response.start", "status": 404}
    body = {"type": "websocket.http.response.body", "body": "text"}
    assert "is bytes, not str" in await rule_of(sending(start, body))


# --- closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "closed"),
    [
        (CLOSE, WebSocketClosed(1000, "")),
        ({**CLOSE, "code": None, "reason": None}, WebSocketClosed(1000, "")),
        ({**CLOSE, "code": 1014, "reason": "b" * 123}, WebSocketClosed(1014, "b" * 123)),
        ({**CLOSE, "code": 3000, "reason": "é" * 61}, WebSocketClosed(3000, "é" * 61)),
        ({**CLOSE, "code": 4999}, WebSocketClosed(4999, "")),
    ],
)
async def test_the_app_closes_with_code_and_reason(message: Message, closed: WebSocketClosed) -> None:
    peer = MemoryPeer()
    outcome = await run(sending(ACCEPT, message), peer)
    assert peer.closed_by_app == closed
    assert outcome == WebSocketOutcome(WebSocketEnd.CLOSED, True, None, closed.code, closed.reason)


def test_the_codes_that_a_close_may_carry() -> None:
    allowed = {code for code in range(-1, 70_000) if is_close_code(code)}
    assert allowed == (set(range(1000, 1015)) - {1004, 1005, 1006}) | set(range(3000, 5000))


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"code": 1005}, "websocket.close with code 1005"),
        ({"code": 2999}, "1000 to 1014 but not 1004, 1005 or 1006, or 3000 to 4999"),
        ({"code": "1000"}, "code of websocket.close is an int, not str"),
        ({"code": True}, "code of websocket.close is an int, not bool"),
        ({"reason": b"x"}, "reason of websocket.close is a str, not bytes"),
        ({"reason": "x" * 124}, "at most 123 bytes"),
        ({"reason": "é" * 62}, "at most 123 bytes"),
        ({"reason": "\ud800"}, "lone surrogate"),
    ],
)
async def test_what_a_close_may_not_carry(more: Message, rule: str) -> None:
    peer = MemoryPeer()
    outcome = await run(sending(ACCEPT, {**CLOSE, **more}), peer)
    assert rule in str(outcome.error)
    assert outcome.end is WebSocketEnd.FAILED
    assert peer.closed_by_app == WebSocketClosed(1011, "")


async def test_receive_after_closing_is_a_disconnect_with_the_apps_code() -> None:
    async def leave(receive: Receive, send: Send) -> None:
        await peer.client_send("unread")
        await send({**CLOSE, "code": 4000, "reason": "bye"})
        for _ in range(3):
            assert await receive() == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}

    peer = MemoryPeer()
    outcome = await run(opened(leave), peer)
    assert outcome.error is None
    assert outcome.end is WebSocketEnd.CLOSED


async def test_a_receive_that_waits_while_the_app_closes_is_a_disconnect() -> None:
    seen: list[Message] = []

    async def leave(receive: Receive, send: Send) -> None:
        async def reader() -> None:
            seen.append(await receive())

        async with asyncio.TaskGroup() as group:
            group.create_task(reader())
            await asyncio.sleep(0)
            await send({**CLOSE, "code": 4001})

    outcome = await run(opened(leave))
    assert seen == [{"type": "websocket.disconnect", "code": 4001, "reason": ""}]
    assert outcome.end is WebSocketEnd.CLOSED


async def test_an_app_that_returns_closes_with_1000() -> None:
    peer = MemoryPeer()
    outcome = await run(sending(ACCEPT, TEXT), peer)
    assert await peer.client_receive() == "hello"
    assert peer.closed_by_app == WebSocketClosed(1000, "")
    assert outcome == WebSocketOutcome(WebSocketEnd.CLOSED, True, None, 1000)


async def test_an_app_that_returns_without_an_answer_is_told_as_such() -> None:
    peer = MemoryPeer()
    outcome = await run(sending(), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.UNANSWERED, False)
    assert peer.denied is None
    assert peer.closed_by_app is None


# --- failing ---------------------------------------------------------------------------------


def raising(error: BaseException, *before: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in before:
            await send(message)
        raise error

    return app


ERRORS = [ValueError("boom"), SystemExit(2), ExceptionGroup("two", [KeyError("a")]), asyncio.CancelledError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_app_that_fails_before_accepting(error: BaseException) -> None:
    peer = MemoryPeer()
    outcome = await run(raising(error), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.FAILED, False, error)
    assert peer.denied is None
    assert peer.closed_by_app is None


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_app_that_fails_after_accepting_closes_with_1011(error: BaseException) -> None:
    peer = MemoryPeer()
    outcome = await run(raising(error, ACCEPT), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.FAILED, True, error, 1011)
    assert peer.closed_by_app == WebSocketClosed(1011, "")


async def test_an_app_that_fails_after_closing_keeps_its_close() -> None:
    peer = MemoryPeer()
    error = ValueError("late")
    outcome = await run(raising(error, ACCEPT, {**CLOSE, "code": 4000}), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.CLOSED, True, error, 4000)
    assert peer.closed_by_app == WebSocketClosed(4000, "")


async def test_an_app_that_fails_after_refusing_keeps_its_refusal() -> None:
    error = ValueError("late")
    outcome = await run(raising(error, CLOSE))
    assert outcome == WebSocketOutcome(WebSocketEnd.REFUSED, False, error, status=403)


async def test_an_app_that_fails_in_the_middle_of_a_denial() -> None:
    peer = MemoryPeer()
    error = ValueError("no template")
    outcome = await run(raising(error, {"type": "websocket.http.response.start", "status": 404}), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.FAILED, False, error)
    assert peer.denied is None


async def test_an_interrupt_is_passed_on() -> None:
    cycle = WebSocketCycle(raising(KeyboardInterrupt()), websocket_scope(), MemoryPeer())
    with pytest.raises(KeyboardInterrupt):
        await cycle.run()


async def test_an_error_of_the_peer_while_closing_is_told() -> None:
    class Failing(MemoryPeer):
        async def close(self, code: int, reason: str) -> None:
            raise RuntimeError("cannot close")

    outcome = await run(sending(ACCEPT), Failing())
    assert outcome.end is WebSocketEnd.FAILED
    assert isinstance(outcome.error, RuntimeError)


@pytest.mark.both_loops
async def test_cancelling_the_cycle_cancels_the_app() -> None:
    cancelled: list[str] = []

    async def wait(receive: Receive, send: Send) -> None:
        try:
            await receive()
        except asyncio.CancelledError:
            cancelled.append("app")
            raise

    peer = MemoryPeer()
    cycle = asyncio.create_task(run(opened(wait), peer))
    async with asyncio.timeout(10):
        while peer.accepted is None:  # noqa: ASYNC110 - the peer tells nobody
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    cycle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cycle
    assert cancelled == ["app"]


async def test_a_receive_that_is_cancelled_loses_no_message() -> None:
    seen: list[str] = []

    async def impatient(receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await receive()
        await peer.client_send("kept")
        seen.append((await receive())["text"])

    peer = MemoryPeer()
    await run(opened(impatient), peer)
    assert seen == ["kept"]


# --- the peer goes away ------------------------------------------------------------------------


async def test_a_disconnect_has_code_and_reason_and_stays() -> None:
    async def listen(receive: Receive, send: Send) -> None:
        await peer.client_send("last words")
        await peer.client_close(1001, "going away")
        assert (await receive())["text"] == "last words"
        for _ in range(3):
            assert await receive() == {"type": "websocket.disconnect", "code": 1001, "reason": "going away"}

    peer = MemoryPeer()
    outcome = await run(opened(listen), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.DISCONNECTED, True, None, 1001, "going away")


async def test_an_app_that_ignores_the_disconnect_stops_nobody_else() -> None:
    others = 0

    async def deaf(receive: Receive, send: Send) -> None:
        while others < 5:
            await receive()

    async def other() -> None:
        nonlocal others
        while others < 5:
            others += 1
            await asyncio.sleep(0)

    peer = MemoryPeer()
    await peer.client_close()
    async with asyncio.timeout(10):
        await asyncio.gather(run(opened_anyway(deaf), peer), other())


def opened_anyway(then: Callable[[Receive, Send], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnected):
            await send(ACCEPT)
        await then(receive, send)

    return app


@pytest.mark.parametrize("message", [TEXT, CLOSE, ACCEPT, {"type": "nonsense"}], ids=lambda m: str(m["type"]))
async def test_send_after_a_disconnect_raises_an_oserror(message: Message) -> None:
    async def listen(receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.disconnect"
        with pytest.raises(OSError, match="closed") as caught:
            await send(message)
        assert type(caught.value) is ClientDisconnected

    peer = MemoryPeer()
    cycle = asyncio.create_task(run(opened(listen), peer))
    await asyncio.sleep(0)
    await peer.client_close()
    assert (await cycle).error is None


async def test_send_to_a_client_that_has_gone_unnoticed_raises_an_oserror() -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await peer.client_send("before it went")
        await peer.client_close(1001, "gone")
        for _ in range(2):
            with pytest.raises(ClientDisconnected):
                await send(TEXT)
        # What came before is still the app's, and so is the code
        assert (await receive())["text"] == "before it went"
        assert await receive() == {"type": "websocket.disconnect", "code": 1001, "reason": "gone"}

    peer = MemoryPeer()
    outcome = await run(opened(talk), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.DISCONNECTED, True, None, 1001, "gone")


async def test_a_send_that_waits_for_room_ends_when_the_client_goes() -> None:
    async def flood(receive: Receive, send: Send) -> None:
        while True:
            await send(TEXT)

    peer = MemoryPeer(room=2)
    cycle = asyncio.create_task(run(opened(flood), peer))
    async with asyncio.timeout(10):
        while peer.waiting_for_client < 2:  # noqa: ASYNC110 - the peer tells nobody
            await asyncio.sleep(0)
    await peer.client_close(1001)
    outcome = await cycle
    assert outcome.end is WebSocketEnd.DISCONNECTED
    assert outcome.error is None  # ClientDisconnected is nobody's mistake


async def test_closing_towards_a_client_that_has_gone_raises_an_oserror() -> None:
    async def leave(receive: Receive, send: Send) -> None:
        await peer.client_close(1001, "first")
        with pytest.raises(ClientDisconnected):
            await send({**CLOSE, "code": 4000})
        assert (await receive())["code"] == 1001

    peer = MemoryPeer()
    outcome = await run(opened(leave), peer)
    assert (outcome.end, outcome.code) == (WebSocketEnd.DISCONNECTED, 1001)


async def test_refusing_a_client_that_has_gone_raises_an_oserror() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await peer.client_close()
        with pytest.raises(ClientDisconnected):
            await send(CLOSE)

    peer = MemoryPeer()
    assert (await run(app, peer)).end is WebSocketEnd.DISCONNECTED


async def test_an_app_that_returns_after_the_client_has_gone() -> None:
    async def leave(receive: Receive, send: Send) -> None:
        await peer.client_close(1001)

    peer = MemoryPeer()
    outcome = await run(opened(leave), peer)
    assert outcome == WebSocketOutcome(WebSocketEnd.DISCONNECTED, True, None, 1006)


async def test_a_disconnect_in_a_task_group_is_no_error_of_the_app() -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await peer.client_close()
        async with asyncio.TaskGroup() as group:
            group.create_task(send_some(send))
            group.create_task(send_some(send))

    async def send_some(send: Send) -> None:
        await send(TEXT)

    peer = MemoryPeer()
    assert (await run(opened(talk), peer)).error is None


async def test_an_error_of_the_app_beside_a_disconnect_is_told() -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await peer.client_close()
        try:
            await send(TEXT)
        except ClientDisconnected:
            raise ValueError("in the cleanup") from None

    peer = MemoryPeer()
    outcome = await run(opened(talk), peer)
    assert isinstance(outcome.error, ValueError)
    assert outcome.end is WebSocketEnd.DISCONNECTED


async def test_an_oserror_of_receive_is_an_abnormal_closure() -> None:
    class Broken(MemoryPeer):
        async def receive(self) -> str | bytes | WebSocketClosed:
            raise ConnectionResetError("broken")

    async def listen(receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    assert (await run(opened(listen), Broken())).end is WebSocketEnd.DISCONNECTED


async def test_another_error_of_a_send_reaches_the_app_as_it_is() -> None:
    class Small(MemoryPeer):
        async def send_text(self, data: str) -> None:
            if len(data) > 5:
                raise ValueError("too large for one line")
            await super().send_text(data)

    async def talk(receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="too large"):
            await send(text("far too large"))
        await send(text("fine"))

    peer = Small()
    assert (await run(opened(talk), peer)).end is WebSocketEnd.CLOSED
    assert await peer.client_receive() == "fine"


# --- messages out of order ---------------------------------------------------------------------

START = {"type": "websocket.http.response.start", "status": 404}
BODY = {"type": "websocket.http.response.body", "body": b""}


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([TEXT], "websocket.send before websocket.accept"),
        ([BODY], "websocket.http.response.body before websocket.accept"),
        ([{"type": "http.response.start", "status": 200}], "http.response.start before websocket.accept"),
        ([{}], "None before websocket.accept"),
        ([ACCEPT, ACCEPT], "websocket.accept after websocket.accept"),
        ([ACCEPT, START], "websocket.http.response.start after websocket.accept"),
        ([ACCEPT, BODY], "websocket.http.response.body after websocket.accept"),
        ([ACCEPT, {"type": "websocket.receive", "text": "x"}], "only websocket.send or websocket.close"),
        ([ACCEPT, CLOSE, CLOSE], "websocket.close after websocket.close: nothing may come"),
        ([ACCEPT, CLOSE, TEXT], "websocket.send after websocket.close"),
        ([CLOSE, ACCEPT], "websocket.accept after the WebSocket was refused"),
        ([START, START], "websocket.http.response.start after websocket.http.response.start"),
        ([START, ACCEPT], "only websocket.http.response.body may come"),
        ([START, CLOSE], "websocket.close after websocket.http.response.start"),
        ([START, BODY, BODY], "websocket.http.response.body after the WebSocket was refused"),
    ],
)
async def test_a_message_out_of_order_names_the_rule(messages: list[Message], rule: str) -> None:
    assert rule in await rule_of(sending(*messages))


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({}, "either text or bytes"),
        ({"text": None, "bytes": None}, "either text or bytes"),
        ({"text": "a", "bytes": b"b"}, "either text or bytes"),
        ({"text": b"a"}, "text of websocket.send is a str, not bytes"),
        ({"bytes": "a"}, "bytes of websocket.send is bytes, not str"),
        ({"text": "\udfff"}, "lone surrogate"),
    ],
)
async def test_what_may_not_be_sent(more: Message, rule: str) -> None:
    assert rule in await rule_of(sending(ACCEPT, {"type": "websocket.send", **more}))


async def test_a_second_accept_while_the_first_is_on_its_way_names_the_rule() -> None:
    class Slow(MemoryPeer):
        async def accept(self, subprotocol: str | None, headers: Headers) -> None:
            await asyncio.sleep(0)
            await super().accept(subprotocol, headers)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        first = asyncio.ensure_future(send(ACCEPT))
        await asyncio.sleep(0)
        with pytest.raises(AsgiRuleError, match=r"while websocket\.accept is on its way"):
            await send(TEXT)
        await first

    assert (await run(app, Slow())).error is None


# --- frameworks --------------------------------------------------------------------------------


def starlette(endpoint: Callable[[Any], Awaitable[None]], **options: Any) -> ASGIApp:
    applications = pytest.importorskip("starlette.applications")
    routing = pytest.importorskip("starlette.routing")
    app: ASGIApp = applications.Starlette(routes=[routing.WebSocketRoute("/", endpoint)], **options)
    return app


async def test_starlette_echoes() -> None:
    async def endpoint(websocket: Any) -> None:
        await websocket.accept(subprotocol="chat.v1", headers=[(b"x-room", b"7")])
        async for message in websocket.iter_text():
            await websocket.send_json({"you said": message})

    peer = MemoryPeer()
    cycle = asyncio.create_task(run(starlette(endpoint), peer, "chat.v1"))
    await peer.client_send("hi")
    assert await peer.client_receive() == '{"you said":"hi"}'
    assert peer.accepted == ("chat.v1", [(b"x-room", b"7")])
    await peer.client_close(1000)
    assert await cycle == WebSocketOutcome(WebSocketEnd.DISCONNECTED, True, None, 1000)


async def test_starlette_closes_and_refuses() -> None:
    async def closing(websocket: Any) -> None:
        await websocket.accept()
        await websocket.close(4002, "bye")

    async def refusing(websocket: Any) -> None:
        await websocket.close(1008)

    assert await run(starlette(closing)) == WebSocketOutcome(WebSocketEnd.CLOSED, True, None, 4002, "bye")
    assert await run(starlette(refusing)) == WebSocketOutcome(WebSocketEnd.REFUSED, False, status=403)


async def test_starlette_denies_with_a_response() -> None:
    responses = pytest.importorskip("starlette.responses")

    async def endpoint(websocket: Any) -> None:
        await websocket.send_denial_response(responses.JSONResponse({"why": "no token"}, 401))

    peer = MemoryPeer()
    outcome = await run(starlette(endpoint), peer)
    assert outcome.status == 401
    assert peer.denied is not None
    assert peer.denied[2] == b'{"why":"no token"}'
    assert (b"content-type", b"application/json") in peer.denied[1]


async def test_starlette_raises_http_exceptions_as_denials() -> None:
    exceptions = pytest.importorskip("starlette.exceptions")

    async def endpoint(websocket: Any) -> None:
        raise exceptions.HTTPException(403, "members only")

    peer = MemoryPeer()
    outcome = await run(starlette(endpoint), peer)
    assert outcome.end is WebSocketEnd.REFUSED
    assert peer.denied is not None
    assert peer.denied[0] == 403


async def test_starlette_has_no_such_route() -> None:
    async def endpoint(websocket: Any) -> None:
        raise AssertionError("never called")

    app = starlette(endpoint)
    outcome = await WebSocketCycle(app, websocket_scope(path="/elsewhere"), MemoryPeer()).run()
    assert outcome.end is WebSocketEnd.REFUSED


async def test_starlette_learns_that_the_client_has_gone() -> None:
    websockets = pytest.importorskip("starlette.websockets")
    codes: list[int] = []

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        await peer.client_close(1001)
        with contextlib.suppress(websockets.WebSocketDisconnect):
            await websocket.send_text("anyone?")
        codes.append((await websocket.receive())["code"])

    peer = MemoryPeer()
    await run(starlette(endpoint), peer)
    assert codes == [1001]


async def test_starlette_fails() -> None:
    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        raise ValueError("boom")

    peer = MemoryPeer()
    outcome = await run(starlette(endpoint), peer)
    assert outcome.end is WebSocketEnd.FAILED
    assert isinstance(outcome.error, ValueError)
    assert peer.closed_by_app == WebSocketClosed(1011, "")


async def test_fastapi_with_a_dependency() -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_bytes(await websocket.receive_bytes())

    endpoint.__annotations__["websocket"] = fastapi.WebSocket
    app.add_api_websocket_route("/", endpoint)
    peer = MemoryPeer()
    cycle = asyncio.create_task(run(app, peer))
    await peer.client_send(b"\x00\x01")
    assert await peer.client_receive() == b"\x00\x01"
    assert (await cycle).end is WebSocketEnd.CLOSED


async def test_quart_echoes_once() -> None:
    quart = pytest.importorskip("quart")
    app = quart.Quart(__name__)

    async def endpoint() -> None:
        await quart.websocket.send(await quart.websocket.receive())

    app.add_websocket("/", view_func=endpoint)
    peer = MemoryPeer()
    cycle = asyncio.create_task(run(app, peer))
    await peer.client_send("hi")
    assert await peer.client_receive() == "hi"
    assert (await cycle).end is WebSocketEnd.CLOSED


async def test_litestar_echoes() -> None:
    litestar = pytest.importorskip("litestar")
    handlers = pytest.importorskip("litestar.handlers")

    async def endpoint(data: str) -> str:
        return data.upper()

    app = litestar.Litestar([handlers.websocket_listener("/")(endpoint)])
    peer = MemoryPeer()
    cycle = asyncio.create_task(run(app, peer))
    await peer.client_send("hi")
    assert await peer.client_receive() == "HI"
    await peer.client_close()
    assert (await cycle).end is WebSocketEnd.DISCONNECTED

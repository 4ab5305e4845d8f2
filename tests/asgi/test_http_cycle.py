"""The HTTP cycle: every rule of ASGI HTTP 2.5 that an app can meet, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest

from tests.asgi.memory_exchange import MemoryExchange, cycle_of, run
from verser2_guest_python.asgi.exceptions import AsgiRuleError, ClientDisconnected
from verser2_guest_python.asgi.http import HttpCycle, Phase
from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
DISCONNECT = {"type": "http.disconnect"}


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: Any = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sending(*messages: Message) -> ASGIApp:
    """An app that sends these messages and returns."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def receiving(count: int, seen: list[Message]) -> ASGIApp:
    """An app that receives so many messages, and answers."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(count):
            seen.append(await receive())
        await send(START)
        await send(body())

    return app


async def refused(*messages: Message, method: str = "GET") -> tuple[str, HttpCycle, MemoryExchange]:
    """What the app is told about the last of these messages, the first one that breaks a rule."""
    raised: list[AsgiRuleError] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except AsgiRuleError as error:
            raised.append(error)
            raise

    cycle, exchange = await run(app, method=method)
    assert raised, "nothing was refused"
    assert cycle.error is raised[0]
    return str(raised[0]), cycle, exchange


async def turns() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- A whole answer -------------------------------------------------------------------------------


async def test_a_whole_answer() -> None:
    cycle, exchange = await run(sending(start(201, (b"x-a", b"1")), body(b"hello")))
    assert (cycle.phase, cycle.status, cycle.sent, cycle.error) == (Phase.COMPLETE, 201, 5, None)
    assert (exchange.status, exchange.body, exchange.ended, exchange.was_cut) == (201, b"hello", True, False)


async def test_the_head_leaves_with_the_first_piece_of_body() -> None:
    exchange = MemoryExchange()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        assert exchange.status is None
        await send(body(b"a", more=True))
        assert exchange.status == 200
        assert exchange.pieces == [b"a"]
        await send(body(b"b"))

    cycle, _ = await run(app, exchange)
    assert cycle.error is None
    assert exchange.body == b"ab"


async def test_pieces_leave_as_they_come_and_empty_ones_are_nothing() -> None:
    _, exchange = await run(
        sending(
            START, body(b"", more=True), body(b"a", more=True), body(b"", more=True), body(b"b", True), body()
        )
    )
    assert [piece for piece in exchange.pieces if piece] == [b"a", b"b"]
    assert exchange.ended


@pytest.mark.parametrize("key", ["body", "more_body", "headers"])
async def test_what_may_be_left_out_has_its_default(key: str) -> None:
    head = {k: v for k, v in start().items() if k != key}
    last = {k: v for k, v in body().items() if k != key}
    cycle, exchange = await run(sending(head, last))
    assert cycle.error is None
    assert (exchange.ended, exchange.body) == (True, b"")


@pytest.mark.parametrize(
    "data",
    [bytearray(b"abc"), memoryview(b"abc"), type("Bytes", (bytes,), {})(b"abc")],
    ids=["bytearray", "memoryview", "a kind of bytes"],
)
async def test_anything_that_holds_bytes_is_a_body(data: Any) -> None:
    cycle, exchange = await run(sending(START, body(data)))
    assert cycle.error is None
    assert exchange.pieces == [b"abc"]
    assert type(exchange.pieces[0]) is bytes
    assert exchange.values(b"content-length") == [b"3"]


async def test_a_bytearray_may_be_used_again_after_send() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        buffer = bytearray(b"one")
        await send(START)
        await send(body(buffer, more=True))
        buffer[:] = b"two"
        await send(body(buffer))

    _, exchange = await run(app)
    assert exchange.body == b"onetwo"


# --- content-length -------------------------------------------------------------------------------


async def test_a_length_that_is_known_is_said() -> None:
    """A cut shows by `content-length` alone (protocol.md §5.6, §13)."""
    _, exchange = await run(sending(START, body(b"hello")))
    assert exchange.values(b"content-length") == [b"5"]
    _, exchange = await run(sending(START, body()))
    assert exchange.values(b"content-length") == [b"0"]


async def test_a_length_that_is_not_known_is_not_said() -> None:
    _, exchange = await run(sending(START, body(b"a", more=True), body(b"b")))
    assert exchange.values(b"content-length") == []


async def test_the_length_of_the_app_stays() -> None:
    _, exchange = await run(sending(start(200, (b"Content-Length", b"5")), body(b"hello")))
    assert exchange.values(b"content-length") == [b"5"]


async def test_headers_of_the_app_are_not_changed() -> None:
    head = start(200, (b"x-a", b"1"))
    await run(sending(head, body(b"hello")))
    assert head["headers"] == [(b"x-a", b"1")]
    frozen = {"type": "http.response.start", "status": 200, "headers": ((b"x-a", b"1"),)}
    cycle, _ = await run(sending(frozen, body(b"hello")))
    assert cycle.error is None


async def test_headers_may_come_from_an_iterator() -> None:
    head = {"type": "http.response.start", "status": 200, "headers": iter([(b"x-a", b"1"), [b"x-b", b"2"]])}
    cycle, exchange = await run(sending(head, body()))
    assert cycle.error is None
    assert (exchange.values(b"x-a"), exchange.values(b"x-b")) == ([b"1"], [b"2"])


async def test_the_same_length_twice_is_said_once() -> None:
    """Deployed Hosts would join the two to `5,5`, which is no number."""
    length = (b"content-length", b"5")
    cycle, exchange = await run(sending(start(200, length, length), body(b"hello")))
    assert cycle.error is None
    assert exchange.values(b"content-length") == [b"5"]


async def test_two_lengths_that_differ_are_refused() -> None:
    text, cycle, exchange = await refused(start(200, (b"content-length", b"5"), (b"content-length", b"6")))
    assert "content-length" in text
    assert (cycle.phase, exchange.status) == (Phase.WAITING, None)


@pytest.mark.parametrize("value", [b"", b"abc", b"-1", b"+5", b"1e3", b"5,5", b"0x5", b"1" * 30])
async def test_a_length_that_is_no_number_is_refused(value: bytes) -> None:
    text, _, exchange = await refused(start(200, (b"content-length", value)))
    assert "content-length" in text
    assert exchange.status is None


@pytest.mark.parametrize("pieces", [[b"hello!"], [b"hel", b"lo!"], [b"hello", b"!"]])
async def test_more_than_the_length_is_an_error_in_the_app(pieces: list[bytes]) -> None:
    head = start(200, (b"content-length", b"5"))
    text, cycle, exchange = await refused(head, *[body(piece, more=True) for piece in pieces])
    assert "6 bytes" in text
    assert "content-length 5" in text
    if len(pieces) > 1:
        assert cycle.phase is Phase.CUT
        assert exchange.was_cut
    else:
        assert exchange.status is None  # the head is not out: the failure can still be said


@pytest.mark.parametrize("pieces", [[b"hell"], [b"hel", b"l"], [b""], [b"hell", b""]])
async def test_less_than_the_length_never_looks_whole(pieces: list[bytes]) -> None:
    messages = [body(piece, more=number < len(pieces) - 1) for number, piece in enumerate(pieces)]
    _, _, exchange = await refused(start(200, (b"content-length", b"5")), *messages)
    assert not exchange.ended
    assert exchange.was_cut or exchange.status is None


async def test_exactly_the_length_in_pieces() -> None:
    head = start(200, (b"content-length", b"5"))
    cycle, exchange = await run(sending(head, body(b"hel", more=True), body(b"lo", more=True), body()))
    assert cycle.error is None
    assert (exchange.body, exchange.ended) == (b"hello", True)


async def test_after_a_wrong_length_the_app_may_answer_otherwise() -> None:
    """As long as nothing has left: an error page of a framework is a better answer than none."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"2")))
        try:
            await send(body(b"hello"))
        except AsgiRuleError:
            await send(start(500))
            await send(body(b"sorry, wrong"))

    cycle, exchange = await run(app)
    assert (cycle.phase, exchange.status, exchange.body) == (Phase.COMPLETE, 500, b"sorry, wrong")
    assert exchange.values(b"content-length") == [b"12"]


# --- HEAD, 204, 304 -------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[b"hello"], [b"hel", b"lo"], [b"", b"hello", b""]])
async def test_head_answers_without_body_and_length(pieces: list[bytes]) -> None:
    """The tunnelled request is a POST, where a length without a body fails (protocol.md §13)."""
    messages = [body(piece, more=number < len(pieces) - 1) for number, piece in enumerate(pieces)]
    head = start(200, (b"Content-Length", b"5"), (b"etag", b'"x"'))
    cycle, exchange = await run(sending(head, *messages), method="HEAD")
    assert cycle.error is None
    assert (exchange.body, exchange.ended) == (b"", True)
    assert cycle.sent == 0, "what is not sent is not counted"
    assert exchange.values(b"content-length") == []
    assert exchange.values(b"etag") == [b'"x"']


@pytest.mark.parametrize("data", [b"", b"some"])
async def test_head_is_not_held_to_its_length(data: bytes) -> None:
    head = start(200, (b"content-length", b"5"))
    cycle, exchange = await run(sending(head, body(data)), method="HEAD")
    assert cycle.error is None
    assert exchange.ended


@pytest.mark.parametrize("status", [204, 304])
async def test_204_and_304_have_neither_body_nor_length(status: int) -> None:
    cycle, exchange = await run(sending(start(status, (b"content-length", b"5"), (b"x-a", b"1")), body()))
    assert cycle.error is None
    assert (exchange.ended, exchange.values(b"content-length")) == (True, [])
    assert exchange.values(b"x-a") == [b"1"]


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("more", [False, True])
async def test_a_body_of_a_204_or_304_is_refused(status: int, more: bool) -> None:
    text, _, exchange = await refused(start(status), body(b"x", more=more))
    assert str(status) in text
    assert exchange.status is None


# --- Messages out of order ------------------------------------------------------------------------


async def test_a_second_start() -> None:
    text, _, exchange = await refused(START, START)
    assert "twice" in text
    assert exchange.status is None
    text, _, exchange = await refused(START, body(b"a", more=True), START)
    assert "twice" in text
    assert exchange.was_cut
    text, _, exchange = await refused(START, body(b"a"), START)
    assert "twice" in text
    assert exchange.ended
    assert not exchange.was_cut


async def test_a_body_before_the_start() -> None:
    text, cycle, _ = await refused(body(b"a"))
    assert "before http.response.start" in text
    assert cycle.phase is Phase.WAITING


async def test_a_body_after_the_last_one() -> None:
    text, cycle, exchange = await refused(START, body(b"a"), body(b"b"))
    assert "more_body" in text
    assert cycle.phase is Phase.COMPLETE
    assert exchange.body == b"a"


@pytest.mark.parametrize("sent", [[], [START], [START, body(b"a", more=True)], [START, body(b"a")]])
@pytest.mark.parametrize(
    "kind",
    ["http.response.trailers", "http.request", "websocket.accept", "", None, 7, b"http.response.start"],
)
async def test_an_unknown_type(sent: list[Message], kind: Any) -> None:
    text, _, _ = await refused(*sent, {"type": kind})
    assert repr(kind) in text
    assert "ASGI HTTP" in text


async def test_a_message_without_a_type() -> None:
    text, _, _ = await refused({"status": 200})
    assert "type" in text


@pytest.mark.parametrize("status", [None, "200", 200.0, True, 0, 99, 100, 101, 103, 199, 600, -1])
async def test_a_status_that_cannot_be_said(status: Any) -> None:
    text, cycle, _ = await refused({"type": "http.response.start", "status": status})
    assert "from 200 to 599" in text
    assert cycle.phase is Phase.WAITING
    await refused({"type": "http.response.start"})


async def test_a_status_may_be_an_enum() -> None:
    cycle, exchange = await run(sending(start(HTTPStatus.CREATED), body()))
    assert cycle.error is None
    assert type(exchange.status) is int
    assert type(cycle.status) is int
    assert exchange.status == 201


@pytest.mark.parametrize("status", [200, 226, 299, 404, 418, 451, 599])
async def test_every_other_status_can_be_said(status: int) -> None:
    _, exchange = await run(sending(start(status), body()))
    assert exchange.status == status


@pytest.mark.parametrize(
    "headers", [[b"x"], [(b"x",)], [(b"x", b"1", b"2")], 7, [7], [(7, b"1")], [(None, None)]]
)
async def test_headers_that_are_no_pairs(headers: Any) -> None:
    text, cycle, _ = await refused({"type": "http.response.start", "status": 200, "headers": headers})
    assert "headers" in text
    assert cycle.phase is Phase.WAITING


@pytest.mark.parametrize("data", ["text", None, 7, [b"a"]])
async def test_a_body_that_is_not_bytes(data: Any) -> None:
    text, _, exchange = await refused(START, body(data))
    assert "must be bytes" in text
    assert type(data).__name__ in text
    assert exchange.status is None


async def test_a_body_that_is_not_bytes_in_the_middle_cuts() -> None:
    _, _, exchange = await refused(START, body(b"a", more=True), body("b"))
    assert exchange.was_cut


# --- The end of the app ---------------------------------------------------------------------------


class Failure(Exception):
    pass


@pytest.mark.parametrize(
    ("sent", "phase", "cut"),
    [
        ([], Phase.WAITING, False),
        ([START], Phase.STARTED, False),
        ([START, body(b"a", more=True)], Phase.CUT, True),
        ([START, body(b"a")], Phase.COMPLETE, False),
    ],
)
@pytest.mark.parametrize("fails", [True, False])
async def test_an_app_that_ends_in_each_phase(
    sent: list[Message], phase: Phase, cut: bool, fails: bool
) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        if fails:
            raise Failure

    cycle, exchange = await run(app)
    assert (cycle.phase, exchange.was_cut) == (phase, cut)
    if fails:
        assert isinstance(cycle.error, Failure)
    elif cut:
        assert "more_body" in str(cycle.error)
    else:
        assert cycle.error is None
    assert (exchange.status is None) == (phase in (Phase.WAITING, Phase.STARTED))


async def test_an_app_whose_own_task_was_cancelled_has_failed() -> None:
    """Nobody has cancelled the request: the app awaited something that was cancelled."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        other = asyncio.create_task(asyncio.sleep(60))
        other.cancel()
        await other

    cycle, exchange = await run(app)
    assert isinstance(cycle.error, asyncio.CancelledError)
    assert (cycle.phase, exchange.status) == (Phase.WAITING, None)


class Panic(BaseException):
    """What an extension written in Rust raises when it panics is no Exception either."""


@pytest.mark.parametrize("error", [Panic(), SystemExit(3)], ids=["panic", "sys.exit"])
@pytest.mark.parametrize(
    ("sent", "phase"), [([], Phase.WAITING), ([START, body(b"a", more=True)], Phase.CUT)]
)
async def test_an_app_that_raises_more_than_exceptions_has_failed(
    error: BaseException, sent: list[Message], phase: Phase
) -> None:
    """One request ends, not the process that serves all the others."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        raise error

    cycle, exchange = await run(app)
    assert cycle.error is error
    assert cycle.phase is phase
    assert exchange.was_cut is (phase is Phase.CUT)


async def test_a_cycle_that_is_closed_unfinished_ends_quietly() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.sleep(60)

    cycle = cycle_of(app, MemoryExchange())
    running = cycle.run()
    running.send(None)  # type: ignore[attr-defined]
    running.close()  # type: ignore[attr-defined]
    assert cycle.error is None


# --- Receiving ------------------------------------------------------------------------------------


async def test_a_body_in_one_piece() -> None:
    seen: list[Message] = []
    await run(receiving(1, seen), MemoryExchange(b"hello"))
    assert seen == [{"type": "http.request", "body": b"hello", "more_body": False}]


async def test_no_body() -> None:
    seen: list[Message] = []
    await run(receiving(1, seen), MemoryExchange())
    assert seen == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_pieces_of_body_come_as_they_arrive() -> None:
    exchange = MemoryExchange(b"one", complete=False)
    seen: list[Message] = []
    task = asyncio.create_task(run(receiving(3, seen), exchange))
    await turns()
    assert seen == [{"type": "http.request", "body": b"one", "more_body": True}]
    exchange.feed(b"two")
    await turns()
    assert seen[1:] == [{"type": "http.request", "body": b"two", "more_body": True}]
    exchange.feed(b"", complete=True)
    await task
    assert seen[2:] == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_receive_behind_the_body_waits_for_the_client_to_leave() -> None:
    exchange = MemoryExchange(b"hello")
    seen: list[Message] = []
    task = asyncio.create_task(run(receiving(2, seen), exchange))
    await turns()
    assert len(seen) == 1
    exchange.disconnect()
    await task
    assert seen[1] == DISCONNECT


async def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    exchange = MemoryExchange(b"one", complete=False)
    seen: list[Message] = []
    task = asyncio.create_task(run(receiving(3, seen), exchange))
    await turns()
    exchange.disconnect()
    await task
    assert seen[1:] == [DISCONNECT, DISCONNECT]


async def test_a_client_that_left_before_the_app_looked() -> None:
    """Bytes that came before it left are no news any more (§5.5)."""
    exchange = MemoryExchange(b"one", b"two")
    exchange.disconnect()
    seen: list[Message] = []
    await run(receiving(2, seen), exchange)
    assert seen == [DISCONNECT, DISCONNECT]


@pytest.mark.parametrize("pieces", [(), (b"unread",)])
async def test_receive_after_the_response_is_a_disconnect(pieces: tuple[bytes, ...]) -> None:
    seen: list[Message] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body())
        seen.append(await receive())
        seen.append(await receive())

    await run(app, MemoryExchange(*pieces, complete=False))
    assert seen == [DISCONNECT, DISCONNECT]


async def test_receive_that_waits_while_the_response_completes() -> None:
    seen: list[Message] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await turns()
        await send(START)
        await send(body())
        seen.append(await waiting)

    await run(app, MemoryExchange())
    assert seen == [DISCONNECT]


async def test_two_receives_at_a_time_get_the_body_in_order() -> None:
    exchange = MemoryExchange(complete=False)
    results: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        results.extend(await asyncio.gather(receive(), receive(), receive()))

    task = asyncio.create_task(run(app, exchange))
    await turns()
    exchange.feed(b"one")
    await turns()
    exchange.feed(b"two", complete=True)
    await turns()
    exchange.disconnect()
    cycle, _ = await task
    assert cycle.error is None
    assert results == [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
        DISCONNECT,
    ]


async def test_a_receive_that_was_cancelled_loses_nothing() -> None:
    exchange = MemoryExchange(complete=False)
    results: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        first, second = asyncio.create_task(receive()), asyncio.create_task(receive())
        await turns()
        first.cancel()
        await turns()
        exchange.feed(b"one", complete=True)
        results.append(await second)

    cycle, _ = await run(app, exchange)
    assert cycle.error is None
    assert results == [{"type": "http.request", "body": b"one", "more_body": False}]


# --- Sending to a client that has left ------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [[], [START], [START, body(b"a", more=True)], [START, body(b"a", more=True), body(b"b", more=True)]],
)
@pytest.mark.parametrize("message", [START, body(b"z", more=True), body(b"z"), {"type": "nonsense"}])
async def test_send_after_a_disconnect_is_an_os_error(sent: list[Message], message: Message) -> None:
    """ASGI HTTP 2.4; whatever is sent: nobody is there to be told about rules."""
    exchange = MemoryExchange()
    raised: list[BaseException] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for one in sent:
            await send(one)
        exchange.disconnect()
        for _ in range(2):
            try:
                await send(message)
            except OSError as error:
                raised.append(error)
        raise raised[-1]

    cycle, _ = await run(app, exchange)
    assert len(raised) == 2
    assert isinstance(cycle.error, ClientDisconnected)
    assert not exchange.ended


async def test_a_client_that_leaves_while_send_waits() -> None:
    exchange = MemoryExchange()
    exchange.hold_writes()
    task = asyncio.create_task(run(sending(START, body(b"a", more=True)), exchange))
    await turns()
    exchange.disconnect()
    cycle, _ = await task
    assert isinstance(cycle.error, OSError)
    assert cycle.phase is Phase.CUT


async def test_send_waits_until_there_is_room() -> None:
    exchange = MemoryExchange()
    steps: list[str] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        steps.append("start")
        await send(body(b"a", more=True))
        steps.append("a")
        await send(body(b"b"))
        steps.append("b")

    exchange.hold_writes()
    task = asyncio.create_task(run(app, exchange))
    await turns()
    assert steps == ["start"]
    exchange.let_write()
    await task
    assert steps == ["start", "a", "b"]
    assert exchange.body == b"ab"


# --- Cancellation ---------------------------------------------------------------------------------

AppWork = Callable[[Receive, Send], Awaitable[None]]


async def _receive_once(receive: Receive, _send: Send) -> None:
    await receive()


async def _receive_until_gone(receive: Receive, _send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_first(_receive: Receive, send: Send) -> None:
    await send(START)
    await send(body(b"a", more=True))


async def _send_whole(_receive: Receive, send: Send) -> None:
    await send(START)
    await send(body(b"a"))


async def _started_then_sleep(_receive: Receive, send: Send) -> None:
    await send(START)
    await asyncio.sleep(60)


async def _just_sleep(_receive: Receive, _send: Send) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("work", "exchange", "cut"),
    [
        pytest.param(_receive_once, lambda: MemoryExchange(complete=False), False, id="receive"),
        pytest.param(_receive_until_gone, MemoryExchange, False, id="waiting for a disconnect"),
        pytest.param(_just_sleep, MemoryExchange, False, id="its own wait"),
        pytest.param(_started_then_sleep, MemoryExchange, False, id="started"),
        pytest.param(_send_first, MemoryExchange, True, id="send"),
        pytest.param(_send_whole, MemoryExchange, True, id="the last send"),
    ],
)
async def test_cancellation_at_each_await(
    work: AppWork, exchange: Callable[[], MemoryExchange], cut: bool
) -> None:
    """It passes through, and what is half sent never looks whole."""
    carried = exchange()
    carried.hold_writes()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await work(receive, send)

    cycle = cycle_of(app, carried)
    task = asyncio.create_task(cycle.run())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert carried.was_cut is cut
    assert not carried.ended
    assert cycle.phase in (Phase.CUT, Phase.WAITING, Phase.STARTED)


async def test_a_cancelled_app_between_two_pieces_is_cut() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"a", more=True))
        await asyncio.sleep(60)

    exchange = MemoryExchange()
    cycle = cycle_of(app, exchange)
    task = asyncio.create_task(cycle.run())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert exchange.was_cut
    assert cycle.phase is Phase.CUT


async def test_an_app_that_gives_a_send_up_can_send_no_more() -> None:
    """A piece that may be half out cannot be followed by anything."""
    exchange = MemoryExchange()
    raised: list[BaseException] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"a", more=True))
        exchange.hold_writes()
        waiting = asyncio.create_task(send(body(b"b", more=True)))
        await turns()
        waiting.cancel()
        await asyncio.wait({waiting})
        exchange.let_write()
        try:
            await send(body(b"c"))
        except OSError as error:
            raised.append(error)

    cycle, _ = await run(app, exchange)
    assert cycle.error is None
    assert raised
    assert exchange.was_cut
    assert exchange.body == b"a"

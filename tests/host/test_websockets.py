"""WebSockets through a Host: opening, lines both ways, closing, breaking the rules (protocol.md §11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.host.peers import DOMAIN, WAIT_SECONDS, Answer, Broker, Guest, failed, running_host
from tests.host.test_streaming import active
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits, RequestRecord, VerserHost
from verser2_guest_python.http2 import ErrorCode, Stream
from verser2_guest_python.wire.vws import (
    Accept,
    Binary,
    Close,
    Error,
    Message,
    Open,
    Ping,
    Pong,
    Text,
    VwsParser,
    encode,
)


class Socket:
    """One end of a WebSocket: messages in and out."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = VwsParser()
        self._waiting: list[Message] = []

    async def say(self, *messages: Message) -> None:
        await self.stream.write(b"".join(map(encode, messages)))

    async def hear(self) -> Message:
        async with asyncio.timeout(WAIT_SECONDS):
            while not self._waiting:
                data = await self.stream.read()
                assert data, "the stream ended"
                self._waiting = self._parser.feed(data)
        return self._waiting.pop(0)

    async def end(self) -> None:
        await self.stream.write(b"", end=True)

    async def heard_end(self) -> bool:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.stream.read() == b""


async def websocket_lease(guest: Guest) -> Socket:
    stream = guest.open("/verser/guest/websocket-lease", {"x-verser-peer-id": guest.id})
    async with asyncio.timeout(WAIT_SECONDS):
        fields = await stream.wait_fields()
    assert list(fields) == [(b":status", b"200")]
    return Socket(stream)


def websocket(broker: Broker, path: str = "/room?x=1", **fields: str) -> Stream:
    said = {
        "x-verser-source-id": broker.id,
        "x-verser-target-id": "guest-a",
        "x-verser-domain": DOMAIN,
        "x-verser-ws-path": path,
    }
    said |= {f"x-verser-{name.replace('_', '-')}": value for name, value in fields.items()}
    return broker.open("/verser/websocket", said)


async def fields_of(stream: Stream) -> dict[bytes, bytes]:
    async with asyncio.timeout(WAIT_SECONDS):
        return dict(await stream.wait_fields())


@asynccontextmanager
async def peers(certs: Certificates, **options: Any) -> AsyncIterator[tuple[VerserHost, Guest, Broker]]:
    async with (
        running_host(certs, **options) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        yield host, guest, broker
        await active(host, 0)


@asynccontextmanager
async def opened(certs: Certificates, **options: Any) -> AsyncIterator[tuple[VerserHost, Socket, Socket]]:
    """A WebSocket that is open: the Host, the Guest's end and the Broker's."""
    async with peers(certs, **options) as (host, guest, broker):
        lease = await websocket_lease(guest)
        stream = websocket(broker)
        await lease.hear()
        await lease.say(Accept())
        assert (await fields_of(stream))[b":status"] == b"200"
        yield host, lease, Socket(stream)


@pytest.mark.both_loops
async def test_a_websocket_from_open_to_close(certs: Certificates) -> None:
    async with peers(certs) as (host, guest, broker):
        records: list[RequestRecord] = []
        host.on_request(records.append)
        lease = await websocket_lease(guest)
        stream = websocket(broker, ws_protocol="chat.v1")
        assert await lease.hear() == Open(DOMAIN, "/room?x=1", "chat.v1", None)
        await lease.say(Accept("chat.v1"), Text("first"))
        assert (await fields_of(stream))[b"x-verser-ws-protocol"] == b"chat.v1"
        caller = Socket(stream)
        assert await caller.hear() == Text("first")
        for message in (Text("hé"), Binary(b"\x00\xff"), Ping("n"), Text("")):
            await caller.say(message)
            assert await lease.hear() == message
            await lease.say(message)
            assert await caller.hear() == message
        await lease.say(Pong("n"))
        assert await caller.hear() == Pong("n")
        await caller.say(Close(4001, "done"))
        assert await lease.hear() == Close(4001, "done")
        await lease.say(Close(4001, "done"))
        await lease.end()
        assert await caller.hear() == Close(4001, "done")
        assert await caller.heard_end()
        await caller.end()
        await active(host, 0)
        assert lease.stream.error is None
        assert stream.error is None
        (record,) = records
        assert (record.method, record.path, record.status, record.error) == (
            "WEBSOCKET",
            "/room?x=1",
            200,
            None,
        )
        assert record.bytes_in > 0
        assert record.bytes_out > 0


async def test_leases_are_taken_first_in_first_out_and_four_may_wait(certs: Certificates) -> None:
    async with peers(certs) as (_host, guest, broker):
        leases = [await websocket_lease(guest) for _ in range(4)]
        fifth = guest.open("/verser/guest/websocket-lease", {"x-verser-peer-id": "guest-a"})
        answer = await guest.answer(fifth)
        assert (answer.status, answer.error["code"]) == (502, "timeout")
        for number, lease in enumerate(leases):
            stream = websocket(broker, f"/{number}")
            opening = await lease.hear()
            assert isinstance(opening, Open)
            assert opening.path == f"/{number}"
            stream.reset()
            assert await failed(lease.stream) == ErrorCode.CANCEL


async def test_headers_of_the_extension(certs: Certificates) -> None:
    async with peers(certs) as (_host, guest, broker):
        assert "ws-headers" in guest.registered["extensions"]
        lease = await websocket_lease(guest)
        stream = websocket(broker, headers='{"cookie":"a=1","host":"public.test","TE":"x"}')
        opening = await lease.hear()
        assert isinstance(opening, Open)
        assert opening.headers == {"cookie": "a=1", "host": DOMAIN, "x-forwarded-host": "public.test"}
        await lease.say(
            Accept("", {"set-cookie": ["a=1", "b=2"], "x-verser-error": "x", "content-length": "9"})
        )
        async with asyncio.timeout(WAIT_SECONDS):
            fields = await stream.wait_fields()
        assert [value for name, value in fields if name == b"set-cookie"] == [b"a=1", b"b=2"]
        assert {name for name, _ in fields} == {b":status", b"set-cookie", b"date"}
        stream.reset()


async def refusal(certs: Certificates, *said: Message | bytes, offer: str = "", end: bool = True) -> Answer:
    async with peers(certs) as (_host, guest, broker):
        lease = await websocket_lease(guest)
        stream = websocket(broker, ws_protocol=offer)
        await lease.hear()
        data = b"".join(one if isinstance(one, bytes) else encode(one) for one in said)
        await lease.stream.write(data, end=end)
        return await broker.answer(stream)


async def test_a_guest_refuses(certs: Certificates) -> None:
    context = {"status": 404, "guestId": "guest-a", "domain": DOMAIN, "path": "/room"}
    answer = await refusal(certs, Error("missing-guest", "WebSocket endpoint is unavailable", context))
    assert answer.status == 502
    assert answer.error["code"] == "missing-guest"
    assert answer.error["message"] == "WebSocket endpoint is unavailable"
    assert answer.error["context"]["status"] == 404
    assert answer.error["context"]["stage"] == "sent"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([Error("local-handler-failure", "boom")], "local-handler-failure"),
        ([Error("never heard of", "x")], "protocol-error"),
        ([], "websocket-negotiation-failed"),
        ([Accept("chat.v2")], "websocket-negotiation-failed"),
        ([Text("hello")], "websocket-negotiation-failed"),
        ([Close(1000)], "websocket-negotiation-failed"),
        ([b"not json\n"], "protocol-error"),
        ([b"x" * (1 << 20), b"xx"], "protocol-error"),
        ([Accept("", {"a b": "1"})], "protocol-error"),
        ([Accept("", {str(number): "" for number in range(3000)})], "protocol-error"),
    ],
)
async def test_a_websocket_that_does_not_come_about(certs: Certificates, said: list[Any], code: str) -> None:
    answer = await refusal(certs, *said, offer="chat.v1")
    assert answer.status == 502
    assert answer.error["code"] == code


@pytest.mark.parametrize("protocol", ["", "b", "a, b"])
async def test_one_of_several_subprotocols_can_be_chosen(certs: Certificates, protocol: str) -> None:
    async with peers(certs) as (_host, guest, broker):
        lease = await websocket_lease(guest)
        stream = websocket(broker, ws_protocol="a, b")
        opening = await lease.hear()
        assert isinstance(opening, Open)
        assert opening.protocol == "a, b"
        await lease.say(Accept(protocol))
        fields = await fields_of(stream)
        assert fields[b":status"] == b"200"
        assert fields.get(b"x-verser-ws-protocol", b"") == protocol.encode()
        stream.reset()


async def test_a_guest_that_does_not_answer(certs: Certificates) -> None:
    async with peers(certs, limits=HostLimits(websocket_accept_seconds=0.05)) as (_host, guest, broker):
        lease = await websocket_lease(guest)
        answer = await broker.answer(websocket(broker))
        assert answer.error["code"] == "timeout"
        assert await failed(lease.stream) == ErrorCode.CANCEL


@pytest.mark.parametrize("ending", ["reset", "session"])
async def test_a_guest_that_gives_up_before_it_accepts(certs: Certificates, ending: str) -> None:
    async with peers(certs) as (_host, guest, broker):
        lease = await websocket_lease(guest)
        stream = websocket(broker)
        await lease.hear()
        if ending == "reset":
            lease.stream.reset()
        else:
            await guest.session.close()
        code = (await broker.answer(stream)).error["code"]
        assert code == ("websocket-negotiation-failed" if ending == "reset" else "disconnected-target")


async def test_a_broker_that_gives_up_before_it_is_accepted(certs: Certificates) -> None:
    async with peers(certs) as (_host, guest, broker):
        lease = await websocket_lease(guest)
        stream = websocket(broker)
        await lease.hear()
        stream.reset()
        assert await failed(lease.stream) == ErrorCode.CANCEL


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"source_id": "broker-b"}, "authorization-denied"),
        ({"target_id": "guest-b"}, "missing-guest"),
        ({"domain": "b.test"}, "missing-guest"),
        ({"domain": ""}, "protocol-error"),
        ({"ws_path": "no-slash"}, "protocol-error"),
        ({"headers": "[]"}, "protocol-error"),
        ({}, "websocket-negotiation-failed"),  # no lease, and no queue
    ],
)
async def test_what_is_refused_before_a_guest_is_asked(
    certs: Certificates, fields: dict[str, str], code: str
) -> None:
    async with peers(certs) as (host, _guest, broker):
        records: list[RequestRecord] = []
        host.on_request(records.append)
        path = fields.pop("ws_path", "/")
        answer = await broker.answer(websocket(broker, path, **fields))
        assert answer.status == 502
        assert answer.error["code"] == code
        assert answer.error["context"]["stage"] == "queued"
        assert records[0].error == code


async def test_only_registered_peers(certs: Certificates) -> None:
    async with peers(certs) as (_host, guest, broker):
        answer = await guest.answer(guest.open("/verser/websocket"))
        assert answer.error["code"] == "disconnected-target"
        answer = await broker.answer(
            broker.open("/verser/guest/websocket-lease", {"x-verser-peer-id": "guest-a"})
        )
        assert answer.error["code"] == "disconnected-target"
        ended = guest.open("/verser/guest/websocket-lease", {"x-verser-peer-id": "guest-a"}, end=True)
        assert (await guest.answer(ended)).error["code"] == "protocol-error"


@pytest.mark.parametrize("side", ["guest", "broker"])
@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"not json\n", 1002),
        (b'{"type":"open","domain":"a.local.test"}\n', 1002),
        (b'{"type":"accept"}\n', 1002),
        (b'{"type":"text","data":7}\n', 1002),
        (b'{"type":"binary","data":"?"}\n', 1002),
        (b'{"type":"close","code":1006}\n', 1002),
        (b"x" * ((1 << 20) + 1), 1009),
    ],
)
async def test_a_violation_closes_both(certs: Certificates, side: str, line: bytes, code: int) -> None:
    async with opened(certs) as (_host, lease, caller):
        guilty, other = (lease, caller) if side == "guest" else (caller, lease)
        await guilty.say(Text("before"))
        await guilty.stream.write(line)
        assert await other.hear() == Text("before")
        for socket in (other, guilty):
            message = await socket.hear()
            assert isinstance(message, Close)
            assert message.code == code
            assert await socket.heard_end()
        await asyncio.gather(other.end(), guilty.end())


@pytest.mark.both_loops
async def test_messages_of_the_largest_size(certs: Certificates) -> None:
    async with opened(certs) as (_host, lease, caller):
        text = Text("x" * ((1 << 20) - len(encode(Text(""))) + 1))
        assert len(encode(text)) == (1 << 20) + 1
        for _ in range(3):
            await asyncio.gather(caller.say(text), lease.say(text))
            assert await lease.hear() == text
            assert await caller.hear() == text
        caller.stream.reset()


@pytest.mark.both_loops
async def test_a_side_that_does_not_read_slows_the_other(certs: Certificates) -> None:
    async with opened(certs) as (_host, lease, caller):
        text = Text("x" * 10_000)
        sent = 0

        async def talk() -> None:
            nonlocal sent
            for _ in range(3000):
                await lease.say(text)
                sent += 1

        talking = asyncio.create_task(talk())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 1200  # of 30 MB, no more than windows and sockets hold
        await caller.say(Text("the other direction"))
        assert await lease.hear() == Text("the other direction")
        for _ in range(3000):
            assert await caller.hear() == text
        await talking
        caller.stream.reset()


@pytest.mark.parametrize("side", ["guest", "broker"])
@pytest.mark.parametrize("ending", ["reset", "session", "end"])
async def test_as_one_side_goes_so_does_the_other(certs: Certificates, side: str, ending: str) -> None:
    async with opened(certs) as (_host, lease, caller):
        first, other = (lease, caller) if side == "guest" else (caller, lease)
        await first.say(Text("last words"))
        assert await other.hear() == Text("last words")
        if ending == "end":
            await first.end()
            assert await other.heard_end()
            assert await first.heard_end()
            await other.end()
            return
        if ending == "reset":
            first.stream.reset(ErrorCode.INTERNAL_ERROR)
        else:
            await first.stream.session.close()
        assert await failed(other.stream) == ErrorCode.CANCEL


async def test_a_side_that_never_ends_is_reset(certs: Certificates) -> None:
    async with opened(certs) as (_host, lease, caller):
        await lease.say(Close(1000))
        await lease.end()
        assert await caller.hear() == Close(1000)
        assert await caller.heard_end()
        assert await failed(caller.stream) == ErrorCode.CANCEL


async def test_a_host_that_closes_says_so(certs: Certificates) -> None:
    async with opened(certs) as (host, lease, caller):
        closing = asyncio.create_task(host.close())
        for socket in (lease, caller):
            message = await socket.hear()
            assert isinstance(message, Close)
            assert message.code == 1001
            assert await socket.heard_end()
            await socket.end()
        async with asyncio.timeout(WAIT_SECONDS):
            await closing

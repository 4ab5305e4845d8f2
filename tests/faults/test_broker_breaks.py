"""A Broker's request or WebSocket that breaks at each stage: it raises, nothing is left, the next works."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, Stream, answer, raw_reset, read_all, send_head
from verser2_guest_python import VerserBroker, VerserError
from verser2_guest_python.broker.exchange import Exchange
from verser2_guest_python.broker.upload import Upload
from verser2_guest_python.http2 import ErrorCode, StreamReset
from verser2_guest_python.peer.websocket import WebSocketChannel
from verser2_guest_python.wire.vws import Text, encode

URL = f"http://{DOMAIN}/"
JSON = {"content-type": "application/json"}


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 10_000


async def fetch(broker: VerserBroker, body: Any = None) -> bytes:
    return await (await broker.post(URL, body=body, max_redirects=0)).read()


async def converse(broker: VerserBroker) -> list[str | bytes]:
    socket = await broker.websocket(URL)
    return [message async for message in socket]


# --- How far it has come when it breaks: what the caller does, and what the Host does before ----------


async def asked(host: ScriptedHost) -> Stream:
    return await host.accept("/verser/request")


async def uploading(host: ScriptedHost) -> Stream:
    stream = await asked(host)
    await stream.read()
    return stream


async def answered_while_uploading(host: ScriptedHost) -> Stream:
    stream = await uploading(host)
    send_head(stream, 200)
    await host.session.ping()
    return stream


async def head_sent(host: ScriptedHost) -> Stream:
    stream = await asked(host)
    send_head(stream, 200)
    await host.session.ping()
    return stream


async def half_a_body(host: ScriptedHost) -> Stream:
    stream = await head_sent(host)
    await stream.write(b"half of it")
    await host.session.ping()
    return stream


async def declared(host: ScriptedHost) -> Stream:
    stream = await asked(host)
    send_head(stream, 200, {"content-length": "100"})
    await stream.write(b"half of it")
    return stream


async def half_an_error(host: ScriptedHost) -> Stream:
    stream = await asked(host)
    send_head(stream, 502, JSON)
    await stream.write(b'{"error":{"code":"timeout"')
    return stream


async def socket_asked(host: ScriptedHost) -> Stream:
    return await host.accept("/verser/websocket")


async def socket_half_refused(host: ScriptedHost) -> Stream:
    stream = await socket_asked(host)
    send_head(stream, 502, JSON)
    await stream.write(b'{"error":')
    return stream


async def socket_open(host: ScriptedHost) -> Stream:
    stream = await socket_asked(host)
    send_head(stream, 200)
    await stream.write(encode(Text("hello")))
    await host.session.ping()
    return stream


async def socket_in_a_line(host: ScriptedHost) -> Stream:
    stream = await socket_open(host)
    await stream.write(b'{"type":"text","da')
    return stream


Stage = Callable[[ScriptedHost], Awaitable[Stream]]
STAGES: list[tuple[Stage, Callable[[VerserBroker], Awaitable[Any]]]] = [
    (asked, fetch),
    (asked, lambda broker: fetch(broker, b"x" * 3_000_000)),
    (uploading, lambda broker: fetch(broker, endless())),
    (answered_while_uploading, lambda broker: fetch(broker, endless())),
    (head_sent, fetch),
    (half_a_body, fetch),
    (declared, fetch),
    (half_an_error, fetch),
    (socket_asked, converse),
    (socket_half_refused, converse),
    (socket_open, converse),
    (socket_in_a_line, converse),
]


# --- How it breaks ------------------------------------------------------------------------------------


HEADLESS = (asked, uploading, socket_asked)


def reset(stream: Stream, stage: Stage) -> None:
    stream.reset(ErrorCode.INTERNAL_ERROR)


def cancel(stream: Stream, stage: Stage) -> None:
    stream.reset(ErrorCode.CANCEL)


def end_and_reset(stream: Stream, stage: Stage) -> None:
    """END_STREAM with RST_STREAM right behind it, as deployed Hosts do (protocol.md §7)."""
    if stage not in HEADLESS:
        stream.write_now(b"", end=True)
    raw_reset(stream, ErrorCode.INTERNAL_ERROR)


def lose(stream: Stream, stage: Stage) -> None:
    stream.session.abort("the test says so")


BREAKS = [reset, cancel, end_and_reset, lose]


def remaining() -> list[str]:
    gc.collect()
    kinds = (Exchange, Upload, WebSocketChannel)
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds)]


@pytest.mark.both_loops
@pytest.mark.parametrize("breaks", BREAKS, ids=lambda breaks: breaks.__name__)
@pytest.mark.parametrize(
    ("stage", "call"), STAGES, ids=[f"{number}-{stage.__name__}" for number, (stage, _) in enumerate(STAGES)]
)
async def test_it_breaks(certs: Certificates, stage: Stage, call: Any, breaks: Any) -> None:
    async with scripted(certs) as (host, broker):
        calling = asyncio.ensure_future(call(broker))
        stream = await stage(host)
        breaks(stream, stage)
        await asyncio.wait([calling])
        assert isinstance(calling.exception(), VerserError), calling
        del calling, stream
        after = asyncio.create_task(broker.post(URL, body=b"next"))
        stream = await asked(host)
        assert await read_all(stream) == b"next"
        await answer(stream, 200, (), b"works")
        assert await (await after).read() == b"works"
        del after
        link = broker._keeper.link
        assert link is not None
        assert link.room.in_flight == 0
        assert not link.sockets
        await link.session.ping()
        assert link.session.open_streams == 1, "the control stream alone"
        assert link.session.unread_bytes == 0
        assert all(
            guest.in_flight == guest.sockets == 0 for guest in broker._directory.table._guests.values()
        )
        assert remaining() == []


async def test_an_answer_that_ends_before_it_is_whole(certs: Certificates) -> None:
    """Without a reset only `content-length` shows it."""
    async with scripted(certs) as (host, broker):
        for stage in (declared, half_an_error):
            calling = asyncio.create_task(fetch(broker))
            stream = await stage(host)
            await stream.write(b"", end=True)
            await asyncio.wait([calling])
            if stage is declared:
                assert isinstance(calling.exception(), VerserError)
            else:  # JSON that is no error object is the app's answer, as it came
                assert calling.result() == b'{"error":{"code":"timeout"'


async def test_many_slow_readers_stop_nobody_and_hold_little(certs: Certificates) -> None:
    """Each of 50 answers of 3 MiB waits to be read: of each, a window comes in (protocol.md §12.4)."""
    body = bytes(range(256)) * (3 * 4096)

    async def serve_one(stream: Stream, data: bytes) -> None:
        with contextlib.suppress(StreamReset):  # given up by its reader
            await answer(stream, 200, {"content-length": str(len(data))}, data)

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                stream, request = await host.accept_request(timeout=60)
                group.create_task(serve_one(stream, body if request.path == "/big" else b"small"))

    async with scripted(certs) as (host, broker):
        serving = asyncio.create_task(serve())
        slow = await asyncio.gather(*[broker.get(f"{URL}big") for _ in range(50)])
        link = broker._keeper.link
        assert link is not None
        for _ in range(20):
            assert await (await broker.get(URL)).read() == b"small"
            assert link.session.unread_bytes <= 50 * 1024 * 1024
        for response in slow[:25]:
            assert await response.read() == body
        for response in slow[25:]:
            await response.aclose()
        assert await (await broker.get(URL)).read() == b"small"
        await link.session.ping()
        assert link.session.unread_bytes == 0
        serving.cancel()
        await asyncio.wait([serving])

"""Request bodies: what may be one, how it goes out, and what ends it early."""

from __future__ import annotations

import asyncio
import gc
import io
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, answer, read_all, send_head
from verser2_guest_python import StreamFailureError, VerserBroker, VerserUsageError
from verser2_guest_python.http2 import ErrorCode, SessionOptions, StreamReset

URL = f"http://{DOMAIN}/"
LARGE = bytes(range(256)) * 12_000  # 3 MB: more than a stream's window


async def sent(host: ScriptedHost, broker: VerserBroker, **options: Any) -> tuple[dict[str, str], bytes]:
    """Headers and body that arrive at the Host for one POST."""
    call = asyncio.create_task(broker.post(URL, **options))
    stream, request = await host.accept_request()
    body = await read_all(stream)
    await answer(stream, 204)
    await (await call).read()
    return request.headers, body


async def pieces() -> AsyncIterator[bytes | str]:
    yield b"one "
    yield b""
    await asyncio.sleep(0)
    yield "twö "
    yield bytearray(b"three")


def plain_pieces() -> Iterator[bytes | str]:
    yield b"one "
    yield "twö "
    yield b"three"


@pytest.mark.parametrize(
    ("make", "expected", "length"),
    [
        (lambda: {"body": b"bytes"}, b"bytes", "5"),
        (lambda: {"body": bytearray(b"bytes")}, b"bytes", "5"),
        (lambda: {"body": memoryview(b"bytes")}, b"bytes", "5"),
        (lambda: {"body": "tëxt"}, "tëxt".encode(), "5"),
        (lambda: {"body": b""}, b"", "0"),
        (dict, b"", "0"),
        (lambda: {"body": LARGE}, LARGE, str(len(LARGE))),
        (lambda: {"body": pieces()}, "one twö three".encode(), None),
        (lambda: {"body": plain_pieces()}, "one twö three".encode(), None),
        (lambda: {"body": [b"a", b"b"]}, b"ab", None),
        (lambda: {"body": []}, b"", None),
        (lambda: {"body": io.BytesIO(b"memory")}, b"memory", "6"),
        (lambda: {"body": io.StringIO("tëxt")}, "tëxt".encode(), None),
        (lambda: {"body": (LARGE[at : at + 70_000] for at in range(0, len(LARGE), 70_000))}, LARGE, None),
    ],
)
async def test_bodies_of_all_kinds(
    certs: Certificates, make: Callable[[], dict[str, Any]], expected: bytes, length: str | None
) -> None:
    async with scripted(certs) as (host, broker):
        headers, body = await sent(host, broker, **make())
        assert body == expected
        assert headers.get("content-length") == length


async def test_json_and_text_say_what_they_are(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        headers, body = await sent(host, broker, json={"ä": [1, None]})
        assert (headers["content-type"], body) == ("application/json", '{"ä":[1,null]}'.encode())
        headers, body = await sent(host, broker, json=None)
        assert body == b"null"
        headers, body = await sent(host, broker, text="grüße")
        assert (headers["content-type"], body) == ("text/plain; charset=utf-8", "grüße".encode())
        headers, body = await sent(host, broker, json=1, headers={"Content-Type": "application/x-mine"})
        assert headers["content-type"] == "application/x-mine"


async def test_files_on_disk_declare_what_is_left_of_them(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    async with scripted(certs) as (host, broker):
        with path.open("rb") as file:
            file.seek(1_000_000)
            headers, body = await sent(host, broker, body=file)
            assert headers["content-length"] == str(len(LARGE) - 1_000_000)
            assert body == LARGE[1_000_000:]
            assert not file.closed
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"temporary")
            file.seek(0)
            headers, body = await sent(host, broker, body=file)
            assert (headers["content-length"], body) == ("9", b"temporary")


async def test_asynchronous_files(certs: Certificates) -> None:
    class File:
        def __init__(self) -> None:
            self.left = [b"a", b"b", b""]

        async def read(self, size: int) -> bytes:
            assert size > 0
            return self.left.pop(0)

    async with scripted(certs) as (host, broker):
        assert (await sent(host, broker, body=File()))[1] == b"ab"


async def test_a_small_body_is_one_frame_with_its_end(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=b"small"))
        stream = await host.accept("/verser/request")
        # Both came in the read that brought the fields: nothing was awaited in between.
        assert stream.ended
        assert stream.take() == b"small"
        await answer(stream, 200)
        await (await call).read()


async def test_a_request_without_body_ends_with_its_headers(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream, request = await host.accept_request()
        assert stream.at_end
        assert "content-length" not in request.headers
        await answer(stream, 200)
        await (await call).read()


async def test_an_upload_is_as_fast_as_its_reader(certs: Certificates) -> None:
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        while True:
            produced += 1
            yield b"x" * 65_536

    window = SessionOptions(stream_window_bytes=100_000)
    async with scripted(certs, options=window) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=endless()))
        stream = await host.accept("/verser/request")
        for _ in range(5):
            await host.session.ping()
        assert produced <= 3, "the window holds not even two pieces"
        await stream.read(1_000_000)
        await stream.read(1_000_000)
        await answer(stream, 200, (), b"enough")
        assert await (await call).read() == b"enough"
        with pytest.raises(StreamReset, match="CANCEL"):
            await read_all(stream)


async def test_the_answer_may_come_before_the_upload_ends(certs: Certificates) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def conversation() -> AsyncIterator[bytes]:
        while (piece := await queue.get()) is not None:
            yield piece

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=conversation()))
        stream = await host.accept("/verser/request")
        send_head(stream, 200)
        async with await call as response:
            answers = response.aiter_bytes()
            for word in (b"ping", b"pong"):
                queue.put_nowait(word)
                assert await stream.read() == word
                await stream.write(word.upper())
                assert await anext(answers) == word.upper()
            queue.put_nowait(None)
            assert await stream.read() == b""
            await stream.write(b"", end=True)
            assert [chunk async for chunk in answers] == []


async def test_what_the_body_raises_reaches_the_caller_and_the_stream_is_reset(certs: Certificates) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"fine so far"
        raise LookupError("the source is gone")

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=broken()))
        stream = await host.accept("/verser/request")
        with pytest.raises(LookupError, match="the source is gone"):
            await call
        with pytest.raises(StreamReset, match="CANCEL"):
            await read_all(stream)


async def test_what_the_body_raises_behind_the_headers_shows_in_reading(certs: Certificates) -> None:
    go_on = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"fine so far"
        await go_on.wait()
        raise LookupError("the source is gone")

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=broken()))
        stream = await host.accept("/verser/request")
        send_head(stream, 200)
        response = await call
        go_on.set()
        with pytest.raises(LookupError, match="the source is gone"):
            await response.read()


@pytest.mark.parametrize(("declared", "said"), [("3", "longer than"), ("9", "is 5 bytes long")])
async def test_a_body_that_is_not_as_long_as_declared(certs: Certificates, declared: str, said: str) -> None:
    async with scripted(certs) as (host, broker):
        headers = {"content-length": declared}
        call = asyncio.create_task(broker.post(URL, body=iter([b"ab", b"cde"]), headers=headers))
        stream = await host.accept("/verser/request")
        with pytest.raises(VerserUsageError, match=said):
            await call
        with pytest.raises(StreamReset):
            await read_all(stream)


@pytest.mark.parametrize(
    "options",
    [
        {"body": b"x", "json": 1},
        {"body": {"a": "mapping"}},
        {"body": 5},
        {"json": object()},
        {"json": float("nan")},
        {"text": "\ud800"},
        {"body": b"abc", "headers": {"content-length": "4"}},
        {"headers": {"content-length": "4"}},
        {"body": b"abc", "headers": {"content-length": "three"}},
    ],
)
async def test_what_cannot_be_a_body(certs: Certificates, options: dict[str, Any]) -> None:
    async with scripted(certs) as (host, broker):
        with pytest.raises(VerserUsageError):
            await broker.post(URL, **options)
        assert host.session.open_streams == 1, "the control stream alone"


async def test_pieces_of_the_wrong_kind(certs: Certificates) -> None:
    async with scripted(certs) as (_host, broker):
        call = asyncio.create_task(broker.post(URL, body=[1, 2]))
        with pytest.raises(VerserUsageError, match="is int, not bytes or str"):
            await call


async def test_cancelling_the_caller_cancels_the_upload_and_closes_its_source(certs: Certificates) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.set()

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=endless()))
        stream = await host.accept("/verser/request")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await closed.wait()
        error = await stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL


async def test_a_response_nobody_keeps_ends_its_upload(certs: Certificates) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=endless()))
        stream = await host.accept("/verser/request")
        send_head(stream, 200)
        await call
        del call
        gc.collect()
        error = await stream.wait_error()
        assert isinstance(error, StreamReset)


async def test_a_reset_by_the_host_ends_the_upload(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=LARGE))
        stream = await host.accept("/verser/request")
        stream.reset(ErrorCode.CANCEL)
        with pytest.raises(StreamFailureError):
            await call


async def test_closing_the_broker_ends_uploads_that_wait_for_their_source(certs: Certificates) -> None:
    closed = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.post(URL, body=waiting()))
        stream = await host.accept("/verser/request")
        send_head(stream, 200)
        response = await call
        await broker.close(timeout=0)
        assert closed.is_set()
        del response

"""Responses as their caller reads them."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.brokers import DOMAIN, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import Headers, ScriptedHost, Stream, answer, send_head
from verser2_guest_python import StreamFailureError, VerserBroker, VerserBrokerResponse, VerserUsageError
from verser2_guest_python.broker import ResponseHeaders, VerserStatusError
from verser2_guest_python.http2 import ErrorCode, SessionOptions, StreamReset

URL = f"http://{DOMAIN}/"


@asynccontextmanager
async def answered(
    certs: Certificates, status: int = 200, headers: Headers = (), body: bytes = b""
) -> AsyncIterator[VerserBrokerResponse]:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        await answer(await host.accept("/verser/request"), status, headers, body)
        async with await call as response:
            yield response


async def begun(host: ScriptedHost, broker: VerserBroker) -> tuple[Stream, VerserBrokerResponse]:
    """A response whose body has not come yet."""
    call = asyncio.create_task(broker.get(URL))
    stream = await host.accept("/verser/request")
    send_head(stream, 200)
    return stream, await call


async def test_headers_read_like_a_dict_of_strings(certs: Certificates) -> None:
    fields = [("content-type", "text/plain"), ("x-many", "a"), ("x-many", "b"), ("x-latin", "\xe9")]
    async with answered(certs, 200, fields) as response:
        headers = response.headers
        assert headers["Content-TYPE"] == "text/plain"
        assert headers["x-many"] == "a, b"
        assert headers.get_list("X-Many") == ["a", "b"]
        assert headers.get_list("x-none") == []
        assert headers.get_list("x-none", ["c"]) == ["c"]
        assert headers.get("x-none") is None
        assert "X-LATIN" in headers
        assert headers["x-latin"] == "é"
        assert list(headers) == ["content-type", "x-many", "x-latin"]
        assert len(headers) == 3
        assert headers.multi_items() == fields
        assert dict(headers) == {"content-type": "text/plain", "x-many": "a, b", "x-latin": "é"}
        assert headers == {"Content-Type": "text/plain", "X-Many": "a, b", "X-Latin": "é"}
        assert headers == ResponseHeaders(fields)
        with pytest.raises(KeyError):
            headers["x-none"]


async def test_cookies_that_a_host_joined_are_split_again(certs: Certificates) -> None:
    joined = "a=1; Path=/,b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT,c=3"
    async with answered(certs, 200, [("set-cookie", joined), ("set-cookie", "d=4")]) as response:
        assert response.headers.get_list("set-cookie") == [
            "a=1; Path=/",
            "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
            "c=3",
            "d=4",
        ]
        assert response.cookies == {"a": "1", "b": "2", "c": "3", "d": "4"}


async def test_a_status_error_goes_to_another_process_without_its_response(certs: Certificates) -> None:
    async with answered(certs, 404) as response:
        with pytest.raises(VerserStatusError) as caught:
            response.raise_for_status()
        restored = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
        assert (type(restored), str(restored)) == (VerserStatusError, str(caught.value))
        assert (restored.code, restored.context) == ("http-status", caught.value.context)
        assert not hasattr(restored, "response")


@pytest.mark.parametrize("way", ["aiter_bytes", "aiter_lines"])
async def test_an_iteration_that_was_cancelled_is_not_over_but_ended(certs: Certificates, way: str) -> None:
    """As by `asyncio.wait_for(anext(chunks), …)`: what was read before must not look like the whole body."""
    async with scripted(certs) as (host, broker):
        stream, response = await begun(host, broker)
        await stream.write(b"first\n")
        items = getattr(response, way)()
        await anext(items)
        waiting = asyncio.create_task(anext(items))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        for _ in range(2):
            with pytest.raises(VerserUsageError, match="was closed"):
                await anext(items)
        assert (await stream.wait_error()) is not None


@pytest.mark.parametrize("way", ["aiter_bytes", "aiter_lines"])
async def test_an_iteration_is_what_generators_are(certs: Certificates, way: str) -> None:
    async with answered(certs, body=b"one\r\ntwo\n\nthr") as response:
        items = getattr(response, way)()
        assert aiter(items) is items
        received = [await items.asend(None)]
        async for item in items:
            received.append(item)
        assert received in ([b"one\r\ntwo\n\nthr"], ["one", "two", "", "thr"])
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(items)
        await items.aclose()
    async with answered(certs, body=b"all") as response:
        with pytest.raises(KeyError):
            await getattr(response, way)().athrow(KeyError("thrown"))


@pytest.mark.parametrize("status", [400, 404, 500, 599])
async def test_raise_for_status(certs: Certificates, status: int) -> None:
    async with answered(certs, status, (), b"why") as response:
        assert not response.ok
        with pytest.raises(VerserStatusError, match=str(status)) as caught:
            response.raise_for_status()
        assert caught.value.response is response
        assert await response.read() == b"why"


async def test_raise_for_status_gives_a_good_answer_back(certs: Certificates) -> None:
    async with answered(certs, 302, (), b"there") as response:
        assert await response.raise_for_status().read() == b"there"


async def _consume(response: VerserBrokerResponse, way: str) -> None:
    if way.startswith("aiter"):
        async for _ in getattr(response, way)():
            pass
    else:
        await getattr(response, way)()


@pytest.mark.parametrize("again", ["read", "text", "json", "aiter_bytes", "aiter_lines"])
@pytest.mark.parametrize("first", ["read", "aiter_bytes"])
async def test_a_body_is_consumed_once(certs: Certificates, first: str, again: str) -> None:
    async with answered(certs, 200, (), b'{"a":1}') as response:
        if first == "read":
            await response.read()
        else:
            assert [chunk async for chunk in response.aiter_bytes()] == [b'{"a":1}']
        with pytest.raises(VerserUsageError, match="once"):
            await _consume(response, again)


async def test_a_closed_response_cannot_be_read(certs: Certificates) -> None:
    async with answered(certs, 200, (), b"body") as response:
        await response.aclose()
        await response.aclose()
        with pytest.raises(VerserUsageError):
            await response.read()


async def test_text_knows_charsets(certs: Certificates) -> None:
    for content_type, body, text in [
        ("text/plain", "grün".encode(), "grün"),
        ("text/plain; charset=ISO-8859-1", "grün".encode("latin-1"), "grün"),
        ('text/plain; charset="utf-16"', "grün".encode("utf-16"), "grün"),
        ("text/plain; charset=unheard-of", "grün".encode(), "grün"),
        ("text/plain", b"\xff", "\ufffd"),
    ]:
        async with answered(certs, 200, {"content-type": content_type}, body) as response:
            assert await response.text() == text


async def test_json(certs: Certificates) -> None:
    async with answered(certs, 200, (), b'{"a": [1, "x"]}') as response:
        assert await response.json() == {"a": [1, "x"]}
    async with answered(certs, 200, (), b"<html>") as response:
        with pytest.raises(ValueError, match="Expecting value"):
            await response.json()


async def test_chunks_are_no_larger_than_asked_for(certs: Certificates) -> None:
    async with answered(certs, 200, (), b"abcdefgh") as response:
        assert [chunk async for chunk in response.aiter_bytes(3)] == [b"abc", b"def", b"gh"]
    async with answered(certs, 200, (), b"x" * 50_000) as response:
        sizes = [len(chunk) async for chunk in response.aiter_bytes()]
        assert max(sizes) <= 8192
        assert sum(sizes) == 50_000
    async with answered(certs) as response:
        with pytest.raises(VerserUsageError):
            response.aiter_bytes(0)


async def test_chunks_come_as_soon_as_they_are_there(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, response = await begun(host, broker)
        events = response.aiter_bytes()
        for number in range(3):
            await stream.write(b"data: %d\n\n" % number)
            assert await anext(events) == b"data: %d\n\n" % number
        await stream.write(b"", end=True)
        assert [chunk async for chunk in events] == []


async def test_lines(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        stream, response = await begun(host, broker)
        lines = response.aiter_lines()
        await stream.write(b"one\ntw")
        assert await anext(lines) == "one"
        await stream.write(b"o\r\n\nthr")
        assert await anext(lines) == "two"
        assert await anext(lines) == ""
        await stream.write("ée".encode(), end=True)
        assert [line async for line in lines] == ["thrée"]


@pytest.mark.parametrize("charset", ["hex", "rot13", "undefined", "base64", "x" * 300])
async def test_charsets_that_are_none_of_text(certs: Certificates, charset: str) -> None:
    async with answered(certs, 200, {"content-type": f"text/plain; charset={charset}"}, b"text") as response:
        assert response.charset is None
        assert await response.text() == "text"


async def test_closed_by_somebody_else_while_it_is_read(certs: Certificates) -> None:
    """What was not read to its end never looks whole."""
    async with scripted(certs) as (host, broker):
        for waiting in (True, False):
            stream, response = await begun(host, broker)
            chunks = response.aiter_bytes()
            await stream.write(b"half")
            assert await anext(chunks) == b"half"
            reading = asyncio.create_task(anext(chunks))
            if waiting:
                await asyncio.sleep(0)
            await response.aclose()
            with pytest.raises((StreamFailureError, VerserUsageError)):
                await reading


async def test_lines_in_another_charset(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        call = asyncio.create_task(broker.get(URL))
        stream = await host.accept("/verser/request")
        send_head(stream, 200, {"content-type": "text/plain; charset=utf-16"})
        response = await call
        lines = response.aiter_lines()
        for byte in "ö\r\nਊ\n".encode("utf-16") + b"\x0d":  # U+0A0A is made of two newline bytes
            await stream.write(bytes([byte]))
        await stream.write(b"", end=True)
        assert [line async for line in lines] == ["ö", "ਊ", "\ufffd"]


@pytest.mark.parametrize("way", ["aclose", "async with", "break", "garbage"])
async def test_a_response_given_up_cancels_the_rest(certs: Certificates, way: str) -> None:
    async with scripted(certs) as (host, broker):
        stream, response = await begun(host, broker)
        await stream.write(b"some of it")
        if way == "aclose":
            await response.aclose()
        elif way == "async with":
            async with response:
                pass
        elif way == "break":
            async for _ in response.aiter_bytes():
                break
        del response
        gc.collect()
        error = await stream.wait_error()
        assert isinstance(error, StreamReset)
        assert error.code == ErrorCode.CANCEL
        assert (await host.accept("/verser/register")).error is None, "the session goes on"


async def test_unread_responses_that_are_dropped_do_not_hold_the_connection_up(certs: Certificates) -> None:
    """More bytes than the connection window, in answers that nobody reads."""
    async with scripted(certs) as (host, broker):
        for _ in range(25):
            call = asyncio.create_task(broker.get(URL))
            await answer(await host.accept("/verser/request"), 200, (), b"x" * 1_000_000)
            await call
            del call
        call = asyncio.create_task(broker.get(URL))
        await answer(await host.accept("/verser/request"), 200, (), b"y" * 1_000_000)
        assert len(await (await call).read()) == 1_000_000


async def test_a_slow_reader_slows_its_sender_alone(certs: Certificates) -> None:
    small = SessionOptions(stream_window_bytes=100_000)
    async with scripted(certs, broker={"session_options": small}) as (host, broker):
        stream, response = await begun(host, broker)
        writing = asyncio.create_task(stream.write(b"x" * 1_000_000, end=True))
        other_stream, other = await begun(host, broker)
        await other_stream.write(b"quick", end=True)
        assert await other.read() == b"quick"
        assert not writing.done(), "the window is full, and nobody has read"
        assert broker._keeper.link is not None
        assert broker._keeper.link.session.unread_bytes <= 100_000
        assert len(await response.read()) == 1_000_000
        await writing

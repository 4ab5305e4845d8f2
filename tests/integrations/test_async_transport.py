"""`VerserTransport` under the clients of httpx2 and httpx: what they promise holds through the real path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.integrations.apps import BLOCK, Diary, make_app
from tests.integrations.clients import URL, both_libraries, client_of
from tests.integrations.stacks import DOMAIN, broker_behind, guest_at, host_at
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import create_verser_broker
from verser2_guest_python.integrations.httpx import VerserTransport

MANY_BLOCKS = 512  # 32 MiB: more than all windows and buffers hold


# --- Requests and answers -----------------------------------------------------------------------


@both_libraries
@pytest.mark.both_loops
async def test_a_request_and_its_answer(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        response = await client.get("/", params={"name": "Alice & Bob"})
        assert isinstance(response, library.Response)
        assert (response.status_code, response.reason_phrase) == (200, "OK")
        assert response.text == "Hello, Alice & Bob!"
        assert response.http_version == "HTTP/2"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.extensions["verser_target_id"] == "guest-a"
        assert response.extensions["verser_request_id"]
        assert response.is_closed


@both_libraries
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method(certs: Certificates, library: Any, method: str) -> None:
    async with client_of(library, certs) as client:
        described = (await client.request(method, "/describe/a%20b?c=%C3%A9", content=b"body")).json()
    assert described["method"] == method
    assert described["path"] == "/describe/a%20b"
    assert described["query"] == "c=%C3%A9"
    assert described["text"] == "body"
    assert described["headers"]["host"] == DOMAIN


@both_libraries
async def test_answers_without_a_body(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        head = await client.head("/")
        assert (head.status_code, head.content) == (200, b"")
        for status in (204, 304):
            empty = await client.get(f"/status/{status}")
            assert (empty.status_code, empty.content) == (status, b"")


@both_libraries
async def test_statuses_are_answers(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        for status in (201, 404, 418, 500, 502, 503):
            assert (await client.get(f"/status/{status}")).status_code == status
        with pytest.raises(library.HTTPStatusError):
            (await client.get("/status/404")).raise_for_status()
        assert (await client.get("/fail")).status_code == 500


@both_libraries
async def test_forms_files_and_json(certs: Certificates, library: Any, tmp_path: Any) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(b"content of the file")
    async with client_of(library, certs) as client:
        form = (await client.post("/describe/", data={"a": "1", "b": "ü"})).json()
        assert form["text"] == "a=1&b=%C3%BC"
        assert form["headers"]["content-type"] == "application/x-www-form-urlencoded"
        assert (await client.post("/describe/", json={"a": [1]})).json()["text"].replace(
            " ", ""
        ) == '{"a":[1]}'
        with file.open("rb") as opened:
            multipart = (await client.post("/describe/", files={"upload": opened}, data={"a": "1"})).json()
        assert "content of the file" in multipart["text"]
        assert multipart["headers"]["content-type"].startswith("multipart/form-data; boundary=")
        assert int(multipart["headers"]["content-length"]) == multipart["bytes"]


@both_libraries
async def test_headers_arrive_and_hop_by_hop_ones_do_not(certs: Certificates, library: Any) -> None:
    headers = [("X-Tag", "one"), ("X-Tag", "two"), ("X-Latin", "caf\xe9".encode("latin-1"))]
    async with client_of(library, certs) as client:
        seen = (await client.get("/describe/", headers=headers)).json()["headers"]
    assert seen["x-tag"] == "one,two"
    assert seen["x-latin"] == "café"
    assert seen["user-agent"].startswith("python-")
    assert "connection" not in seen


@both_libraries
async def test_repeated_response_headers_stay_apart(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        response = await client.get("/repeated")
    assert response.headers.get_list("x-tag") == ["one", "two, three"]
    assert [value for name, value in response.headers.raw if name.lower() == b"x-tag"] == [
        b"one",
        b"two, three",
    ]


@both_libraries
async def test_what_is_compressed_is_decoded_by_the_client(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        response = await client.get("/zipped")
        assert response.text == "unzipped " * 1_000
        async with client.stream("GET", "/zipped") as response:
            raw = b"".join([piece async for piece in response.aiter_raw()])
        assert raw[:2] == b"\x1f\x8b"


@both_libraries
async def test_the_whole_server_is_asked_for_its_options(certs: Certificates, library: Any) -> None:
    seen: list[tuple[str, bytes]] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        seen.append((scope["method"], scope["raw_path"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with (
        broker_behind(app, certs) as broker,
        library.AsyncClient(transport=VerserTransport(broker)) as client,
    ):
        request = client.build_request("OPTIONS", URL, extensions={"target": b"*"})
        assert (await client.send(request)).status_code == 204
        request = client.build_request("GET", URL, extensions={"target": b"/other?x"})
        assert (await client.send(request)).status_code == 204
    assert seen == [("OPTIONS", b"*"), ("GET", b"/other")]


# --- Streaming ----------------------------------------------------------------------------------


@both_libraries
async def test_an_answer_is_read_as_it_comes(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with client_of(library, certs, diary) as client, client.stream("GET", "/lines") as response:
        lines = response.aiter_lines()
        assert [await anext(lines), await anext(lines)] == ["first", "second"]
        diary.go_on.set()
        assert [line async for line in lines] == ["thïrd"]


@both_libraries
async def test_a_body_and_its_answer_flow_at_the_same_time(certs: Certificates, library: Any) -> None:
    turn = asyncio.Event()
    pieces = [b"one", b"two", b"three"]

    async def ping_pong() -> AsyncIterator[bytes]:
        for piece in pieces:
            await turn.wait()  # for the answer to the piece before
            turn.clear()
            yield piece

    turn.set()
    async with client_of(library, certs) as client:
        received = []
        async with client.stream("POST", "/echo", content=ping_pong()) as response:
            async for piece in response.aiter_raw():
                received.append(piece)
                turn.set()
        assert received == pieces


@both_libraries
@pytest.mark.both_loops
async def test_large_bodies_both_ways(certs: Certificates, library: Any) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(MANY_BLOCKS):
            yield BLOCK

    size = MANY_BLOCKS * len(BLOCK)
    async with client_of(library, certs) as client:
        assert len((await client.get(f"/big?blocks={MANY_BLOCKS}")).content) == size
        assert len((await client.get(f"/big?blocks={MANY_BLOCKS}&sized")).content) == size
        assert (await client.post("/count", content=blocks())).text == str(size)
        assert (await client.post("/count", content=BLOCK * MANY_BLOCKS)).text == str(2 * size)


@both_libraries
async def test_a_slow_reader_slows_the_app_down(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with (
        client_of(library, certs, diary) as client,
        client.stream("GET", "/big?blocks=10000") as response,
    ):
        chunks = response.aiter_raw()
        await anext(chunks)
        before = -1
        while diary.sent != before:  # until nothing fits any more
            before = diary.sent
            await asyncio.sleep(0.05)
        assert diary.sent < 16 * 1024 * 1024
        await anext(chunks)


@both_libraries
async def test_an_early_answer_ends_the_body(certs: Certificates, library: Any) -> None:
    ended = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield BLOCK
        finally:
            ended.append(True)

    async with client_of(library, certs) as client:
        response = await client.post("/refuse", content=endless())
        assert (response.status_code, response.text) == (413, "too much")
        if library is httpx2:  # httpx leaves its caller's generator to the collector
            assert ended == [True]


async def test_server_sent_events(certs: Certificates) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(3):
            event = b"event: tick\ndata: %d\n\n" % number
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})

    async with (
        broker_behind(app, certs) as broker,
        httpx2.AsyncClient(transport=VerserTransport(broker), base_url=URL) as client,
        client.sse("/events") as source,
    ):
        events = [event async for event in source]
    assert [(event.event, event.data) for event in events] == [("tick", "0"), ("tick", "1"), ("tick", "2")]


# --- What the client does -----------------------------------------------------------------------


@both_libraries
async def test_cookies_are_kept_by_the_client(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        response = await client.get("/login")
        assert len(response.headers.get_list("set-cookie")) == 2
        assert dict(response.cookies) == {"session": "s3cret", "theme": "dark"}
        described = (await client.get("/describe/", headers={"x": "y"})).json()
        assert described["cookies"] == {"session": "s3cret", "theme": "dark"}


@both_libraries
async def test_redirects_are_followed_by_the_client_alone(certs: Certificates, library: Any) -> None:
    async with (
        broker_behind(make_app(), certs, max_redirects=3) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL) as client,
    ):
        for status in (302, 307, 308):
            response = await client.post("/redirect", params={"to": "/describe/", "status": status})
            assert response.status_code == status
            assert response.has_redirect_location
        followed = await client.post(
            "/redirect",
            params={"to": f"{URL}/describe/there", "status": 307},
            content=b"again",
            follow_redirects=True,
        )
        assert [past.status_code for past in followed.history] == [307]
        assert (followed.json()["method"], followed.json()["text"]) == ("POST", "again")
        seen = await client.post(
            "/redirect", params={"to": "/describe/", "status": 303}, follow_redirects=True
        )
        assert seen.json()["method"] == "GET"
        with pytest.raises(library.TooManyRedirects):
            await client.get("/redirect", follow_redirects=True)


@both_libraries
async def test_a_redirect_to_another_app(certs: Certificates, library: Any) -> None:
    async with (
        host_at(certs) as host,
        guest_at(host, certs, make_app()),
        guest_at(host, certs, make_app(), domain="b.local.test", guest_id="guest-b"),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca) as broker,
        library.AsyncClient(transport=VerserTransport(broker), follow_redirects=True) as client,
    ):
        response = await client.get(
            f"{URL}/redirect",
            params={"to": "https://b.local.test/describe/"},
            headers={"authorization": "Bearer secret"},
        )
    assert response.extensions["verser_target_id"] == "guest-b"
    assert "authorization" not in response.json()["headers"]


@both_libraries
async def test_a_streamed_body_is_not_sent_twice(certs: Certificates, library: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"once"

    async with client_of(library, certs, follow_redirects=True) as client:
        with pytest.raises(library.StreamConsumed):
            await client.post("/redirect", params={"to": "/describe/", "status": 307}, content=pieces())


@both_libraries
async def test_names_and_passwords_in_the_url_are_sent_as_a_header(certs: Certificates, library: Any) -> None:
    async with client_of(library, certs) as client:
        described = (await client.get(f"http://user:pass@{DOMAIN}:8080/describe/")).json()
    assert described["headers"]["authorization"].startswith("Basic ")
    assert described["headers"]["x-forwarded-host"] == f"{DOMAIN}:8080"


@both_libraries
async def test_one_client_reaches_the_internet_and_apps_behind_guests(
    certs: Certificates, library: Any
) -> None:
    async with broker_behind(make_app(), certs) as broker:
        elsewhere = library.MockTransport(lambda _request: library.Response(200, text="elsewhere"))
        mounts = {f"all://{DOMAIN}": VerserTransport(broker)}
        async with library.AsyncClient(transport=elsewhere, mounts=mounts) as client:
            assert (await client.get("http://example.test/")).text == "elsewhere"
            assert (await client.get(f"{URL}/")).text == "Hello, World!"


@both_libraries
async def test_several_clients_share_a_broker(certs: Certificates, library: Any) -> None:
    async with broker_behind(make_app(), certs) as broker:

        async def use_one(number: int) -> list[str]:
            async with library.AsyncClient(transport=VerserTransport(broker), base_url=URL) as client:
                names = [f"{number}.{count}" for count in range(20)]
                answers = await asyncio.gather(*(client.get("/", params={"name": name}) for name in names))
                assert [answer.text for answer in answers] == [f"Hello, {name}!" for name in names]
                return names

        assert len(await asyncio.gather(*(use_one(number) for number in range(8)))) == 8
        assert broker.connected, "closing a client must leave the Broker alone"


# --- Giving up ----------------------------------------------------------------------------------


@both_libraries
@pytest.mark.both_loops
async def test_a_cancelled_task_cancels_the_request(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with client_of(library, certs, diary) as client:
        task = asyncio.create_task(client.get("/wait", timeout=None))
        await until(lambda: diary.events == ["waiting"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: diary.events == ["waiting", "disconnected"])
        assert (await client.get("/")).status_code == 200


@both_libraries
async def test_a_cancelled_upload_ends_the_body(certs: Certificates, library: Any) -> None:
    diary, ended = Diary(), asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with client_of(library, certs, diary) as client:
        task = asyncio.create_task(client.post("/count", content=stuck(), timeout=None))
        await until(lambda: diary.received == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 30)
        await until(lambda: diary.over == ["/count"])


@both_libraries
async def test_a_task_that_is_cancelled_while_it_reads(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with client_of(library, certs, diary) as client:
        reading = asyncio.Event()

        async def read() -> None:
            async with client.stream("GET", "/lines", timeout=None) as response:
                async for _line in response.aiter_lines():
                    reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        diary.go_on.set()
        await until(lambda: diary.over == ["/lines"])
        assert (await client.get("/")).status_code == 200


@both_libraries
async def test_a_response_that_is_closed_early_is_cancelled(certs: Certificates, library: Any) -> None:
    diary = Diary()
    async with client_of(library, certs, diary) as client:
        async with client.stream("GET", "/big?blocks=100000") as response:
            async for _chunk in response.aiter_bytes():
                break
        await until(lambda: diary.over == ["/big"])
        assert diary.sent < 100_000 * len(BLOCK)
        response = await client.send(client.build_request("GET", "/big?blocks=100000"), stream=True)
        await response.aclose()
        await response.aclose()
        await until(lambda: diary.over == ["/big", "/big"])
        with pytest.raises(library.StreamClosed):
            await response.aread()


@both_libraries
async def test_what_is_here_can_be_read_after_the_close(certs: Certificates, library: Any) -> None:
    """Another task may close the Broker when an answer is here, and before its reader comes for it."""
    diary = Diary()
    async with (
        broker_behind(make_app(diary), certs) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL) as client,
        client.stream("GET", "/big?blocks=10") as whole,
        client.stream("GET", "/lines", timeout=None) as partial,
    ):
        pieces, begun = whole.aiter_raw(), partial.aiter_raw()
        received = await anext(pieces) + await anext(begun)
        link = broker._keeper.link
        assert link is not None
        await until(lambda: link.session.open_streams == 2)  # the control stream, and that of the lines
        await broker.close(timeout=0)
        received += b"".join([piece async for piece in pieces])
        assert received.replace(b"first\n", b"").replace(b"second\r\n", b"") == BLOCK * 10
        with pytest.raises((library.ReadError, library.ConnectError)):
            await anext(begun)
        diary.go_on.set()


@both_libraries
async def test_closing_while_another_task_reads_is_not_the_end_of_the_body(
    certs: Certificates, library: Any
) -> None:
    diary = Diary()
    async with client_of(library, certs, diary) as client:
        response = await client.send(client.build_request("GET", "/lines"), stream=True)
        read = asyncio.Event()

        async def read_on() -> None:
            async for _chunk in response.aiter_raw():
                read.set()

        task = asyncio.create_task(read_on())
        await read.wait()
        await asyncio.sleep(0)
        await response.aclose()
        with pytest.raises(library.StreamClosed):
            await task
        diary.go_on.set()


@both_libraries
async def test_requests_cancelled_anywhere_leave_nothing(certs: Certificates, library: Any) -> None:
    diary = Diary()
    paths = ["/", "/wait", "/big?blocks=1000", "/lines", "/echo", "/count"]
    async with client_of(library, certs, diary) as client:

        async def go(number: int) -> None:
            path = paths[number % len(paths)]
            try:
                async with asyncio.timeout(number % 23 / 1_000):
                    if number % 2:
                        await client.post(path, content=BLOCK * 4)
                    else:
                        await client.get(path)
            except TimeoutError:
                return

        for start in range(0, 200, 40):
            await asyncio.gather(*(go(number) for number in range(start, start + 40)))
        diary.go_on.set()
        await until(lambda: diary.active == 0)
        assert (await client.get("/")).status_code == 200

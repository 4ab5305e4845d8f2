"""`SyncVerserTransport` under the plain clients of httpx2 and httpx, against a stack in another thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
import pytest

from tests.integrations.apps import BLOCK, Diary
from tests.integrations.clients import URL
from tests.integrations.stacks import DOMAIN, END_SECONDS, ThreadedStack
from verser2_guest_python import DisconnectedTargetError, MissingGuestError, create_verser_broker
from verser2_guest_python.integrations.httpx import SyncVerserTransport
from verser2_guest_python.integrations.sync import SyncVerserBroker


@dataclass
class Stack:
    library: Any
    diary: Diary
    threaded: ThreadedStack
    broker: SyncVerserBroker
    client: Any


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def stack(request: pytest.FixtureRequest, shared: tuple[Diary, ThreadedStack]) -> Iterator[Stack]:
    diary, threaded = shared
    library = request.param
    with (
        SyncVerserBroker(threaded.broker()) as broker,
        library.Client(transport=SyncVerserTransport(broker), base_url=URL, timeout=END_SECONDS) as client,
    ):
        yield Stack(library, diary, threaded, broker, client)


def test_a_request_and_its_answer(stack: Stack) -> None:
    response = stack.client.get("/", params={"name": "Alice"})
    assert isinstance(response, stack.library.Response)
    assert (response.status_code, response.text, response.http_version) == (200, "Hello, Alice!", "HTTP/2")
    assert stack.client.head("/").content == b""
    assert stack.client.get("/status/204").content == b""
    assert stack.client.get("/zipped").text == "unzipped " * 1_000
    assert stack.client.get("/repeated").headers.get_list("x-tag") == ["one", "two, three"]


def test_cookies_and_redirects(stack: Stack) -> None:
    stack.client.get("/login")
    described = stack.client.post(
        "/redirect", params={"to": "/describe/", "status": 307}, content=b"again", follow_redirects=True
    )
    assert described.json()["text"] == "again"
    assert described.json()["cookies"] == {"session": "s3cret", "theme": "dark"}
    assert stack.client.get("/redirect").status_code == 302


def test_bodies_of_every_kind(stack: Stack) -> None:
    client = stack.client
    assert client.post("/describe/", json=[1]).json()["text"] == "[1]"
    assert client.post("/describe/", files={"upload": b"of a file"}).json()["text"].count("of a file") == 1
    assert client.post("/describe/", content=iter([b"a", b"b"])).json()["text"] == "ab"
    assert client.post("/describe/", content=b"").json()["bytes"] == 0
    assert client.post("/count", content=BLOCK * 200).text == str(200 * len(BLOCK))


def test_an_answer_is_read_as_it_comes(stack: Stack) -> None:
    with stack.client.stream("GET", "/lines") as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == ["first", "second"]
        stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)
        assert list(lines) == ["thïrd"]


def test_a_plain_iterator_is_read_in_the_callers_thread(stack: Stack) -> None:
    seen = set()

    def blocks() -> Iterator[bytes]:
        for _ in range(512):
            seen.add(threading.get_ident())
            yield BLOCK

    with stack.client.stream("POST", "/echo", content=blocks()) as response:
        assert sum(map(len, response.iter_raw())) == 512 * len(BLOCK)
    assert seen == {threading.get_ident()}


def test_a_download_is_the_body_of_an_upload(stack: Stack) -> None:
    with stack.client.stream("GET", "/big?blocks=64") as download:
        assert stack.client.post("/count", content=download.iter_raw()).text == str(64 * len(BLOCK))


def test_timeouts(stack: Stack) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield BLOCK

    library = stack.library
    with pytest.raises(library.ReadTimeout):
        stack.client.get("/wait", timeout=library.Timeout(None, read=0.1))
    with pytest.raises(library.WriteTimeout):
        stack.client.post("/ignore", content=endless(), timeout=library.Timeout(None, write=0.1))
    timeout = library.Timeout(None, read=0.1)
    with (
        stack.client.stream("GET", "/lines", timeout=timeout) as response,
        pytest.raises(library.ReadTimeout),
    ):
        response.read()
    stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)


def test_a_response_that_is_closed_early_is_cancelled(stack: Stack) -> None:
    with stack.client.stream("GET", "/big?blocks=100000") as response:
        for _chunk in response.iter_bytes():
            break
    stack.threaded.until(lambda: stack.diary.over == ["/big"])
    assert stack.client.get("/").status_code == 200


def test_an_early_answer_ends_the_body(stack: Stack) -> None:
    ended = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield BLOCK
        finally:
            ended.append(True)

    response = stack.client.post("/refuse", content=endless())
    assert (response.status_code, response.text) == (413, "too much")
    if stack.library is httpx2:  # httpx leaves its caller's generator to the collector
        assert ended == [True]


def test_what_goes_wrong(stack: Stack) -> None:
    library = stack.library

    def failing() -> Iterator[bytes]:
        yield BLOCK
        raise LookupError("no second piece")

    with pytest.raises(library.ConnectError) as raised:
        stack.client.get("http://nobody.test/")
    assert isinstance(raised.value.__cause__, MissingGuestError)
    with pytest.raises(library.RemoteProtocolError):
        stack.client.get("/cut")
    with pytest.raises(library.LocalProtocolError):
        stack.client.get("/", headers={"x-bad": "line\r\nbreak"})
    with pytest.raises(library.UnsupportedProtocol):
        stack.client.get("ftp://a.local.test/")
    with pytest.raises(LookupError, match="no second piece"):
        stack.client.post("/echo", content=failing())


def test_a_broker_that_is_closed(stack: Stack) -> None:
    library = stack.library
    with stack.client.stream("GET", "/big?blocks=100000") as response:
        chunks = response.iter_raw()
        next(chunks)
        stack.broker.close(timeout=0)
        with pytest.raises((library.ReadError, library.ConnectError)):
            list(chunks)
    with pytest.raises(library.ConnectError, match=r"connect\(\)"):
        stack.client.get("/")
    unconnected = SyncVerserBroker(create_verser_broker(host_url="https://127.0.0.1:1"))
    client = library.Client(transport=SyncVerserTransport(unconnected))
    with client, pytest.raises(library.ConnectError):
        client.get(f"{URL}/")


@pytest.mark.parametrize("begun", [False, True], ids=["at-once", "half-way"])
def test_what_is_here_can_be_read_after_the_close(stack: Stack, begun: bool) -> None:
    """Another thread may close the Broker when an answer is here, and before its reader comes for it."""
    with stack.client.stream("GET", "/big?blocks=10") as response:
        stack.threaded.until(lambda: arrived(stack.broker))
        pieces = response.iter_raw()
        received = next(pieces) if begun else b""
        stack.broker.close(timeout=0)
        received += b"".join(pieces)
    assert received == BLOCK * 10


def test_what_is_not_here_cannot_be_read_after_the_close(stack: Stack) -> None:
    with stack.client.stream("GET", "/lines") as response:
        pieces = response.iter_raw()
        next(pieces)
        stack.broker.close(timeout=0)
        with pytest.raises((stack.library.ReadError, stack.library.ConnectError)):
            list(pieces)
    stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)


def arrived(broker: SyncVerserBroker) -> bool:
    """Whether the answer to the one request of a Broker is here, all of it."""
    link = broker.inner._keeper.link
    return link is not None and link.session.open_streams == 1  # the control stream


def test_a_broker_that_is_closed_while_a_thread_waits(stack: Stack) -> None:
    told: list[BaseException] = []

    def call() -> None:
        try:
            stack.client.get("/wait")
        except stack.library.TransportError as error:
            told.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    stack.threaded.until(lambda: stack.diary.events == ["waiting"])
    stack.broker.close(timeout=0)
    caller.join(END_SECONDS)
    assert [type(error.__cause__) for error in told] == [DisconnectedTargetError]
    assert isinstance(told[0], stack.library.ReadError), "an app may have seen it"


def test_many_threads_share_a_client(stack: Stack) -> None:
    def call(number: int) -> str:
        return str(stack.client.post("/echo", content=iter([b"%d" % number] * 10)).text)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(100))) == [str(number) * 10 for number in range(100)]


def test_a_client_for_some_domains_alone(stack: Stack) -> None:
    library = stack.library
    elsewhere = library.MockTransport(lambda _request: library.Response(200, text="elsewhere"))
    mounts = {f"all://{DOMAIN}": SyncVerserTransport(stack.broker)}
    with library.Client(transport=elsewhere, mounts=mounts) as client:
        assert client.get("http://example.test/").text == "elsewhere"
        assert client.get(f"{URL}/").text == "Hello, World!"
    assert stack.broker.connected, "closing a client must leave the Broker alone"


@pytest.mark.skipif(os.name == "nt", reason="signals to a thread")
def test_an_interrupt_cancels_the_request_alone(stack: Stack) -> None:
    main = threading.get_ident()

    def interrupt() -> None:
        stack.threaded.until(lambda: stack.diary.events == ["waiting"])
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        stack.client.get("/wait", timeout=None)
    interrupter.join(END_SECONDS)
    stack.threaded.until(lambda: "disconnected" in stack.diary.events)
    assert stack.client.get("/").status_code == 200

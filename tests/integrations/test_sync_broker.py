"""`SyncVerserBroker` against a Host and a Guest in another thread."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import pytest

from tests.integrations.apps import BLOCK, Diary, make_app
from tests.integrations.stacks import DOMAIN, END_SECONDS, ThreadedStack, threaded_stack
from tests.support.certificates import Certificates
from verser2_guest_python import (
    DisconnectedTargetError,
    MissingGuestError,
    RequestTimeoutError,
    StreamFailureError,
    VerserBroker,
    VerserConnectionError,
    VerserUsageError,
    create_verser_broker,
)
from verser2_guest_python.broker import (
    RouteChange,
    RouteChanges,
    VerserBrokerResponse,
    VerserBrokerWebSocket,
    VerserStatusError,
)
from verser2_guest_python.integrations.sync import SyncVerserBroker
from verser2_guest_python.integrations.sync_response import SyncVerserResponse, SyncVerserStatusError
from verser2_guest_python.integrations.sync_websocket import SyncRouteChanges, SyncVerserWebSocket

BROKER_ID = "broker-sync"
THREAD_NAME = f"verser broker {BROKER_ID}"
URL = f"http://{DOMAIN}"


@dataclass
class Stack:
    diary: Diary
    threaded: ThreadedStack
    broker: SyncVerserBroker


@pytest.fixture
def stack(shared: tuple[Diary, ThreadedStack]) -> Iterator[Stack]:
    diary, threaded = shared
    with SyncVerserBroker(threaded.broker(broker_id=BROKER_ID)) as broker:
        yield Stack(diary, threaded, broker)
    assert broker_threads() == []


def broker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


# --- Requests and answers -----------------------------------------------------------------------


def test_a_request_and_its_answer(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/?name=Alice")
    assert (response.status, response.reason, response.ok) == (200, "OK", True)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.target_id == "guest-a"
    assert response.request_id.startswith(BROKER_ID)
    assert response.text() == "Hello, Alice!"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_every_method(stack: Stack, method: str) -> None:
    described = getattr(stack.broker, method)(f"{URL}/describe/here", json={"a": 1}).json()
    assert described["method"] == method.upper()
    assert described["text"] == '{"a":1}'


def test_head_has_no_body(stack: Stack) -> None:
    with stack.broker.head(f"{URL}/") as response:
        assert response.status == 200
        assert response.read() == b""


def test_cookies_and_repeated_headers(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/login")
    assert response.cookies == {"session": "s3cret", "theme": "dark"}
    assert len(response.headers.get_list("set-cookie")) == 2
    assert stack.broker.get(f"{URL}/repeated").headers.get_list("x-tag") == ["one", "two, three"]


def test_a_refusal_of_the_app_can_be_raised(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/status/404")
    with pytest.raises(SyncVerserStatusError, match="404") as raised:
        response.raise_for_status()
    assert raised.value.response is response
    assert isinstance(raised.value, VerserStatusError)
    assert stack.broker.get(f"{URL}/").raise_for_status().status == 200


def test_a_body_is_read_once(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/")
    response.read()
    with pytest.raises(VerserUsageError, match="consumed once"):
        response.read()
    with pytest.raises(VerserUsageError, match="consumed once"):
        response.iter_bytes()


def test_chunks_have_the_size_that_was_asked_for(stack: Stack) -> None:
    chunks = list(stack.broker.get(f"{URL}/big?blocks=20&sized").iter_bytes(10_000))
    assert b"".join(chunks) == 20 * BLOCK
    assert max(map(len, chunks)) == 10_000
    with pytest.raises(VerserUsageError, match="chunk_size"):
        stack.broker.get(f"{URL}/").iter_bytes(0)


def test_lines_come_as_the_app_says_them(stack: Stack) -> None:
    with stack.broker.get(f"{URL}/lines") as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == ["first", "second"]
        stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)
        assert list(lines) == ["thïrd"]


def test_what_is_left_is_cancelled_and_the_app_learns_of_it(stack: Stack) -> None:
    with stack.broker.get(f"{URL}/big?blocks=100000") as response:
        for _chunk in response.iter_bytes():
            break
    stack.threaded.until(lambda: stack.diary.over == ["/big"])
    assert stack.diary.sent < 100_000 * len(BLOCK)
    assert stack.broker.get(f"{URL}/").status == 200


def test_chunks_that_are_left_end_the_response_without_a_with_block(stack: Stack) -> None:
    for _chunk in stack.broker.get(f"{URL}/big?blocks=100000").iter_bytes():
        break
    gc.collect()
    stack.threaded.until(lambda: stack.diary.over == ["/big"])


def test_an_answer_that_was_cut_off_raises(stack: Stack) -> None:
    with pytest.raises(StreamFailureError):  # at the head already, if the reset is right behind it
        stack.broker.get(f"{URL}/cut").read()


# --- Bodies -------------------------------------------------------------------------------------


def test_bodies_of_every_kind(stack: Stack) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    for body, told in [
        (b"bytes", "bytes"),
        ("tëxt", "tëxt"),
        (bytearray(b"array"), "array"),
        ([b"one", b"two", "three"], "onetwothree"),
        ((piece for piece in ("x", "y")), "xy"),
        (io.BytesIO(b"in memory"), "in memory"),
        (io.StringIO("text in memory"), "text in memory"),
        (pieces(), "ab"),
        ([], ""),
    ]:
        assert stack.broker.post(f"{URL}/describe/", body=body).json()["text"] == told
    assert stack.broker.post(f"{URL}/describe/", text="plain").json()["text"] == "plain"


def test_the_length_of_a_file_is_declared(stack: Stack) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"12345")
        file.seek(1)
        described = stack.broker.post(f"{URL}/describe/", body=file, headers={"x-a": ["1", "2"]}).json()
    assert described["headers"]["content-length"] == "4"
    assert described["headers"]["x-a"] == "1,2"
    described = stack.broker.post(
        f"{URL}/describe/", body=io.BytesIO(b"12345"), headers=[("Content-Length", "5")]
    ).json()
    assert described["headers"]["content-length"] == "5"


def test_a_pipe_is_sent_as_it_is_written(stack: Stack) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb", buffering=0) as sink:
        writer = threading.Thread(target=lambda: (sink.write(b"through a pipe"), sink.close()))
        writer.start()
        assert stack.broker.post(f"{URL}/describe/", body=source).json()["text"] == "through a pipe"
        writer.join(END_SECONDS)


def test_a_plain_iterator_is_read_in_the_callers_thread(stack: Stack) -> None:
    seen = set()

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            seen.add(threading.get_ident())
            yield BLOCK

    assert stack.broker.post(f"{URL}/count", body=pieces()).text() == str(100 * len(BLOCK))
    assert seen == {threading.get_ident()}


def test_an_upload_and_its_answer_flow_at_the_same_time(stack: Stack) -> None:
    """More than all windows hold: neither end may wait for the other one to be done."""
    blocks = 512

    with stack.broker.post(f"{URL}/echo", body=(BLOCK for _ in range(blocks))) as response:
        assert sum(map(len, response.iter_bytes())) == blocks * len(BLOCK)


def test_a_body_may_call_the_broker_itself(stack: Stack) -> None:
    """A download is the body of an upload: with one loop for both, reading there would never end."""
    with stack.broker.get(f"{URL}/big?blocks=64") as download:
        counted = stack.broker.post(f"{URL}/count", body=download.iter_bytes(65_536)).text()
    assert counted == str(64 * len(BLOCK))


def test_a_body_that_fails_cancels_the_request_and_is_raised(stack: Stack) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise LookupError("no more pieces")

    with pytest.raises(LookupError, match="no more pieces"):
        stack.broker.post(f"{URL}/echo", body=pieces()).read()
    stack.threaded.until(lambda: stack.diary.active == 0)
    assert stack.diary.events == [], "what is not whole must not look whole"


def test_an_answer_before_the_body_is_read_ends_the_body(stack: Stack) -> None:
    ended: list[str] = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield BLOCK
        finally:
            ended.append("closed")

    response = stack.broker.post(f"{URL}/refuse", body=pieces())
    assert response.status == 413
    assert response.text() == "too much"
    assert ended == ["closed"]


def test_what_is_no_body_is_refused(stack: Stack) -> None:
    with pytest.raises(VerserUsageError, match="body cannot be"):
        stack.broker.post(f"{URL}/", body={"a": 1})  # type: ignore[arg-type]
    with pytest.raises(VerserUsageError, match="piece of the body"):
        stack.broker.post(f"{URL}/echo", body=[1, 2]).read()  # type: ignore[list-item]


# --- Errors and time ----------------------------------------------------------------------------


def test_errors_of_the_host_are_raised(stack: Stack) -> None:
    with pytest.raises(MissingGuestError, match="No Guest serves"):
        stack.broker.get("http://nobody.test/")


def test_a_timeout_cancels_the_request(stack: Stack) -> None:
    with pytest.raises(RequestTimeoutError):
        stack.broker.get(f"{URL}/wait", timeout=0.05)
    stack.threaded.until(lambda: stack.diary.events == ["waiting", "disconnected"])


def test_nobody_there(certs: Certificates) -> None:
    inner = create_verser_broker(host_url="https://127.0.0.1:1", broker_id=BROKER_ID)
    broker = SyncVerserBroker(inner)
    with pytest.raises(VerserConnectionError):
        broker.connect()
    assert broker_threads() == []


def test_before_and_after(stack: Stack) -> None:
    broker = SyncVerserBroker(stack.threaded.broker(broker_id="never"))
    assert not broker.connected
    with pytest.raises(VerserUsageError, match=r"connect\(\)"):
        broker.get(f"{URL}/")
    broker.close()
    stack.broker.close()
    stack.broker.close()
    with pytest.raises(VerserUsageError, match=r"connect\(\)"):
        stack.broker.get(f"{URL}/")
    stack.broker.connect()
    assert stack.broker.connected
    with pytest.raises(VerserUsageError, match="already"):
        stack.broker.connect()
    assert stack.broker.get(f"{URL}/").status == 200
    assert repr(stack.broker).startswith(f"<SyncVerserBroker {BROKER_ID!r}")


def test_a_response_outlives_its_broker_without_harm(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/big?blocks=100000")
    chunks = response.iter_bytes()
    assert next(chunks)
    stack.broker.close(timeout=0)
    with pytest.raises((DisconnectedTargetError, VerserUsageError)):
        list(chunks)
    response.close()


def test_a_broker_that_is_not_closed_says_so(stack: Stack) -> None:
    def forget() -> None:
        SyncVerserBroker(stack.threaded.broker(broker_id="forgotten")).connect()
        gc.collect()

    with pytest.warns(ResourceWarning, match="was not closed"):
        forget()
    stack.threaded.until(lambda: stack.threaded.host.get_stats().sessions == 2)


# --- Threads ------------------------------------------------------------------------------------


def test_many_threads_at_a_time(stack: Stack) -> None:
    def call(number: int) -> str:
        body = (b"%d" % number for _ in range(10))
        return stack.broker.post(f"{URL}/echo", body=body).text()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(100)))
    assert answers == [str(number) * 10 for number in range(100)]


def test_a_response_is_closed_by_another_thread(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/big?blocks=100000")
    closer = threading.Thread(target=response.close)
    closer.start()
    closer.join(END_SECONDS)
    stack.threaded.until(lambda: stack.diary.over == ["/big"])


def test_closing_ends_calls_of_other_threads(stack: Stack) -> None:
    told: SimpleQueue[BaseException] = SimpleQueue()

    def call() -> None:
        try:
            stack.broker.get(f"{URL}/wait")
        except (DisconnectedTargetError, VerserUsageError) as error:
            told.put(error)

    callers = [threading.Thread(target=call) for _ in range(5)]
    for caller in callers:
        caller.start()
    stack.threaded.until(lambda: stack.diary.events.count("waiting") == len(callers))
    stack.broker.close("the end of the test", timeout=0)
    assert all(isinstance(told.get(timeout=END_SECONDS), DisconnectedTargetError) for _ in callers)
    for caller in callers:
        caller.join(END_SECONDS)
    assert broker_threads() == []


def test_closing_waits_for_what_is_nearly_done(stack: Stack) -> None:
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(stack.broker.get(f"{URL}/wait").text()))
    caller.start()
    stack.threaded.until(lambda: stack.diary.events == ["waiting"])
    closer = threading.Thread(target=stack.broker.close)
    closer.start()
    stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)
    for thread in (caller, closer):
        thread.join(END_SECONDS)
    assert answers == ["waited"]


@pytest.mark.parametrize("path", ["/?name=Alice", "/lines"])
@pytest.mark.parametrize("way", ["text", "iter_bytes", "iter_lines"])
def test_what_is_here_can_be_read_after_the_close(stack: Stack, path: str, way: str) -> None:
    """Another thread may close the Broker when an answer is here, and before its reader comes for it."""
    stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)
    with stack.broker.get(URL + path) as whole:
        expected = whole.text()
    response = stack.broker.get(URL + path)
    stack.threaded.until(lambda: response.arrived)
    stack.broker.close()
    match way:
        case "text":
            assert response.text() == expected
        case "iter_bytes":
            assert b"".join(response.iter_bytes(3)).decode() == expected
        case "iter_lines":
            assert list(response.iter_lines()) == expected.splitlines()
    with pytest.raises(VerserUsageError):
        response.read()


@pytest.mark.parametrize("way", ["iter_bytes", "iter_lines"])
def test_an_iteration_that_has_begun_is_not_cut_short_by_a_close(stack: Stack, way: str) -> None:
    """What is here goes on to its end: the end of the loop is not the end of the body."""
    body = "".join(f"{number}\n" for number in range(150_000))
    response = stack.broker.post(f"{URL}/echo", text=body)
    stack.threaded.until(lambda: response.arrived)
    items: Iterator[Any] = getattr(response, way)()
    received = [next(items)]
    stack.broker.close(timeout=0)
    received += items
    if way == "iter_bytes":
        assert b"".join(received).decode() == body
    else:
        assert received == body.splitlines()


def test_an_iteration_over_what_is_not_here_raises_after_the_close(stack: Stack) -> None:
    lines = stack.broker.get(f"{URL}/lines").iter_lines()
    assert next(lines) == "first"
    stack.broker.close(timeout=0)
    with pytest.raises((DisconnectedTargetError, VerserUsageError)):
        list(lines)
    stack.threaded.loop.call_soon_threadsafe(stack.diary.go_on.set)


def test_what_is_not_here_cannot_be_read_after_the_close(stack: Stack) -> None:
    response = stack.broker.get(f"{URL}/big?blocks=1000")
    stack.broker.close(timeout=0)
    with pytest.raises(VerserUsageError, match="not connected"):
        response.read()


async def test_it_works_where_a_loop_runs_already(certs: Certificates) -> None:
    """As in a notebook: the calling thread has a running loop, which must not be touched."""
    with (
        threaded_stack(make_app(), certs) as threaded,
        SyncVerserBroker(threaded.broker()) as broker,
    ):
        assert broker.get(f"{URL}/").text() == "Hello, World!"
    assert await asyncio.sleep(0, "still here") == "still here"


def test_it_works_on_uvloop(stack: Stack) -> None:
    uvloop = pytest.importorskip("uvloop")
    inner = stack.threaded.broker(broker_id="on-uvloop")
    with SyncVerserBroker(inner, loop_factory=uvloop.new_event_loop) as broker:
        assert broker.post(f"{URL}/echo", body=iter([BLOCK] * 50)).read() == 50 * BLOCK


@pytest.mark.skipif(os.name == "nt", reason="signals to a thread")
def test_an_interrupt_cancels_the_request_alone(stack: Stack) -> None:
    main = threading.get_ident()

    def interrupt() -> None:
        stack.threaded.until(lambda: stack.diary.events == ["waiting"])
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        stack.broker.get(f"{URL}/wait")
    interrupter.join(END_SECONDS)
    stack.threaded.until(lambda: "disconnected" in stack.diary.events)
    assert stack.broker.get(f"{URL}/").status == 200


def test_a_program_that_forgets_to_close_ends_in_good_order(stack: Stack) -> None:
    program = textwrap.dedent(f"""
        from verser2_guest_python import create_verser_broker
        from verser2_guest_python.integrations.sync import SyncVerserBroker

        broker = SyncVerserBroker(create_verser_broker(
            host_url={stack.threaded.host.url!r}, tls_ca_file={str(stack.threaded.certs.ca)!r}
        ))
        broker.connect()
        print(broker.get("{URL}/").text())
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * END_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, World!\n", "")
    stack.threaded.until(lambda: stack.threaded.host.get_stats().sessions == 2)


# --- Routes -------------------------------------------------------------------------------------


def test_routes(stack: Stack) -> None:
    assert stack.broker.wait_for_route(DOMAIN, timeout=30).target_id == "guest-a"
    assert [route.domain for route in stack.broker.get_routes()] == [DOMAIN]
    with pytest.raises(RequestTimeoutError):
        stack.broker.wait_for_route("nobody.test", timeout=0.01)


def test_a_listener_hears_of_changes(certs: Certificates) -> None:
    changes: SimpleQueue[RouteChange] = SimpleQueue()
    with threaded_stack(make_app(), certs) as threaded, SyncVerserBroker(threaded.broker()) as broker:
        unsubscribe = broker.on_route_change(changes.put)
        threaded.run(threaded.guest.revoke_routes([DOMAIN]))
        change = changes.get(timeout=END_SECONDS)
        assert (change.type, change.domain) == ("removed", DOMAIN)
        unsubscribe()
    unsubscribe()


def test_changes_that_wait_are_told_after_the_close(certs: Certificates) -> None:
    with threaded_stack(make_app(), certs) as threaded, SyncVerserBroker(threaded.broker()) as broker:
        told: SimpleQueue[RouteChange] = SimpleQueue()
        changes = broker.routes()
        broker.on_route_change(told.put)
        threaded.run(threaded.guest.revoke_routes([DOMAIN]))
        told.get(timeout=END_SECONDS)
        broker.close()
        assert [change.type for change in changes] == ["removed"]


def test_a_listener_that_calls_back_is_told_what_is_wrong(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    told: SimpleQueue[str] = SimpleQueue()

    def listener(_change: RouteChange) -> None:
        for call in (broker.get_routes, broker.close):
            try:
                call()
            except VerserUsageError as error:
                told.put(error.message)

    with threaded_stack(make_app(), certs) as threaded, SyncVerserBroker(threaded.broker()) as broker:
        broker.on_route_change(listener)
        threaded.run(threaded.guest.revoke_routes([DOMAIN]))
        assert "must not wait" in told.get(timeout=END_SECONDS)
        assert "own thread" in told.get(timeout=END_SECONDS)


def test_asynchronous_code_runs_in_its_loop(stack: Stack) -> None:
    async def both(broker: VerserBroker) -> list[str]:
        answers = await asyncio.gather(broker.get(f"{URL}/?name=A"), broker.get(f"{URL}/?name=B"))
        return [await answer.text() for answer in answers]

    assert stack.broker.run(both) == ["Hello, A!", "Hello, B!"]


@pytest.mark.parametrize(
    ("asynchronous", "plain", "renamed"),
    [
        (VerserBroker, SyncVerserBroker, {}),
        (
            VerserBrokerResponse,
            SyncVerserResponse,
            {"aclose": "close", "aiter_bytes": "iter_bytes", "aiter_lines": "iter_lines"},
        ),
        (VerserBrokerWebSocket, SyncVerserWebSocket, {}),
        (RouteChanges, SyncRouteChanges, {"aclose": "close", "ended": ""}),
    ],
)
def test_nothing_is_missing(asynchronous: type[Any], plain: type[Any], renamed: dict[str, str]) -> None:
    names = {renamed.get(name, name) for name in dir(asynchronous) if not name.startswith("_")} - {""}
    assert names - set(dir(plain)) == set()

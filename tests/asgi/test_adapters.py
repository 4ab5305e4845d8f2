from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import tests.asgi.frameworks  # noqa: F401
from verser2_guest_python.asgi.adapters import adapt, detect_interface
from verser2_guest_python.asgi.exceptions import AsgiRuleError, ClientDisconnected
from verser2_guest_python.asgi.lifespan import Lifespan
from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send
from verser2_guest_python.asgi.wsgi import wsgi_to_asgi3
from verser2_guest_python.errors import VerserConfigurationError

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

REQUEST = {"type": "http.request", "body": b"", "more_body": False}


# --- what an app is taken for ------------------------------------------------------------------


async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "asgi3"})


def asgi3_without_async(scope: Scope, receive: Receive, send: Send) -> Any:
    return asgi3(scope, receive, send)


def anything(*args: Any, **kwargs: Any) -> Any:
    return asgi3(*args, **kwargs)


@functools.wraps(asgi3)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return asgi3(*args, **kwargs)


async def with_setting(setting: str, scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "asgi3"})


class Asgi3Object:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "asgi3"})


class Asgi3Endpoint:
    """As Starlette's: the instance is awaited."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send

    def __await__(self) -> Iterator[Any]:
        return self._send({"type": "asgi3"}).__await__()


def asgi2(scope: Scope) -> Any:
    async def instance(receive: Receive, send: Send) -> None:
        await send({"type": "asgi2"})

    return instance


class Asgi2Class:
    def __init__(self, scope: Scope) -> None:
        pass

    async def __call__(self, receive: Receive, send: Send) -> None:
        await send({"type": "asgi2"})


class Asgi2Object:
    def __call__(self, scope: Scope) -> Any:
        return asgi2(scope)


def wsgi(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi"]


class WsgiObject:
    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return wsgi(environ, start_response)


class WsgiClass:
    """As PEP 3333 shows it: the instance is the response."""

    def __init__(self, environ: Environ, start_response: StartResponse) -> None:
        start_response("200 OK", [("Content-Type", "text/plain")])

    def __iter__(self) -> Iterator[bytes]:
        yield b"wsgi"


APPS: list[tuple[object, str]] = [
    (asgi3, "asgi3"),
    (asgi3_without_async, "asgi3"),
    (anything, "asgi3"),
    (wrapped, "asgi3"),
    (functools.partial(with_setting, "x"), "asgi3"),
    (functools.partial(asgi3_without_async), "asgi3"),
    (Asgi3Object(), "asgi3"),
    (Asgi3Object().__call__, "asgi3"),
    (functools.partial(Asgi3Object()), "asgi3"),
    (Asgi3Endpoint, "asgi3"),
    (asgi2, "asgi2"),
    (Asgi2Class, "asgi2"),
    (Asgi2Object(), "asgi2"),
    (wsgi, "wsgi"),
    (WsgiObject(), "wsgi"),
    (WsgiClass, "wsgi"),
]


@pytest.mark.parametrize(("app", "interface"), APPS)
async def test_each_kind_of_app_is_known_and_served(app: object, interface: str) -> None:
    assert detect_interface(app) == interface
    adapted, found = adapt(app)
    assert found == interface
    sent = await request(adapted)
    if interface == "wsgi":
        assert body(sent) == b"wsgi"
    else:
        assert sent == [{"type": interface}]


@pytest.mark.parametrize("interface", ["asgi3", "asgi2", "wsgi"])
def test_the_interface_may_be_named(interface: str) -> None:
    apps = {"asgi3": anything, "asgi2": anything, "wsgi": anything}
    assert adapt(apps[interface], interface)[1] == interface


@pytest.mark.parametrize(
    ("app", "interface", "why"),
    [
        (5, "auto", "the app is an int, which cannot be called"),
        (None, "auto", "the app is None"),
        (asgi3, "asgi9", "one of auto, asgi3, asgi2, wsgi"),
        (asgi3, "wsgi", r"cannot be called with \(environ, start_response\), so it is no wsgi app"),
        (wsgi, "asgi3", r"it takes \(environ, start_response\)"),
        (asgi3, "asgi2", "no asgi2 app"),
        (lambda a, b, c, d: None, "auto", r"it takes \(a, b, c, d\)"),
        (lambda: None, "auto", "it takes no arguments"),
    ],
)
def test_what_cannot_be_served_is_refused(app: object, interface: str, why: str) -> None:
    with pytest.raises(VerserConfigurationError, match=why):
        adapt(app, interface)


@pytest.mark.parametrize(
    ("module", "make", "interface"),
    [
        ("starlette.applications", lambda m: m.Starlette(), "asgi3"),
        ("fastapi", lambda m: m.FastAPI(), "asgi3"),
        ("quart", lambda m: m.Quart("x"), "asgi3"),
        ("litestar", lambda m: m.Litestar([]), "asgi3"),
        ("flask", lambda m: m.Flask("x"), "wsgi"),
        ("asgiref.wsgi", lambda m: m.WsgiToAsgi(wsgi), "asgi3"),
        ("uvicorn.middleware.proxy_headers", lambda m: m.ProxyHeadersMiddleware(asgi3), "asgi3"),
    ],
)
def test_the_apps_of_frameworks(module: str, make: Callable[[Any], object], interface: str) -> None:
    assert detect_interface(make(pytest.importorskip(module))) == interface


def test_the_handlers_of_django() -> None:
    handlers = pytest.importorskip("django.core.handlers.wsgi")
    asgi_handlers = pytest.importorskip("django.core.handlers.asgi")
    assert detect_interface(object.__new__(handlers.WSGIHandler)) == "wsgi"
    assert detect_interface(object.__new__(asgi_handlers.ASGIHandler)) == "asgi3"


async def test_an_asgi2_app_sees_its_scope_and_its_errors_pass() -> None:
    def app(scope: Scope) -> Any:
        raise ValueError(f"no {scope['type']} here")

    adapted, _ = adapt(app)
    with pytest.raises(ValueError, match="no lifespan here"):
        await request(adapted, scope={"type": "lifespan"})


# --- WSGI --------------------------------------------------------------------------------------


def http_scope(method: str = "GET", path: str = "/", query: bytes = b"", **headers: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [
            (b"host", b"a.local.test"),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": None,
        "server": None,
    }


def receiver(*messages: Message) -> Receive:
    """Give these messages one after the other; then it waits, as for a client that says no more."""
    left = list(messages)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


async def request(app: ASGIApp, receive: Receive | None = None, scope: Scope | None = None) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(http_scope() if scope is None else scope, receive or receiver(REQUEST), send)
    return sent


def body(sent: list[Message]) -> bytes:
    assert sent[0]["type"] == "http.response.start"
    assert not sent[-1].get("more_body", False)
    return b"".join(message.get("body", b"") for message in sent[1:])


def reading(read: Callable[[Any], object]) -> ASGIApp:
    """Make a WSGI app that answers with what `read` makes of its body."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [repr(read(environ["wsgi.input"])).encode()]

    return wsgi_to_asgi3(app)


def pieces(*data: bytes) -> Receive:
    return receiver(
        *({"type": "http.request", "body": piece, "more_body": True} for piece in data[:-1]),
        {"type": "http.request", "body": data[-1], "more_body": False},
    )


async def test_wsgi_answers_with_status_and_headers() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created", [("X-One", "1"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
        yield b"one"
        yield b"two"

    sent = await request(wsgi_to_asgi3(app))
    assert sent[0]["status"] == 201
    assert sent[0]["headers"] == [(b"x-one", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
    assert [message["body"] for message in sent[1:]] == [b"one", b"two", b""]


async def test_wsgi_sees_the_request() -> None:
    seen: Environ = {}

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    scope = http_scope("POST", "/é", b"q=1", content_type="text/plain", content_length="2", x_two="2")
    await request(wsgi_to_asgi3(app), pieces(b"hi"), scope)
    assert seen["REQUEST_METHOD"] == "POST"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/é"
    assert seen["QUERY_STRING"] == "q=1"
    assert seen["CONTENT_TYPE"] == "text/plain"
    assert seen["CONTENT_LENGTH"] == "2"
    assert seen["HTTP_X_TWO"] == "2"
    assert seen["HTTP_HOST"] == "a.local.test"
    assert seen["wsgi.errors"] is sys.stderr
    assert seen["wsgi.input_terminated"] is True


@pytest.mark.parametrize(
    ("read", "result"),
    [
        (lambda file: file.read(), b"one\ntwo\nthree"),
        (lambda file: file.read(5), b"one\nt"),
        (lambda file: [file.read(5), file.read(100), file.read(1)], [b"one\nt", b"wo\nthree", b""]),
        (lambda file: file.readline(), b"one\n"),
        (lambda file: file.readline(2), b"on"),
        (lambda file: file.readline(100), b"one\n"),
        (lambda file: file.readlines(), [b"one\n", b"two\n", b"three"]),
        (list, [b"one\n", b"two\n", b"three"]),
    ],
)
async def test_wsgi_reads_the_body_as_a_file(read: Callable[[Any], object], result: object) -> None:
    # The pieces end in the middle of lines, and one of them is empty
    sent = await request(reading(read), pieces(b"on", b"e\ntw", b"", b"o\nthree"))
    assert body(sent) == repr(result).encode()


async def test_wsgi_reads_an_empty_body() -> None:
    assert body(await request(reading(lambda file: file.read()), pieces(b""))) == b"b''"


async def test_wsgi_reads_a_large_body() -> None:
    data = [bytes([number]) * 100_000 for number in range(20)]
    sent = await request(reading(lambda file: len(file.read())), pieces(*data))
    assert body(sent) == b"2000000"


async def test_wsgi_takes_a_body_that_is_cut_off_for_an_error() -> None:
    receive = receiver(
        {"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}
    )
    with pytest.raises(ClientDisconnected, match="before its request was complete"):
        await request(reading(lambda file: file.read()), receive)


async def test_wsgi_runs_requests_side_by_side() -> None:
    barrier = threading.Barrier(3)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        barrier.wait(timeout=30)
        start_response("200 OK", [])
        return [b"met"]

    adapted = wsgi_to_asgi3(app, threads=3)
    answers = await asyncio.gather(*(request(adapted) for _ in range(3)))
    assert [body(sent) for sent in answers] == [b"met"] * 3


async def test_wsgi_raises_what_the_app_raises() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise ZeroDivisionError("boom")

    with pytest.raises(ZeroDivisionError, match="boom"):
        await request(wsgi_to_asgi3(app))


@pytest.mark.parametrize("error", [StopIteration("empty"), SystemExit(3)], ids=repr)
async def test_wsgi_survives_what_would_end_the_loop(error: BaseException) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise error

    with pytest.raises(RuntimeError, match=f"failed with {type(error).__name__}") as caught:
        await request(wsgi_to_asgi3(app))
    assert caught.value.__cause__ is error


async def test_wsgi_survives_an_exit_half_way() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"one"
        sys.exit(3)

    with pytest.raises(RuntimeError, match="failed with SystemExit: 3"):
        await request(wsgi_to_asgi3(app))


async def test_wsgi_raises_what_the_app_raises_half_way() -> None:
    closed: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield b"one"
            raise ZeroDivisionError("boom")
        finally:
            closed.append("app")

    with pytest.raises(ZeroDivisionError, match="boom"):
        await request(wsgi_to_asgi3(app))
    assert closed == ["app"]


async def test_wsgi_head_leaves_with_the_first_bytes_so_an_error_page_can_replace_it() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Internal Server Error", [], sys.exc_info())
        return [b"", b"sorry"]

    sent = await request(wsgi_to_asgi3(app))
    assert sent[0]["status"] == 500
    assert body(sent) == b"sorry"


async def test_wsgi_cannot_replace_a_head_that_has_left() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"one"
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Internal Server Error", [], sys.exc_info())

    with pytest.raises(ValueError, match="late"):
        await request(wsgi_to_asgi3(app))


@pytest.mark.parametrize("chunks", [[], [b""], [b"x"]])
async def test_wsgi_without_start_response_is_refused(chunks: list[bytes]) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return chunks

    with pytest.raises(RuntimeError, match="without calling start_response"):
        await request(wsgi_to_asgi3(app))


async def test_wsgi_start_response_twice_is_refused() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        start_response("404 Not Found", [])
        return []

    with pytest.raises(RuntimeError, match="a second time"):
        await request(wsgi_to_asgi3(app))


async def test_wsgi_may_write() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    assert body(await request(wsgi_to_asgi3(app))) == b"one two three"


async def test_wsgi_closes_its_answer() -> None:
    class Answer:
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            self.closed = True

    answer = Answer()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return answer

    await request(wsgi_to_asgi3(app))
    assert answer.closed


def endless(ended: threading.Event) -> Callable[[Environ, StartResponse], Iterator[bytes]]:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 1000
        finally:
            ended.set()

    return app


@pytest.mark.both_loops
async def test_wsgi_ends_when_the_client_goes_away() -> None:
    ended = threading.Event()
    sent = 0

    async def send(message: Message) -> None:
        nonlocal sent
        sent += 1
        if sent > 50:
            raise ClientDisconnected("gone")

    with pytest.raises(ClientDisconnected, match="gone"):
        await wsgi_to_asgi3(endless(ended))(http_scope(), receiver(REQUEST), send)
    assert ended.is_set()


async def test_wsgi_learns_of_a_rule_that_it_breaks() -> None:
    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise AsgiRuleError("longer than its content-length")

    with pytest.raises(AsgiRuleError, match="longer than"):
        await wsgi_to_asgi3(endless(threading.Event()))(http_scope(), receiver(REQUEST), send)


@pytest.mark.both_loops
async def test_wsgi_that_is_cancelled_while_its_client_is_slow() -> None:
    ended = threading.Event()
    full = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            full.set()
            await asyncio.Event().wait()

    work = asyncio.ensure_future(wsgi_to_asgi3(endless(ended))(http_scope(), receiver(REQUEST), send))
    await full.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert ended.is_set()  # the thread is free again


async def test_wsgi_that_is_cancelled_while_it_reads() -> None:
    failed: list[BaseException] = []
    reading_now = asyncio.Event()
    loop = asyncio.get_running_loop()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        loop.call_soon_threadsafe(reading_now.set)
        try:
            environ["wsgi.input"].read()
        except OSError as exc:
            failed.append(exc)
            raise
        return []

    receive = receiver({"type": "http.request", "body": b"half", "more_body": True})
    work = asyncio.ensure_future(request(wsgi_to_asgi3(app), receive))
    await reading_now.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert isinstance(failed[0], ClientDisconnected)


async def test_wsgi_threads_survive_many_clients_that_go_away() -> None:
    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise ClientDisconnected("gone")

    stop = threading.Event()
    adapted = wsgi_to_asgi3(endless(stop), threads=2)
    for _ in range(20):
        with pytest.raises(ClientDisconnected):
            await adapted(http_scope(), receiver(REQUEST), send)


async def test_wsgi_refuses_websockets() -> None:
    sent = await request(wsgi_to_asgi3(wsgi), scope={"type": "websocket"})
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_wsgi_has_a_lifespan() -> None:
    lifespan = Lifespan(wsgi_to_asgi3(wsgi), "on")
    await lifespan.startup()
    await lifespan.shutdown()


async def test_flask_through_wsgi() -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")

    def echo() -> Any:
        return flask.jsonify(got=flask.request.get_data(as_text=True), who=flask.request.args["who"])

    app.add_url_rule("/echo", view_func=echo, methods=["POST"])
    adapted, interface = adapt(app)
    assert interface == "wsgi"
    # Without content-length, as a streamed upload comes
    sent = await request(adapted, pieces(b"hello ", b"world"), http_scope("POST", "/echo", b"who=me"))
    assert sent[0]["status"] == 200
    assert body(sent) == b'{"got":"hello world","who":"me"}\n'


def test_wsgi_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2wsgi", None)  # as if it were not installed
    with pytest.raises(VerserConfigurationError) as caught:
        adapt(wsgi)
    assert "pip install 'verser2-guest-python[wsgi]'" in caught.value.message

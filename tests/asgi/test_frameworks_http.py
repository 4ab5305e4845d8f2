"""Real frameworks on the HTTP cycle, without a network: each through the cycle, and through a Guest.

What is special to each is tested where it shows: streaming both ways, uploads, downloads, server-sent
events, background tasks, middleware, exceptions in each phase.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.asgi.memory_exchange import MemoryExchange, cycle_of, run
from tests.support.waiting import until
from verser2_guest_python import LocalHandlerFailureError, VerserGuest, create_verser_guest
from verser2_guest_python.asgi.adapters import adapt
from verser2_guest_python.asgi.http import HttpCycle, Phase
from verser2_guest_python.asgi.scopes import http_scope
from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send
from verser2_guest_python.guest.dispatch import is_departure

pytestmark = [
    # Django warns of files that it serves as they are, and as Quart leaves closing to the garbage collector
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MIB = 1 << 20
BOUNDARY = "----a-boundary"
FILE = bytes(range(256)) * 1_024  # 256 KiB
DISCONNECTED = "disconnected"


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    cycle: HttpCycle
    exchange: MemoryExchange

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == name.encode()]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def cycle_for(
    app: Any, exchange: MemoryExchange, target: str, method: str, headers: Mapping[str, str]
) -> HttpCycle:
    said = {"host": "a.local.test", **headers}
    fields = [(name.encode(), value.encode("latin-1")) for name, value in said.items()]
    scope = http_scope(method=method, target=target, headers=fields, state={})
    return HttpCycle(adapt(app)[0], scope, exchange)


async def ask(
    app: Any,
    target: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *pieces: bytes,
) -> Answer:
    """One request, its body in pieces, and the whole answer."""
    exchange = MemoryExchange(*pieces)
    cycle = cycle_for(app, exchange, target, method, headers or {})
    async with asyncio.timeout(20):
        await cycle.run()
    return Answer(exchange.status or 0, exchange.headers, exchange.body, cycle, exchange)


def multipart(**fields: bytes) -> tuple[dict[str, str], list[bytes]]:
    """Headers and body of an upload: files, in pieces that part nothing where a boundary is."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in fields.items()
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    headers = {
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "content-length": str(len(body)),
    }
    return headers, [body[start : start + 40_000] for start in range(0, len(body), 40_000)]


# --- One small app in each framework --------------------------------------------------------------
#
# GET /hello?name=x   text                 POST /echo      the request body, piece by piece
# POST /upload        the sizes of files   GET /download   FILE, from a file
# GET /events         three events         GET /cookies    two cookies
# GET /boom           fails                GET /late       fails after a first piece


def starlette_app(folder: Path, done: list[str]) -> Any:
    starlette = pytest.importorskip("starlette")
    assert starlette
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def hello(request: Request) -> Response:
        return PlainTextResponse(f"Hello, {request.query_params['name']}!")

    async def echo(request: Request) -> Response:
        return StreamingResponse(request.stream(), media_type="application/octet-stream")

    async def upload(request: Request) -> Response:
        async with request.form() as form:
            return JSONResponse({name: len(await file.read()) for name, file in form.items()})  # type: ignore[union-attr]

    async def download(_request: Request) -> Response:
        return FileResponse(folder / "file.bin")

    async def events(_request: Request) -> Response:
        return StreamingResponse(three_events(), media_type="text/event-stream")

    async def cookies(_request: Request) -> Response:
        response = PlainTextResponse("cookies", background=BackgroundTask(done.append, "background"))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def boom(_request: Request) -> Response:
        raise ValueError("boom")

    async def late(_request: Request) -> Response:
        return StreamingResponse(fails_late(), media_type="text/plain")

    class Stamp:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def stamped(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-stamp", b"1")]
                await send(message)

            await self.app(scope, receive, stamped)

    handlers = [hello, echo, upload, download, events, cookies, boom, late]
    routes = [Route(f"/{one.__name__}", one, methods=["GET", "POST"]) for one in handlers]
    return Starlette(routes=routes, middleware=[Middleware(Stamp)])


def fastapi_app(folder: Path, done: list[str]) -> Any:
    pytest.importorskip("fastapi")
    from fastapi import BackgroundTasks, FastAPI, Request, Response, UploadFile
    from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

    app = FastAPI(title="An app")

    @app.middleware("http")
    async def stamp(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-stamp"] = "1"
        return response

    async def hello(name: str) -> PlainTextResponse:
        return PlainTextResponse(f"Hello, {name}!")

    async def echo(request: Request) -> StreamingResponse:
        return StreamingResponse(request.stream(), media_type="application/octet-stream")

    async def upload(one: UploadFile, two: UploadFile) -> dict[str, int]:
        return {"one": len(await one.read()), "two": len(await two.read())}

    def download() -> FileResponse:  # not async: in a thread
        return FileResponse(folder / "file.bin")

    async def events() -> StreamingResponse:
        return StreamingResponse(three_events(), media_type="text/event-stream")

    async def cookies(tasks: BackgroundTasks) -> PlainTextResponse:
        tasks.add_task(done.append, "background")
        response = PlainTextResponse("cookies", background=tasks)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def boom() -> None:
        raise ValueError("boom")

    async def late() -> StreamingResponse:
        return StreamingResponse(fails_late(), media_type="text/plain")

    known = {**globals(), **locals()}
    for handler in (hello, echo, upload, download, events, cookies, boom, late):
        resolve_annotations(handler, known)
        method = "POST" if handler in (echo, upload) else "GET"
        route = app.api_route(f"/{handler.__name__}", methods=[method], response_model=None)
        route(handler)
    return app


def quart_app(folder: Path, done: list[str]) -> Any:
    pytest.importorskip("quart")
    from quart import Quart, Response, jsonify, make_response, request, send_file

    app = Quart(__name__)

    @app.after_request
    async def stamp(response: Response) -> Response:
        response.headers["x-stamp"] = "1"
        return response

    @app.get("/hello")
    async def hello() -> str:
        return f"Hello, {request.args['name']}!"

    @app.post("/echo")
    async def echo() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.body:
                yield piece

        from quart import stream_with_context

        return stream_with_context(pieces)(), {"content-type": "application/octet-stream"}

    @app.post("/upload")
    async def upload() -> Response:
        files = await request.files
        return jsonify({name: len(file.read()) for name, file in files.items()})

    @app.get("/download")
    async def download() -> Response:
        return await send_file(folder / "file.bin", conditional=True)

    @app.get("/events")
    async def events() -> Any:
        return three_events(), {"content-type": "text/event-stream"}

    @app.get("/cookies")
    async def cookies() -> Any:
        async def later() -> None:
            done.append("background")

        app.add_background_task(later)
        response = await make_response("cookies")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/boom")
    async def boom() -> str:
        raise ValueError("boom")

    @app.get("/late")
    async def late() -> Any:
        return fails_late(), {"content-type": "text/plain"}

    return app


def litestar_app(folder: Path, done: list[str]) -> Any:
    pytest.importorskip("litestar")
    from litestar import Litestar, MediaType, Request, get, post
    from litestar.background_tasks import BackgroundTask
    from litestar.datastructures import Cookie
    from litestar.response import File, Response, Stream

    async def hello(request: Request) -> str:
        return f"Hello, {request.query_params['name']}!"

    async def echo(request: Request) -> Response:
        # Its streaming response receives as well, to notice a disconnect, and would take pieces away
        body = b"".join([piece async for piece in request.stream()])
        return Response(body, media_type="application/octet-stream")

    async def upload(request: Request) -> dict[str, int]:
        form = await request.form()
        return {name: len(await file.read()) for name, file in form.items()}

    async def download() -> File:
        return File(folder / "file.bin", filename="file.bin")

    async def events() -> Stream:
        return Stream(three_events(), media_type="text/event-stream")

    async def cookies() -> Response:
        return Response(
            "cookies",
            media_type=MediaType.TEXT,
            cookies=[Cookie(key="a", value="1"), Cookie(key="b", value="2")],
            background=BackgroundTask(done.append, "background"),
        )

    async def boom() -> None:
        raise ValueError("boom")

    async def late() -> Stream:
        return Stream(fails_late(), media_type="text/plain")

    def stamp(response: Any) -> Any:
        response.headers["x-stamp"] = "1"
        return response

    known = {**globals(), **locals()}
    handlers = []
    for handler in (hello, echo, upload, download, events, cookies, boom, late):
        resolve_annotations(handler, known)
        path = f"/{handler.__name__}"
        if handler in (echo, upload):
            handlers.append(post(path, status_code=200)(handler))
        else:
            handlers.append(get(path, media_type=MediaType.TEXT if handler is hello else None)(handler))
    return Litestar(route_handlers=handlers, after_request=stamp, openapi_config=None)


def resolve_annotations(handler: Any, known: Mapping[str, Any]) -> None:
    """Annotations are texts here, and name what is known to one function alone."""
    handler.__annotations__ = {
        key: eval(value, dict(known)) if isinstance(value, str) else value  # noqa: S307 - our own text
        for key, value in handler.__annotations__.items()
    }


_django: list[Any] = []


def django_app(folder: Path, done: list[str]) -> Any:
    pytest.importorskip("django")
    if not _django:
        _django.append(_make_django())
    module = _django[0]
    module.folder, module.done = folder, done
    return module.app


def _make_django() -> Any:
    import types

    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.core.signals import request_finished
    from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    module = types.ModuleType("tests_django_urls")

    def hello(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"Hello, {request.GET['name']}!")

    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.read(), content_type="application/octet-stream")

    def upload(request: HttpRequest) -> HttpResponse:
        return JsonResponse({name: file.size for name, file in request.FILES.items()})

    def download(_request: HttpRequest) -> Any:
        return FileResponse((module.folder / "file.bin").open("rb"))

    async def events(_request: HttpRequest) -> Any:
        return StreamingHttpResponse(three_events(), content_type="text/event-stream")

    def cookies(_request: HttpRequest) -> HttpResponse:
        response = HttpResponse("cookies")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def boom(_request: HttpRequest) -> HttpResponse:
        raise ValueError("boom")

    async def late(_request: HttpRequest) -> Any:
        return StreamingHttpResponse(fails_late(), content_type="text/plain")

    def stamp(get_response: Any) -> Any:
        def middleware(request: HttpRequest) -> Any:
            response = get_response(request)
            response.headers["x-stamp"] = "1"
            return response

        return middleware

    module.stamp = stamp  # type: ignore[attr-defined]
    module.urlpatterns = [  # type: ignore[attr-defined]
        path(view.__name__, view) for view in (hello, echo, upload, download, events, cookies, boom, late)
    ]
    import sys

    sys.modules[module.__name__] = module
    settings.configure(
        SECRET_KEY="for tests",
        ALLOWED_HOSTS=["a.local.test"],
        ROOT_URLCONF=module.__name__,
        MIDDLEWARE=[f"{module.__name__}.stamp"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    request_finished.connect(lambda **_: module.done.append("background"), weak=False)
    module.app = get_asgi_application()  # type: ignore[attr-defined]
    return module


def flask_app(folder: Path, done: list[str]) -> Any:
    pytest.importorskip("flask")
    pytest.importorskip("a2wsgi")
    from flask import Flask, Response, jsonify, make_response, request, send_file

    app = Flask(__name__)

    @app.after_request
    def stamp(response: Response) -> Response:
        response.headers["x-stamp"] = "1"
        return response

    @app.get("/hello")
    def hello() -> str:
        return f"Hello, {request.args['name']}!"

    @app.post("/echo")
    def echo() -> Response:
        return Response(request.stream.read(), content_type="application/octet-stream")

    @app.post("/upload")
    def upload() -> Response:
        return jsonify({name: len(file.read()) for name, file in request.files.items()})

    @app.get("/download")
    def download() -> Response:
        return send_file(folder / "file.bin")

    @app.get("/events")
    def events() -> Response:
        return Response((f"data: {number}\n\n" for number in range(3)), content_type="text/event-stream")

    @app.get("/cookies")
    def cookies() -> Response:
        response = make_response("cookies")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.call_on_close(lambda: done.append("background"))
        return response

    @app.get("/boom")
    def boom() -> str:
        raise ValueError("boom")

    @app.get("/late")
    def late() -> Response:
        def pieces() -> Iterator[str]:
            yield "first"
            raise ValueError("late")

        return Response(pieces(), content_type="text/plain")

    return app


async def three_events() -> AsyncIterator[str]:
    for number in range(3):
        yield f"data: {number}\n\n"
        await asyncio.sleep(0)


async def fails_late() -> AsyncIterator[str]:
    yield "first"
    raise ValueError("late")


Make = Callable[[Path, list[str]], Any]
FRAMEWORKS: dict[str, Make] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "django": django_app,
    "quart": quart_app,
    "litestar": litestar_app,
    "flask": flask_app,
}
STREAMS_UPLOADS = ("starlette", "fastapi", "quart")


@dataclass
class Served:
    name: str
    app: Any
    done: list[str]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "file.bin").write_bytes(FILE)
        yield Path(name)


@pytest.fixture(params=FRAMEWORKS)
def served(request: pytest.FixtureRequest, folder: Path) -> Served:
    done: list[str] = []
    # Django closes database connections and files from signals; nothing of that is ours to judge
    return Served(request.param, FRAMEWORKS[request.param](folder, done), done)


# --- What all of them do --------------------------------------------------------------------------


async def test_a_page(served: Served) -> None:
    answer = await ask(served.app, "/hello?name=W%C3%B6rld")
    assert (answer.status, answer.text) == (200, "Hello, Wörld!")
    assert answer.all("content-length") == [str(len(answer.body))]
    assert answer.all("content-type")[0].startswith("text/")
    assert answer.all("x-stamp") == ["1"]
    assert answer.cycle.error is None


async def test_head(served: Served) -> None:
    answer = await ask(served.app, "/download", "HEAD")
    if served.name == "litestar" and answer.status == 405:
        pytest.skip("Litestar answers HEAD only where a handler says so")
    assert answer.status in (200, 405)  # FastAPI: 405, no route of its own
    assert answer.body == b""
    assert answer.all("content-length") == []
    assert answer.exchange.ended


async def test_not_found(served: Served) -> None:
    answer = await ask(served.app, "/nowhere")
    assert answer.status == 404
    assert answer.exchange.ended


@pytest.mark.parametrize("pieces", [1, 20])
async def test_a_body_comes_back(served: Served, pieces: int) -> None:
    size = len(FILE) // pieces + 1
    parts = [FILE[start : start + size] for start in range(0, len(FILE), size)]
    headers = {"content-type": "application/octet-stream", "content-length": str(len(FILE))}
    answer = await ask(served.app, "/echo", "POST", headers, *parts)
    assert answer.status == 200
    assert answer.body == FILE


async def test_an_upload_of_files(served: Served) -> None:
    headers, pieces = multipart(one=FILE * 2, two=b"")
    answer = await ask(served.app, "/upload", "POST", headers, *pieces)
    assert (answer.status, answer.json) == (200, {"one": len(FILE) * 2, "two": 0})


async def test_a_download(served: Served) -> None:
    answer = await ask(served.app, "/download")
    assert answer.status == 200
    assert answer.all("content-length") == [str(len(FILE))]
    assert answer.body == FILE


async def test_events(served: Served) -> None:
    answer = await ask(served.app, "/events")
    assert answer.all("content-type")[0].startswith("text/event-stream")
    assert answer.all("content-length") == []
    assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert answer.exchange.ended


async def test_cookies_stay_apart_and_background_work_runs(served: Served) -> None:
    answer = await ask(served.app, "/cookies")
    assert [cookie.partition(";")[0] for cookie in answer.all("set-cookie")] == ["a=1", "b=2"]
    await until(lambda: "background" in served.done)


async def test_a_handler_that_fails(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Frameworks answer 500 themselves, and some raise on, for the server's log."""
    answer = await ask(served.app, "/boom")
    assert answer.status == 500
    assert answer.exchange.ended
    assert answer.cycle.phase is Phase.COMPLETE


async def test_a_response_that_fails_half_way_is_cut(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(served.app, "/late")
    assert answer.status == 200
    assert answer.cycle.error is not None
    if served.name == "fastapi":
        return  # its function middleware ends the body first, and raises then: nobody can tell any more
    assert answer.cycle.phase is Phase.CUT
    assert answer.exchange.was_cut
    assert not answer.exchange.ended


# --- Streaming both ways --------------------------------------------------------------------------


@pytest.fixture(params=STREAMS_UPLOADS)
def streaming(request: pytest.FixtureRequest, folder: Path) -> Served:
    done: list[str] = []
    return Served(request.param, FRAMEWORKS[request.param](folder, done), done)


async def test_an_upload_flows_back_while_it_comes(streaming: Served) -> None:
    exchange = MemoryExchange(b"one", complete=False)
    headers = {"content-type": "application/octet-stream"}
    cycle = cycle_for(streaming.app, exchange, "/echo", "POST", headers)
    task = asyncio.create_task(cycle.run())
    await until(lambda: exchange.body == b"one")
    exchange.feed(b"two")
    await until(lambda: exchange.body == b"onetwo")
    assert not exchange.ended
    exchange.feed(b"three", complete=True)
    await asyncio.wait_for(task, 10)
    assert exchange.body == b"onetwothree"
    assert exchange.ended


async def test_a_client_that_leaves_in_the_middle_of_its_upload(streaming: Served) -> None:
    """Each framework has its own way out; none takes half of a body for a whole one."""
    exchange = MemoryExchange(b"one", complete=False)
    headers = {"content-type": "application/octet-stream"}
    cycle = cycle_for(streaming.app, exchange, "/echo", "POST", headers)
    task = asyncio.create_task(cycle.run())
    await until(lambda: exchange.body == b"one")
    exchange.disconnect()
    await asyncio.wait_for(task, 10)
    assert not exchange.ended


@pytest.mark.parametrize("name", ["starlette", "fastapi", "quart", "litestar", "django"])
async def test_a_client_that_leaves_an_endless_download(name: str) -> None:
    """The app learns of it, one way or another, and its generator is closed."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1_000
                await asyncio.sleep(0)
        finally:
            closed.set()

    exchange = MemoryExchange()
    cycle = cycle_for(_endless_app(name, endless), exchange, "/endless", "GET", {})
    task = asyncio.create_task(cycle.run())
    await until(lambda: len(exchange.pieces) > 3)
    exchange.disconnect()
    await asyncio.wait_for(task, 10)
    assert not exchange.ended
    assert cycle.error is None or is_departure(cycle.error)
    del cycle, task  # some leave closing to the garbage collector
    gc.collect()
    async with asyncio.timeout(10):
        await closed.wait()


def _endless_app(name: str, endless: Callable[[], AsyncIterator[bytes]]) -> Any:
    if name == "starlette":
        from starlette.responses import StreamingResponse

        async def starlette_endless(scope: Any, receive: Any, send: Any) -> None:
            await StreamingResponse(endless())(scope, receive, send)

        return starlette_endless
    if name == "fastapi":
        from fastapi import FastAPI
        from fastapi.responses import StreamingResponse as FastApiStream

        app = FastAPI()
        app.get("/endless")(lambda: FastApiStream(endless()))
        return app
    if name == "quart":
        from quart import Quart

        quart = Quart(__name__)

        @quart.get("/endless")
        async def quart_endless() -> Any:
            return endless(), {"content-type": "text/plain"}

        return quart
    if name == "litestar":
        from litestar import Litestar, get
        from litestar.response import Stream

        async def litestar_endless() -> Stream:
            return Stream(endless())

        resolve_annotations(litestar_endless, locals())
        return Litestar(route_handlers=[get("/endless")(litestar_endless)], openapi_config=None)
    django_app(Path(), [])
    from django.http import StreamingHttpResponse
    from django.urls import path

    async def django_endless(_request: Any) -> Any:
        return StreamingHttpResponse(endless())

    patterns = _django[0].urlpatterns
    patterns[:] = [one for one in patterns if str(one.pattern) != "endless"]
    patterns.append(path("endless", django_endless))
    from django.urls import clear_url_caches

    clear_url_caches()
    return _django[0].app


async def test_a_slow_client_slows_the_app() -> None:
    from starlette.responses import StreamingResponse

    made = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield b"x" * 1_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    exchange = MemoryExchange()
    exchange.hold_writes()
    task = asyncio.create_task(cycle_of(app, exchange).run())
    for _ in range(50):
        await asyncio.sleep(0)
    assert made <= 2
    exchange.let_write()
    await asyncio.wait_for(task, 10)
    assert len(exchange.body) == 100_000


# --- Special to one framework ---------------------------------------------------------------------


async def test_the_interactive_docs_of_fastapi(folder: Path) -> None:
    app = fastapi_app(folder, [])
    docs = await ask(app, "/docs")
    assert docs.status == 200
    assert "swagger-ui" in docs.text
    assert "/openapi.json" in docs.text
    schema = await ask(app, "/openapi.json")
    assert "/upload" in schema.json["paths"]
    assert (await ask(app, "/redoc")).status == 200


async def test_the_docs_of_fastapi_below_a_root_path(folder: Path) -> None:
    app = fastapi_app(folder, [])
    guest = guest_of(app, root_path="/api/v1")
    async with closing(guest):
        docs = await guest.dispatch_routed_request({"path": "/docs", "headers": {"host": "a.local.test"}})
        assert docs.status_code == 200
        assert b"/api/v1/openapi.json" in docs.body


async def test_starlette_knows_whether_its_client_is_there() -> None:
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    seen: list[bool] = []
    exchange = MemoryExchange(b"body")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await request.body()
        seen.append(await request.is_disconnected())
        exchange.disconnect()
        seen.append(await request.is_disconnected())
        await PlainTextResponse("too late")(scope, receive, send)

    cycle, _ = await run(app, exchange)
    assert seen == [False, True]
    assert isinstance(cycle.error, OSError)


async def test_starlette_state_from_its_lifespan() -> None:
    import contextlib

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    steps: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, str]]:
        steps.append("up")
        yield {"greeting": "hello"}
        steps.append("down")

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.greeting)

    guest = guest_of(Starlette(routes=[Route("/", home)], lifespan=lifespan))
    async with closing(guest):
        response = await guest.dispatch_routed_request({"path": "/"})
        assert response.body == b"hello"
    assert steps == ["up", "down"]


async def test_the_shutdown_of_quart_waits_for_its_background_tasks(folder: Path) -> None:
    done: list[str] = []
    guest = guest_of(quart_app(folder, done))
    async with closing(guest):
        response = await guest.dispatch_routed_request({"path": "/cookies"})
        assert response.status_code == 200
    assert done == ["background"]


async def test_ranges_of_a_file(folder: Path) -> None:
    for make in (starlette_app, flask_app, quart_app):
        answer = await ask(make(folder, []), "/download", headers={"range": "bytes=10-19"})
        assert (answer.status, answer.body) == (206, FILE[10:20])
        assert answer.all("content-length") == ["10"]


async def test_a_file_that_has_not_changed(folder: Path) -> None:
    app = quart_app(folder, [])
    etag = (await ask(app, "/download")).all("etag")
    if not etag:
        pytest.skip("this version sets no etag")
    answer = await ask(app, "/download", headers={"if-none-match": etag[0]})
    assert (answer.status, answer.body, answer.all("content-length")) == (304, b"", [])


# --- Through a Guest ------------------------------------------------------------------------------


class closing:  # noqa: N801 - reads like contextlib's
    """Closes a Guest that was never connected."""

    def __init__(self, guest: VerserGuest) -> None:
        self._guest = guest

    async def __aenter__(self) -> VerserGuest:
        return self._guest

    async def __aexit__(self, *_: object) -> None:
        await self._guest.close(timeout=5)


def guest_of(app: ASGIApp, **options: Any) -> VerserGuest:
    return create_verser_guest(
        host_url="https://127.0.0.1:1",
        guest_id="guest-a",
        routed_domains=["a.local.test"],
        app=app,
        **options,
    )


def metadata(target: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    urlsplit(target)
    return {
        "requestId": "direct-1",
        "method": method,
        "path": target,
        "headers": {"host": "a.local.test", **(headers or {})},
    }


async def test_each_framework_behind_a_guest(served: Served) -> None:
    async with closing(guest_of(served.app)) as guest:
        page = await guest.dispatch_routed_request(metadata("/hello?name=you"))
        assert (page.status_code, page.body) == (200, b"Hello, you!")
        headers, pieces = multipart(one=FILE, two=b"2")
        upload = await guest.dispatch_routed_request(metadata("/upload", "POST", headers), b"".join(pieces))
        assert json.loads(upload.body) == {"one": len(FILE), "two": 1}
        cookies = await guest.dispatch_routed_request(metadata("/cookies"))
        assert len(cookies.headers["set-cookie"]) == 2
        await until(lambda: "background" in served.done)


async def test_exceptions_of_each_framework_behind_a_guest(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "quart")
    async with closing(guest_of(served.app)) as guest:
        boom = await guest.dispatch_routed_request(metadata("/boom"))
        assert (boom.status_code, boom.error) == (500, None)
        late = await guest.dispatch_routed_request(metadata("/late"))
        if served.name != "fastapi":
            assert isinstance(late.error, LocalHandlerFailureError)
            assert (late.status_code, late.body) == (0, b"")


async def test_many_requests_at_a_time(served: Served) -> None:
    async with closing(guest_of(served.app)) as guest:
        pages = await asyncio.gather(
            *[guest.dispatch_routed_request(metadata(f"/hello?name={number}")) for number in range(50)]
        )
    assert [page.body for page in pages] == [f"Hello, {number}!".encode() for number in range(50)]

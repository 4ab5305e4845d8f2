"""The examples of docs/reference/api.md work: each is run beside a Host, a Guest and a Broker.

They come from docstrings, and a new one is run without a word here; what a user sees of it then is worth
an entry in `SEEN`. Each may use everything that is public, and the names in `World.names`. What is another
thing here than for readers is all in `World.run`.
"""

from __future__ import annotations

import ast
import asyncio
import io
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.docs import api
from tests.docs.markdown import Block, blocks_of
from tests.docs.test_pages_run import execute
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import (
    AuthorizationDeniedError,
    PolicyEntry,
    create_verser_broker,
    create_verser_guest,
    create_verser_host,
)
from verser2_guest_python.host.observing import ExchangeStart
from verser2_guest_python.integrations.sync import SyncVerserBroker

LINES = api.PAGE.read_text().splitlines()
EXAMPLES = [block for block in blocks_of(api.PAGE) if block.marker == "tested"]
DOMAINS = ("a.local.test", "a.test", "b.test")
BIG = b"big" * 100_000
ENDLESS = ("serve_forever", ".routes()")
"""What an example of these calls does goes on for ever."""
ITEMS = {"items": ["a lamp", "a chair"]}


def title(block: Block) -> str:
    """What the example is of: the heading above it."""
    return next(line for line in reversed(LINES[: block.line]) if line.startswith("#")).lstrip("# ")


class Recorder:
    """What watches the Host."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def began(self, start: ExchangeStart) -> None:
        self.paths.append(start.path)


async def items(request: Request) -> Response:
    response = JSONResponse({**ITEMS, "q": request.query_params.get("q")})
    response.set_cookie("session", "1")
    response.set_cookie("theme", "dark")
    return response


async def big(request: Request) -> Response:
    return Response(BIG)


async def home(request: Request) -> Response:
    return PlainTextResponse(f"this is {request.url.hostname}")


async def chat(socket: WebSocket) -> None:
    """Says one message back, and ends."""
    await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
    await socket.send_text(await socket.receive_text())
    await socket.close()


class World:
    """What is there for one example, and what came of it."""

    def __init__(self, certs: Certificates, names: dict[str, Any]) -> None:
        self.certs = certs
        self.host, self.guest, self.broker = names["host"], names["guest"], names["broker"]
        self.shown: list[Any] = []  # values of the lines that are nothing but an expression
        self.output = io.StringIO()
        self.names = {**names, "_show": self.shown.append}
        self.told: list[str] = []  # by Host and Guest
        self.host.on_lifecycle(lambda event: self.told.append(event.name))
        self.guest.on_lifecycle(lambda event: self.told.append(event.type))

    @property
    def printed(self) -> str:
        return self.output.getvalue()

    @asynccontextmanager
    async def running(self, block: Block) -> AsyncIterator[None]:
        """Runs the example; one that serves for ever does so until the end of the block."""
        before = dict(self.names)
        task = asyncio.create_task(self.run(block))
        try:
            if any(word in block.text for word in ENDLESS):  # once it has what it goes on with
                await until(
                    lambda: (
                        task.done()
                        or self.names.keys() > before.keys()
                        or any(self.names[n] is not v for n, v in before.items())
                    )
                )
                if task.done():
                    task.result()
                    pytest.fail(f"{block.place} does not go on")
            else:
                await task
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def run(self, block: Block) -> None:
        """Runs the example. The Host is at a port of its own, and certified by the `ca.pem` of a test.

        That CA is the system's (see `world`), whose directory also has the files that examples name.
        """
        address = f"https://localhost:{self.host.port}"
        tree = ast.parse(re.sub(r"https://(?:host|localhost):8443", address, block.text))
        for line in tree.body:
            if isinstance(line, ast.Expr):
                line.value = ast.Call(ast.Name("_show", ast.Load()), [line.value], [])
        ast.fix_missing_locations(tree)
        if title(block).startswith(("Sync", "Background")):  # for threads that may wait
            code = compile(tree, block.place, "exec")
            await asyncio.to_thread(exec, code, self.names)
        else:
            await execute(tree, block.place, self.names)


@pytest.fixture(autouse=True)
def _trusted(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CA of the tests is one of the system's, and the files that are named are in this directory."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certs.ca))
    monkeypatch.chdir(certs.directory)


@asynccontextmanager
async def world(certs: Certificates, *, threads: bool) -> AsyncIterator[World]:
    """A Host, a Guest with an app, and a Broker: with `threads`, one for threads that may wait."""
    app = Starlette(
        routes=[
            Route("/", home),
            Route("/items", items),
            Route("/big", big),
            WebSocketRoute("/chat", chat),
        ]
    )
    async with AsyncExitStack() as ends:
        host = await ends.enter_async_context(
            create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)
        )
        guest = await ends.enter_async_context(
            create_verser_guest(host_url=host.url, guest_id="guest-a", routed_domains=DOMAINS, app=app)
        )
        broker = await ends.enter_async_context(create_verser_broker(host_url=host.url))
        for domain in DOMAINS:
            await broker.wait_for_route(domain)
        names = {
            **api.public(),
            "app": app,
            "host": host,
            "guest": guest,
            "broker": broker,
            "response": await broker.get("http://a.local.test/items"),
            "loop": asyncio.get_running_loop(),
            "file": io.BytesIO(),
            "recorder": Recorder(),
            "secret": "of the lab, and long enough",
            "asyncio": asyncio,
            "httpx2": httpx2,
            "signal": signal,
        }
        made = World(certs, names)
        if threads:
            waiting = SyncVerserBroker(create_verser_broker(host_url=host.url))
            await asyncio.to_thread(waiting.connect)
            ends.push_async_callback(asyncio.to_thread, waiting.close)
            for domain in DOMAINS:
                await asyncio.to_thread(waiting.wait_for_route, domain)
            made.names["broker"] = waiting
        ends.callback(names["loop"].remove_signal_handler, signal.SIGHUP)
        ends.enter_context(redirect_stdout(made.output))
        yield made


# --- What a user sees -------------------------------------------------------------------------


async def hang_up(made: World, name: str) -> None:
    """SIGHUP, for what the example has made of it; until `name` is told."""
    assert signal.getsignal(signal.SIGHUP) not in {signal.SIG_DFL, signal.SIG_IGN}
    made.told.clear()
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: name in made.told)


async def guest_serves(made: World, block: Block) -> None:
    await made.guest.close()
    await until(lambda: {route.target_id for route in made.broker.get_routes()} == {"a"})
    response = await made.broker.get("http://a.local.test/items")
    assert (response.status, response.target_id) == (200, "a")


async def guest_is_renewed(made: World, block: Block) -> None:
    await hang_up(made, "registered")


async def broker_calls(made: World, block: Block) -> None:
    async with made.names["broker"] as broker:
        await broker.wait_for_route("a.local.test")
        assert (await broker.get("http://a.local.test/items")).status == 200


async def items_are_printed(made: World, block: Block) -> None:
    assert str(ITEMS["items"]) in made.printed


async def message_is_printed(made: World, block: Block) -> None:
    assert made.printed == "hello\n"


async def file_is_written(made: World, block: Block) -> None:
    assert made.names["file"].getvalue() == BIG


async def fields_are_read(made: World, block: Block) -> None:
    kind, cookies = made.shown
    assert kind == "application/json"
    assert [cookie.partition(";")[0] for cookie in cookies] == ["session=1", "theme=dark"]


async def host_serves(made: World, block: Block) -> None:
    async with create_verser_broker(host_url=made.names["host"].url) as broker:
        assert broker.connected


async def certificates_are_read_anew(made: World, block: Block) -> None:
    await hang_up(made, "certificates-reloaded")


async def events_are_printed(made: World, block: Block) -> None:
    made.host.reload_certificates()
    assert "certificates-reloaded {}\n" in made.printed


async def requests_are_watched(made: World, block: Block) -> None:
    await made.broker.get("http://a.local.test/items?q=watched")
    made.names["stop"]()
    await made.broker.get("http://a.local.test/items?q=alone")
    assert made.names["recorder"].paths == ["/items?q=watched"]


async def strangers_are_refused(made: World, block: Block) -> None:
    async with create_verser_host(
        tls_cert_file="host.pem", tls_key_file="host-key.pem", authorization=made.names["GuestsOfTheShop"]()
    ) as host:
        async with create_verser_broker(host_url=host.url, broker_id="shop-window"):
            pass
        with pytest.raises(AuthorizationDeniedError, match="This Host is the shop's"):
            await create_verser_broker(host_url=host.url, broker_id="stranger").connect()


async def policy_is_one(made: World, block: Block) -> None:
    shop, dashboard, lab = made.shown
    assert all(isinstance(entry, PolicyEntry) for entry in made.shown)
    assert shop.lets_serve("till.shop.test")
    assert not shop.lets_serve("lab.test")
    assert not dashboard.lets_serve("till.shop.test")
    assert lab.lets_serve("lab.test")
    made_of_it = create_verser_host(
        tls_cert_file="host.pem", tls_key_file="host-key.pem", client_ca_file="ca.pem", policy=made.shown
    )
    async with made_of_it:
        pass


async def error_is_told(made: World, block: Block) -> None:
    assert made.names["response"].status == 200
    assert made.printed == ""
    await made.guest.close()
    await until(lambda: not made.broker.has_route("a.local.test"))
    await made.run(block)
    assert made.printed.startswith("missing-guest ")


async def both_are_read(made: World, block: Block) -> None:
    assert [made.names["first"], made.names["second"]] == [b"this is a.test", b"this is b.test"]


async def client_has_it(made: World, block: Block) -> None:
    assert made.names["response"].json() == {**ITEMS, "q": "1"}


async def change_is_printed(made: World, block: Block) -> None:
    await made.guest.revoke_routes(["b.test"])
    await until(lambda: made.printed == "removed b.test guest-a\n")
    if title(block).startswith("Sync"):  # a thread that waits cannot be cancelled
        await asyncio.to_thread(made.names["broker"].close)


async def gateway_is_made(made: World, block: Block) -> None:
    assert isinstance(made.names["app"], made.names["Gateway"])


SEEN: dict[str, Callable[[World, Block], Awaitable[None]]] = {
    "VerserGuest": guest_serves,
    "VerserGuest.renew": guest_is_renewed,
    "create_verser_broker": broker_calls,
    "VerserBroker": items_are_printed,
    "VerserBroker.websocket": message_is_printed,
    "VerserBroker.web_socket": message_is_printed,
    "VerserBrokerResponse": file_is_written,
    "ResponseHeaders": fields_are_read,
    "RouteChanges": change_is_printed,
    "VerserBrokerWebSocket": message_is_printed,
    "create_verser_host": host_serves,
    "VerserHost.reload_certificates": certificates_are_read_anew,
    "VerserHost.on_lifecycle": events_are_printed,
    "VerserHost.observe": requests_are_watched,
    "Authorization": strangers_are_refused,
    "PolicyEntry": policy_is_one,
    "VerserError": error_is_told,
    "SyncVerserBroker": items_are_printed,
    "SyncVerserBroker.run": both_are_read,
    "SyncVerserResponse": file_is_written,
    "SyncVerserWebSocket": message_is_printed,
    "SyncRouteChanges": change_is_printed,
    "create_gateway": gateway_is_made,
    "VerserTransport": client_has_it,
    "SyncVerserTransport": items_are_printed,
}


@pytest.mark.parametrize("block", EXAMPLES, ids=title)
async def test_an_example_works(block: Block, certs: Certificates) -> None:
    async with world(certs, threads=title(block).startswith("Sync")) as made, made.running(block):
        if title(block) in SEEN:
            await SEEN[title(block)](made, block)


def test_every_example_of_a_docstring_is_run() -> None:
    """None is taken for prose, or for something else than an example."""
    named = sum(line.strip().rstrip(":").endswith("Example") for line in LINES)
    assert named == len(EXAMPLES)
    assert set(SEEN) <= {title(block) for block in EXAMPLES}

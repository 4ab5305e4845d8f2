"""`BackgroundHost`: what the fixtures hand out, here without pytest in between."""

from __future__ import annotations

import asyncio
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from tests.integrations.apps import Diary, make_app
from tests.support.waiting import until
from verser2_guest_python import LocalHandlerFailureError, VerserConfigurationError, VerserUsageError
from verser2_guest_python.integrations.background_host import BackgroundHost
from verser2_guest_python.integrations.sync import SyncVerserBroker


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "verser" in thread.name}


def until_nobody_is_connected(host: BackgroundHost) -> None:
    host._thread.run(until(lambda: host._host.get_stats().sessions == 0))


def named(name: str) -> Any:
    """A WSGI app that says its name."""

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("content-type", "text/plain")])
        return [name.encode()]

    return app


class Lifespan:
    """An app that notes its lifespan and answers 204."""

    def __init__(self, *, fails: bool = False) -> None:
        self.events: list[str] = []
        self.fails = fails

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.events.append("startup")
            if self.fails:
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.events.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


def test_everything_in_one_with_statement() -> None:
    with BackgroundHost() as host, host.client(make_app()) as client:
        assert isinstance(client, httpx2.Client)
        assert client.get("/").text == "Hello, World!"
        assert host.url in repr(host)
        directory = host.ca_file.parent
        assert directory.exists()
    assert not directory.exists()
    assert thread_names() == set()
    host.close()


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    with BackgroundHost(tmp_path) as host:
        assert host.ca_file.parent == tmp_path
    (key,) = tmp_path.glob("*-key.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_apps_have_names_of_their_own() -> None:
    with BackgroundHost() as host:
        with (
            host.client(named("one")) as one,
            host.client(named("two")) as two,
            host.client(named("three"), domain="three.test", headers={"x": "y"}) as three,
        ):
            assert (one.get("/").text, two.get("/").text, three.get("/").text) == ("one", "two", "three")
            assert one.get("http://three.test/").text == "three"
            assert three.headers["x"] == "y"
            assert [str(client.base_url) for client in (one, two)] == ["http://app.test", "http://app-2.test"]
            assert sorted(route.domain for route in host.get_routes()) == [
                "app-2.test",
                "app.test",
                "three.test",
            ]
        with host.client(named("four")) as four:
            assert str(four.base_url) == "http://app.test"
            assert four.get("/").text == "four"


def test_a_lifespan_begins_and_ends_with_its_guest() -> None:
    app = Lifespan()
    with BackgroundHost() as host:
        with host.guest(app, lifespan="on") as guest:
            assert guest.url == "http://app.test"
            assert app.events == ["startup"]
            with host.client(guest) as client:
                assert client.get("/").status_code == 204
            assert app.events == ["startup"], "the Guest is not the client's"
            with pytest.raises(VerserUsageError, match="has a domain already"):
                host.client(guest, domain="another.test")
        assert app.events == ["startup", "shutdown"]
        guest.close()


def test_a_host_that_is_closed_ends_its_guests() -> None:
    app = Lifespan()
    host = BackgroundHost()
    host.guest(app)
    host.close()
    assert app.events == ["startup", "shutdown"]
    assert thread_names() == set()


def test_an_app_that_cannot_start() -> None:
    with BackgroundHost() as host:
        with pytest.raises(Exception, match="no database"):
            host.client(Lifespan(fails=True))
        until_nobody_is_connected(host)
        with host.client(Lifespan()) as client:
            assert client.get("/").status_code == 204
    assert thread_names() == set()


def test_a_client_that_cannot_be_made_leaves_nothing() -> None:
    with BackgroundHost() as host:
        with pytest.raises(TypeError):
            host.client(Lifespan(), no_such_option=1)
        with pytest.raises(TypeError):
            host.async_client(Lifespan(), no_such_option=1)
        until_nobody_is_connected(host)


def test_what_an_app_raises_can_be_read() -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            raise LookupError("no such row")

    with BackgroundHost() as host, host.client(app) as client:
        with pytest.raises(httpx2.RemoteProtocolError, match="no such row") as raised:
            client.get("/")
        assert isinstance(raised.value.__cause__, LocalHandlerFailureError)


def test_a_broker_of_ones_own() -> None:
    with (
        BackgroundHost() as host,
        host.guest(make_app(), domain="a.test"),
        SyncVerserBroker(host.broker()) as broker,
    ):
        assert broker.get("http://a.test/").text() == "Hello, World!"
        with broker.websocket("ws://a.test/talk") as socket:
            socket.send_text("hello")
            assert socket.receive()["data"] == "hello"


@pytest.mark.both_loops
async def test_asynchronous_clients() -> None:
    diary = Diary()
    with BackgroundHost() as host:
        async with host.async_client(make_app(diary)) as client:
            assert isinstance(client, httpx2.AsyncClient)
            answers = await asyncio.gather(*(client.get("/", params={"name": str(n)}) for n in range(20)))
            assert [answer.text for answer in answers] == [f"Hello, {n}!" for n in range(20)]
        until_nobody_is_connected(host)
        unused = host.async_client(make_app())
        await unused.aclose()
        until_nobody_is_connected(host)


async def test_a_plain_client_in_an_asynchronous_test() -> None:
    with BackgroundHost() as host, host.client(make_app()) as client:
        assert client.get("/").text == "Hello, World!"


def test_without_httpx2_it_is_httpx_or_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with BackgroundHost() as host:
        monkeypatch.setitem(sys.modules, "httpx2", None)  # as if it were not installed
        with host.client(make_app()) as client:
            assert isinstance(client, httpx.Client)
            assert client.get("/").status_code == 200
        monkeypatch.setitem(sys.modules, "httpx", None)
        with pytest.raises(VerserConfigurationError, match=r'pip install "verser2-guest-python\[pytest\]"'):
            host.client(make_app())
        until_nobody_is_connected(host)

"""`VerserGuest` and `create_verser_guest` as a library: what they take, refuse, promise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.guest.guests import (
    DOMAIN,
    GUEST_ID,
    Events,
    Gate,
    ask,
    echo,
    guest_at_scripted_host,
    hello,
    host_call,
    lease_host,
    make_guest,
    no_lifespan,
    respond,
)
from tests.support.certificates import Certificates
from tests.support.scripted_host import answer
from tests.support.waiting import until
from verser2_guest_python import (
    LocalHandlerFailureError,
    RevocationFailedError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserGuest,
    VerserProtocolError,
    VerserUsageError,
    create_verser_guest,
)
from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
from verser2_guest_python.asgi.types import ASGIApp, Receive, Scope, Send
from verser2_guest_python.errors import ConnectFailure
from verser2_guest_python.guest import GuestEvent
from verser2_guest_python.http2 import Stream

NOWHERE = "https://127.0.0.1:1"


def unconnected(app: ASGIApp | None = hello, **options: Any) -> VerserGuest:
    values = {"host_url": NOWHERE, "guest_id": GUEST_ID, "routed_domains": [DOMAIN], "app": app} | options
    return create_verser_guest(**values)


class LifespanApp:
    """Says what it lives through; `reason` lets its startup fail."""

    def __init__(self, name: str = "app", reason: str | None = None) -> None:
        self.name = name
        self.reason = reason
        self.events: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.events.append("startup")
            if self.reason is not None:
                await send({"type": "lifespan.startup.failed", "message": self.reason})
                return
            scope["state"]["name"] = self.name
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.events.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.events.append(scope["path"])
        await respond(send, scope["state"]["name"].encode())


# --- create_verser_guest --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host_url": ""}, "empty"),
        ({"host_url": "localhost:8443"}, "scheme"),
        ({"host_url": "http://localhost:8443"}, "https"),
        ({"host_url": "https://localhost:0"}, "port 0"),
        ({"host_url": "https://localhost:99999"}, "localhost"),
        ({"host_url": "https://me:secret@localhost"}, "password"),
        ({"host_url": "https://localhost/path"}, "after the port"),
        ({"guest_id": ""}, "guest_id"),
        ({"guest_id": "  "}, "guest_id"),
        ({"routed_domains": DOMAIN}, "list"),
        ({"routed_domains": [""]}, "routed_domains"),
        ({"routed_domains": ["*.example.test"]}, "routed_domains"),
        ({"routed_domains": ["https://a.local.test"]}, "routed_domains"),
        ({"min_waiting_streams": 0}, "min_waiting_streams"),
        ({"min_waiting_streams": -1}, "min_waiting_streams"),
        ({"min_waiting_streams": 9, "limit_concurrency": 8}, "limit_concurrency"),
        ({"limit_concurrency": 0}, "limit_concurrency"),
        ({"min_waiting_websocket_streams": 5}, "min_waiting_websocket_streams"),
        ({"min_waiting_websocket_streams": -1}, "min_waiting_websocket_streams"),
    ],
)
def test_an_argument_that_cannot_be_right(options: dict[str, Any], words: str) -> None:
    with pytest.raises(VerserUsageError) as caught:
        unconnected(**options)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"app": 7}, {"app": lambda: None}, {"lifespan": "sometimes"}])
def test_an_app_that_cannot_be_called(options: dict[str, Any]) -> None:
    with pytest.raises(VerserConfigurationError):
        unconnected(**options)


def test_a_guest_does_nothing_before_it_connects(tmp_path: Any) -> None:
    guest = unconnected(tls_ca_file=tmp_path / "missing.pem")
    assert not guest.connected
    assert guest.guest_id == GUEST_ID
    assert guest.routed_domains == (DOMAIN,)


def test_domains_are_normalised_and_not_derived_from_the_id() -> None:
    guest = unconnected(routed_domains=["A.Local.Test.", "a.local.test", "b.local.test:8443"])
    assert guest.routed_domains == ("a.local.test", "b.local.test")
    assert unconnected(routed_domains=[]).routed_domains == ()
    assert unconnected(routed_domains=(name for name in ["c.test"])).routed_domains == ("c.test",)


async def test_what_it_looks_like(certs: Certificates) -> None:
    guest = unconnected()
    assert repr(guest) == "<VerserGuest 'guest-a' for a.local.test, not connected yet>"
    await guest.close()
    assert repr(guest) == "<VerserGuest 'guest-a' for a.local.test, closed>"


async def test_a_guest_id_is_trimmed(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs, guest_id=" guest-b ") as (host, guest):
        assert guest.guest_id == "guest-b"
        assert host.registrations[0].peer_id == "guest-b"


# --- connect, serve_forever, async with -----------------------------------------------------------


async def test_connect_fails_at_once_when_nobody_listens() -> None:
    guest = unconnected()
    with pytest.raises(VerserConnectionError) as caught:
        await guest.connect()
    assert caught.value.reason is ConnectFailure.UNREACHABLE
    assert "127.0.0.1:1" in str(caught.value)
    await guest.close()


async def test_connect_can_be_tried_again(certs: Certificates) -> None:
    app = LifespanApp()
    async with lease_host(certs) as host:
        host.refuse_registration(403, {"status": "closed", "reason": "later"})
        guest = make_guest(host, certs, app)
        with pytest.raises(VerserError):
            await guest.connect()
        host.refusal = None
        await guest.connect()
        assert (await ask(host)).body == b"app"
        await guest.close()
    assert app.events == ["startup", "/", "shutdown"]


async def test_connect_twice_is_one_session(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        await asyncio.gather(guest.connect(), guest.connect())
        await guest.connect()
        assert len(host.registrations) == 1
        await guest.close()


async def test_a_closed_guest_does_not_connect_again(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (_host, guest):
        await guest.close()
        with pytest.raises(VerserUsageError, match="make a new one"):
            await guest.connect()


async def test_async_with(certs: Certificates) -> None:
    app = LifespanApp()
    async with lease_host(certs) as host:
        async with make_guest(host, certs, app) as guest:
            assert guest.connected
            assert (await ask(host)).body == b"app"
        assert not guest.connected
        assert host.session.lost is not None
    assert app.events == ["startup", "/", "shutdown"]


async def test_async_with_stops_the_app_when_it_cannot_connect() -> None:
    app = LifespanApp()
    with pytest.raises(VerserConnectionError):
        async with unconnected(app):
            pass
    assert app.events == ["startup", "shutdown"]


async def test_a_missing_ca_file_is_told(tmp_path: Any) -> None:
    guest = unconnected(tls_ca_file=tmp_path / "missing.pem")
    with pytest.raises(VerserConfigurationError, match=r"missing\.pem"):
        await guest.connect()
    await guest.close()
    guest = unconnected(tls_ca_file=tmp_path / "missing.pem")
    with pytest.raises(VerserConfigurationError, match=r"missing\.pem"):
        await guest.serve_forever()


async def test_serve_forever_waits_for_a_host(certs: Certificates) -> None:
    """At first start too; `connect` would fail."""
    async with lease_host(certs) as host:
        port = host.port
    guest = create_verser_guest(
        host_url=f"https://localhost:{port}",
        guest_id=GUEST_ID,
        routed_domains=[DOMAIN],
        app=hello,
        tls_ca_file=certs.ca,
    )
    events = Events(guest)
    serving = asyncio.create_task(guest.serve_forever())
    await events.wait("reconnecting", count=2)
    assert not serving.done()
    assert "127.0.0.1" in str(events.find("reconnecting")[0].fields["reason"]) or events.find("reconnecting")
    await guest.close()
    await serving


async def test_serve_forever_after_connect(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        serving = asyncio.create_task(guest.serve_forever())
        assert (await ask(host)).status == 200
        await guest.close()
        await serving
        assert len(host.registrations) == 1


async def test_serve_forever_that_is_cancelled_leaves_the_guest_to_its_owner(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (host, guest):
        serving = asyncio.create_task(guest.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        await asyncio.wait({serving})
        assert (await ask(host)).status == 200
        assert guest.connected


# --- Apps and lifespan ----------------------------------------------------------------------------


async def test_the_lifespan_surrounds_the_registration(certs: Certificates) -> None:
    registered_at_startup: list[int] = []
    async with lease_host(certs) as host:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await receive()
                registered_at_startup.append(len(host.registrations))
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})

        guest = make_guest(host, certs, app)
        await guest.connect()
        await guest.close()
    assert registered_at_startup == [0]


@pytest.mark.parametrize("how", ["connect", "serve_forever"])
async def test_a_startup_that_fails_comes_before_any_registration(certs: Certificates, how: str) -> None:
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, LifespanApp(reason="no database"))
        with pytest.raises(LifespanStartupFailed, match="no database"):
            await getattr(guest, how)()
        assert host.sessions == []
        await guest.close()


async def test_a_startup_can_be_tried_again(certs: Certificates) -> None:
    app = LifespanApp(reason="no database")
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, app)
        with pytest.raises(LifespanStartupFailed):
            await guest.connect()
        app.reason = None
        await guest.connect()
        assert (await ask(host)).body == b"app"
        await guest.close()


async def test_an_app_for_each_domain(certs: Certificates) -> None:
    apps = {name: LifespanApp(name) for name in ("a", "b", "rest")}
    async with lease_host(certs) as host:
        domains = ["a.local.test", "b.local.test", "c.local.test"]
        guest = make_guest(host, certs, apps["rest"], routed_domains=domains)
        guest.attach(apps["a"], "A.Local.Test")
        guest.attach(apps["b"], "b.local.test.")
        async with guest:
            for domain, name in zip(domains, ("a", "b", "rest"), strict=True):
                assert (await ask(host, headers={"host": domain})).body == name.encode()
                assert (await ask(host, headers={"host": "x"}, route_domain=domain)).body == name.encode()
    for app in apps.values():
        assert app.events == ["startup", "/", "/", "shutdown"]


async def test_an_app_for_several_domains_has_one_lifespan(certs: Certificates) -> None:
    app = LifespanApp()
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, app, routed_domains=["a.local.test", "b.local.test"])
        guest.attach(app, "a.local.test")
        guest.attach(app, "b.local.test")
        async with guest:
            pass
    assert app.events == ["startup", "shutdown"]


async def test_one_of_several_apps_that_does_not_start_stops_the_others(certs: Certificates) -> None:
    good, bad = LifespanApp("good"), LifespanApp("bad", reason="no database")
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, bad)
        guest.attach(good, "a.local.test")
        with pytest.raises(LifespanStartupFailed):
            await guest.connect()
    assert good.events == ["startup", "shutdown"]


async def test_an_app_is_attached_before_connect_or_never(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (_host, guest):
        with pytest.raises(VerserUsageError, match="before"):
            guest.attach(hello, DOMAIN)


async def test_each_request_gets_a_copy_of_the_state(certs: Certificates) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["shared"] = []
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        scope["state"]["shared"].append(1)
        scope["state"]["own"] = len(seen)
        seen.append(scope["state"])
        await respond(send)

    async with guest_at_scripted_host(certs, app) as (host, _guest):
        await ask(host)
        await ask(host)
    assert [state["own"] for state in seen] == [0, 1]
    assert seen[0]["shared"] == [1, 1]


# --- revoke_routes --------------------------------------------------------------------------------


async def test_routes_that_are_revoked_are_not_registered_again(certs: Certificates) -> None:
    domains = ["a.local.test", "b.local.test"]
    async with guest_at_scripted_host(certs, routed_domains=domains) as (host, guest):
        events = Events(guest)
        await guest.revoke_routes(["B.Local.Test."])
        assert guest.routed_domains == ("a.local.test",)
        assert [event.fields["domain"] for event in events.find("route-revoked")] == ["b.local.test"]
        assert (await ask(host)).status == 200  # it serves on
        host.session.abort("the test says so")
        await events.wait("registered")
        assert host.registrations[-1].routed_domains == ("a.local.test",)


@pytest.mark.parametrize(
    ("status", "body", "left"),
    [
        (
            200,
            b'{"status":"partial","message":"some","failedDomains":[{"domain":"b.local.test","error":"odd"}]}',
            ("b.local.test",),
        ),
        (
            404,
            b'{"status":"error","message":"none of yours","failedDomains":[]}',
            ("a.local.test", "b.local.test"),
        ),
        (400, b'{"status":"error","message":"empty list"}', ("a.local.test", "b.local.test")),
        (403, b'{"status":"error","message":"another session"}', ("a.local.test", "b.local.test")),
    ],
)
async def test_a_revocation_that_the_host_refuses(
    certs: Certificates, status: int, body: bytes, left: tuple[str, ...]
) -> None:
    async def on_revoke(stream: Stream, _asked: bytes) -> None:
        await answer(stream, status, {"content-type": "application/json"}, body)

    domains = ["a.local.test", "b.local.test"]
    host_options = {"on_revoke": on_revoke}
    async with guest_at_scripted_host(certs, host=host_options, routed_domains=domains) as (_host, guest):
        with pytest.raises(RevocationFailedError) as caught:
            await guest.revoke_routes(domains)
        assert guest.routed_domains == left
        assert any(word in str(caught.value) for word in ("odd", "none of yours", "empty", "another"))


async def test_a_single_name_is_no_list(certs: Certificates) -> None:
    async with guest_at_scripted_host(certs) as (_host, guest):
        with pytest.raises(VerserUsageError, match="list"):
            await guest.revoke_routes(DOMAIN)
        assert guest.routed_domains == (DOMAIN,)


async def test_routes_cannot_be_revoked_without_a_session() -> None:
    with pytest.raises(VerserConnectionError, match="not connected"):
        await unconnected().revoke_routes([DOMAIN])


# --- dispatch_routed_request ----------------------------------------------------------------------


def metadata(path: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    return {
        "requestId": "direct-1",
        "sourceId": "test",
        "targetId": GUEST_ID,
        "method": method,
        "path": path,
        "headers": {"host": DOMAIN},
    } | more


async def test_a_request_without_a_host() -> None:
    guest = unconnected(echo)
    response = await guest.dispatch_routed_request(metadata("/", "POST"), b"hello")
    assert (response.request_id, response.status_code, response.body) == ("direct-1", 200, b"hello")
    assert response.headers == {"content-length": "5"}
    assert response.error is None
    await guest.close()


async def test_what_may_be_left_out_of_the_metadata() -> None:
    guest = unconnected()
    response = await guest.dispatch_routed_request({"path": "/x"})
    assert (response.status_code, response.body) == (200, b"/x")
    await guest.close()


async def test_a_body_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    guest = unconnected(echo)
    for body, expected in (
        (pieces(), b"one two"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (b"", b""),
    ):
        response = await guest.dispatch_routed_request(metadata(method="POST"), body)
        assert response.body == expected
    await guest.close()


async def test_repeated_headers_of_a_dispatched_answer() -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    guest = unconnected(app)
    response = await guest.dispatch_routed_request(metadata())
    assert response.headers["set-cookie"] == ["a=1", "b=2"]
    await guest.close()


async def test_an_app_that_fails_is_an_error_in_what_comes_back() -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        if scope["path"] == "/later":
            await respond(send, b"half", more=True)
        if scope["path"] != "/silent":
            raise ValueError("boom")

    guest = unconnected(app)
    for path in ("/", "/later", "/silent"):
        response = await guest.dispatch_routed_request(metadata(path))
        assert isinstance(response.error, LocalHandlerFailureError)
        assert (response.status_code, response.body, response.headers) == (0, b"", {})
    await guest.close()


@pytest.mark.parametrize("pieces", [1, 4])
async def test_a_response_that_is_too_large(pieces: int) -> None:
    sent: list[int] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await send({"type": "http.response.start", "status": 200})
        for number in range(pieces):
            await send({"type": "http.response.body", "body": b"x" * (2_000 // pieces), "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body"})

    guest = unconnected(app, max_response_bytes=1_000)
    response = await guest.dispatch_routed_request(metadata())
    assert isinstance(response.error, LocalHandlerFailureError)
    assert "1,000" in str(response.error)
    assert response.body == b""
    assert len(sent) < pieces or pieces == 1
    await guest.close()


async def test_a_response_of_just_the_size() -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await respond(send, b"x" * 1_000)

    guest = unconnected(app, max_response_bytes=1_000)
    assert len((await guest.dispatch_routed_request(metadata())).body) == 1_000
    await guest.close()


async def test_the_limit_of_a_response_does_not_bind_requests_of_a_host(certs: Certificates) -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await respond(send, b"x" * 5_000)

    async with guest_at_scripted_host(certs, app, max_response_bytes=1_000) as (host, _guest):
        assert len((await ask(host)).body) == 5_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": 7},
        {"method": "GE T"},
        {"method": ""},
        {"path": 7},
        {"path": "items"},
        {"path": "/ü"},
        {"path": "/€"},
        {"path": ""},
        {"headers": "x: 1"},
        {"headers": {"x": ["1", "2"]}},
        {"headers": {"x": None}},
        {"headers": {"x y": "1"}},
        {"headers": {"x": "1\r\n"}},
        {"routeDomain": 7},
    ],
)
async def test_metadata_that_is_no_request(wrong: dict[str, Any]) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        seen.append(scope)
        await respond(send)

    guest = unconnected(app)
    try:
        response = await guest.dispatch_routed_request(metadata(**wrong))
    except VerserProtocolError:
        pass
    else:
        assert isinstance(response.error, VerserProtocolError)
    assert seen == []
    await guest.close()


async def test_the_first_dispatch_starts_the_app_once() -> None:
    app = LifespanApp()
    guest = unconnected(app)
    responses = await asyncio.gather(*[guest.dispatch_routed_request(metadata()) for _ in range(5)])
    assert [response.body for response in responses] == [b"app"] * 5
    await guest.close()
    assert app.events == ["startup", *["/"] * 5, "shutdown"]


async def test_dispatch_after_close() -> None:
    guest = unconnected(LifespanApp())
    await guest.dispatch_routed_request(metadata())
    await guest.close()
    with pytest.raises(VerserUsageError, match="closed"):
        await guest.dispatch_routed_request(metadata())


async def test_dispatch_beside_a_host(certs: Certificates) -> None:
    app = LifespanApp()
    async with guest_at_scripted_host(certs, app) as (host, guest):
        assert (await guest.dispatch_routed_request(metadata())).body == b"app"
        assert (await ask(host)).body == b"app"
    assert app.events.count("startup") == 1


async def test_dispatch_without_an_app() -> None:
    response = await unconnected(None).dispatch_routed_request(metadata())
    assert isinstance(response.error, LocalHandlerFailureError)


async def test_an_app_that_waits_for_a_disconnect_gets_one_behind_its_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        watching = asyncio.create_task(watch(receive))
        await asyncio.sleep(0)
        await respond(send, b"done")
        assert await watching == ["http.request", "http.disconnect"]

    async def watch(receive: Receive) -> list[str]:
        seen = []
        while not seen or seen[-1] != "http.disconnect":
            seen.append((await receive())["type"])
        return seen

    guest = unconnected(app)
    async with asyncio.timeout(10):
        response = await guest.dispatch_routed_request(metadata())
    assert response.body == b"done"
    assert response.error is None
    await guest.close()


# --- on_lifecycle ---------------------------------------------------------------------------------


async def test_the_events_of_a_life(certs: Certificates) -> None:
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        events = Events(guest)
        await guest.connect()
        await ask(host)
        await guest.close("that was it")
        assert events.types == [
            "connected",
            "registered",
            "request-started",
            "request-completed",
            "draining",
            "closed",
        ]
        fields = dict(events.find("registered")[0].fields)
        assert len(str(fields.pop("session_id"))) == 8
        assert fields == {"host": host.url, "guest_id": GUEST_ID, "domains": DOMAIN}
        assert events.find("closed")[0].fields["reason"] == "that was it"


async def test_a_listener_that_fails_hurts_nobody(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(event: GuestEvent) -> None:
        raise ValueError(f"cannot take {event.type}")

    async with lease_host(certs) as host:
        guest = make_guest(host, certs, hello)
        guest.on_lifecycle(failing)
        events = Events(guest)
        await guest.connect()
        assert (await ask(host)).status == 200
        await guest.close()
        assert "closed" in events.types
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_listener_can_be_taken_away(certs: Certificates) -> None:
    seen: list[str] = []
    async with guest_at_scripted_host(certs) as (host, guest):
        remove = guest.on_lifecycle(lambda event: seen.append(event.type))
        await ask(host)
        await until(lambda: "request-completed" in seen)
        remove()
        remove()
        count = len(seen)
        await ask(host)
        assert len(seen) == count


async def test_a_listener_may_take_itself_away(certs: Certificates) -> None:
    seen: list[str] = []
    async with guest_at_scripted_host(certs) as (host, guest):

        def once(event: GuestEvent) -> None:
            seen.append(event.type)
            remove()

        remove = guest.on_lifecycle(once)
        events = Events(guest)
        await ask(host)
        await events.wait("request-completed")
        assert seen == ["request-started"]


async def test_the_state_of_a_guest(certs: Certificates) -> None:
    app = Gate()
    async with lease_host(certs) as host:
        guest = make_guest(host, certs, app)
        names = [guest.state.name]
        await guest.connect()
        names.append(guest.state.name)
        await host_call(host)
        await app.until(1)
        task = asyncio.create_task(guest.close())
        await until(lambda: guest.state.name == "DRAINING")
        names.append(guest.state.name)
        app.open()
        await task
        names.append(guest.state.name)
    assert names == ["NEW", "SERVING", "DRAINING", "CLOSED"]

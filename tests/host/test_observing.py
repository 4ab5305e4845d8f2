"""What an observer of a Host is shown: every request from its beginning to its end, as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from tests.host.peers import DOMAIN, WAIT_SECONDS, Broker, Guest, running_host
from tests.host.test_websockets import Socket, fields_of, websocket, websocket_lease
from tests.support.certificates import Certificates
from verser2_guest_python.host import ExchangeEnd, ExchangeStart, Side
from verser2_guest_python.wire.vws import Accept, Close, Message, Open, Ping, Text


class Seen:
    """One request as it was shown."""

    def __init__(self, start: ExchangeStart) -> None:
        self.start = start
        self.steps: list[Any] = []
        self.upload = b""
        self.download = b""
        self.over = asyncio.Event()

    def leased(self) -> None:
        self.steps.append("leased")

    def request_body(self, data: bytes) -> None:
        self.upload += data

    def uploaded(self) -> None:
        self.steps.append("uploaded")

    def answered(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self.steps.append((status, dict(fields)))

    def response_body(self, data: bytes) -> None:
        self.download += data

    def message(self, side: Side, message: Message) -> None:
        self.steps.append((side.value, message))

    def ended(self, end: ExchangeEnd) -> None:
        self.steps.append(end)
        self.over.set()

    async def end(self) -> ExchangeEnd:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.over.wait()
        end = self.steps[-1]
        assert isinstance(end, ExchangeEnd)
        return end


class Watcher:
    """Watches everything."""

    def __init__(self) -> None:
        self.all: list[Seen] = []

    def began(self, start: ExchangeStart) -> Seen:
        seen = Seen(start)
        self.all.append(seen)
        return seen


async def test_a_request_from_its_beginning_to_its_end(certs: Certificates) -> None:
    watcher = Watcher()
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        host.observe(watcher)
        stream = broker.request("POST", "/items?q=1", {"x-a": "é"}, end=False)
        await broker.session.ping()
        (seen,) = watcher.all
        assert (seen.start.method, seen.start.path, seen.start.domain) == ("POST", "/items?q=1", DOMAIN)
        assert (seen.start.source_id, seen.start.target_id) == ("broker-a", "guest-a")
        assert seen.start.headers == {"x-a": "é"}
        assert seen.steps == []  # it waits for a lease
        lease = await guest.lease()
        head = await lease.request()
        assert seen.steps == ["leased"]
        await stream.write(b"one ")
        await stream.write(b"two", end=True)
        assert await lease.body() == b"one two"
        assert seen.upload == b"one two"
        await lease.answer(head, 201, {"x-b": "1"}, b"first ", end=False)
        await lease.stream.write(b"second", end=True)
        assert (await broker.answer(stream)).body == b"first second"
        end = await seen.end()
        assert seen.steps[1] == "uploaded"
        assert seen.steps[2][0] == 201
        assert seen.steps[2][1][b"x-b"] == b"1"
        assert seen.download == b"first second"
        assert (end.status, end.error, end.bytes_in, end.bytes_out) == (201, None, 7, 12)


async def test_large_bodies_are_shown_whole_also_where_they_wait_for_room(certs: Certificates) -> None:
    watcher = Watcher()
    body = bytes(range(256)) * 12_000
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        host.observe(watcher)
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        head = await lease.request()
        sending = asyncio.ensure_future(stream.write(body, end=True))
        assert await lease.body() == body
        await sending
        sending = asyncio.ensure_future(lease.answer(head, 200, {}, body))
        assert (await broker.answer(stream)).body == body
        await sending
        (seen,) = watcher.all
        await seen.end()
        assert seen.upload == body
        assert seen.download == body


async def test_only_what_passes_is_shown(certs: Certificates) -> None:
    watcher = Watcher()
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        host.observe(watcher)
        lease = await guest.lease()
        stream = broker.request("HEAD")
        await lease.answer(await lease.request(), 200, {"content-length": "4"}, b"body")
        assert (await broker.answer(stream)).body == b""
        (seen,) = watcher.all
        assert (await seen.end()).bytes_out == 0
        assert (seen.download, seen.steps[2][0]) == (b"", 200)


async def test_what_fails_is_shown_with_its_reason(certs: Certificates) -> None:
    watcher = Watcher()
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        stop = host.observe(watcher)
        await broker.fetch(domain="nobody.test")
        await broker.fetch(lease_timeout_ms=1)
        lease = await guest.lease()
        stream = broker.request()
        head = await lease.request()
        await lease.fail(head, "local-handler-failure", "boom", {})
        await broker.answer(stream)
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), 200, {"content-length": "10"}, b"short")
        assert (await broker.answer(stream)).status == 502
        lease = await guest.lease()
        stream = broker.request()
        await lease.request()
        stream.reset()
        ends = [await seen.end() for seen in watcher.all]
        assert [(end.status, end.error) for end in ends] == [
            (502, "missing-guest"),
            (502, "timeout"),
            (502, "local-handler-failure"),
            (502, "stream-failure"),
            (None, "cancelled"),
        ]
        assert "has no active route for nobody.test" in ends[0].message
        assert ends[2].message == "boom"
        stop()
        await broker.fetch(domain="nobody.test")
        assert len(watcher.all) == 5


async def test_websocket_messages_as_they_pass(certs: Certificates) -> None:
    watcher = Watcher()
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        host.observe(watcher)
        theirs = await websocket_lease(guest)
        stream = websocket(broker)
        await theirs.hear()
        await theirs.say(Accept())
        assert (await fields_of(stream))[b":status"] == b"200"
        ours = Socket(stream)
        await ours.say(Text("hi"), Ping("n"))
        assert await theirs.hear() == Text("hi")
        assert await theirs.hear() == Ping("n")
        await theirs.say(Text("hello"))
        assert await ours.hear() == Text("hello")
        await ours.say(Close(1000, "done"))
        await theirs.hear()
        await theirs.say(Close(1000, "done"))
        await ours.hear()
        await theirs.end()
        (seen,) = watcher.all
        end = await seen.end()
        assert seen.start.websocket
        assert seen.steps[0] == "leased"
        assert seen.steps[1][0] == 101
        assert seen.steps[2:-1] == [
            ("broker", Text("hi")),
            ("broker", Ping("n")),
            ("guest", Text("hello")),
            ("broker", Close(1000, "done")),
            ("guest", Close(1000, "done")),
        ]
        assert (end.status, end.error) == (200, None)


async def test_a_websocket_that_finds_no_lease(certs: Certificates) -> None:
    watcher = Watcher()
    async with running_host(certs) as host, Guest(host, certs), Broker(host, certs) as broker:
        host.observe(watcher)
        await broker.answer(websocket(broker, "/room"))
        (seen,) = watcher.all
        end = await seen.end()
        assert (seen.start.websocket, seen.start.path) == (True, "/room")
        assert (end.status, end.error) == (502, "websocket-negotiation-failed")


async def test_an_observer_that_fails_harms_nobody(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Seen):
        def leased(self) -> None:
            raise ValueError("no")

    class Fails(Watcher):
        def began(self, start: ExchangeStart) -> Seen:
            if start.path == "/first":
                raise ValueError("never")
            self.all.append(Failing(start))
            return self.all[-1]

    watcher = Fails()
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        host.observe(watcher)
        for path in ("/first", "/second"):
            lease = await guest.lease()
            stream = broker.request(path=path)
            await lease.answer(await lease.request(), 200, {}, b"fine")
            assert (await broker.answer(stream)).body == b"fine"
        assert watcher.all[0].steps == []  # once it has failed it is left alone
    assert [record.message for record in caplog.records] == ["An observer of the Host failed"] * 2


async def test_an_observer_that_lacks_a_method_harms_nobody_either(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    class Empty:
        def began(self, start: ExchangeStart) -> Empty:
            return self

    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        host.observe(Empty())  # type: ignore[arg-type]
        lease = await guest.lease()
        stream = broker.request(path="/")
        await lease.answer(await lease.request(), 200, {}, b"fine")
        assert (await broker.answer(stream)).body == b"fine"
    assert [record.message for record in caplog.records] == ["An observer of the Host failed"]


async def test_several_observers_see_the_same_and_each_ends_alone(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Seen):
        def request_body(self, data: bytes) -> None:
            raise ValueError("no")

    class Fails(Watcher):
        def began(self, start: ExchangeStart) -> Seen:
            self.all.append(Failing(start))
            return self.all[-1]

    class Refuses(Watcher):
        def began(self, start: ExchangeStart) -> Seen:
            raise ValueError("never")

    first, fails, last = Watcher(), Fails(), Watcher()
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:

        async def one() -> None:
            lease = await guest.lease()
            stream = broker.request(path="/")
            await lease.answer(await lease.request(), 200, {}, b"fine")
            assert (await broker.answer(stream)).body == b"fine"

        stop_first = host.observe(first)
        stops = [host.observe(observer) for observer in (fails, Refuses(), last, last)]
        await one()
        ends = [await seen.end() for seen in (*first.all, *last.all)]
        assert [end.status for end in ends] == [200, 200, 200]  # whoever watches twice is told twice
        stop_first()
        stop_first()
        stops.pop()()
        await one()
        assert (len(first.all), len(last.all)) == (1, 3)
        for stop in stops:
            stop()
        await one()
        assert (len(first.all), len(fails.all), len(last.all)) == (1, 2, 3)
    assert {record.message for record in caplog.records} == {"An observer of the Host failed"}


async def test_what_an_observer_has_to_tell_reaches_the_guest(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    class Telling(Seen):
        told: ClassVar[Any] = {"x-trace": "1"}

    class Failing(Seen):
        @property
        def told(self) -> Any:
            raise ValueError("no")

    class TooMuch(Seen):
        told: ClassVar[Any] = {"x-much": "a" * 20_000}

    def watching(kind: type[Seen]) -> Watcher:
        class Watching(Watcher):
            def began(self, start: ExchangeStart) -> Seen:
                self.all.append(kind(start))
                return self.all[-1]

        return Watching()

    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:

        async def told_of_one() -> dict[str, str]:
            lease = await guest.lease()
            stream = broker.request(path="/", headers={"host": DOMAIN, "x-own": "2"})
            request = await lease.request()
            await lease.answer(request, 200, {}, b"fine")
            assert (await broker.answer(stream)).body == b"fine"
            return request.headers

        stop_telling = host.observe(watching(Telling))
        host.observe(watching(Failing))
        assert await told_of_one() == {"host": DOMAIN, "x-own": "2", "x-trace": "1"}
        theirs = await websocket_lease(guest)
        websocket(broker, "/room")
        opening = await theirs.hear()
        assert isinstance(opening, Open)
        assert opening.headers == {"host": DOMAIN, "x-trace": "1"}
        stop_telling()
        host.observe(watching(TooMuch))
        assert await told_of_one() == {"host": DOMAIN, "x-own": "2"}
    assert {record.message for record in caplog.records} == {"An observer of the Host failed"}


async def test_guests_their_routes_and_leases(certs: Certificates) -> None:
    async with running_host(certs) as host, Broker(host, certs) as broker:
        assert host.get_guests() == []
        async with Guest(host, certs, "guest-a", "a.test", "b.test") as guest:
            await guest.lease()
            await websocket_lease(guest)
            (stats,) = host.get_guests()
            assert (stats.id, stats.domains) == ("guest-a", {"a.test": "active", "b.test": "active"})
            assert (stats.idle_leases, stats.idle_websocket_leases, stats.queued_requests) == (1, 1, 0)
        await broker.change()  # added
        assert (await broker.change())[0][0] == ("degraded", "a.test", "disconnected")
        (stats,) = host.get_guests()
        assert stats.domains == {"a.test": "degraded", "b.test": "degraded"}
        assert stats.idle_leases == 0

"""The route table follows the Host, and listeners hear of every change (protocol.md §3, §10)."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from tests.http2.frames import rst_stream
from tests.support.brokers import DOMAIN, ROUTES, scripted
from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, answer, scripted_host
from verser2_guest_python import (
    DisconnectedTargetError,
    MissingGuestError,
    RequestTimeoutError,
    VerserBroker,
    VerserProtocolError,
    create_verser_broker,
)
from verser2_guest_python.broker import RouteChange

LOGGER = "verser2_guest_python.broker"


def table(broker: VerserBroker) -> set[tuple[str, str, bool]]:
    return {(route.target_id, route.domain, route.degraded) for route in broker.get_routes()}


def brief(change: RouteChange) -> tuple[str, str, str | None]:
    return change.type, change.target_id, change.reason


async def in_step(host: ScriptedHost) -> None:
    """Until the Broker has read everything that the Host has said."""
    await host.session.ping()


async def test_the_first_line_is_the_table(certs: Certificates) -> None:
    async with scripted(certs, routes=[*ROUTES, ("guest-b", "B.Local.Test.")]) as (_host, broker):
        assert table(broker) == {("guest-a", DOMAIN, False), ("guest-b", "b.local.test", False)}


async def test_the_first_line_is_reported_as_added(certs: Certificates) -> None:
    changes: list[RouteChange] = []
    async with scripted_host(certs, routes=ROUTES) as host:
        broker = create_verser_broker(host_url=host.url, broker_id="b", tls_ca_file=certs.ca)
        broker.on_route_change(changes.append)
        async with broker:
            assert [brief(change) for change in changes] == [("added", "guest-a", None)]


async def test_a_lifecycle_line_and_then_its_table(certs: Certificates) -> None:
    changes: list[tuple[tuple[str, str, str | None], set[tuple[str, str, bool]]]] = []
    async with scripted(certs) as (host, broker):
        broker.on_route_change(lambda change: changes.append((brief(change), table(broker))))
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await host.say_routes(*ROUTES)
        await host.say_lifecycle(("changed", "guest-a", DOMAIN, "restored"))
        await host.say_routes(*ROUTES)
        await host.say_lifecycle(("added", "guest-b", DOMAIN, "registered"))
        await host.say_routes(*ROUTES, ("guest-b", DOMAIN))
        await host.say_lifecycle(("removed", "guest-a", DOMAIN, "revoked"))
        await host.say_routes(("guest-b", DOMAIN))
        await in_step(host)
        active, away = ("guest-a", DOMAIN, False), ("guest-a", DOMAIN, True)
        other = ("guest-b", DOMAIN, False)
        assert changes == [
            (("degraded", "guest-a", "disconnected"), {away}),
            (("changed", "guest-a", "restored"), {active}),
            (("added", "guest-b", "registered"), {active, other}),
            (("removed", "guest-a", "revoked"), {other}),
        ]


async def test_a_table_without_lifecycle_line_is_reported_without_reason(certs: Certificates) -> None:
    changes: list[RouteChange] = []
    async with scripted(certs) as (host, broker):
        broker.on_route_change(changes.append)
        await host.say_routes(("guest-b", DOMAIN))
        await in_step(host)
        assert [brief(change) for change in changes] == [
            ("removed", "guest-a", None),
            ("added", "guest-b", None),
        ]
        assert table(broker) == {("guest-b", DOMAIN, False)}


async def test_control_lines_may_be_split_anywhere(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        lines = b'\n\n{"type":"later"}\n{"type":"routes","routes":[{"targetId":"g","domain":"x.test"}]}\n\n'
        for byte in lines:
            await host.say(bytes([byte]))
        await in_step(host)
        assert table(broker) == {("g", "x.test", False)}


@pytest.mark.parametrize(
    "line", [b"this is not JSON\n", b"[1]\n", b'{"type":"routes"}\n', b"x" * 5_000_000, b"\xff\n"]
)
async def test_garbage_on_the_control_stream_ends_the_session(certs: Certificates, line: bytes) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        waiting = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
        for_a_route = asyncio.create_task(broker.wait_for_route("other.test"))
        await host.accept("/verser/request")
        writing = asyncio.create_task(host.say(line))
        with pytest.raises(VerserProtocolError, match="control stream"):
            await waiting
        with pytest.raises(VerserProtocolError, match="control stream"):
            await for_a_route
        with pytest.raises(VerserProtocolError, match="control stream"):
            await broker.get(f"http://{DOMAIN}/")
        assert not broker.connected
        await host.session.wait_lost()
        await asyncio.wait([writing])
        writing.exception()


async def test_the_end_of_the_control_stream_ends_the_session(certs: Certificates) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        waiting = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
        await host.accept("/verser/request")
        await host.control.write(b"", end=True)
        with pytest.raises(DisconnectedTargetError, match="control stream"):
            await waiting


async def test_a_reset_of_the_control_stream_ends_the_session(certs: Certificates) -> None:
    async with scripted(certs, broker={"reconnect": False}) as (host, broker):
        waiting = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
        await host.accept("/verser/request")
        host.control.write_now(b'{"type":"later"}')
        host.session.engine.put(rst_stream(host.control.id, 2))
        host.session.wrote()
        with pytest.raises(DisconnectedTargetError, match="control stream"):
            await waiting


async def test_waiting_for_a_route(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        assert (await broker.wait_for_route("A.Local.Test.")).target_id == "guest-a"
        waiting = asyncio.create_task(broker.wait_for_route("b.local.test"))
        await in_step(host)
        assert not waiting.done()
        await host.say_lifecycle(("added", "guest-b", "b.local.test", "registered"))
        assert (await waiting).target_id == "guest-b"


async def test_waiting_for_a_route_in_vain_names_those_that_exist(certs: Certificates) -> None:
    async with scripted(certs) as (_host, broker):
        with pytest.raises(RequestTimeoutError, match=r"a\.local\.test"):
            await broker.wait_for_route("b.local.test", timeout=0.01)


async def test_a_degraded_route_is_not_waited_out(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await in_step(host)
        with pytest.raises(RequestTimeoutError):
            await broker.wait_for_route(DOMAIN, timeout=0.01)


async def test_a_request_without_route_names_those_that_exist(certs: Certificates) -> None:
    async with scripted(certs) as (_host, broker):
        with pytest.raises(MissingGuestError, match=r"No Guest serves b\.local\.test.*a\.local\.test"):
            await broker.get("http://b.local.test/")


async def test_a_request_waits_for_a_degraded_route_to_be_restored(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await in_step(host)
        call = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
        await in_step(host)
        assert not call.done()
        await host.say_lifecycle(("changed", "guest-a", DOMAIN, "restored"))
        await answer(await host.accept("/verser/request"), 200, (), b"back")
        assert await (await call).read() == b"back"


async def test_a_degraded_route_that_is_not_restored(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verser2_guest_python.broker.directory.DEGRADED_WAIT_SECONDS", 0.05)
    async with scripted(certs) as (host, broker):
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await in_step(host)
        with pytest.raises(MissingGuestError, match=r"not back within 0\.05 s"):
            await broker.get(f"http://{DOMAIN}/")


async def test_a_degraded_route_that_is_removed_fails_who_waits(certs: Certificates) -> None:
    async with scripted(certs) as (host, broker):
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await in_step(host)
        call = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
        await in_step(host)
        await host.say_lifecycle(("removed", "guest-a", DOMAIN, "timeout"))
        with pytest.raises(MissingGuestError):
            await call


class TestListeners:
    async def test_unsubscribe(self, certs: Certificates) -> None:
        changes: list[RouteChange] = []
        async with scripted(certs) as (host, broker):
            unsubscribe = broker.on_route_change(changes.append)
            await host.say_routes()
            await in_step(host)
            unsubscribe()
            unsubscribe()
            await host.say_routes(*ROUTES)
            await in_step(host)
            assert [change.type for change in changes] == ["removed"]

    async def test_asynchronous_listeners_hear_changes_one_after_the_other(self, certs: Certificates) -> None:
        heard: list[str] = []
        done = asyncio.Event()

        async def listener(change: RouteChange) -> None:
            heard.append(f"{change.type} begins")
            await asyncio.sleep(0)
            heard.append(f"{change.type} ends")
            if len(heard) == 4:
                done.set()

        async with scripted(certs) as (host, broker):
            broker.on_route_change(listener)
            await host.say_routes(("guest-b", DOMAIN))
            await done.wait()
        assert heard == ["removed begins", "removed ends", "added begins", "added ends"]

    async def test_what_a_listener_raises_is_logged(
        self, certs: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        changes: list[RouteChange] = []
        done = asyncio.Event()

        def broken(change: RouteChange) -> None:
            raise LookupError("synchronous")

        async def broken_later(change: RouteChange) -> None:
            done.set()
            raise LookupError("asynchronous")

        async with scripted(certs) as (host, broker):
            for listener in (broken, broken_later, changes.append):
                broker.on_route_change(listener)
            with caplog.at_level(logging.ERROR, LOGGER):
                await host.say_routes()
                await done.wait()
                await in_step(host)
            assert len(changes) == 1
            assert sorted(str(record.exc_info[1]) for record in caplog.records) == [
                "asynchronous",
                "synchronous",
            ]

    async def test_closing_ends_listeners_that_are_still_busy(self, certs: Certificates) -> None:
        cancelled = asyncio.Event()
        begun = asyncio.Event()

        async def listener(change: RouteChange) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with scripted(certs) as (host, broker):
            broker.on_route_change(listener)
            await host.say_routes(("guest-b", DOMAIN))
            await begun.wait()
            await broker.close()
            assert cancelled.is_set()

    async def test_a_listener_may_make_requests_and_close_the_broker(self, certs: Certificates) -> None:
        closed = asyncio.Event()

        async with scripted(certs) as (host, broker):

            async def listener(change: RouteChange) -> None:
                response = await broker.get(f"http://{DOMAIN}/")
                assert await response.read() == b"hello"
                await broker.close()
                closed.set()

            broker.on_route_change(listener)
            await host.say_routes(*ROUTES, ("guest-b", "b.test"))
            await answer(await host.accept("/verser/request"), 200, (), b"hello")
            await closed.wait()


class TestIterator:
    @pytest.mark.both_loops
    async def test_changes_come_in_order_until_the_broker_is_closed(self, certs: Certificates) -> None:
        async with scripted(certs) as (host, broker):
            changes = broker.routes()
            await host.say_routes(("guest-b", DOMAIN))
            assert brief(await anext(changes)) == ("removed", "guest-a", None)
            assert brief(await anext(changes)) == ("added", "guest-b", None)
            waiting = asyncio.create_task(anext(changes))
            await host.say_lifecycle(("degraded", "guest-b", DOMAIN, "disconnected"))
            assert brief(await waiting) == ("degraded", "guest-b", "disconnected")
            await host.say_routes()
            await in_step(host)
            waiting = asyncio.create_task(anext(changes))
            await broker.close()
            assert brief(await waiting) == ("removed", "guest-b", None)
            assert [change async for change in changes] == []

    async def test_it_can_be_ended_and_cancelled(self, certs: Certificates) -> None:
        async with scripted(certs) as (host, broker):
            async with broker.routes() as changes:
                waiting = asyncio.create_task(anext(changes))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                await host.say_routes()
                assert brief(await anext(changes)) == ("removed", "guest-a", None)
                waiting = asyncio.create_task(anext(changes))
                await asyncio.sleep(0)
            with pytest.raises(StopAsyncIteration):
                await waiting
            unused = broker.routes()
            count = len(broker._directory._iterators)
            del unused
            gc.collect()
            assert len(broker._directory._iterators) < count, "one that nobody holds gets no changes"

    async def test_a_slow_one_loses_the_oldest(self, certs: Certificates) -> None:
        async with scripted(certs) as (host, broker):
            changes = broker.routes()
            for number in range(600):
                await host.say_routes((f"guest-{number}", DOMAIN))
            await in_step(host)
            assert changes.dropped == 200
            await broker.close()
            assert len([change async for change in changes]) == 1_000

    async def test_it_goes_on_over_sessions(self, certs: Certificates) -> None:
        async with scripted(certs) as (host, broker):
            changes = broker.routes()
            host.routes = []
            host.session.abort("the test says so")
            assert brief(await anext(changes)) == ("removed", "guest-a", None)


async def test_what_is_said_twice_is_told_once(certs: Certificates) -> None:
    changes: list[tuple[str, str, str | None]] = []
    async with scripted(certs) as (host, broker):
        broker.on_route_change(lambda change: changes.append(brief(change)))
        for _ in range(2):
            await host.say_lifecycle(("added", "guest-a", DOMAIN, "registered"))
            await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await host.say_lifecycle(("changed", "guest-a", DOMAIN, "updated"))
        for _ in range(2):
            await host.say_lifecycle(("removed", "guest-a", DOMAIN, "revoked"))
        await in_step(host)
        assert [kind for kind, _, _ in changes] == ["degraded", "added", "degraded", "changed", "removed"]


async def test_requests_share_the_load_by_who_has_the_fewest_in_flight(certs: Certificates) -> None:
    guests = [("guest-a", DOMAIN), ("guest-b", DOMAIN), ("guest-c", DOMAIN)]
    async with scripted(certs, routes=guests) as (host, broker):
        calls, targets = [], []
        for _ in range(6):
            calls.append(asyncio.create_task(broker.get(f"http://{DOMAIN}/")))
            stream, request = await host.accept_request()
            targets.append((request.target_id, stream))
        assert sorted(target for target, _ in targets) == sorted([guest for guest, _ in guests] * 2)
        for target, stream in targets:  # guest-b alone is free again
            if target == "guest-b":
                await answer(stream, 200)
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await in_step(host)
        for call in calls:
            if call.done():
                await call.result().read()
        for _ in range(2):
            calls.append(asyncio.create_task(broker.get(f"http://{DOMAIN}/")))
            stream, request = await host.accept_request()
            targets.append((request.target_id, stream))
            assert request.target_id == "guest-b"
        for _, stream in targets:
            if not stream.write_ended:
                await answer(stream, 200)
        for call in calls:
            await (await call).aclose()


async def test_shares_of_equally_busy_guests_are_equal(certs: Certificates) -> None:
    guests = [("guest-a", DOMAIN), ("guest-b", DOMAIN), ("guest-c", DOMAIN)]
    counts: dict[str, int] = {}
    async with scripted(certs, routes=guests) as (host, broker):
        for _ in range(30):
            call = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
            stream, request = await host.accept_request()
            counts[request.target_id] = counts.get(request.target_id, 0) + 1
            await answer(stream, 200)
            await (await call).read()
    assert counts == {"guest-a": 10, "guest-b": 10, "guest-c": 10}


async def test_degraded_guests_are_passed_over(certs: Certificates) -> None:
    guests = [("guest-a", DOMAIN), ("guest-b", DOMAIN)]
    async with scripted(certs, routes=guests) as (host, broker):
        await host.say_lifecycle(("degraded", "guest-a", DOMAIN, "disconnected"))
        await in_step(host)
        for _ in range(3):
            call = asyncio.create_task(broker.get(f"http://{DOMAIN}/"))
            stream, request = await host.accept_request()
            assert request.target_id == "guest-b"
            await answer(stream, 200)
            await (await call).read()

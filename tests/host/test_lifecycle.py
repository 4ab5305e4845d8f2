"""Routes as Brokers hear of them, and revocation with its answers (protocol.md §3, §9, §10)."""

from __future__ import annotations

import json

import pytest

from tests.host.peers import DOMAIN, Broker, Guest, Peer, Watcher, running_host
from tests.support.certificates import Certificates
from tests.support.clock import Clock

ROW = ("guest-a", DOMAIN)


@pytest.mark.both_loops
async def test_all_brokers_hear_of_a_guest_that_comes_goes_and_returns(certs: Certificates) -> None:
    async with (
        running_host(certs, degraded_timeout=30) as host,
        Broker(host, certs, "broker-a") as first,
        Broker(host, certs, "broker-b") as second,
    ):
        brokers = (first, second)
        async with Guest(host, certs):
            for broker in brokers:
                assert await broker.change() == ([("added", DOMAIN, "registered")], [ROW])
        for broker in brokers:
            assert await broker.change() == ([("degraded", DOMAIN, "disconnected")], [ROW])
            assert (await broker.fetch()).error["code"] == "missing-guest"
        async with Guest(host, certs) as guest:
            for broker in brokers:
                assert await broker.change() == ([("changed", DOMAIN, "restored")], [ROW])
                lease = await guest.lease()
                stream = broker.request()
                await lease.answer(await lease.request())
                assert (await broker.answer(stream)).status == 200


async def test_events_say_to_which_registration_they_belong(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=30) as host, Broker(host, certs) as broker:
        generations = []
        for _ in range(2):
            async with Guest(host, certs):
                line = await broker.line()
                generations.append(line["events"][0]["generation"])
                await broker.line()
            line = await broker.line()
            assert line["events"][0]["generation"] == generations[-1]
            await broker.line()
        assert [one["sessionId"] for one in generations] == ["guest-a", "guest-a"]
        assert generations[0]["generationId"] != generations[1]["generationId"]


async def test_a_guest_that_does_not_return_in_time_is_removed(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=0.05) as host, Broker(host, certs) as broker:
        async with Guest(host, certs):
            await broker.change()
        assert await broker.change() == ([("degraded", DOMAIN, "disconnected")], [ROW])
        assert await broker.change() == ([("removed", DOMAIN, "timeout")], [])
        assert host.get_routes() == []


async def test_without_degraded_time_routes_go_at_once(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=0) as host, Broker(host, certs) as broker:
        async with Guest(host, certs):
            await broker.change()
        assert await broker.change() == ([("removed", DOMAIN, "disconnected")], [])


async def test_a_guest_returns_with_another_list(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=12) as host, Broker(host, certs) as broker:
        clock = Clock()
        async with Guest(host, certs, "guest-a", DOMAIN, "b.test"):
            await broker.change()
        await broker.change()
        async with Guest(host, certs, "guest-a", "b.test", "c.test") as guest:
            events, table = await broker.change()
            assert events == [
                ("removed", DOMAIN, "reconnected"),
                ("changed", "b.test", "restored"),
                ("added", "c.test", "registered"),
            ]
            assert table == [("guest-a", "b.test"), ("guest-a", "c.test")]
            # The clock of the lost session does not take the new one's routes.
            await clock.forward(12.1)
            assert [route.domain for route in host.get_routes()] == ["b.test", "c.test"]
            await guest.session.ping()


async def test_a_broker_that_is_lost_is_told_nothing_and_may_return(certs: Certificates) -> None:
    async with running_host(certs) as host:
        watcher = Watcher(host)
        async with Broker(host, certs):
            pass
        await watcher.wait("disconnected", peer="broker-a")
        async with Guest(host, certs), Broker(host, certs) as broker:
            assert broker.registered["routes"] == [{"targetId": "guest-a", "domain": DOMAIN}]


@pytest.mark.both_loops
async def test_a_revoked_route_is_gone_when_the_answer_is_there(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        Guest(host, certs, "guest-a", DOMAIN, "b.test", "c.test") as guest,
        Broker(host, certs) as broker,
    ):
        lease = await guest.lease()
        under_way = broker.request()
        waiting = broker.request()
        head = await lease.request()
        answer = await guest.revoke(["A.Local.Test.", "b.test"])
        assert (answer.status, answer.json) == (200, {"status": "ack"})
        assert await broker.change() == (
            [("removed", DOMAIN, "revoked"), ("removed", "b.test", "revoked")],
            [("guest-a", "c.test")],
        )
        assert (await broker.fetch()).error["code"] == "missing-guest"
        # What was on a lease, or in the queue, still comes (protocol.md §9).
        await lease.answer(head, 200, {}, b"done")
        assert (await broker.answer(under_way)).body == b"done"
        lease = await guest.lease()
        await lease.answer(await lease.request(), 200, {}, b"done too")
        assert (await broker.answer(waiting)).body == b"done too"


async def test_answers_of_a_revocation(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        Guest(host, certs) as guest,
        Guest(host, certs, "guest-b", "b.test"),
    ):
        answer = await guest.revoke([DOMAIN, "b.test"])
        assert answer.status == 200
        assert answer.json["status"] == "partial"
        assert answer.json["message"]
        assert [entry["domain"] for entry in answer.json["failedDomains"]] == ["b.test"]
        assert answer.json["failedDomains"][0]["error"]
        answer = await guest.revoke([DOMAIN])
        assert answer.status == 404
        assert answer.json["status"] == "error"
        assert [entry["domain"] for entry in answer.json["failedDomains"]] == [DOMAIN]
        assert [route.domain for route in host.get_routes()] == ["b.test"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", b'{"domains":[]}', b'{"domains":"a"}', b'{"domains":[7]}']
)
async def test_a_malformed_revocation(certs: Certificates, body: bytes) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest:
        answer = await guest.revoke(body)
        assert answer.status == 400
        assert answer.json["status"] == "error"
        assert answer.json["message"]
        assert len(host.get_routes()) == 1


async def test_only_the_guest_on_its_own_session_revokes(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        body = json.dumps({"domains": [DOMAIN]}).encode()
        async with Peer(host, certs) as stranger:
            for peer in (stranger, broker):
                answer = await peer.exchange("/verser/guest/revoke", body, {"x-verser-peer-id": "guest-a"})
                assert (answer.status, answer.json["status"]) == (403, "error")
        answer = await guest.revoke([DOMAIN], peer_id="guest-b")
        assert (answer.status, answer.json["status"]) == (403, "error")
        assert len(host.get_routes()) == 1


async def test_events_for_logs(certs: Certificates) -> None:
    async with running_host(certs, degraded_timeout=0.05) as host:
        watcher = Watcher(host)
        async with Guest(host, certs) as guest:
            event = await watcher.wait("registered", peer="guest-a", role="guest")
            assert event.fields["domains"] == [DOMAIN]
            await watcher.wait("route", change="added", domain=DOMAIN, reason="registered")
            await guest.revoke(["x.test", DOMAIN])
            event = await watcher.wait("revoked", peer="guest-a")
            assert event.fields["domains"] == [DOMAIN]
            await guest.answer(guest.open("/nowhere", end=True))
            event = await watcher.wait("refused", path="/nowhere")
            assert event.fields["code"] == "protocol-error"
        event = await watcher.wait("disconnected", peer="guest-a", role="guest")
        assert event.fields["reason"]

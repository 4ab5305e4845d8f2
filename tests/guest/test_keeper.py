"""A Guest stays registered: a Host that restarts, that falls silent, that forgets (interface.md)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.guest.guests import DOMAIN, GUEST_ID, Events, Gate, guest_at_scripted_host, hello, make_guest
from tests.host.peers import running_host
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.node_peers import node_host, node_request
from tests.support.waiting import until
from verser2_guest_python import create_verser_guest

ALL_TYPES = {
    "connected",
    "registered",
    "disconnected",
    "reconnecting",
    "request-started",
    "request-completed",
    "route-revoked",
    "draining",
    "error",
    "closed",
}


@pytest.mark.both_loops
@pytest.mark.interop
async def test_a_node_host_that_restarts_is_joined_again(certs: Certificates) -> None:
    port = 0
    guest: Any = None
    events: Any = None
    for restart in range(3):
        async with node_host(certs, strict=True, port=port) as host:
            port = host.port
            if guest is None:
                guest = make_guest(host, certs, hello)
                events = Events(guest)
                await guest.connect()
            await host.event("registered", peer=GUEST_ID, timeout=10)
            answer = await node_request(host.url, certs, f"http://{DOMAIN}/{restart}")
            assert answer.body == f"/{restart}".encode()
            assert host.violations == []
        await events.wait("disconnected", restart + 1)
        await events.wait("reconnecting", len(events.find("reconnecting")) + 3)  # the port is closed
    await guest.close()


@pytest.mark.both_loops
async def test_our_host_that_restarts_is_joined_again(certs: Certificates) -> None:
    port = 0
    guest: Any = None
    for restart in range(3):
        async with running_host(certs, port=port) as host:
            port = host.port
            if guest is None:
                guest = make_guest(host, certs, hello)
                await guest.connect()
            async with broker_at(host, certs) as broker:
                await broker.wait_for_route(DOMAIN)
                response = await broker.get(f"http://{DOMAIN}/{restart}")
                assert await response.read() == f"/{restart}".encode()
    await guest.close()


@pytest.mark.interop
async def test_a_host_that_reads_nothing_is_dead_after_a_ping(certs: Certificates) -> None:
    """It still writes, so that only the missing answer tells. It refuses the return until it wakes up."""
    async with node_host(certs, strict=True) as host:
        guest = make_guest(host, certs, hello, ping_interval=0.1, ping_timeout=1)
        events = Events(guest)
        async with guest:
            await host.command("mute", peer=GUEST_ID, ms=4_000)
            lost = await events.wait("disconnected")
            assert lost.fields["reason"] == "the Host did not answer a PING within 1 s"
            assert not guest.connected
            await events.wait("registered", 2)
            answer = await node_request(host.url, certs, f"http://{DOMAIN}/x")
            assert answer.body == b"/x"


@pytest.mark.interop
async def test_a_pause_that_is_shorter_is_none(certs: Certificates) -> None:
    async with node_host(certs, strict=True) as host:
        guest = make_guest(host, certs, hello, ping_interval=0.05, ping_timeout=30)
        events = Events(guest)
        async with guest:
            await host.command("mute", peer=GUEST_ID, ms=400)
            answer = await node_request(host.url, certs, f"http://{DOMAIN}/x")
            assert answer.body == b"/x"
            await guest._keepers.sessions[0].session.ping()
        assert not events.find("disconnected")
        assert len(events.find("registered")) == 1


@pytest.mark.interop
@pytest.mark.both_loops
async def test_a_connection_that_is_cut_is_made_again(certs: Certificates) -> None:
    """Requests that ran are lost, and their app learns of it; the routes come back (protocol.md §10)."""
    app = Gate()
    async with node_host(certs, strict=True) as host:
        guest = make_guest(host, certs, app)
        events = Events(guest)
        async with guest:
            lost = asyncio.create_task(node_request(host.url, certs, f"http://{DOMAIN}/lost"))
            await app.until(1)
            await host.command("drop", peer=GUEST_ID)
            assert (await lost).error_code == "disconnected-target"
            await events.wait("registered", 2)
            app.open()
            await until(lambda: app.running == 0)
            assert (await node_request(host.url, certs, f"http://{DOMAIN}/x")).body == b"/x"
            routes = (await host.ask("routes"))["routes"]
            assert [(one["targetId"], one["state"]) for one in routes] == [(GUEST_ID, "active")]
        assert host.violations == []


@pytest.mark.interop
async def test_leases_that_are_reset_come_back(certs: Certificates) -> None:
    async with node_host(certs, strict=True) as host:
        guest = make_guest(host, certs, hello)
        async with guest:
            for number in range(5):
                await host.command("reset-leases", peer=GUEST_ID)
                await host.event("leases-reset")
                answer = await node_request(host.url, certs, f"http://{DOMAIN}/{number}")
                assert answer.body == f"/{number}".encode()
        assert host.violations == []


# --- What is told ---------------------------------------------------------------------------------


async def test_the_life_of_a_guest_in_events(certs: Certificates, tmp_path: Any) -> None:
    """Every kind of event, each with what it says, in the order in which it happened."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certs.ca.read_bytes())
    async with running_host(certs) as host:
        url, port = host.url, host.port
        guest = create_verser_guest(
            host_url=url,
            guest_id=GUEST_ID,
            routed_domains=[DOMAIN, "b.local.test"],
            app=hello,
            tls_ca_file=ca,
        )
        events = Events(guest)
        guest.on_lifecycle(lambda event: 1 / 0)  # somebody else's listener is broken
        await guest.connect()
        session_id = events.all[-1].fields["session_id"]
        registered = {"host": url, "guest_id": GUEST_ID, "domains": f"{DOMAIN}, b.local.test"}
        assert [(event.type, dict(event.fields)) for event in events.all] == [
            ("connected", {"host": url, "guest_id": GUEST_ID}),
            ("registered", registered | {"session_id": session_id}),
        ]
        events.all.clear()
        async with broker_at(host, certs) as broker:
            await (await broker.get(f"http://{DOMAIN}/x")).read()
            assert (await events.wait("request-completed")).fields["session_id"] == session_id
            assert events.types == ["request-started", "request-completed"]
        await guest.revoke_routes(["b.local.test"])
        assert dict((await events.wait("route-revoked")).fields) == {"domain": "b.local.test"}
        events.all.clear()
    lost, again = await events.wait("disconnected"), await events.wait("reconnecting", 2)
    assert set(lost.fields) == {"reason", "host", "guest_id", "session_id"}
    assert lost.fields["session_id"] == session_id
    assert events.all[events.types.index("disconnected") + 1].type == "reconnecting"
    assert set(again.fields) == {"delay_seconds", "attempt", "reason", "cause", "host"}
    assert again.fields["attempt"] == 2
    assert 0.0 < float(str(again.fields["delay_seconds"])) <= 0.5
    assert "refused" in str(again.fields["reason"])
    ca.write_bytes(certs.untrusted_ca.read_bytes())
    async with running_host(certs, port=port):
        error = await events.wait("error")
        assert error.fields["code"] == "certificate-verification-failure"
        assert "Cannot trust" in str(error.fields["reason"])
        ca.write_bytes(certs.ca.read_bytes())
        await events.wait("registered")
        events.all.clear()
        await guest.close("the test is over")
        assert [(event.type, event.fields["reason"]) for event in events.all] == [
            ("draining", "the test is over"),
            ("closed", "the test is over"),
        ]


async def test_an_outage_tells_each_attempt(certs: Certificates) -> None:
    async with running_host(certs) as host:
        guest = make_guest(host, certs, hello)
        events = Events(guest)
        await guest.connect()
    await events.wait("reconnecting", 5)
    told = events.find("reconnecting")[:5]
    assert [event.fields["attempt"] for event in told] == [1, 2, 3, 4, 5]
    assert told[0].fields["delay_seconds"] == 0.0
    assert all(float(str(event.fields["delay_seconds"])) <= 0.5 for event in told)
    assert Counter(events.types)["disconnected"] == 1
    await guest.close()
    assert set(events.types) <= ALL_TYPES


async def test_a_host_that_takes_its_time_to_close_is_found_again_at_once(certs: Certificates) -> None:
    """An outage begins with the loss: attempts at a handover before it do not make the pauses long."""
    async with guest_at_scripted_host(certs) as (host, guest):
        events = Events(guest)
        host.refuse_registration(502, {"error": {"code": "invalid-registration", "message": "closing"}})
        old = host.session
        old.goaway()
        await events.wait("reconnecting", 4)
        old.abort("the Host has closed")
        await events.wait("disconnected")
        behind = events.all[events.types.index("disconnected") + 1]
        assert behind.type == "reconnecting"
        assert (behind.fields["attempt"], behind.fields["delay_seconds"]) == (1, 0.0)
        host.refusal = None
        await events.wait("registered")

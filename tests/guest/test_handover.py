"""From one session to the next under load: nothing lost, nothing doubled, no gap (protocol.md §12.11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.guest.guests import DOMAIN, GUEST_ID, Events, Gate, make_guest
from tests.host.peers import Watcher, running_host
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.load import Ledger, Load
from tests.support.node_peers import node_host, node_request
from tests.support.waiting import until
from verser2_guest_python import Authorization, VerserGuest, create_verser_guest
from verser2_guest_python.http2 import SessionOptions

SECOND_ID = f"{GUEST_ID}~2"


@asynccontextmanager
async def serving(
    host: Any, certs: Certificates, app: Any, **options: Any
) -> AsyncIterator[tuple[VerserGuest, Events]]:
    guest = make_guest(host, certs, app, **options)
    events = Events(guest)
    await guest.connect()
    try:
        yield guest, events
    finally:
        await guest.close(timeout=10)


def ids(events: Events) -> list[object]:
    """The peer ids in the order in which they were registered."""
    return [event.fields["guest_id"] for event in events.find("registered")]


# --- Our Host -------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_renewals_under_load(certs: Certificates) -> None:
    app = Ledger()
    async with running_host(certs) as host, serving(host, certs, app) as (guest, events):
        watcher = Watcher(host)
        async with Load(host, certs) as load:
            for number, peer in enumerate((SECOND_ID, GUEST_ID, SECOND_ID, GUEST_ID), 2):
                await load.more(30)
                guest.renew(f"renewal {number}")
                await events.wait("registered", number)
                old = SECOND_ID if peer == GUEST_ID else GUEST_ID
                await watcher.wait("disconnected", peer=old)
                watcher.events.clear()
            await load.more(30)
        load.check(app)
        assert ids(events) == [GUEST_ID, SECOND_ID, GUEST_ID, SECOND_ID, GUEST_ID]
        assert not events.find("disconnected")
        assert [event.fields["reason"] for event in events.find("reconnecting")] == [
            f"renewal {number}" for number in range(2, 6)
        ]


async def test_stream_ids_run_out_under_load(certs: Certificates) -> None:
    """Every few hundred requests a new session, well before its ids are used up, and none is held back."""
    app = Ledger(0.01)
    options = SessionOptions(last_stream_id=4_000)
    async with running_host(certs) as host, serving(host, certs, app, session_options=options) as (_, events):
        async with Load(host, certs) as load:
            await events.wait("registered", 3)
            await load.more(50)
        load.check(app)
        assert load.again["timeout"] == 0
        reasons = {event.fields["reason"] for event in events.find("reconnecting")}
        assert reasons == {"the session's stream ids run out"}
        assert {event.fields["delay_seconds"] for event in events.find("reconnecting")} == {0.0}
        assert set(ids(events)) == {GUEST_ID, SECOND_ID}
        assert not events.find("disconnected")


@pytest.mark.slow
async def test_with_very_few_stream_ids_nothing_is_lost_either(certs: Certificates) -> None:
    """They may be used up before the new session is there: what waits at the Host is told to go elsewhere."""
    app = Ledger(0.0)
    options = SessionOptions(last_stream_id=600)
    async with running_host(certs) as host, serving(host, certs, app, session_options=options) as (_, events):
        async with Load(host, certs) as load:
            await events.wait("registered", 4)
        load.check(app)


async def test_without_handover_there_is_a_gap_but_no_loss(certs: Certificates) -> None:
    app = Ledger()
    async with running_host(certs) as host, serving(host, certs, app, handover=False) as (guest, events):
        async with Load(host, certs) as load:
            for number in (2, 3):
                await load.more(30)
                guest.renew()
                await events.wait("registered", number)
            await load.more(30)
        load.check(app)
        assert ids(events) == [GUEST_ID] * 3


async def test_a_renewal_reads_the_tls_files_anew(certs: Certificates, tmp_path: Path) -> None:
    """What SIGHUP is for: the new session shows the new certificate while the old one still works."""
    cert, key = tmp_path / "guest.pem", tmp_path / "guest-key.pem"

    def show(certificate: Path, its_key: Path) -> None:
        cert.write_bytes(certificate.read_bytes())
        key.touch(mode=0o600)
        key.write_bytes(its_key.read_bytes())

    show(certs.guest, certs.guest_key)
    app = Gate()
    files = {"tls_cert_file": cert, "tls_key_file": key}
    async with (
        # Whose certificate is the new one? Not the Guest's own, for once.
        running_host(certs, client_ca_file=certs.ca, authorization=Authorization()) as host,
        serving(host, certs, app, **files) as (guest, events),
    ):
        assert host._run is not None
        registry = host._run.core.registry
        shown = {GUEST_ID: registry.guest(GUEST_ID).session.peer_certificate}  # type: ignore[union-attr]
        show(certs.broker, certs.broker_key)
        guest.renew()
        await events.wait("registered", guest_id=SECOND_ID)
        shown[SECOND_ID] = registry.guest(SECOND_ID).session.peer_certificate  # type: ignore[union-attr]
        assert shown[GUEST_ID] != shown[SECOND_ID] is not None


async def test_a_renewal_that_fails_leaves_the_old_session_at_work(
    certs: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistimed rotation does not end a Guest: it is told, and tried again."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certs.ca.read_bytes())
    app = Ledger()
    async with running_host(certs) as host:
        guest = create_verser_guest(
            host_url=host.url, guest_id=GUEST_ID, routed_domains=[DOMAIN], app=app, tls_ca_file=ca
        )
        events = Events(guest)
        async with guest, Load(host, certs) as load:
            ca.write_bytes(certs.untrusted_ca.read_bytes())
            guest.renew("SIGHUP received")
            error = await events.wait("error")
            assert error.fields["code"] == "certificate-verification-failure"
            await events.wait("reconnecting", 4)
            assert len(events.find("error")) == 1  # once, not at every attempt
            await load.more(30)
            ca.write_bytes(certs.ca.read_bytes())
            await events.wait("registered", guest_id=SECOND_ID)
            await load.more(30)
        load.check(app)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "trying on" in errors[0].getMessage()


async def test_handovers_that_follow_each_other_faster_than_requests_end(certs: Certificates) -> None:
    """While the plain id and `~2` both drain, `~3`; later the plain id again."""
    app = Gate()
    async with (
        running_host(certs) as host,
        serving(host, certs, app) as (guest, events),
        broker_at(host, certs) as broker,
    ):
        requests: list[asyncio.Task[Any]] = []
        for number, peer in enumerate((GUEST_ID, SECOND_ID, f"{GUEST_ID}~3"), 1):
            await until(lambda peer=peer: [one.target_id for one in broker.get_routes()] == [peer])
            requests.append(asyncio.create_task(broker.get(f"http://{DOMAIN}/{number}")))
            await app.until(number)
            guest.renew()
            await events.wait("registered", number + 1)
        assert ids(events) == [GUEST_ID, SECOND_ID, f"{GUEST_ID}~3", f"{GUEST_ID}~4"]
        app.open()
        for number, response in enumerate(await asyncio.gather(*requests), 1):
            assert await response.read() == f"/{number}".encode()
        await until(lambda: host.get_stats().guests == 1)
        guest.renew()
        await events.wait("registered", 5)
        assert ids(events)[-1] == GUEST_ID


async def test_two_renewals_at_once(certs: Certificates) -> None:
    """The second one finds the first at work: files that have changed meanwhile must not be missed."""
    async with running_host(certs) as host, serving(host, certs, Ledger()) as (guest, events):
        dialling = asyncio.Event()
        guest.on_lifecycle(lambda event: dialling.set() if event.type == "connected" else None)
        guest.renew("one")
        await dialling.wait()
        guest.renew("two")
        await events.wait("registered", 3)
        assert [event.fields["reason"] for event in events.find("reconnecting")] == ["one", "two"]


async def test_a_renewal_in_an_outage_hurries_the_next_attempt(certs: Certificates) -> None:
    async with running_host(certs) as host:
        guest = make_guest(host, certs, Ledger())
        guest.renew()  # before connect() there is nothing to renew
        events = Events(guest)
        await guest.connect()
        port = host.port
    guest._keepers.all[0]._backoff.next_delay = lambda now: 3_600.0  # type: ignore[method-assign]
    await events.wait("reconnecting")
    async with running_host(certs, port=port):
        guest.renew("SIGHUP received")
        await events.wait("registered", 2)
        await guest.close()
    guest.renew()
    assert not guest.connected


async def test_a_route_that_is_revoked_during_a_handover_does_not_come_back(certs: Certificates) -> None:
    async with (
        running_host(certs) as host,
        serving(host, certs, Ledger(), routed_domains=[DOMAIN, "b.local.test"]) as (guest, events),
    ):
        revoking: list[asyncio.Task[None]] = []

        def on_event(event: Any) -> None:
            if event.type == "connected":
                revoking.append(asyncio.create_task(guest.revoke_routes(["b.local.test"])))

        guest.on_lifecycle(on_event)
        guest.renew()
        await events.wait("registered", 2)
        await asyncio.gather(*revoking)
        await until(lambda: [route.domain for route in host.get_routes()] == [DOMAIN])
        assert guest.routed_domains == (DOMAIN,)
        assert [event.fields["domain"] for event in events.find("route-revoked")] == ["b.local.test"]


# --- The Node Host --------------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.both_loops
async def test_goaway_of_the_node_host_under_load(certs: Certificates) -> None:
    app = Ledger()
    async with (
        node_host(certs, strict=True, quiet=True) as host,
        serving(host, certs, app) as (_guest, events),
    ):
        async with Load(host, certs) as load:
            for number, old in enumerate((GUEST_ID, SECOND_ID, GUEST_ID), 2):
                await load.more(30)
                await host.command("goaway")
                await events.wait("registered", number)
                # Its routes are taken back although it can open no stream any more …
                await host.event("route-revoked", peer=old)
                await host.event("disconnected", peer=old)
                routes = await host.ask("routes")
                new = SECOND_ID if old == GUEST_ID else GUEST_ID
                # … so that Brokers do not see a degraded route of it for seconds
                assert [(one["targetId"], one["state"]) for one in routes["routes"]] == [(new, "active")]
            await load.more(30)
        load.check(app)
        # A lease that crosses the GOAWAY on its way is refused, and the Node Host has no other word for that
        crossing = "lease-before-registration"
        assert [one for one in host.violations if one["rule"] != crossing] == []
        assert ids(events) == [GUEST_ID, SECOND_ID, GUEST_ID, SECOND_ID]
        assert not events.find("disconnected")


@pytest.mark.interop
async def test_requests_that_run_during_goaway_are_finished(certs: Certificates) -> None:
    app = Gate()
    async with (
        node_host(certs, strict=True) as host,
        serving(host, certs, app) as (_guest, events),
    ):
        answers = [
            asyncio.create_task(node_request(host.url, certs, f"http://{DOMAIN}/{n}")) for n in range(3)
        ]
        await app.until(3)
        await host.command("goaway")
        await events.wait("registered", guest_id=SECOND_ID)
        app.open()
        for number, answer in enumerate(await asyncio.gather(*answers)):
            assert (answer.status, answer.body) == (200, f"/{number}".encode())
        answer = await node_request(host.url, certs, f"http://{DOMAIN}/new")
        assert (answer.status, answer.body) == (200, b"/new")
        assert host.violations == []


@pytest.mark.interop
async def test_renewals_at_the_node_host_under_load(certs: Certificates) -> None:
    app = Ledger()
    async with (
        node_host(certs, strict=True, quiet=True) as host,
        serving(host, certs, app, session_options=SessionOptions(last_stream_id=4_000)) as (guest, events),
    ):
        async with Load(host, certs) as load:
            for number in range(2, 5):
                await load.more(30)
                guest.renew()
                await events.wait("registered", number)
            await load.more(30)
        load.check(app)
        assert host.violations == []

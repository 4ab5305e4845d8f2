"""Coming in: registrations, what is refused, and what has to come first (protocol.md §2, §14)."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.host.peers import DOMAIN, WAIT_SECONDS, Broker, Guest, Lease, Peer, Watcher, failed, running_host
from tests.support.certificates import Certificates
from verser2_guest_python.host import Applicant, Authorization, HostLimits
from verser2_guest_python.http2 import CertificateRefused

EXTENSIONS = ["error-header", "header-arrays", "stage"]


@pytest.mark.both_loops
async def test_a_guest_gets_the_table_and_the_extensions(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs, "guest-a", "A.Local.Test.", "b.test") as guest:
        assert guest.registered["status"] == "registered"
        assert guest.registered["routes"] == [
            {"targetId": "guest-a", "domain": DOMAIN},
            {"targetId": "guest-a", "domain": "b.test"},
        ]
        assert set(EXTENSIONS) <= set(guest.registered["extensions"])
        async with Guest(host, certs, "guest-b", DOMAIN) as other:
            assert other.registered["routes"][-1] == {"targetId": "guest-b", "domain": DOMAIN}
        assert [route.domain for route in host.get_routes()][:2] == [DOMAIN, "b.test"]


@pytest.mark.both_loops
async def test_a_broker_gets_the_table_as_its_first_line(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs), Broker(host, certs) as broker:
        assert broker.registered["status"] == "registered"
        assert broker.registered["routes"] == [{"targetId": "guest-a", "domain": DOMAIN}]
        assert set(EXTENSIONS) <= set(broker.registered["extensions"])


async def test_a_peer_id_is_unique_across_roles(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs, "one"), Peer(host, certs) as peer:
        watcher = Watcher(host)
        for role in ("guest", "broker"):
            body = json.dumps({"peerId": " one ", "role": role}).encode()
            answer = await peer.exchange("/verser/register", body)
            assert answer.status == 502
            assert answer.error["code"] == "invalid-registration"
            assert answer.error["message"] == "Peer is already registered"
            event = await watcher.wait("refused", peer="one", role=role)
            assert event.fields["identity"] == "nobody known"
            assert event.fields["reason"] == "Peer is already registered"
        # The session may still register under another name.
        answer = await peer.exchange("/verser/register", b'{"peerId":"two","role":"guest"}')
        assert answer.json["status"] == "registered"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "protocol-error"),
        (b"{", "protocol-error"),
        (b"[]", "protocol-error"),
        (b"{}", "invalid-registration"),
        (b'{"peerId":"  ","role":"guest"}', "invalid-registration"),
        (b'{"peerId":7,"role":"guest"}', "invalid-registration"),
        (b'{"peerId":"x"}', "invalid-registration"),
        (b'{"peerId":"x","role":"host"}', "invalid-registration"),
        (b'{"peerId":"x","role":"guest","routedDomains":"a"}', "invalid-registration"),
        (b'{"peerId":"x","role":"guest","routedDomains":["*.a.test"]}', "invalid-registration"),
        (
            b'{"peerId":"x","role":"guest","routedDomains":["a.test","b.test","c.test"]}',
            "invalid-registration",
        ),
        (b'{"peerId":"x","role":"guest","more":"' + b"x" * 5000 + b'"}', "protocol-error"),
    ],
)
async def test_a_wrong_registration_is_refused(certs: Certificates, body: bytes, code: str) -> None:
    limits = HostLimits(domains_per_guest=2, registration_bytes=4096)
    async with running_host(certs, limits=limits) as host, Peer(host, certs) as peer:
        answer = await peer.exchange("/verser/register", body)
        assert answer.status == 502
        assert answer.error["code"] == code
        assert host.get_routes() == []


async def test_a_session_registers_once(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest:
        answer = await guest.exchange("/verser/register", b'{"peerId":"x","role":"broker"}')
        assert answer.error["code"] == "invalid-registration"


async def test_one_registration_at_a_time(certs: Certificates) -> None:
    async with running_host(certs) as host, Peer(host, certs) as peer:
        first = peer.open("/verser/register")
        second = await peer.exchange("/verser/register", b'{"peerId":"x","role":"guest"}')
        assert second.error["code"] == "invalid-registration"
        await first.write(b'{"peerId":"x","role":"guest"}', end=True)
        assert (await peer.answer(first)).json["status"] == "registered"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/verser/guest/lease", {"x-verser-peer-id": "guest-a", "x-verser-lease-id": "1"}),
        ("/verser/guest/control", {"x-verser-peer-id": "guest-a"}),
        ("/verser/request", {}),
    ],
)
async def test_registration_comes_first(certs: Certificates, path: str, fields: dict[str, str]) -> None:
    async with running_host(certs) as host, Guest(host, certs, "guest-a"), Peer(host, certs) as stranger:
        answer = await stranger.answer(stranger.open(path, fields))
        assert answer.status == 502
        assert answer.error["code"] == "disconnected-target"


async def test_a_guest_is_no_broker_and_names_itself(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        answer = await guest.answer(guest.open("/verser/request", end=True))
        assert answer.error["code"] == "disconnected-target"
        for peer, name in ((guest, "guest-b"), (broker, "broker-a"), (broker, "guest-a")):
            fields = {"x-verser-peer-id": name, "x-verser-lease-id": "1"}
            answer = await peer.answer(peer.open("/verser/guest/lease", fields))
            assert answer.error["code"] == "disconnected-target"


async def test_a_lease_needs_an_id_and_an_open_end(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest:
        answer = await guest.answer(guest.open("/verser/guest/lease", {"x-verser-peer-id": "guest-a"}))
        assert answer.error["code"] == "protocol-error"
        fields = {"x-verser-peer-id": "guest-a", "x-verser-lease-id": "1"}
        answer = await guest.answer(guest.open("/verser/guest/lease", fields, end=True))
        assert answer.error["code"] == "protocol-error"
        assert host.get_stats().idle_leases == 0


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/", "POST"),
        ("/verser/host/federate", "POST"),
        ("/verser/request", "GET"),
        ("/verser/register", "PUT"),
    ],
)
async def test_other_paths_are_refused(certs: Certificates, path: str, method: str) -> None:
    async with running_host(certs) as host, Broker(host, certs) as broker:
        answer = await broker.answer(broker.open(path, method=method, end=True))
        assert answer.status == 502
        assert answer.error["code"] == "protocol-error"


async def test_the_guest_control_stream_stays_open(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest:
        stream = guest.open("/verser/guest/control", {"x-verser-peer-id": "guest-a"})
        fields = dict(await stream.wait_fields())
        assert (fields[b":status"], fields[b"content-type"]) == (b"200", b"application/x-ndjson")
        again = await guest.answer(guest.open("/verser/guest/control", {"x-verser-peer-id": "guest-a"}))
        assert again.error["code"] == "protocol-error"
        assert not stream.closed


async def test_a_session_that_does_not_register_is_closed(certs: Certificates) -> None:
    limits = HostLimits(registration_seconds=0.05)
    async with running_host(certs, limits=limits) as host:
        watcher = Watcher(host)
        async with Peer(host, certs) as silent, Peer(host, certs) as slow:
            stream = slow.open("/verser/register")
            await stream.write(b'{"peerId":')
            await silent.session.wait_lost()
            await slow.session.wait_lost()
        await watcher.wait("disconnected", peer=None)
        assert host.get_stats().sessions == 0


async def test_a_registered_session_is_not_closed(certs: Certificates) -> None:
    limits = HostLimits(registration_seconds=0.05)
    async with running_host(certs, limits=limits) as host, Guest(host, certs) as guest:
        async with Peer(host, certs) as silent:
            await silent.session.wait_lost()
        await guest.session.ping()


async def test_only_so_many_sessions_are_taken(certs: Certificates) -> None:
    limits = HostLimits(sessions=2)
    async with running_host(certs, limits=limits) as host, Guest(host, certs), Broker(host, certs):
        async with Peer(host, certs) as third:
            await third.session.wait_lost()
        assert host.get_stats().sessions == 2


async def test_a_client_certificate_can_be_required(certs: Certificates) -> None:
    async with running_host(certs, client_ca_file=certs.ca) as host:
        watcher = Watcher(host)
        async with Guest(host, certs, cert=certs.guest, key=certs.guest_key) as guest:
            await guest.lease()
        with pytest.raises(CertificateRefused):
            await Peer(host, certs).__aenter__()
        await watcher.wait("handshake-failed", reason="the client shows no certificate")
        with pytest.raises(CertificateRefused):
            await Peer(host, certs, cert=certs.untrusted, key=certs.untrusted_key).__aenter__()
        reason = "the client's certificate is not trusted here: unable to get local issuer certificate"
        await watcher.wait("handshake-failed", reason=reason)


class OnlyWithToken(Authorization):
    """Lets in whoever knows the word; Brokers see and call one domain only."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[Applicant] = []

    def refuse_registration(self, applicant: Applicant) -> str | None:
        self.seen.append(applicant)
        return "It does not know the word" if applicant.peer_id == "stranger" else None

    def refuse_request(self, broker_id: str, target_id: str, domain: str, method: str) -> str | None:
        return None if method == "GET" else f"{broker_id} may not {method}"

    def shows_route(self, broker_id: str, target_id: str, domain: str) -> bool:
        return domain == DOMAIN

    @property
    def shows_all_routes(self) -> bool:
        return False


async def test_policy_can_refuse_a_peer_and_its_session_ends(certs: Certificates) -> None:
    policy = OnlyWithToken()
    async with running_host(certs, authorization=policy) as host:
        watcher = Watcher(host)
        async with Peer(host, certs) as peer:
            body = b'{"peerId":"stranger","role":"guest","routedDomains":["a.test"],"registrationToken":"t"}'
            answer = await peer.exchange("/verser/register", body)
            assert answer.status == 403
            assert answer.json["status"] == "closed"
            assert answer.json["reason"] == "It does not know the word"
            assert answer.error["code"] == "authorization-denied"
            await peer.session.wait_lost()
        await watcher.wait("refused", peer="stranger", code="authorization-denied")
        assert policy.seen[0].token == "t"
        assert policy.seen[0].domains == ("a.test",)
        assert "token='t'" not in repr(policy.seen[0])
        assert host.get_routes() == []


async def test_policy_decides_what_a_broker_sees_and_sends(certs: Certificates) -> None:
    async with running_host(certs, authorization=OnlyWithToken()) as host, Broker(host, certs) as broker:
        assert broker.registered["routes"] == []
        async with Guest(host, certs, "guest-a", DOMAIN, "hidden.test"):
            assert await broker.change() == ([("added", DOMAIN, "registered")], [("guest-a", DOMAIN)])
            answer = await broker.fetch("DELETE", "/")
            assert answer.status == 502
            assert answer.error["code"] == "authorization-denied"
            assert answer.error["context"]["stage"] == "queued"
        async with Guest(host, certs, "guest-b", "hidden.test"):
            pass
        assert await broker.change() == ([("degraded", DOMAIN, "disconnected")], [("guest-a", DOMAIN)])


async def test_a_guest_that_gives_up_while_it_registers_does_no_harm(certs: Certificates) -> None:
    async with running_host(certs) as host:
        async with Peer(host, certs) as peer:
            stream = peer.open("/verser/register")
            await stream.write(b'{"peerId":"x"')
            stream.reset()
            answer = await peer.exchange("/verser/register", b'{"peerId":"x","role":"guest"}')
            assert answer.json["status"] == "registered"
            lease = peer.open("/verser/guest/lease", {"x-verser-peer-id": "x", "x-verser-lease-id": "1"})
            await lease.wait_fields()
        assert await failed_or_lost(Lease(lease))


async def test_streams_that_are_opened_and_given_up_at_once_do_no_harm(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        for _ in range(20):
            guest.open_lease().reset()
            guest.open("/verser/guest/control", {"x-verser-peer-id": "guest-a"}).reset()
            guest.open("/verser/guest/revoke", {"x-verser-peer-id": "guest-a"}).reset()
            guest.open("/verser/register").reset()
            broker.request().reset()
        await guest.session.ping()
        await broker.session.ping()
        assert host.get_stats().active_requests == 0
        assert host.get_stats().idle_leases == 0


async def failed_or_lost(lease: Lease) -> bool:
    async with asyncio.timeout(WAIT_SECONDS):
        return await lease.stream.wait_error() is not None


async def test_a_lease_that_speaks_unasked_is_reset(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest:
        lease = await guest.lease()
        await lease.stream.write(b"hello?")
        assert await failed(lease.stream) == 1  # PROTOCOL_ERROR
        quiet = await guest.lease()
        assert host.get_stats().idle_leases == 1
        await quiet.stream.write(b"", end=True)  # a drain: the Host ends its side as well
        assert await quiet.body() == b""
        assert quiet.stream.closed
        assert host.get_stats().idle_leases == 0

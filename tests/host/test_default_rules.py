"""Who may do what on a Host without a policy: certificates' own names, or this machine alone."""

from __future__ import annotations

import socket
from typing import Any, Self

import pytest

from tests.host.crowd import Crowd, admitted, refused
from tests.host.peers import DOMAIN, Broker, Guest, Peer, Watcher, running_host
from tests.support.certificates import Certificates
from verser2_guest_python.errors import AuthorizationDeniedError
from verser2_guest_python.host import Applicant, Identity
from verser2_guest_python.host.authorization import MAX_DOMAINS_OF_A_NAME, LocalOnly, OwnNames, is_loopback
from verser2_guest_python.host.globs import Globs
from verser2_guest_python.host.identity import read_identity
from verser2_guest_python.host.policy import own_name
from verser2_guest_python.http2 import connect


@pytest.mark.parametrize(
    ("peer_id", "own"),
    [
        ("a", "a"),
        ("a-1", "a"),
        ("a~2", "a"),
        ("a-1~2", "a"),
        ("a-b", "a-b"),
        ("a-b-1", "a-b"),
        ("urn:x:a", "urn:x:a"),
        ("d.test~2", "d.test"),
        ("ab", None),
        ("A", None),
        ("a_1", None),
        ("", None),
        ("-1", None),
        ("~", None),
    ],
)
def test_an_id_is_a_name_or_begins_with_one(peer_id: str, own: str | None) -> None:
    identity = Identity(common_names=("a", "a-b"), dns_names=("d.test",), uris=("urn:x:a",))
    assert own_name(identity, peer_id) == own


async def test_a_peer_is_called_as_its_certificate_says(crowd: Crowd) -> None:
    async with running_host(crowd.certs, client_ca_file=crowd.ca) as host:
        watcher = Watcher(host)
        shown = crowd.show("alice", dns=("alice.test",), uris=("urn:people:alice",))
        for peer_id in ("alice", "alice-1", "alice~2", "alice.test", "urn:people:alice-4"):
            for role in ("guest", "broker"):
                admitted(await crowd.register(host, peer_id, role, **shown))
                await watcher.wait("disconnected", peer=peer_id)
                watcher.events.clear()
        for peer_id in ("bob", "alic", "alicex", "Alice", "alice_1", "people:alice"):
            reason = refused(await crowd.register(host, peer_id, "guest", **shown))
            assert "alice, alice.test, urn:people:alice" in reason
            event = await watcher.wait("refused", peer=peer_id)
            assert event.fields["identity"] == "CN=alice"
        assert "no name" in refused(await crowd.register(host, "x", "guest", **crowd.show("")))


async def test_a_domain_belongs_to_whom_it_was_registered_by_first(crowd: Crowd) -> None:
    async with running_host(crowd.certs, client_ca_file=crowd.ca, degraded_timeout=0) as host:
        watcher = Watcher(host)
        async with Guest(host, crowd.certs, "alice", DOMAIN, **crowd.show("alice")):
            reason = refused(
                await crowd.register(host, "bob", "guest", "b.test", DOMAIN, **crowd.show("bob"))
            )
            assert DOMAIN in reason
            assert "b.test" not in reason
            # Its own further processes, and a renewed certificate, are the same name
            admitted(await crowd.register(host, "alice-2", "guest", DOMAIN, **crowd.renew("alice")))
        await watcher.wait("route", change="removed", peer="alice")
        # Also when nobody serves it any more: else an outage would give it away
        refused(await crowd.register(host, "bob", "guest", DOMAIN, **crowd.show("bob")))
        # What was refused has claimed nothing
        admitted(await crowd.register(host, "alice", "guest", "b.test", **crowd.show("alice")))


def test_one_name_owns_only_so_many_domains() -> None:
    rule = OwnNames()
    identity = Identity(common_names=("alice",), fingerprint="00")

    def ask(*domains: str) -> Applicant:
        return Applicant("alice", "guest", domains, "192.0.2.1", identity=identity)

    many = ask(*(f"{number}.test" for number in range(MAX_DOMAINS_OF_A_NAME)))
    rule.admit(many)
    rule.registered(many)
    rule.admit(many)
    with pytest.raises(AuthorizationDeniedError, match="10,000 domains"):
        rule.admit(ask("one-more.test"))


# --- Neither certificates nor a policy ------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_what_is_this_machine(address: str, here: bool) -> None:
    assert is_loopback(address) is here
    rule = LocalOnly()
    assert (rule.refuse_registration(Applicant("x", "guest", (), address)) is None) is here


class FromOutside(Peer):
    """A peer that dials this machine's own address in its network."""

    address = ""

    async def __aenter__(self) -> Self:
        self.session = await connect(
            self.address, self._host.port, tls=self._tls, server_hostname="localhost", options=self._options
        )
        return self


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("allow_anonymous", [False, True])
async def test_only_peers_of_this_machine_unless_allowed(certs: Certificates, allow_anonymous: bool) -> None:
    FromOutside.address = own_address()
    if not FromOutside.address or is_loopback(FromOutside.address):
        pytest.skip("this machine has no network but loopback")
    everywhere = "0.0.0.0"  # noqa: S104 - that is what is tested
    async with running_host(certs, address=everywhere, allow_anonymous=allow_anonymous) as host:
        async with FromOutside(host, certs) as peer:
            answer = await peer.exchange("/verser/register", b'{"peerId":"x","role":"guest"}')
            if allow_anonymous:
                admitted(answer)
            else:
                assert "own machine" in refused(answer)
                await peer.session.wait_lost()
        async with Guest(host, certs), Broker(host, certs) as broker:
            assert broker.registered["routes"]


# --- Parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "matching", "others"),
    [
        (("a",), ("a",), ("", "A", "aa")),
        (("*",), ("", "a", "a.b"), ()),
        (("*.a",), (".a", "b.a", "c.b.a"), ("a", "b.a.", "ba")),
        (("a-*",), ("a-", "a-1"), ("a", "b-a-")),
        (("a*a",), ("aa", "aba"), ("a", "ab")),
        (("a*b*c",), ("abc", "a1b2c", "abbc", "abcbc"), ("acb", "ab", "abcd")),
        (("a*bc*bc",), ("abcbc", "a-bc-bc"), ("abc", "abbc")),
        (("x", "a.?"), ("x", "a.?"), ("a.b",)),
        ((".*", "[ab]"), (".", ".x", "[ab]"), ("x", "a")),
        ((), (), ("", "a")),
    ],
)
def test_patterns(patterns: tuple[str, ...], matching: tuple[str, ...], others: tuple[str, ...]) -> None:
    globs = Globs(patterns)
    assert [text for text in matching if not globs.match(text)] == []
    assert [text for text in others if globs.match(text)] == []


def test_a_pattern_takes_no_time_to_speak_of() -> None:
    assert not Globs(["*a" * 200 + "*b"]).match("a" * 10_000)


@pytest.mark.parametrize("certificate", [b"", b"garbage", b"\x30\x82\x00"])
def test_a_certificate_that_cannot_be_read_has_a_fingerprint(certificate: bytes) -> None:
    identity = read_identity(certificate)
    assert len(identity.fingerprint) == 64
    assert identity.names == ()
    assert str(identity) == f"sha256:{identity.fingerprint}"


def test_who_is_the_same() -> None:
    def one(**parts: Any) -> Identity:
        return Identity(**parts)

    alice = one(common_names=("alice",), fingerprint="1")
    assert alice.is_same(one(common_names=("alice",), fingerprint="2"))
    assert alice.is_same(one(fingerprint="1"))
    assert not alice.is_same(one(common_names=("bob",), fingerprint="2"))
    assert not alice.is_same(one())
    assert not one().is_same(alice)
    assert not one(fingerprint="1").is_same(one(fingerprint="2"))
    assert one().is_same(one())
    assert one(token_digest=b"1").is_same(one(token_digest=b"1"))
    assert not one(token_digest=b"1").is_same(one(token_digest=b"2"))
    assert not one(token_digest=b"1").is_same(one())

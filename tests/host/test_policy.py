"""Who may do what, by a policy: every cell of a table, through real sessions."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.host.crowd import Crowd, admitted, refused
from tests.host.peers import Broker, Guest, Watcher, running_host
from tests.host.test_websockets import websocket
from tests.support.certificates import Certificates
from verser2_guest_python import (
    AuthorizationDeniedError,
    VerserConfigurationError,
    VerserUsageError,
    create_verser_broker,
    create_verser_guest,
    create_verser_host,
)
from verser2_guest_python.host import Applicant, Permissions, Policy, PolicyEntry
from verser2_guest_python.host.policy_entries import read_policy

TOKEN = "a-token-of-the-laboratory"
OTHER_TOKEN = "a-token-of-somebody-else"


def policy_of(crowd: Crowd) -> list[dict[str, Any]]:
    """One entry of each kind."""
    return [
        {"name": "shop", "cn": "shop-*", "domains": ["shop.test", "*.shop.test"], "peer_ids": "shop-*"},
        {"name": "names", "dns": ["*.depot.test"], "domains": "depot.test"},
        {"name": "links", "uri": "urn:stock:*", "domains": "stock.test", "peer_ids": ["stock", "stock-?"]},
        {"name": "one", "fingerprint": crowd.fingerprint("single"), "domains": "*"},
        {"name": "looker", "cn": "looker", "call_domains": ["*.test"], "call_methods": ["GET", "head"]},
        {"name": "editor", "cn": "editor", "call_domains": "shop.test"},
        {"name": "talker", "cn": "talker", "call_domains": "*.shop.test", "call_methods": "WEBSOCKET"},
        # Entries add up, and none lends its methods to another
        {"name": "mixed", "cn": "mixed", "call_domains": "shop.test", "call_methods": "GET"},
        {"name": "mixed", "cn": "mixed", "call_domains": "depot.test", "call_methods": "POST"},
        {
            "name": "both",
            "cn": "both",
            "roles": ["guest", "broker"],
            "domains": "both.test",
            "call_domains": "*",
        },
    ]


# Who shows which certificate, as whom, for which domain: may it?
SHOP = {"name": "shop-1"}
REGISTRATIONS: list[tuple[dict[str, Any], str, str, str, str]] = [
    (SHOP, "guest", "shop-1", "shop.test", ""),
    (SHOP, "guest", "shop-1", "A.Shop.Test.", ""),
    (SHOP, "guest", "shop-1", "b.a.shop.test", ""),
    (SHOP, "guest", "shop-2", "shop.test", ""),
    (SHOP, "guest", "other", "shop.test", "id other"),
    (SHOP, "guest", "shop-1", "depot.test", "depot.test"),
    (SHOP, "guest", "shop-1", "myshop.test", "myshop.test"),
    (SHOP, "broker", "shop-1", "", "as a broker"),
    ({"name": "shop"}, "guest", "shop-1", "shop.test", "no entry for CN=shop"),
    ({"name": "SHOP-1"}, "guest", "shop-1", "shop.test", "no entry"),
    ({"name": "x", "dns": ("a.Depot.test",)}, "guest", "a.Depot.test", "depot.test", ""),
    ({"name": "x", "dns": ("a.depot.test",)}, "guest", "a.depot.test~2", "depot.test", ""),
    ({"name": "x", "dns": ("a.depot.test",)}, "guest", "x-1", "depot.test", ""),
    ({"name": "x", "dns": ("a.depot.test",)}, "guest", "a.depot", "depot.test", "id a.depot"),
    ({"name": "x", "dns": ("depot.test",)}, "guest", "x", "depot.test", "no entry for CN=x"),
    ({"name": "y", "uris": ("urn:stock:7",)}, "guest", "stock", "stock.test", ""),
    ({"name": "y", "uris": ("urn:stock:7",)}, "guest", "stock-?", "stock.test", ""),
    ({"name": "y", "uris": ("urn:stock:7",)}, "guest", "stock-7", "stock.test", "id stock-7"),
    ({"name": "y", "uris": ("urn:other:7",)}, "guest", "stock", "stock.test", "no entry"),
    ({"name": "single"}, "guest", "single", "anything.example", ""),
    ({"name": "looker"}, "broker", "looker", "", ""),
    ({"name": "looker"}, "broker", "looker-4f2a", "", ""),
    ({"name": "looker"}, "broker", "lookers", "", "id lookers"),
    ({"name": "looker"}, "guest", "looker", "shop.test", "as a guest"),
    ({"name": "both"}, "guest", "both", "both.test", ""),
    ({"name": "both"}, "guest", "both", "shop.test", "register shop.test"),
    ({"name": "both"}, "broker", "both", "", ""),
    ({"name": ""}, "guest", "shop-1", "shop.test", "no entry for sha256:"),
]


async def test_every_registration(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    async with running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host:
        watcher = Watcher(host)
        for shown, role, peer_id, domain, reason in REGISTRATIONS:
            domains = (domain,) if domain else ()
            answer = await crowd.register(host, peer_id, role, *domains, **crowd.show(**shown))
            if reason:
                assert reason in refused(answer)
                event = await watcher.wait("refused", peer=peer_id, reason=refused(answer))
                assert event.fields["identity"] != ""
                assert len(str(event.fields["fingerprint"])) == 64
            else:
                admitted(answer)
                await watcher.wait("disconnected", peer=peer_id)
                watcher.events.clear()
        assert host.get_stats().guests == 0


async def test_one_domain_that_is_not_permitted_refuses_all_of_them(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    async with running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host:
        answer = await crowd.register(
            host, "shop-1", "guest", "shop.test", "x.test", "y.test", **crowd.show("shop-1")
        )
        assert "x.test, y.test" in refused(answer)
        assert host.get_routes() == []


# Which Broker may call which domain with which method; what is not here is denied
CALLS = {
    ("looker", "shop.test", "GET"),
    ("looker", "shop.test", "HEAD"),
    ("looker", "a.shop.test", "GET"),
    ("looker", "a.shop.test", "HEAD"),
    ("looker", "depot.test", "GET"),
    ("looker", "depot.test", "HEAD"),
    *(("editor", "shop.test", method) for method in ("GET", "HEAD", "POST", "WEBSOCKET")),
    ("talker", "a.shop.test", "WEBSOCKET"),
    ("mixed", "shop.test", "GET"),
    ("mixed", "depot.test", "POST"),
}
SERVED = ("shop.test", "a.shop.test", "depot.test")
UNKNOWN = "nowhere.test"


async def test_every_request(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    async with AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        host = await enter(running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy))
        watcher = Watcher(host)
        shop = Guest(host, crowd.certs, "shop-1", "shop.test", "a.shop.test", **crowd.show("shop-1"))
        depot = Guest(
            host, crowd.certs, "a.depot.test", "depot.test", **crowd.show("x", dns=("a.depot.test",))
        )
        await enter(shop)
        await enter(depot)
        for name in ("looker", "editor", "talker", "mixed"):
            broker = await enter(Broker(host, crowd.certs, name, **crowd.show(name)))
            seen = {route["domain"] for route in broker.registered["routes"]}
            assert seen == {domain for caller, domain, _ in CALLS if caller == name}
            for domain, method in itertools.product((*SERVED, UNKNOWN), ("GET", "HEAD", "POST", "WEBSOCKET")):
                guest = depot if domain == "depot.test" else shop
                # Without a lease what is permitted fails as well, but with another code
                if method == "WEBSOCKET":
                    stream = websocket(broker, target_id=guest.id, domain=domain)
                else:
                    stream = broker.request(method, target=guest.id, domain=domain, lease_timeout_ms=0)
                answer = await broker.answer(stream)
                assert answer.status == 502
                cell = (name, domain, method)
                if cell in CALLS:
                    assert answer.error["code"] in ("timeout", "websocket-negotiation-failed"), cell
                elif (name, domain) == ("looker", UNKNOWN) and method in ("GET", "HEAD"):
                    assert answer.error["code"] == "missing-guest"
                else:
                    assert answer.error["code"] == "authorization-denied", cell
                    assert answer.error["context"]["stage"] == "queued"
                    event = await watcher.wait("denied", peer=name, method=method, domain=domain)
                    assert name in str(event.fields["identity"])


async def test_what_is_permitted_arrives(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    async with (
        running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host,
        Guest(host, crowd.certs, "shop-1", "shop.test", **crowd.show("shop-1")) as guest,
        Broker(host, crowd.certs, "looker", **crowd.show("looker")) as broker,
    ):
        lease = await guest.lease()
        stream = broker.request(target="shop-1", domain="shop.test")
        await lease.answer(await lease.request(), body=b"apples")
        assert (await broker.answer(stream)).body == b"apples"


async def test_without_a_domain_nothing_is_told_of_a_hidden_route(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    async with (
        running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host,
        Guest(host, crowd.certs, "shop-1", "shop.test", **crowd.show("shop-1")),
        Guest(host, crowd.certs, "a.depot.test", "depot.test", **crowd.show("x", dns=("a.depot.test",))),
        Broker(host, crowd.certs, "editor", **crowd.show("editor")) as broker,
    ):
        hidden = await broker.fetch(target="a.depot.test", domain=None)
        nothing = await broker.fetch(target="a.nowhere.test", domain=None)
        assert hidden.error["code"] == nothing.error["code"] == "missing-guest"
        assert hidden.error["message"].replace("depot", "nowhere") == nothing.error["message"]


async def test_routes_come_and_go_for_those_only_who_may_call_them(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    async with (
        running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host,
        Broker(host, crowd.certs, "editor", **crowd.show("editor")) as editor,
        Broker(host, crowd.certs, "both", **crowd.show("both")) as both,
        Guest(
            host, crowd.certs, "a.depot.test", "depot.test", **crowd.show("x", dns=("a.depot.test",))
        ) as depot,
        Guest(host, crowd.certs, "shop-1", "shop.test", "a.shop.test", **crowd.show("shop-1")) as shop,
    ):
        # A Guest is not told of others
        assert [route["domain"] for route in depot.registered["routes"]] == ["depot.test"]
        assert [route["domain"] for route in shop.registered["routes"]] == ["shop.test", "a.shop.test"]
        added = ("added", "shop.test", "registered")
        assert await editor.change() == ([added], [("shop-1", "shop.test")])
        assert await both.change() == (
            [("added", "depot.test", "registered")],
            [("a.depot.test", "depot.test")],
        )
        events, table = await both.change()
        assert events == [added, ("added", "a.shop.test", "registered")]
        assert len(table) == 3
        await shop.revoke(["a.shop.test"])
        await shop.revoke(["shop.test"])
        assert await editor.change() == ([("removed", "shop.test", "revoked")], [])


async def test_what_cannot_be_seen_is_not_found_by_a_real_broker(crowd: Crowd) -> None:
    policy = read_policy(policy_of(crowd))
    shown = crowd.show("looker")
    async with (
        running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host,
        Guest(host, crowd.certs, "shop-1", "shop.test", **crowd.show("shop-1")),
        create_verser_broker(
            host_url=host.url,
            broker_id="looker",
            tls_ca_file=crowd.certs.ca,
            tls_cert_file=shown["cert"],
            tls_key_file=shown["key"],
        ) as broker,
    ):
        with pytest.raises(AuthorizationDeniedError, match=r"looker call shop\.test with POST"):
            await broker.post("http://shop.test/")
        with pytest.raises(AuthorizationDeniedError, match="as a guest"):
            await create_verser_guest(
                host_url=host.url,
                guest_id="looker",
                routed_domains=["shop.test"],
                tls_ca_file=crowd.certs.ca,
                tls_cert_file=shown["cert"],
                tls_key_file=shown["key"],
                app=_app,
            ).connect()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody calls it")


# --- Tokens -------------------------------------------------------------------------------------

TOKEN_SHA256 = sha256(TOKEN.encode()).hexdigest()
LAB = {"name": "lab", "registration_token_sha256": TOKEN_SHA256, "peer_ids": "lab-*", "domains": "lab.test"}
DESK = {
    "name": "desk",
    "registration_token_sha256": sha256(OTHER_TOKEN.encode()).hexdigest(),
    "peer_ids": "desk",
    "call_domains": "lab.test",
    "call_methods": "GET",
}
STRICT = {"cn": "strict", "registration_token_sha256": TOKEN_SHA256, "domains": "strict.test"}
TOKENS = [LAB, DESK]


async def test_a_token_stands_in_for_a_certificate_with_the_same_limits(crowd: Crowd) -> None:
    async with running_host(crowd.certs, policy=read_policy(TOKENS)) as host:
        watcher = Watcher(host)
        cells = [
            ("lab-1", "guest", "lab.test", TOKEN, ""),
            ("lab-1", "guest", "x.test", TOKEN, "register x.test"),
            ("desk", "guest", "lab.test", TOKEN, "id desk"),
            ("lab-1", "broker", "", TOKEN, "as a broker"),
            ("desk", "broker", "", OTHER_TOKEN, ""),
            ("desk", "guest", "lab.test", OTHER_TOKEN, "as a guest"),
            ("lab-1", "guest", "lab.test", TOKEN + " ", "no entry with this registration token"),
            ("lab-1", "guest", "lab.test", None, "neither a client certificate nor"),
        ]
        for peer_id, role, domain, token, reason in cells:
            domains = (domain,) if domain else ()
            answer = await crowd.register(host, peer_id, role, *domains, token=token)
            if reason:
                assert reason in refused(answer)
            else:
                admitted(answer)
                await watcher.wait("disconnected", peer=peer_id)
        said = repr([(event.name, dict(event.fields)) for event in watcher.events])
        assert TOKEN not in said
        assert OTHER_TOKEN not in said
        assert watcher.find("registered", peer="lab-1", identity="a registration token (lab)") is not None
        for empty in ("", 5):
            answer = await crowd.register(host, "lab-1", "guest", "lab.test", token=empty)
            assert answer is not None
            assert answer.error["code"] == "invalid-registration"


async def test_tokens_beside_certificates(crowd: Crowd) -> None:
    """With tokens in the policy a certificate is no duty; who shows one has it verified all the same."""
    policy = read_policy([*TOKENS, STRICT, *policy_of(crowd)])
    async with running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host:
        admitted(await crowd.register(host, "lab-1", "guest", "lab.test", token=TOKEN))
        admitted(await crowd.register(host, "shop-1", "guest", "shop.test", **crowd.show("shop-1")))
        # This entry wants both
        strict = crowd.show("strict")
        admitted(await crowd.register(host, "strict", "guest", "strict.test", token=TOKEN, **strict))
        alone = await crowd.register(host, "strict", "guest", "strict.test", **strict)
        assert "no entry for CN=strict" in refused(alone)
        wrong = await crowd.register(host, "strict", "guest", "strict.test", token=OTHER_TOKEN, **strict)
        assert "id strict" in refused(wrong) or "as a guest" in refused(wrong)
        nothing = await crowd.register(host, "strict", "guest", "strict.test", token=TOKEN)
        assert "id strict" in refused(nothing)


async def test_the_library_shows_its_token_and_keeps_it_to_itself(certs: Certificates) -> None:
    policy = read_policy(TOKENS)
    async with running_host(certs, policy=policy) as host:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"hello"})

        common: dict[str, Any] = {"host_url": host.url, "tls_ca_file": certs.ca}
        guest = create_verser_guest(
            guest_id="lab-1",
            routed_domains=["lab.test"],
            app=app,
            lifespan="off",
            registration_token=TOKEN,
            **common,
        )
        broker = create_verser_broker(broker_id="desk", registration_token=OTHER_TOKEN, **common)
        async with guest, broker:
            assert await (await broker.get("http://lab.test/")).text() == "hello"
            for thing in (guest, broker, guest._options, broker._options):
                assert TOKEN not in repr(thing)
                assert OTHER_TOKEN not in repr(thing)
        with pytest.raises(AuthorizationDeniedError, match="neither a client certificate nor"):
            await create_verser_broker(broker_id="desk", **common).connect()


def test_a_token_that_is_empty() -> None:
    for create in (create_verser_broker, create_verser_guest):
        more: dict[str, Any] = {"guest_id": "g", "routed_domains": ["a.test"]}
        with pytest.raises(VerserUsageError, match="registration_token is empty"):
            create(
                host_url="https://localhost",
                registration_token="",
                **(more if create is create_verser_guest else {}),
            )


def test_no_token_is_in_what_an_entry_shows() -> None:
    entry = PolicyEntry(registration_token=TOKEN, peer_ids="x", domains="x.test")
    assert TOKEN not in repr(entry)
    assert sha256(TOKEN.encode()).hexdigest() not in repr(entry)
    assert repr(entry.token_digest) not in repr(entry)


# --- In code ------------------------------------------------------------------------------------


async def test_a_policy_can_be_a_function(crowd: Crowd) -> None:
    asked: list[Applicant] = []

    def policy(applicant: Applicant) -> Permissions | list[Permissions] | None:
        asked.append(applicant)
        if "shop-1" in applicant.identity.common_names:
            return Permissions(domains="shop.test")
        if applicant.peer_id == "looker":
            return [Permissions(call_domains="shop.test", call_methods="GET")]
        return None

    async with running_host(crowd.certs, client_ca_file=crowd.ca, policy=policy) as host:
        admitted(await crowd.register(host, "shop-1", "guest", "shop.test", **crowd.show("shop-1")))
        admitted(await crowd.register(host, "looker", "broker", **crowd.show("looker")))
        refused(await crowd.register(host, "editor", "broker", **crowd.show("editor")))
        assert asked[0].identity.fingerprint == crowd.fingerprint("shop-1").replace(":", "").lower()
        assert asked[0].domains == ("shop.test",)


def test_contradictions_are_told() -> None:
    def make(**options: Any) -> None:
        create_verser_host(tls_cert_file="x.pem", **options)

    entry = PolicyEntry(cn="x", domains="x.test")
    with pytest.raises(VerserUsageError, match="client_ca_file"):
        make(policy=[entry])
    with pytest.raises(VerserUsageError, match="not several"):
        make(policy=[entry], allow_anonymous=True)
    with pytest.raises(VerserUsageError, match="nobody is anonymous"):
        make(client_ca_file="ca.pem", allow_anonymous=True)
    make(policy=Policy([entry]), client_ca_file="ca.pem")


# --- Files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"cn": "x"}, ["permits nothing"]),
        ({"domains": "x.test"}, ["names nobody"]),
        ({"cn": "x", "domain": "x.test"}, ["#1", "'domain'", "'domains'"]),
        ({"cn": "x", "zzz": 1}, ["'zzz'"]),
        ({"name": "shop", "cn": "x", "cal_methods": 1}, ["shop", "'call_methods'"]),
        ({"cn": "x", "domains": []}, ["domains", "not empty"]),
        ({"cn": "x", "domains": [""]}, ["domains"]),
        ({"cn": 5, "domains": "x.test"}, ["cn has to be"]),
        ({"cn": "x", "roles": "admin", "domains": "x.test"}, ["'admin'"]),
        ({"cn": "x", "roles": "broker", "domains": "x.test"}, ["#1", "role guest", "domains"]),
        ({"cn": "x", "roles": ["guest"], "domains": "x", "call_domains": "y"}, ["call_domains", "broker"]),
        ({"fingerprint": "12:34", "domains": "x.test"}, ["'12:34'", "openssl x509"]),
        ({"registration_token_sha256": "12", "peer_ids": "x", "domains": "x.test"}, ["64 hex digits"]),
        (
            {"registration_token_file": "nowhere", "peer_ids": "x", "domains": "x"},
            ["nowhere", "cannot be read"],
        ),
        ({"registration_token_sha256": "0" * 64, "domains": "x.test"}, ["peer_ids"]),
        ({"registration_token": TOKEN, "peer_ids": "x", "domains": "x.test"}, ["registration_token_file"]),
        ({"cn": "x", "registration_token_sha256": "0", "registration_token_file": "f"}, ["both"]),
    ],
)
def test_mistakes_in_a_file_are_told_in_its_words(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(VerserConfigurationError) as raised:
        read_policy([table])
    assert all(word in raised.value.message for word in words), raised.value.message
    assert TOKEN not in raised.value.message


@pytest.mark.parametrize("tables", [{}, [], "x", [5], {"cn": "x"}])
def test_what_is_no_policy_at_all(tables: Any) -> None:
    with pytest.raises(VerserConfigurationError, match=r"\[\[host\.policy\]\]"):
        read_policy(tables)


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    def read() -> PolicyEntry:
        table = {"registration_token_file": "token", "peer_ids": "x", "domains": "x.test"}
        return read_policy([table], directory=tmp_path)[0]

    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read().token_digest == sha256(TOKEN.encode()).digest()
    for content, word in ((b"short", "fewer than 16"), (b"\xff" * 20, "UTF-8"), (b"\n", "empty")):
        (tmp_path / "token").write_bytes(content)
        with pytest.raises(VerserConfigurationError, match=word):
            read()

"""A policy that changes while peers are registered: who stays, who goes, and what Brokers see then."""

from __future__ import annotations

import pytest

from tests.host.crowd import Crowd, admitted, refused
from tests.host.peers import Broker, Guest, Watcher, running_host
from tests.support.certificates import Certificates
from verser2_guest_python import VerserUsageError
from verser2_guest_python.host import PolicyEntry
from verser2_guest_python.http2 import CertificateRefused

TOKEN = "the-first-token-of-all"
OTHER_TOKEN = "the-second-token-of-all"
SERVING = PolicyEntry(cn="server", domains="*.test")
LOOKING = PolicyEntry(cn="looker", call_domains="*.test")


async def test_brokers_see_and_call_what_they_may_now(crowd: Crowd) -> None:
    certs = crowd.certs
    async with (
        running_host(certs, client_ca_file=crowd.ca, policy=[SERVING, LOOKING]) as host,
        Guest(host, certs, "server", "a.test", "b.test", **crowd.show("server")) as guest,
        Broker(host, certs, "looker", **crowd.show("looker")) as broker,
    ):
        assert len(broker.registered["routes"]) == 2
        lease = await guest.lease()
        under_way = broker.request("POST", target="server", domain="a.test")
        head = await lease.request()
        host.replace_policy([SERVING, PolicyEntry(cn="looker", call_domains="b.test", call_methods="GET")])
        routes = {"type": "routes", "routes": [{"targetId": "server", "domain": "b.test"}]}
        assert await broker.line() == routes
        # What is under way goes on; what comes now is judged by the new policy
        await lease.answer(head, body=b"done")
        assert (await broker.answer(under_way)).body == b"done"
        for domain, method, code in (
            ("a.test", "GET", "authorization-denied"),
            ("b.test", "POST", "authorization-denied"),
            ("b.test", "GET", "timeout"),
        ):
            answer = await broker.fetch(method, target="server", domain=domain, lease_timeout_ms=0)
            assert answer.error["code"] == code
        # The same table is not sent again, and changes are told of what is seen now
        host.replace_policy([SERVING, PolicyEntry(cn="looker", call_domains="b.test")])
        await guest.revoke(["a.test"])
        await guest.revoke(["b.test"])
        assert await broker.change() == ([("removed", "b.test", "revoked")], [])


async def test_who_may_not_stay_has_to_leave(crowd: Crowd) -> None:
    certs = crowd.certs
    async with running_host(certs, client_ca_file=crowd.ca, policy=[SERVING, LOOKING]) as host:
        watcher = Watcher(host)
        async with (
            Guest(host, certs, "server", "a.test", "b.test", **crowd.show("server")) as guest,
            Broker(host, certs, "looker", **crowd.show("looker")) as broker,
        ):
            lease = await guest.lease()
            await guest.revoke(["b.test"])
            # What it serves still is permitted, so it stays
            host.replace_policy([PolicyEntry(cn="server", domains="a.test"), LOOKING])
            await guest.session.ping()
            host.replace_policy([PolicyEntry(cn="server", domains="c.test"), SERVING, LOOKING])
            await guest.session.ping()
            host.replace_policy([PolicyEntry(cn="server", domains="b.test")])
            await guest.session.wait_lost()
            await broker.session.wait_lost()
            assert await lease.stream.wait_error() is not None
        event = await watcher.wait("refused", peer="server")
        assert event.fields["reason"] == "The policy does not let CN=server register a.test."
        await watcher.wait("refused", peer="looker", identity="CN=looker")
        admitted(await crowd.register(host, "server", "guest", "b.test", **crowd.show("server")))
        refused(await crowd.register(host, "looker", "broker", **crowd.show("looker")))


async def test_a_token_can_be_replaced(certs: Certificates, tmp_path_factory: pytest.TempPathFactory) -> None:
    def entry(*tokens: str) -> list[PolicyEntry]:
        return [PolicyEntry(registration_token=one, peer_ids="lab-*", domains="lab.test") for one in tokens]

    crowd = Crowd(tmp_path_factory.mktemp("tokens"), certs)
    async with running_host(certs, policy=entry(TOKEN)) as host:
        async with Guest(host, certs, "lab-1", "lab.test", token=TOKEN) as old:
            # First both, then the new one alone: nobody has to leave who has changed it meanwhile
            host.replace_policy(entry(TOKEN, OTHER_TOKEN))
            async with Guest(host, certs, "lab-2", "lab.test", token=OTHER_TOKEN) as new:
                host.replace_policy(entry(OTHER_TOKEN))
                await old.session.wait_lost()
                await new.lease()
        refused(await crowd.register(host, "lab-1", "guest", "lab.test", token=TOKEN))


async def test_certificates_are_asked_for_as_the_policy_wants_it(crowd: Crowd) -> None:
    lab = PolicyEntry(registration_token=TOKEN, peer_ids="lab", domains="lab.test")
    async with running_host(crowd.certs, client_ca_file=crowd.ca, policy=[SERVING]) as host:
        with pytest.raises(CertificateRefused):
            await crowd.register(host, "lab", "guest", token=TOKEN)
        host.replace_policy([SERVING, lab])
        admitted(await crowd.register(host, "lab", "guest", "lab.test", token=TOKEN))
        host.replace_policy([SERVING])
        with pytest.raises(CertificateRefused):
            await crowd.register(host, "lab", "guest", token=TOKEN)


async def test_what_cannot_be_replaced(certs: Certificates) -> None:
    async with running_host(certs) as host:
        with pytest.raises(VerserUsageError, match="without a policy"):
            host.replace_policy([SERVING])
    lab = PolicyEntry(registration_token=TOKEN, peer_ids="lab", domains="lab.test")
    async with (
        running_host(certs, policy=[lab]) as host,
        Guest(host, certs, "lab", "lab.test", token=TOKEN) as guest,
    ):
        with pytest.raises(VerserUsageError, match="client_ca_file"):
            host.replace_policy([SERVING])
        await guest.lease()

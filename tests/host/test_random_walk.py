"""A random walk of registrations, losses, returns, takeovers, revocations and expiries, beside a model.

After each step the Host's table, and what two Brokers were told (one that sees all, one that a policy lets
see some), have to be the model's; and requests go where the model says that a route is active.
"""

from __future__ import annotations

import random

import pytest

from tests.host.peers import Broker, Guest, Watcher, running_host
from tests.host.test_takeover import freeze, thaw
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits, PolicyEntry, VerserHost

DOMAINS = ("a.test", "b.test", "seen.a.test", "seen.b.test")
GUESTS = ("guest-1", "guest-2", "guest-3")
STEPS = 60
TOKENS = {name: f"the-token-of-the-{name}" for name in ("guests", "all", "some")}
POLICY = [
    PolicyEntry(registration_token=TOKENS["guests"], peer_ids="guest-*", domains="*.test"),
    PolicyEntry(registration_token=TOKENS["all"], peer_ids=["all", "all-*"], call_domains="*"),
    PolicyEntry(registration_token=TOKENS["some"], peer_ids="some", call_domains="seen.*"),
]
ACTIVE, DEGRADED = "active", "degraded"

Event = tuple[str, str, str]


class Model:
    """The route table as protocol.md §10 describes it, as simply as can be: rows by Guest, in their order."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, str]] = {}

    def table(self) -> list[tuple[str, str]]:
        return [(guest, domain) for guest, rows in self.rows.items() for domain in rows]

    def register(self, guest: str, domains: list[str]) -> list[Event]:
        known = self.rows.get(guest, {})
        events = [("removed", domain, "reconnected") for domain in known if domain not in domains]
        for domain in domains:
            if domain not in known:
                events.append(("added", domain, "registered"))
            else:
                events.append(("changed", domain, "restored" if known[domain] == DEGRADED else "updated"))
        self._put(guest, dict.fromkeys(domains, ACTIVE))
        return events

    def lose(self, guest: str) -> list[Event]:
        rows = self.rows.get(guest, {})
        self._put(guest, dict.fromkeys(rows, DEGRADED))
        return [("degraded", domain, "disconnected") for domain in rows]

    def revoke(self, guest: str, domains: list[str]) -> list[Event]:
        rows = dict(self.rows.get(guest, {}))
        gone = [domain for domain in domains if rows.pop(domain, None)]
        self._put(guest, rows)
        return [("removed", domain, "revoked") for domain in gone]

    def expire(self, guest: str) -> list[Event]:
        return [("removed", domain, "timeout") for domain in self.rows.pop(guest, {})]

    def _put(self, guest: str, rows: dict[str, str]) -> None:
        if rows:
            self.rows[guest] = rows
        else:
            self.rows.pop(guest, None)


def sees(broker: str, domain: str) -> bool:
    return broker == "all" or domain.startswith("seen.")


class Walk:
    """The Host, its peers, and the model."""

    def __init__(self, seed: int, host: VerserHost, certs: Certificates, brokers: list[Broker]) -> None:
        self.random = random.Random(seed)
        self.model = Model()
        self.guests: dict[str, Guest] = {}
        self.frozen: list[Guest] = []
        self.said: list[str] = []
        self._host = host
        self._certs = certs
        self._brokers = brokers
        self._watcher = Watcher(host)

    async def step(self) -> None:
        """One thing that may happen now."""
        name = self.random.choice(GUESTS)
        here = name in self.guests
        if not here:
            step = self.random.choice([self.register, self.register, self.expire])
        else:
            step = self.random.choice([self.lose, self.lose, self.revoke, self.revoke, self.take_over])
        self.said.append(f"{step.__name__} {name}")
        await step(name)
        assert [(route.target_id, route.domain) for route in self._host.get_routes()] == self.model.table()
        await self.ask()

    async def register(self, name: str) -> None:
        domains = self.random.sample(DOMAINS, self.random.randint(0, len(DOMAINS)))
        guest = Guest(self._host, self._certs, name, token=TOKENS["guests"])
        guest.domains = tuple(domains)
        await guest.__aenter__()
        self.guests[name] = guest
        await self.told(self.model.register(name, domains))

    async def lose(self, name: str) -> None:
        guest = self.guests.pop(name)
        self._watcher.events.clear()
        if self.random.random() < 0.5:
            guest.session.abort("a test pulls the plug")
        else:
            await guest.session.close()
        await self._watcher.wait("disconnected", peer=name)
        await self.told(self.model.lose(name))

    async def take_over(self, name: str) -> None:
        """The old session is dead, and the Guest comes back."""
        old = self.guests.pop(name)
        freeze(old)
        self.frozen.append(old)
        domains = self.random.sample(DOMAINS, self.random.randint(0, len(DOMAINS)))
        new = Guest(self._host, self._certs, name, token=TOKENS["guests"])
        new.domains = tuple(domains)
        await new.__aenter__()
        self.guests[name] = new
        await self.told(self.model.lose(name))
        await self.told(self.model.register(name, domains))

    async def revoke(self, name: str) -> None:
        domains = self.random.sample(DOMAINS, self.random.randint(1, len(DOMAINS)))
        mine = self.model.rows.get(name, {})
        answer = await self.guests[name].revoke(domains)
        wrong = [domain for domain in domains if domain not in mine]
        expected = "ack" if not wrong else "error" if len(wrong) == len(domains) else "partial"
        assert answer.json["status"] == expected
        assert [one["domain"] for one in answer.json.get("failedDomains", [])] == wrong
        await self.told(self.model.revoke(name, domains))

    async def expire(self, name: str) -> None:
        """The time of the degraded routes is up: the clock is ours, all else is the Host's."""
        assert self._host._run is not None
        registry = self._host._run.core.registry
        timer = registry._expiries.get(name)
        if timer is not None:
            timer.cancel()
            registry._expire(name)
            await self.told(self.model.expire(name))

    async def told(self, events: list[Event]) -> None:
        """Each Broker hears of what it may see, and of nothing else."""
        for broker in self._brokers:
            seen = [event for event in events if sees(broker.id, event[1])]
            if seen:
                told, table = await broker.change()
                assert told == seen, (broker.id, self.said)
                known = [row for row in self.model.table() if sees(broker.id, row[1])]
                assert table == known, (broker.id, self.said)

    async def ask(self) -> None:
        """A request goes through to where a route is active, and only there."""
        name, domain = self.random.choice(GUESTS), self.random.choice(DOMAINS)
        for broker in self._brokers:
            answer = await broker.fetch(target=name, domain=domain, lease_timeout_ms=0)
            if not sees(broker.id, domain):
                expected = "authorization-denied"
            elif self.model.rows.get(name, {}).get(domain) == ACTIVE:
                expected = "timeout"  # it is there, and has no lease
            else:
                expected = "missing-guest"
            assert answer.error["code"] == expected, (broker.id, name, domain, self.said)

    async def end(self) -> None:
        for guest in self.frozen:
            thaw(guest)
        for guest in (*self.frozen, *self.guests.values()):
            await guest.session.close()


@pytest.mark.parametrize("seed", range(4))
async def test_the_host_is_as_the_model_says(certs: Certificates, seed: int) -> None:
    limits = HostLimits(takeover_seconds=0.05)
    async with (
        running_host(certs, policy=POLICY, degraded_timeout=3_600.0, limits=limits) as host,
        Broker(host, certs, "all", token=TOKENS["all"]) as everything,
        Broker(host, certs, "some", token=TOKENS["some"]) as something,
    ):
        walk = Walk(seed, host, certs, [everything, something])
        for _ in range(STEPS):
            await walk.step()
        # Whoever comes now sees the same
        async with Broker(host, certs, "all-2", token=TOKENS["all"]) as newcomer:
            table = [(route["targetId"], route["domain"]) for route in newcomer.registered["routes"]]
            assert table == walk.model.table()
        await walk.end()

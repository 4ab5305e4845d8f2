"""The route table by itself: what changes it, what Brokers are told, and a random walk against a model."""

from __future__ import annotations

import random

import pytest

from verser2_guest_python.host.routes import RouteState, RouteTable
from verser2_guest_python.wire.routes import Generation, LifecycleEvent, Route

FIRST = Generation("gen-1", "guest-a")
SECOND = Generation("gen-2", "guest-a")


def said(events: list[LifecycleEvent]) -> list[tuple[str, str, str | None]]:
    return [(event.type, event.domain, event.reason) for event in events]


def test_a_registration_adds_routes_in_their_order() -> None:
    table = RouteTable()
    assert said(table.register("guest-a", ["b.test", "A.Test."], FIRST)) == [
        ("added", "b.test", "registered"),
        ("added", "a.test", "registered"),
    ]
    table.register("guest-b", ["a.test"], FIRST)
    assert table.routes() == (
        Route("guest-a", "b.test"),
        Route("guest-a", "a.test"),
        Route("guest-b", "a.test"),
    )


@pytest.mark.parametrize("authority", ["a.test", "A.TEST", "a.test.", "a.test:8443", "A.test.:1"])
def test_an_authority_matches_without_case_dot_and_port(authority: str) -> None:
    table = RouteTable()
    table.register("guest-a", ["a.test", "b.test"], FIRST)
    assert table.find("guest-a", authority) == Route("guest-a", "a.test")
    assert table.find("guest-b", authority) is None
    assert table.find("guest-a", f"x.{authority}") is None


def test_without_authority_the_only_route_of_the_target_is_meant() -> None:
    table = RouteTable()
    table.register("guest-a", ["a.test"], FIRST)
    table.register("guest-b", ["b.test", "c.test"], FIRST)
    assert table.find("guest-a", None) == Route("guest-a", "a.test")
    assert table.find("guest-b", None) is None
    assert table.find("guest-c", None) is None


def test_a_lost_guest_keeps_its_rows_and_gets_them_back() -> None:
    table = RouteTable()
    table.register("guest-a", ["a.test", "b.test"], FIRST)
    table.register("guest-b", ["a.test"], FIRST)
    before = table.routes()
    assert said(table.lose("guest-a")) == [
        ("degraded", "a.test", "disconnected"),
        ("degraded", "b.test", "disconnected"),
    ]
    assert table.routes() == before
    assert table.find("guest-a", "a.test") is None
    assert table.find("guest-b", "a.test") is not None
    events = table.register("guest-a", ["a.test", "b.test"], SECOND)
    assert said(events) == [("changed", "a.test", "restored"), ("changed", "b.test", "restored")]
    assert {event.generation for event in events} == {SECOND}
    assert table.routes() == before
    assert table.find("guest-a", "a.test") is not None


def test_a_guest_that_returns_with_another_list_replaces_the_old_one() -> None:
    table = RouteTable()
    table.register("guest-a", ["a.test", "b.test"], FIRST)
    table.lose("guest-a")
    assert said(table.register("guest-a", ["b.test", "c.test"], SECOND)) == [
        ("removed", "a.test", "reconnected"),
        ("changed", "b.test", "restored"),
        ("added", "c.test", "registered"),
    ]


def test_a_guest_that_does_not_return_loses_its_rows() -> None:
    table = RouteTable()
    table.register("guest-a", ["a.test"], FIRST)
    table.lose("guest-a")
    assert said(table.expire("guest-a")) == [("removed", "a.test", "timeout")]
    assert table.routes() == ()
    assert table.expire("guest-a") == []


def test_revocation_tells_what_was_not_there() -> None:
    table = RouteTable()
    table.register("guest-a", ["a.test", "b.test"], FIRST)
    table.register("guest-b", ["c.test"], FIRST)
    events, failed = table.revoke("guest-a", ["B.test.", "b.test", "c.test", "d.test"])
    assert said(events) == [("removed", "b.test", "revoked")]
    assert failed == ["c.test", "d.test"]
    assert table.routes() == (Route("guest-a", "a.test"), Route("guest-b", "c.test"))
    assert table.revoke("nobody", ["a.test"]) == ([], ["a.test"])


def test_a_guest_without_domains_has_no_rows() -> None:
    table = RouteTable()
    assert table.register("guest-a", [], FIRST) == []
    assert table.lose("guest-a") == []
    assert table.routes() == ()


class Model:
    """The table in the simplest words: a dict; and a Broker that follows the events alone."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bool] = {}
        self.told: dict[tuple[str, str], bool] = {}

    def hear(self, events: list[LifecycleEvent]) -> None:
        for event in events:
            key = (event.target_id, event.domain)
            if event.type == "removed":
                assert key in self.told, "a row that was not there was removed"
                del self.told[key]
            else:
                assert (key in self.told) == (event.type != "added")
                self.told[key] = event.type != "degraded"


@pytest.mark.parametrize("seed", range(20))
def test_a_random_walk_agrees_with_a_model(seed: int) -> None:
    """Registrations, losses, returns, expiries and revocations in any order (protocol.md §10)."""
    dice = random.Random(seed)
    table, model = RouteTable(), Model()
    guests = [f"guest-{n}" for n in range(4)]
    domains = [f"{name}.test" for name in "abcdef"]
    online: set[str] = set()
    for step in range(400):
        guest = dice.choice(guests)
        mine = {key for key in model.rows if key[0] == guest}
        some = dice.sample(domains, dice.randint(0, 4))
        if guest not in online and dice.random() < 0.7:
            online.add(guest)
            model.hear(table.register(guest, some, Generation(f"gen-{step}", guest)))
            for key in mine:
                del model.rows[key]
            model.rows |= dict.fromkeys([(guest, domain) for domain in some], True)
        elif guest not in online:
            model.hear(table.expire(guest))
            for key in mine:
                del model.rows[key]
        elif dice.random() < 0.5:
            online.remove(guest)
            model.hear(table.lose(guest))
            model.rows |= dict.fromkeys(mine, False)
        else:
            events, failed = table.revoke(guest, some)
            model.hear(events)
            assert failed == [domain for domain in some if (guest, domain) not in mine]
            for domain in some:
                model.rows.pop((guest, domain), None)
        assert {(route.target_id, route.domain) for route in table.routes()} == set(model.rows)
        assert len(table.routes()) == len(model.rows)
        assert model.told == model.rows
        for one in guests:
            for domain in domains:
                active = table.find(one, domain) is not None
                assert active == model.rows.get((one, domain), False)
                assert (table.state(one, domain) is RouteState.DEGRADED) == (
                    model.rows.get((one, domain)) is False
                )

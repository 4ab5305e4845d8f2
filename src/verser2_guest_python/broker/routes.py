"""What a Broker knows about routes: which Guest serves which domain, and which one is next.

The table follows what the Host says (protocol.md §10); it neither reads lines nor calls listeners,
so that its rules can be read, and tested, by themselves. Domains in it are normalised, as `wire/`
reads them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from verser2_guest_python.wire.routes import ADDED, CHANGED, DEGRADED, REMOVED, LifecycleEvent, Route

_TURNS = 1 << 16  # more than a domain has Guests


def first_turn() -> int:
    """Where a Broker begins in the Guests of a domain."""
    return random.randrange(_TURNS)  # noqa: S311 - to spread load needs no secrecy


@dataclass(frozen=True, slots=True)
class BrokerRoute:
    """One row of the table: `target_id` serves `domain`.

    A `degraded` route belongs to a Guest whose session was lost a moment ago: it may come back
    within seconds, and until then requests to it fail. `since` is when it came to be what it is.
    """

    target_id: str
    domain: str
    degraded: bool
    since: datetime


class Guest:
    """A Guest as the choice between several sees it: how many of our requests and WebSockets it has."""

    __slots__ = ("in_flight", "routes", "sockets", "target_id")

    def __init__(self, target_id: str) -> None:
        self.target_id = target_id
        self.in_flight = 0
        self.sockets = 0
        self.routes = 0


class RouteEntry:
    """One `(targetId, domain)` pair, with its Guest."""

    __slots__ = ("degraded", "domain", "guest", "since")

    def __init__(self, guest: Guest, domain: str, since: datetime) -> None:
        self.guest = guest
        self.domain = domain
        self.degraded = False
        self.since = since

    def public(self) -> BrokerRoute:
        return BrokerRoute(self.guest.target_id, self.domain, self.degraded, self.since)


class _Domain:
    """The entries of one domain, and whose turn it is when several are equally busy.

    The first turn is anybody's: Brokers that send one request each must not all begin with the same Guest.
    """

    __slots__ = ("entries", "turn")

    def __init__(self) -> None:
        self.entries: list[RouteEntry] = []
        self.turn = first_turn()


class RouteTable:
    """The routes of one Broker, in the order in which the Host lists them."""

    def __init__(self) -> None:
        self._domains: dict[str, _Domain] = {}
        self._guests: dict[str, Guest] = {}

    # --- Reading ----------------------------------------------------------------------------

    def routes(self) -> list[BrokerRoute]:
        return [entry.public() for domain in self._domains.values() for entry in domain.entries]

    def domains(self) -> list[str]:
        """The domains that have a route, degraded ones too, in their normal form."""
        return list(self._domains)

    def has(self, domain: str) -> bool:
        return domain in self._domains

    def usable(self, domain: str) -> bool:
        """Whether it has a route that is not degraded."""
        found = self._domains.get(domain)
        return found is not None and not all(entry.degraded for entry in found.entries)

    def choose(self, domain: str, avoid: Collection[str] = ()) -> RouteEntry | None:
        """The route for a request: that of the Guest with the fewest in flight, ties in turn.

        Degraded routes and those of the Guests in `avoid` are passed over; None when none is left.
        """
        found = self._domains.get(domain)
        if found is None:
            return None
        entries = found.entries
        if len(entries) == 1 and not avoid:
            entry = entries[0]
            return None if entry.degraded else entry
        best: RouteEntry | None = None
        fewest = next_turn = 0
        tie = False
        count, turn = len(entries), found.turn
        for offset in range(count):
            position = (turn + offset) % count
            entry = entries[position]
            guest = entry.guest
            if entry.degraded or guest.target_id in avoid:
                continue
            if best is None or guest.in_flight < fewest:
                best, fewest, next_turn, tie = entry, guest.in_flight, position + 1, False
            elif guest.in_flight == fewest:
                tie = True
        if tie:  # else nobody's turn was used: the one request more that is under way goes round
            found.turn = next_turn
        return best

    def choose_for_socket(self, domain: str, avoid: Collection[str] = ()) -> RouteEntry | None:
        """The route for a WebSocket: that of the Guest with the fewest of our WebSockets, ties in turn.

        Those are counted apart, since one that is open may be idle for days.
        """
        found = self._domains.get(domain)
        if found is None:
            return None
        found.turn += 1
        start = found.turn % len(found.entries)
        usable = [
            entry
            for entry in (*found.entries[start:], *found.entries[:start])
            if not entry.degraded and entry.guest.target_id not in avoid
        ]
        return min(usable, key=lambda entry: entry.guest.sockets, default=None)

    # --- Following the Host -----------------------------------------------------------------

    def apply(self, events: Iterable[LifecycleEvent]) -> list[LifecycleEvent]:
        """Takes a lifecycle line (protocol.md §10); returns what is news.

        A session that has just begun may say what its first line, or the session before it, has said.
        """
        news = []
        for event in events:
            entry = self._find(event.target_id, event.domain)
            if event.type == REMOVED:
                known = entry is None
                self._drop(event.target_id, event.domain)
            else:
                degraded = event.type == DEGRADED
                known = event.type != CHANGED and entry is not None and entry.degraded == degraded
                self._put(event.target_id, event.domain, degraded=degraded)
            if not known:
                news.append(event)
        return news

    def replace(self, routes: Collection[Route]) -> list[LifecycleEvent]:
        """Takes a full table (protocol.md §3); returns what it adds and drops, which has no reason."""
        wanted = {(route.target_id, route.domain) for route in routes}
        changes = [
            LifecycleEvent(REMOVED, entry.guest.target_id, entry.domain)
            for domain in self._domains.values()
            for entry in domain.entries
            if (entry.guest.target_id, entry.domain) not in wanted
        ]
        for change in changes:
            self._drop(change.target_id, change.domain)
        for route in routes:
            if self._find(route.target_id, route.domain) is None:
                self._put(route.target_id, route.domain, degraded=False)
                changes.append(LifecycleEvent(ADDED, route.target_id, route.domain))
        return changes

    def restore(self) -> None:
        """Forgets which routes are degraded: a new session cannot see it (protocol.md §10)."""
        now = datetime.now(UTC)
        for domain in self._domains.values():
            for entry in domain.entries:
                if entry.degraded:
                    entry.degraded, entry.since = False, now

    def clear(self) -> None:
        self._domains.clear()
        self._guests.clear()

    def _find(self, target_id: str, name: str) -> RouteEntry | None:
        domain = self._domains.get(name)
        if domain is not None:
            for entry in domain.entries:
                if entry.guest.target_id == target_id:
                    return entry
        return None

    def _put(self, target_id: str, name: str, *, degraded: bool) -> None:
        entry = self._find(target_id, name)
        if entry is None:
            guest = self._guests.get(target_id)
            if guest is None:
                guest = self._guests[target_id] = Guest(target_id)
            guest.routes += 1
            entry = RouteEntry(guest, name, datetime.now(UTC))
            self._domains.setdefault(name, _Domain()).entries.append(entry)
        if entry.degraded != degraded:
            entry.degraded, entry.since = degraded, datetime.now(UTC)

    def _drop(self, target_id: str, name: str) -> None:
        entry = self._find(target_id, name)
        if entry is None:
            return
        domain = self._domains[name]
        domain.entries.remove(entry)
        if not domain.entries:
            del self._domains[name]
        entry.guest.routes -= 1
        if not entry.guest.routes:
            del self._guests[target_id]

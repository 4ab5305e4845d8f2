"""The route table: which Guest serves which domain, and what Brokers are told when that changes.

    (nothing) --register--> active --lose--> degraded --expire--> (nothing)
                              ^                  |
                              +----register------+        revoke: active --> (nothing)

Pure: no clock, no I/O. Every change returns the lifecycle events of protocol.md §10; who hears them,
and when a degraded route expires, is the registry's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from verser2_guest_python.wire.domains import normalize_domain
from verser2_guest_python.wire.routes import Generation, LifecycleEvent, Route

Events = list[LifecycleEvent]


class RouteState(Enum):
    """Whether requests may be sent along a route."""

    ACTIVE = "active"
    DEGRADED = "degraded"


@dataclass(slots=True)
class _Row:
    route: Route
    state: RouteState
    generation: Generation

    def event(self, kind: str, reason: str) -> LifecycleEvent:
        return LifecycleEvent(kind, self.route.target_id, self.route.domain, reason, self.generation)


class RouteTable:
    """Rows of (target, domain), in the order in which they came."""

    def __init__(self) -> None:
        self._guests: dict[str, dict[str, _Row]] = {}
        self._routes: tuple[Route, ...] | None = None

    def routes(self) -> tuple[Route, ...]:
        """The whole table as Brokers see it: degraded routes are in it, and not marked (protocol.md §10)."""
        if self._routes is None:
            self._routes = tuple(row.route for rows in self._guests.values() for row in rows.values())
        return self._routes

    def state(self, target_id: str, domain: str) -> RouteState | None:
        """The state of one row; None when there is none."""
        row = self._guests.get(target_id, {}).get(normalize_domain(domain))
        return row.state if row is not None else None

    def find(self, target_id: str, authority: str | None) -> Route | None:
        """The active route for an authority; without one, the target's only route (protocol.md §7)."""
        rows = self._guests.get(target_id)
        if rows is None:
            return None
        if authority is not None:
            row = rows.get(authority) or rows.get(normalize_domain(authority))
        else:
            row = next(iter(rows.values())) if len(rows) == 1 else None
        return row.route if row is not None and row.state is RouteState.ACTIVE else None

    def register(self, target_id: str, domains: Iterable[str], generation: Generation) -> Events:
        """A Guest's list replaces whatever is left of its last session."""
        known = self._guests.get(target_id, {})
        wanted = dict.fromkeys(normalize_domain(domain) for domain in domains)
        events = [
            row.event("removed", "reconnected") for row in known.values() if row.route.domain not in wanted
        ]
        rows: dict[str, _Row] = {}
        for domain in wanted:
            row = rows[domain] = _Row(Route(target_id, domain), RouteState.ACTIVE, generation)
            old = known.get(domain)
            if old is None:
                events.append(row.event("added", "registered"))
            else:
                events.append(
                    row.event("changed", "restored" if old.state is RouteState.DEGRADED else "updated")
                )
        self._put(target_id, rows)
        return events

    def revoke(self, target_id: str, domains: Iterable[str]) -> tuple[Events, list[str]]:
        """Takes routes away: the events, and those of `domains` that were not this Guest's."""
        rows = self._guests.get(target_id, {})
        events: Events = []
        failed: list[str] = []
        gone: set[str] = set()
        for given in domains:
            domain = normalize_domain(given)
            row = rows.pop(domain, None)
            if row is not None:
                gone.add(domain)
                events.append(row.event("removed", "revoked"))
            elif domain not in gone:
                failed.append(given)
        self._put(target_id, rows)
        return events, failed

    def lose(self, target_id: str) -> Events:
        """The Guest's session is gone: its routes stay, but carry nothing until it returns."""
        events: Events = []
        for row in self._guests.get(target_id, {}).values():
            if row.state is RouteState.ACTIVE:
                row.state = RouteState.DEGRADED
                events.append(row.event("degraded", "disconnected"))
        return events

    def expire(self, target_id: str, reason: str = "timeout") -> Events:
        """The Guest did not come back: its routes go."""
        events = [row.event("removed", reason) for row in self._guests.get(target_id, {}).values()]
        self._put(target_id, {})
        return events

    def _put(self, target_id: str, rows: dict[str, _Row]) -> None:
        if rows:
            self._guests[target_id] = rows
        else:
            self._guests.pop(target_id, None)
        self._routes = None

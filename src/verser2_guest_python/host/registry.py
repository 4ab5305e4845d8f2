"""Who is registered on a Host, and the routes that follow from it.

Apart from the sessions because it is what they share: one table of peers, one of routes, and the
Brokers that are told of every change. It also holds the clock of degraded routes (protocol.md §10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from verser2_guest_python.host.authorization import Grant
from verser2_guest_python.host.peers import Broker, Guest, Peer
from verser2_guest_python.host.routes import RouteTable
from verser2_guest_python.http2.deadline import LateCall, call_within
from verser2_guest_python.wire.routes import (
    Generation,
    LifecycleEvent,
    Route,
    encode_lifecycle,
    encode_routes,
)


class Registry:
    """Peers by id, and the route table."""

    def __init__(
        self,
        degraded_seconds: float,
        on_route: Callable[[LifecycleEvent], None],
    ) -> None:
        self.routes = RouteTable()
        self._degraded_seconds = degraded_seconds
        self._on_route = on_route
        self._peers: dict[str, Peer] = {}
        self._brokers: dict[str, Broker] = {}
        self._expiries: dict[str, LateCall] = {}
        self._generations = 0
        self._closed = False

    def peer(self, peer_id: str) -> Peer | None:
        """The peer that is registered under this id, whatever its role."""
        return self._peers.get(peer_id)

    def guest(self, guest_id: str) -> Guest | None:
        """The Guest of this id, if it is there."""
        peer = self._peers.get(guest_id)
        return peer if isinstance(peer, Guest) else None

    def guests(self) -> list[Guest]:
        """All Guests that are there."""
        return [peer for peer in self._peers.values() if isinstance(peer, Guest)]

    @property
    def brokers(self) -> int:
        """How many Brokers there are."""
        return len(self._brokers)

    def add_guest(self, guest: Guest, domains: Iterable[str]) -> None:
        """Registers a Guest; its list of domains replaces what is left of its last session."""
        self._stop_expiry(guest.id)
        self._peers[guest.id] = guest
        self._generations += 1
        generation = Generation(f"gen-{self._generations}", guest.id)
        self._publish(self.routes.register(guest.id, domains, generation))

    def add_broker(self, broker: Broker) -> None:
        """Registers a Broker: from now on it hears of routes."""
        self._peers[broker.id] = broker
        self._brokers[broker.id] = broker

    def revoke(self, guest: Guest, domains: Iterable[str]) -> list[str]:
        """Takes a Guest's routes away; returns those of `domains` that were not its own."""
        events, failed = self.routes.revoke(guest.id, domains)
        self._publish(events)
        return failed

    def remove(self, peer: Peer) -> None:
        """A peer's session is lost."""
        if self._peers.get(peer.id) is not peer:
            return
        del self._peers[peer.id]
        self._brokers.pop(peer.id, None)
        if isinstance(peer, Broker) or self._closed:
            return
        if self._degraded_seconds <= 0:
            self._publish(self.routes.expire(peer.id, "disconnected"))
            return
        self._publish(self.routes.lose(peer.id))
        loop = asyncio.get_running_loop()
        expire = partial(self._expire, peer.id)
        self._expiries[peer.id] = call_within(loop, self._degraded_seconds, expire)

    def visible_routes(self, grant: Grant) -> tuple[Route, ...]:
        """The table as a peer with this grant may see it."""
        routes = self.routes.routes()
        if grant.shows_all_routes:
            return routes
        return tuple(route for route in routes if grant.shows_route(route.target_id, route.domain))

    def routes_line(self, grant: Grant) -> bytes:
        """The `routes` line for a Broker with this grant."""
        return encode_routes(self.visible_routes(grant))

    def close(self) -> None:
        """Stops all clocks; sessions that end from now on change nothing."""
        self._closed = True
        for guest_id in list(self._expiries):
            self._stop_expiry(guest_id)

    def _expire(self, guest_id: str) -> None:
        self._stop_expiry(guest_id)
        self._publish(self.routes.expire(guest_id))

    def _stop_expiry(self, guest_id: str) -> None:
        timer = self._expiries.pop(guest_id, None)
        if timer is not None:
            timer.cancel()

    def _publish(self, events: list[LifecycleEvent]) -> None:
        """Tells all Brokers, the events first and then the table (protocol.md §10)."""
        if not events:
            return
        for event in events:
            self._on_route(event)
        if not self._brokers:
            return
        lines: bytes | None = None
        for broker in list(self._brokers.values()):
            grant = broker.grant
            if grant.shows_all_routes:
                if lines is None:  # the same for all that see the whole table
                    lines = encode_lifecycle(events) + encode_routes(self.routes.routes())
                broker.control.announce(events, lines)
                continue
            seen = [event for event in events if grant.shows_route(event.target_id, event.domain)]
            if seen:
                broker.control.announce(seen)

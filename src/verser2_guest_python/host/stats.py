"""What a running Host looks like from outside: numbers, of all and of each Guest.

Apart from the Host, which makes them: those who watch one need not know how it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HostStats:
    """A look at a running Host; numbers as they are just now."""

    sessions: int
    guests: int
    idle_leases: int
    queued_requests: int
    active_requests: int
    """Requests and WebSockets under way."""
    brokers: int = 0
    websockets: int = 0
    """Of what is under way, WebSockets."""
    idle_websocket_leases: int = 0
    messages_to_guests: int = 0
    """Text and binary messages of WebSockets since the start …"""
    messages_to_brokers: int = 0
    limits_hit: dict[str, int] = field(default_factory=dict)
    """How often somebody met a limit since the start, by its name."""


@dataclass(frozen=True, slots=True)
class GuestStats:
    """A look at one Guest that has routes; one that is gone for a moment has no leases.

    `domains` maps each to `active` or `degraded`.
    """

    id: str
    domains: dict[str, str]
    idle_leases: int
    idle_websocket_leases: int
    queued_requests: int

"""Limits and timeouts of a Host, in one frozen object.

Apart because whoever runs a Host chooses them, and tests lower them. Each bounds something that a
slow or hostile peer could otherwise make grow without end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostLimits:
    """How much a Host takes, and how long it waits. Times are in seconds, sizes in bytes."""

    sessions: int = 10_000
    """Sessions at a time, all peers together; one more is closed at once."""

    registration_seconds: float = 10.0
    """How long a new session may take to register before it is closed."""

    exchange_seconds: float = 10.0
    """How long the body of a revocation may take to arrive, and a short answer to leave."""

    takeover_seconds: float = 2.0
    """How long a session may take to answer when its peer comes back on another one; then it is replaced."""

    registration_bytes: int = 1_048_576
    """Body of a registration or revocation."""

    domains_per_guest: int = 1_000
    """Routes that one Guest may register."""

    idle_leases_per_guest: int = 4_096
    """HTTP leases that wait for requests; one more is refused with `timeout`."""

    idle_websocket_leases_per_guest: int = 4
    """WebSocket leases that wait, as deployed Hosts have it; one more is refused with `timeout`."""

    websocket_accept_seconds: float = 30.0
    """How long a Guest may take to accept a WebSocket."""

    queued_requests_per_guest: int = 1_000
    """Requests that wait for a lease of one Guest; one more fails with `timeout` at once."""

    queued_requests: int = 10_000
    """… of all Guests together."""

    lease_wait_seconds: float = 300.0
    """The longest time that a Broker may ask to wait for a lease."""

    linger_seconds: float = 1.0
    """How long the rest of an upload may still arrive once the app has answered in full, and how long
    the streams of a WebSocket that closes stay open."""

    unread_control_events: int = 10_000
    """Route events that may wait for a Broker that does not read; beyond it, its session is closed."""

"""Limits and timeouts of a Host, in one frozen object.

Apart because whoever runs a Host chooses them, and tests lower them. Each bounds something that a
slow or hostile peer could otherwise make grow without end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from verser2_guest_python.http2 import DoorLimits, FloodLimits, SessionOptions


@dataclass(frozen=True, slots=True)
class HostLimits:
    """How much a Host takes, and how long it waits. Times are in seconds, sizes in bytes."""

    sessions: int = 10_000
    """Sessions at a time, all peers together; one more is closed at once."""

    connections_per_address: int = 2_000
    """New connections that one address (of IPv6, one /64) may open at once; more are closed unheard …"""

    connections_per_address_and_second: float = 100.0
    """… and a second after that."""

    handshakes: int = 1_000
    """TLS handshakes at a time; one more ends the one that has taken longest."""

    handshake_seconds: float = 10.0
    """How long a TLS handshake and the first frame of HTTP/2 may take."""

    streams_per_session: int = 10_000
    """Streams that one session may have open at a time: leases, requests, WebSockets."""

    streams_before_registration: int = 100
    """Streams that a session may open before it has registered; beyond it, it is closed."""

    refusals_per_session: int = 1_000
    """Streams that have no place here (an unknown path, a lease of nobody) at once; then one a second."""

    header_bytes: int = 65_536
    """Header block of one stream, decoded; a larger one closes the session."""

    floods: FloodLimits = field(default_factory=FloodLimits)
    """Resets, PINGs, SETTINGS and frames that move nothing; beyond them, the session is closed."""

    backlog_bytes: int = 8_388_608
    """What may wait for a peer that does not read, bodies not counted; beyond it, the session is closed."""

    silence_seconds: float = 30.0
    """A session on which nothing has come for so long is sent a PING; 0 sends none …"""

    ping_answer_seconds: float = 30.0
    """… and is closed when nothing has come for so long after it."""

    stalled_answer_seconds: float = 300.0
    """A Broker that takes none of an answer for so long has its request cancelled."""

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
    """… of all Guests together …"""

    queued_bytes: int = 67_108_864
    """… and what the heads of those may take; a request beyond it fails as well."""

    lease_wait_seconds: float = 300.0
    """The longest time that a Broker may ask to wait for a lease."""

    linger_seconds: float = 1.0
    """How long the rest of an upload may still arrive once the app has answered in full, and how long
    the streams of a WebSocket that closes stay open."""

    unread_control_events: int = 10_000
    """Route events that may wait for a Broker that does not read; beyond it, its session is closed."""


def limited_options(limits: HostLimits, options: SessionOptions) -> SessionOptions:
    """The options of each session: those given, and these limits."""
    return replace(
        options,
        max_concurrent_streams=limits.streams_per_session,
        max_header_list_bytes=limits.header_bytes,
        max_backlog_bytes=limits.backlog_bytes,
        handshake_timeout_seconds=limits.handshake_seconds,
        floods=limits.floods,
    )


def door_limits(limits: HostLimits) -> DoorLimits:
    """Whom the port lets in."""
    return DoorLimits(
        connection_burst=limits.connections_per_address,
        connections_per_second=limits.connections_per_address_and_second,
        handshakes=limits.handshakes,
    )

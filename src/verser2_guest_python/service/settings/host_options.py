"""The options of a Host of one's own: where it listens, and who may come in.

Apart from `option_table.py` because a Guest has none of them. The policy itself is in a file only.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.service.settings.option import (
    GROUP_ADMISSION,
    GROUP_LEASES,
    GROUP_LIMITS,
    GROUP_LISTENING,
    Kind,
    Option,
)

HOST_OPTIONS: Final = (
    Option(
        "host.address",
        "--address",
        "Address to listen on; 0.0.0.0 or :: for all of this machine.",
        GROUP_LISTENING,
        metavar="ADDRESS",
        default="127.0.0.1",
    ),
    Option(
        "host.port",
        "--port",
        "Port to listen on; 0 takes a free one.",
        GROUP_LISTENING,
        Kind.COUNT,
        default=8443,
    ),
    Option(
        "host.client_ca_file",
        "--client-ca-file",
        "PEM file with the CA that has signed the certificates of Guests and Brokers.",
        GROUP_ADMISSION,
        Kind.FILE,
    ),
    Option(
        "host.allow_anonymous",
        "--allow-anonymous",
        "Without that and without a policy, let in whoever reaches the port, and not this machine alone.",
        GROUP_ADMISSION,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "host.lease_timeout",
        "--lease-timeout",
        "Time that a request waits for a free lease of its Guest, where its Broker names none.",
        GROUP_LEASES,
        Kind.SECONDS,
        default=5.0,
    ),
    Option(
        "host.degraded_timeout",
        "--degraded-timeout",
        "Time that the routes of a lost Guest wait for its return.",
        GROUP_LEASES,
        Kind.SECONDS,
        default=5.0,
    ),
    Option(
        "host.server_timing",
        "--server-timing",
        "Say in each answer how long its request waited for a lease: server-timing, as browsers show it.",
        GROUP_LEASES,
        Kind.SWITCH,
        default=False,
        off_flag="--no-server-timing",
    ),
    Option(
        "host.max_sessions",
        "--max-sessions",
        "Sessions at a time, of all peers together; one more is closed at once.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=10_000,
    ),
    Option(
        "host.max_connections_per_address",
        "--max-connections-per-address",
        "New connections that one address may open at once; more are closed unheard.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=2_000,
    ),
    Option(
        "host.max_connections_per_second",
        "--max-connections-per-second",
        "New connections of one address a second, after those.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=100,
    ),
    Option(
        "host.max_idle_leases",
        "--max-idle-leases",
        "Idle leases of one Guest; one more is refused.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=4_096,
    ),
    Option(
        "host.max_queued_requests_per_guest",
        "--max-queued-requests-per-guest",
        "Requests that wait for a lease of one Guest; one more is refused.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=1_000,
    ),
    Option(
        "host.max_queued_requests",
        "--max-queued-requests",
        "Requests that wait for a lease of any Guest; one more is refused.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=10_000,
    ),
    Option(
        "host.max_queued_bytes",
        "--max-queued-bytes",
        "What the heads of those may take in all; a request beyond it is refused.",
        GROUP_LIMITS,
        Kind.SIZE,
        default=64 << 20,
    ),
)

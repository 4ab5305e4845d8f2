"""The options of a Host of one's own: where it listens, and who may come in.

Apart from `option_table.py` because a Guest has none of them. The policy itself is in a file only.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.service.option import GROUP_ADMISSION, GROUP_LEASES, GROUP_LISTENING, Kind, Option

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
)

"""The options of the gateway, in the order in which `--help` shows them.

Apart from `option_table.py` because only one command knows them; names that uvicorn has are spelled as it
spells them.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.integrations.gateway.limits import (
    DEFAULT_HEAD_TIMEOUT_SECONDS,
    DEFAULT_LIMIT_CONCURRENCY,
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_MAX_HEADER_BYTES,
    DEFAULT_READ_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    DEFAULT_WRITE_TIMEOUT_SECONDS,
)
from verser2_guest_python.service.settings.option import GROUP_LIMITS, Kind, Option

GROUP_GATEWAY: Final = "The gateway"
GROUP_PUBLIC_TLS: Final = "TLS on the public side"

GATEWAY_OPTIONS: Final = (
    Option(
        "gateway.listen",
        "--listen",
        "Address and port that clients connect to; an empty address is every one.",
        GROUP_GATEWAY,
        metavar="ADDRESS:PORT",
        default="127.0.0.1:8080",
    ),
    Option(
        "gateway.map",
        "--map",
        "A public name and the domain it stands for; repeat it for more. Other names stand for themselves.",
        GROUP_GATEWAY,
        metavar="NAME=DOMAIN",
        default=(),
        repeatable=True,
    ),
    Option(
        "gateway.only_mapped",
        "--only-mapped",
        "Names without a --map are unknown, also where a route has them.",
        GROUP_GATEWAY,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "gateway.default_domain",
        "--default-domain",
        "Domain that answers localhost, unknown names under .localhost, and plain addresses.",
        GROUP_GATEWAY,
        metavar="DOMAIN",
    ),
    Option(
        "gateway.list_routes",
        "--list-routes",
        "List the names that there are on the page for an unknown one.",
        GROUP_GATEWAY,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "gateway.route_wait",
        "--route-wait",
        "Time that a request waits for a known app that is away.",
        GROUP_GATEWAY,
        Kind.SECONDS,
        default=0.0,
    ),
    Option(
        "gateway.trust_forwarded",
        "--trust-forwarded",
        "Network of proxies whose x-forwarded-* and forwarded headers are believed; repeat it for more.",
        GROUP_GATEWAY,
        metavar="NETWORK",
        default=(),
        repeatable=True,
    ),
    Option(
        "gateway.max_body_bytes",
        "--max-body-bytes",
        "Longest request body; more is answered with 413.",
        GROUP_LIMITS,
        Kind.SIZE,
        default=DEFAULT_MAX_BODY_BYTES,
    ),
    Option(
        "gateway.max_header_bytes",
        "--max-header-bytes",
        "Longest request head; more is answered with 431. No more than 16,375 bytes reach a Guest.",
        GROUP_LIMITS,
        Kind.SIZE,
        default=DEFAULT_MAX_HEADER_BYTES,
    ),
    Option(
        "gateway.limit_concurrency",
        "--limit-concurrency",
        "Requests and WebSockets at a time; one more is answered with 503.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=DEFAULT_LIMIT_CONCURRENCY,
    ),
    Option(
        "gateway.timeout",
        "--timeout",
        "Time for an app to begin its answer, from the last piece of the request; then 504.",
        GROUP_LIMITS,
        Kind.SECONDS,
        default=DEFAULT_TIMEOUT_SECONDS,
    ),
    Option(
        "gateway.head_timeout",
        "--head-timeout",
        "Time for the head of a request to come; then 408.",
        GROUP_LIMITS,
        Kind.SECONDS,
        default=DEFAULT_HEAD_TIMEOUT_SECONDS,
    ),
    Option(
        "gateway.read_timeout",
        "--read-timeout",
        "Time for the next piece of a request body to come; then 408.",
        GROUP_LIMITS,
        Kind.SECONDS,
        default=DEFAULT_READ_TIMEOUT_SECONDS,
    ),
    Option(
        "gateway.write_timeout",
        "--write-timeout",
        "Time for a client to read something of what waits for it, before it is cut off.",
        GROUP_LIMITS,
        Kind.SECONDS,
        default=DEFAULT_WRITE_TIMEOUT_SECONDS,
    ),
    Option(
        "gateway.timeout_keep_alive",
        "--timeout-keep-alive",
        "Time for which an idle connection is kept.",
        GROUP_LIMITS,
        Kind.SECONDS,
        default=5.0,
    ),
    Option(
        "gateway.timeout_graceful_shutdown",
        "--timeout-graceful-shutdown",
        "Time for requests under way when told to stop.",
        GROUP_LIMITS,
        Kind.SECONDS,
        default=30.0,
    ),
    Option(
        "gateway.ssl_certfile",
        "--ssl-certfile",
        "PEM file with the certificate that clients see; with it, https and wss.",
        GROUP_PUBLIC_TLS,
        Kind.FILE,
    ),
    Option(
        "gateway.ssl_keyfile",
        "--ssl-keyfile",
        "PEM file with its key, if that is not in the same file.",
        GROUP_PUBLIC_TLS,
        Kind.FILE,
    ),
)

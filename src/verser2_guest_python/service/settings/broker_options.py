"""The settings of single calls through a Broker: how long they may take, and how hard they are tried.

Apart from `option_table.py` because only `broker` commands know them, and of a gateway the last one.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.service.settings.option import GROUP_LIMITS, Kind, Option

BROKER_OPTIONS: Final = (
    Option(
        "broker.wait",
        "--wait",
        "Wait so long for a Guest that serves the domain; without it, not at all.",
        GROUP_LIMITS,
        Kind.SECONDS,
    ),
    Option(
        "broker.timeout",
        "--timeout",
        "Time for all of it, connecting included; no limit without it.",
        GROUP_LIMITS,
        Kind.SECONDS,
    ),
    Option(
        "broker.lease_timeout",
        "--lease-timeout",
        "Time that the Host may wait for a free Guest; without it the Host decides, mostly 5 s.",
        GROUP_LIMITS,
        Kind.SECONDS,
    ),
    Option(
        "broker.retry",
        "--retry",
        "Try so many times more what failed on the way or was answered 408, 429 or 5xx, where doing "
        "it twice does no harm.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=0,
    ),
    Option(
        "broker.max_redirects",
        "--max-redirects",
        "Follow so many redirects at most, with -L.",
        GROUP_LIMITS,
        Kind.COUNT,
        default=10,
    ),
)

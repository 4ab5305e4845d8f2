"""The options of those who watch a process: health checks, metrics, traces.

Apart from `option_table.py` because commands of every role know them.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.service.settings.option import GROUP_HEALTH, Kind, Option

HEALTH_OPTIONS: Final = (
    Option(
        "health.listen",
        "--health-listen",
        "Answer /livez, /readyz, /metrics and /status here, such as 127.0.0.1:9464; off without it.",
        GROUP_HEALTH,
        metavar="HOST:PORT",
    ),
    Option(
        "health.socket",
        "--health-socket",
        "The same on a socket of this name, which only this user can open.",
        GROUP_HEALTH,
        Kind.FILE,
    ),
    Option(
        "otel",
        "--otel",
        "Take part in OpenTelemetry traces, sent as OTEL_… variables say; needs the extra otel.",
        GROUP_HEALTH,
        Kind.SWITCH,
        default=False,
        off_flag="--no-otel",
    ),
)

"""How the Host of this process is: the same four paths as a Guest has, with metrics of its own.

Apart from `guest.py` because a Host knows other things: who is registered, and how long requests
waited for a lease.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from importlib.metadata import version
from typing import Any, Final

from verser2_guest_python.host.events import RequestRecord
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.certificates.expiry import Expiries
from verser2_guest_python.service.health.checks import Verdict
from verser2_guest_python.service.health.guest import DISTRIBUTION
from verser2_guest_python.service.metrics.host_counts import HostCounts
from verser2_guest_python.service.metrics.loop_lag import LoopLag
from verser2_guest_python.service.metrics.measures import WEBSOCKET, Histogram, Report
from verser2_guest_python.service.metrics.metric_table import HOST_METRICS, Metric
from verser2_guest_python.service.metrics.process_facts import process_report
from verser2_guest_python.service.metrics.request_counts import RequestCounts

_CODES: Final = frozenset(
    {
        "authorization-denied",
        "cancelled",
        "disconnected-target",
        "local-handler-failure",
        "missing-guest",
        "protocol-error",
        "stream-failure",
        "timeout",
        "websocket-negotiation-failed",
    }
)
_LIMITS: Final = ("connections", "handshakes", "queued-requests", "sessions")
"""Those that are there from the start: an increase from nothing to 1 is none for Prometheus."""


class HostState(Enum):
    """Where a Host is in its life."""

    STARTING = "starting"
    LISTENING = "listening"
    DRAINING = "draining"


class HostHealth:
    """Watches `host` from now on, in the running loop; `stop` at the end.

    `lines_dropped` tells how many lines of log were lost, `expiries` how long certificates hold.

    Attributes:
        state: to be set by whoever starts and stops the Host.
    """

    metrics: Mapping[str, Metric] = HOST_METRICS

    def __init__(self, host: VerserHost, lines_dropped: Callable[[], int], expiries: Expiries = list) -> None:
        self._host = host
        self._expiries = expiries
        self._lines_dropped = lines_dropped
        self._version = version(DISTRIBUTION)
        self._began = time.monotonic()
        self.state = HostState.STARTING
        self._counts = RequestCounts(HOST_METRICS, _CODES)
        self._waits = Histogram(HOST_METRICS["lease_wait_seconds"].buckets)
        self._first_bytes = Histogram(HOST_METRICS["time_to_first_byte_seconds"].buckets)
        self._peers = HostCounts()
        host.on_lifecycle(self._peers)
        host.on_request(self._on_request)
        self._late = Histogram(HOST_METRICS["event_loop_lag_seconds"].buckets)
        self._lag = LoopLag(self._late.add)

    def stop(self) -> None:
        """Watches no more."""
        self._lag.stop()

    def _on_request(self, record: RequestRecord) -> None:
        """Counts a request that is over."""
        self._counts.add(
            record.method,
            record.status or 0,
            record.error,
            websocket=record.method == WEBSOCKET,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            seconds=record.seconds,
        )
        self._peers.request(record)
        self._waits.add(record.queued_seconds)
        if record.first_byte_seconds is not None:
            self._first_bytes.add(record.first_byte_seconds)

    async def live(self) -> Verdict:
        return Verdict(True, "live: the event loop turns")

    async def ready(self) -> Verdict:
        if self.state is not HostState.LISTENING:
            return Verdict(False, f"not ready: {self.state.value}")
        return Verdict(True, f"ready: listening on {self._host.url}")

    async def status(self) -> Mapping[str, Any]:
        verdict, stats = await self.ready(), self._host.get_stats()
        return {
            "ready": verdict.ok,
            "reason": verdict.sentence,
            "version": self._version,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "requests": {
                "total": self._counts.total,
                "in_flight": stats.active_requests,
                "queued": stats.queued_requests,
            },
            "state": self.state.value,
            **asdict(stats),
        }

    async def reports(self) -> Mapping[str, Report]:
        stats, guests = self._host.get_stats(), self._host.get_guests()
        limits_hit = {**dict.fromkeys(_LIMITS, 0), **stats.limits_hit}
        routes = Counter(state for guest in guests for state in guest.domains.values())
        report: Report = {
            "info": [([self._version], 1)],
            **self._counts.report(),
            **self._peers.report(),
            "lease_wait_seconds": [([], self._waits.value())],
            "time_to_first_byte_seconds": [([], self._first_bytes.value())],
            "requests_in_flight": [([], stats.active_requests)],
            "requests_queued": [([], stats.queued_requests)],
            "guest_requests_queued": [
                ([guest.id], guest.queued_requests) for guest in guests if guest.queued_requests
            ],
            "websockets_open": [([], stats.websockets)],
            "websocket_messages_total": [
                (["guests"], stats.messages_to_guests),
                (["brokers"], stats.messages_to_brokers),
            ],
            "sessions": [([], stats.sessions)],
            "guests": [([], stats.guests)],
            "brokers": [([], stats.brokers)],
            "routes": [([state], routes[state]) for state in ("active", "degraded")],
            "leases": [
                (["idle"], stats.idle_leases),
                (["active"], stats.active_requests - stats.queued_requests - stats.websockets),
            ],
            "websocket_leases_idle": [([], stats.idle_websocket_leases)],
            "limits_hit_total": [([limit], count) for limit, count in limits_hit.items()],
            "draining": [([], int(self.state is HostState.DRAINING))],
            "event_loop_lag_seconds": [([], self._late.value())],
            "certificate_expiry_timestamp_seconds": self._expiries(),
            "log_lines_dropped_total": [([], self._lines_dropped())],
            **process_report(),
        }
        return {"": report}

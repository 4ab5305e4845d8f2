"""How the Host of this process is: the same four paths as a Guest has, with metrics of its own.

Apart from `guest_health.py` because a Host knows other things: who is registered, and how long requests
waited for a lease.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from importlib.metadata import version
from typing import Any, Final

from verser2_guest_python.host.events import RequestRecord
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.guest_health import DISTRIBUTION
from verser2_guest_python.service.health import Verdict
from verser2_guest_python.service.loop_lag import LoopLag
from verser2_guest_python.service.measures import CLASSES, METHODS, OTHER, Histogram, Report
from verser2_guest_python.service.metric_table import HOST_METRICS, Metric

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


class HostState(Enum):
    """Where a Host is in its life."""

    STARTING = "starting"
    LISTENING = "listening"
    DRAINING = "draining"


class HostHealth:
    """Watches `host` from now on, in the running loop; `stop` at the end. A listener of requests.

    Attributes:
        state: to be set by whoever starts and stops the Host.
    """

    metrics: Mapping[str, Metric] = HOST_METRICS

    def __init__(self, host: VerserHost) -> None:
        self._host = host
        self._version = version(DISTRIBUTION)
        self._began = time.monotonic()
        self.state = HostState.STARTING
        self._requests = 0
        self._by_class: dict[tuple[str, str], int] = {}
        self._errors: dict[str, int] = {}
        self._bytes_in = self._bytes_out = 0
        self._durations = Histogram(HOST_METRICS["request_duration_seconds"].buckets)
        self._waits = Histogram(HOST_METRICS["lease_wait_seconds"].buckets)
        self._late = Histogram(HOST_METRICS["event_loop_lag_seconds"].buckets)
        self._lag = LoopLag(self._late.add)

    def stop(self) -> None:
        """Watches no more."""
        self._lag.stop()

    def __call__(self, record: RequestRecord) -> None:
        """Counts a request that is over."""
        method = record.method if record.method in METHODS or record.method == "WEBSOCKET" else OTHER
        key = (method, CLASSES[(record.status or 0) // 100])
        self._requests += 1
        self._by_class[key] = self._by_class.get(key, 0) + 1
        if record.error is not None:
            code = record.error if record.error in _CODES else OTHER
            self._errors[code] = self._errors.get(code, 0) + 1
        self._bytes_in += record.bytes_in
        self._bytes_out += record.bytes_out
        self._waits.add(record.queued_seconds)
        if method != "WEBSOCKET":
            self._durations.add(record.seconds)

    async def live(self) -> Verdict:
        return Verdict(True, "live: the event loop turns")

    async def ready(self) -> Verdict:
        if self.state is not HostState.LISTENING:
            return Verdict(False, f"not ready: {self.state.value}")
        return Verdict(True, f"ready: listening on {self._host.url}")

    async def status(self) -> Mapping[str, Any]:
        verdict = await self.ready()
        return {
            "ready": verdict.ok,
            "reason": verdict.sentence,
            "version": self._version,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "requests": self._requests,
            "state": self.state.value,
            **asdict(self._host.get_stats()),
        }

    async def reports(self) -> Mapping[str, Report]:
        stats = self._host.get_stats()
        report: Report = {
            "info": [([self._version], 1)],
            "requests_total": [
                ([method, status], count) for (method, status), count in self._by_class.items()
            ],
            "errors_total": [([code], count) for code, count in self._errors.items()],
            "request_duration_seconds": [([], self._durations.value())],
            "lease_wait_seconds": [([], self._waits.value())],
            "requests_in_flight": [([], stats.active_requests)],
            "requests_queued": [([], stats.queued_requests)],
            "request_bytes_total": [([], self._bytes_in)],
            "response_bytes_total": [([], self._bytes_out)],
            "guests": [([], stats.guests)],
            "sessions": [([], stats.sessions)],
            "leases_idle": [([], stats.idle_leases)],
            "event_loop_lag_seconds": [([], self._late.value())],
        }
        return {"": report}

"""How the gateway of this process is: the same four paths as Guest and Host have, with metrics of its own.

Apart from those of Guest and Host because a gateway sees what clients see: what they were
told, and how long it took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.broker.facts import BrokerFacts
from verser2_guest_python.integrations.gateway import Gateway, GatewayRecord
from verser2_guest_python.service.certificates.expiry import Expiries
from verser2_guest_python.service.health.checks import Verdict, unregistered
from verser2_guest_python.service.health.guest import DISTRIBUTION
from verser2_guest_python.service.metrics.loop_lag import LoopLag
from verser2_guest_python.service.metrics.measures import Histogram, Report
from verser2_guest_python.service.metrics.metric_table import GATEWAY_METRICS, Metric
from verser2_guest_python.service.metrics.process_facts import process_report
from verser2_guest_python.service.metrics.request_counts import RequestCounts

_CODES: Final = frozenset(
    {
        "authorization-denied",
        "bad-request",
        "body-too-large",
        "client-left",
        "client-stalled",
        "disconnected-target",
        "gateway-busy",
        "gateway-stopped",
        "local-handler-failure",
        "message-too-large",
        "missing-guest",
        "protocol-error",
        "request-timeout",
        "stream-failure",
        "timeout",
        "websocket-negotiation-failed",
    }
)


class GatewayHealth:
    """Watches from now on, in the running loop; `stop` at the end. A listener of requests that are over.

    `lines_dropped` tells how many lines of log were lost, `expiries` how long certificates hold.

    Attributes:
        gateway: to be set once there is one.
        draining: to be set when it was told to stop.
    """

    metrics: Mapping[str, Metric] = GATEWAY_METRICS

    def __init__(
        self, broker: VerserBroker, lines_dropped: Callable[[], int], expiries: Expiries = list
    ) -> None:
        self._broker = broker
        self._expiries = expiries
        self._lines_dropped = lines_dropped
        self._version = version(DISTRIBUTION)
        self._began = time.monotonic()
        self.gateway: Gateway | None = None
        self.draining = False
        self._counts = RequestCounts(GATEWAY_METRICS, _CODES)
        self._messages = {"received": 0, "sent": 0}
        self._first_bytes = Histogram(GATEWAY_METRICS["time_to_first_byte_seconds"].buckets)
        self._lease_waits = Histogram(GATEWAY_METRICS["lease_wait_seconds"].buckets)
        self._late = Histogram(GATEWAY_METRICS["event_loop_lag_seconds"].buckets)
        self._lag = LoopLag(self._late.add)

    def stop(self) -> None:
        """Watches no more."""
        self._lag.stop()

    def __call__(self, record: GatewayRecord) -> None:
        """Counts a request or WebSocket that is over."""
        self._counts.add(
            record.method,
            record.status,
            record.code,
            websocket=record.websocket,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            seconds=record.duration_ms / 1_000,
        )
        if record.websocket:
            self._messages["received"] += record.messages_in
            self._messages["sent"] += record.messages_out
            return
        if record.first_byte_ms is not None:
            self._first_bytes.add(record.first_byte_ms / 1_000)
        if record.lease_wait_ms is not None:
            self._lease_waits.add(record.lease_wait_ms / 1_000)

    async def live(self) -> Verdict:
        return Verdict(True, "live: the event loop turns")

    async def ready(self) -> Verdict:
        if self.draining:
            return Verdict(False, "not ready: taking leave")
        if not self._broker.connected:
            return unregistered(self._broker.facts().trouble)
        return Verdict(True, f"ready: registered as {self._broker.broker_id}")

    async def status(self) -> Mapping[str, Any]:
        verdict, facts = await self.ready(), self._broker.facts()
        session = facts.session
        age = None if session is None else round(session.age_seconds, 3)
        return {
            "ready": verdict.ok,
            "reason": verdict.sentence,
            "version": self._version,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "broker_id": self._broker.broker_id,
            "requests": {
                "total": self._counts.total,
                "in_flight": self._in_flight,
                "queued": self._queued(facts),
            },
            "websockets_open": self._websockets,
            "session": None if session is None else {**asdict(session), "age_seconds": age},
            "reconnects": sum(facts.reconnects.values()),
            "domains": sorted(self._domains()),
        }

    async def reports(self) -> Mapping[str, Report]:
        facts = self._broker.facts()
        session = facts.session
        ages = [] if session is None else [([session.host], session.age_seconds)]
        pings = []
        if session is not None and session.round_trip_seconds is not None:
            pings.append(([session.host], session.round_trip_seconds))
        report: Report = {
            "info": [([self._version, self._broker.broker_id], 1)],
            **self._counts.report(),
            "time_to_first_byte_seconds": [([], self._first_bytes.value())],
            "lease_wait_seconds": [([], self._lease_waits.value())],
            "requests_in_flight": [([], self._in_flight)],
            "requests_queued": [([], self._queued(facts))],
            "websockets_open": [([], self._websockets)],
            "websocket_messages_total": [([way], count) for way, count in self._messages.items()],
            "connected": [([], int(session is not None))],
            "session_age_seconds": [*ages],
            "ping_round_trip_seconds": [*pings],
            "reconnects_total": [([cause], count) for cause, count in facts.reconnects.items()],
            "domains": [([], len(self._domains()))],
            "draining": [([], int(self.draining))],
            "event_loop_lag_seconds": [([], self._late.value())],
            "certificate_expiry_timestamp_seconds": self._expiries(),
            "log_lines_dropped_total": [([], self._lines_dropped())],
            **process_report(),
        }
        return {"": report}

    @property
    def _in_flight(self) -> int:
        return 0 if self.gateway is None else self.gateway.active

    def _queued(self, facts: BrokerFacts) -> int:
        return facts.waiting + (0 if self.gateway is None else self.gateway.waiting)

    @property
    def _websockets(self) -> int:
        return 0 if self.gateway is None else self.gateway.websockets

    def _domains(self) -> set[str]:
        if not self._broker.connected:
            return set()
        return {route.domain for route in self._broker.get_routes()}

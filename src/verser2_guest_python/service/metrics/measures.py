"""What a Guest counts while somebody may ask for its metrics: plain numbers, and a report of them.

Apart from `prometheus.py` because workers report to their supervisor, which alone renders: none of them
needs a metrics library, and counting costs a few additions a request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from verser2_guest_python.guest.facts import GuestFacts
from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.metrics.metric_table import METRICS, Kind

Number: TypeAlias = int | float
Value: TypeAlias = Number | list[Number]
Report: TypeAlias = dict[str, list[tuple[list[str], Value]]]
"""By metric: labels and value of each series. A histogram is its counts, by bucket, and the sum."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER: Final = "other"
CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
WEBSOCKET: Final = "WEBSOCKET"
APP_FAILED: Final = "app "
"""How the reason of a request begins whose app raised, or ended without answering."""


class Histogram:
    """Counts values by bucket, as Prometheus does: a bucket holds what is at most its bound."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def value(self) -> list[Number]:
        """As a report has it."""
        return [*self.counts, self.sum]


class GuestMeasures:
    """Counts what a Guest tells; a lifecycle listener, and one for first bytes.

    Attributes:
        lag: how late timers of the event loop run.
        requests: HTTP requests that are over.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.lag = Histogram(METRICS["event_loop_lag_seconds"].buckets)
        self._by_class: dict[tuple[str, int], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._first_bytes: dict[str, Histogram] = {}
        self._bytes_in = self._bytes_out = 0
        self._app_errors = 0
        self._websockets: dict[int, int] = {}
        self._websocket_bytes_in = self._websocket_bytes_out = 0
        self._reconnects: dict[str, int] = {}

    def __call__(self, event: GuestEvent) -> None:
        """Counts an event."""
        kind = event.type
        if kind == "request-completed":
            self._completed(event.fields)
        elif kind == "reconnecting":
            cause = str(event.fields["cause"])
            self._reconnects[cause] = self._reconnects.get(cause, 0) + 1

    def _completed(self, fields: Mapping[str, Any]) -> None:
        status_class = fields["status"] // 100
        reason = fields["reason"]
        if reason is not None and reason.startswith(APP_FAILED):
            self._app_errors += 1
        method = fields["method"]
        if method == WEBSOCKET:
            self._websockets[status_class] = self._websockets.get(status_class, 0) + 1
            self._websocket_bytes_in += fields["bytes_in"]
            self._websocket_bytes_out += fields["bytes_out"]
            return
        if method not in METHODS:
            method = OTHER
        self.requests += 1
        key = (method, status_class)
        self._by_class[key] = self._by_class.get(key, 0) + 1
        self._bytes_in += fields["bytes_in"]
        self._bytes_out += fields["bytes_out"]
        if (durations := self._durations.get(method)) is None:
            durations = self._durations[method] = Histogram(METRICS["request_duration_seconds"].buckets)
        durations.add(fields["duration_ms"] / 1_000)

    def first_byte(self, method: str, seconds: float) -> None:
        """A response has begun."""
        if method not in METHODS:
            method = OTHER
        if (times := self._first_bytes.get(method)) is None:
            times = self._first_bytes[method] = Histogram(METRICS["time_to_first_byte_seconds"].buckets)
        times.add(seconds)

    def reconnects(self) -> int:
        """Attempts to get a new session, for whatever reason."""
        return sum(self._reconnects.values())

    def report(
        self,
        facts: GuestFacts,
        *,
        guest_id: str,
        version: str,
        draining: bool,
        lines_dropped: int,
        expiries: list[tuple[list[str], Value]],
    ) -> Report:
        """Everything, as it is now."""
        ages: dict[str, float] = {}
        for session in facts.sessions:
            ages[session.host] = max(ages.get(session.host, 0.0), session.age_seconds)
        hosts = [session.host for session in facts.sessions]
        pings = {
            session.host: session.round_trip_seconds
            for session in facts.sessions
            if session.round_trip_seconds is not None
        }
        return {
            "info": [([version, guest_id], 1)],
            "requests_total": [
                ([method, CLASSES[status]], count) for (method, status), count in self._by_class.items()
            ],
            "request_duration_seconds": _histograms(self._durations),
            "time_to_first_byte_seconds": _histograms(self._first_bytes),
            "requests_in_flight": [([], facts.requests_running)],
            "request_bytes_total": [([], self._bytes_in)],
            "response_bytes_total": [([], self._bytes_out)],
            "app_errors_total": [([], self._app_errors)],
            "leases": [(["idle"], facts.leases_idle), (["active"], facts.requests_running)],
            "websockets_open": [([], facts.websockets_open)],
            "websockets_total": [([CLASSES[status]], count) for status, count in self._websockets.items()],
            "websocket_messages_total": [
                (["received"], facts.websocket_messages_received),
                (["sent"], facts.websocket_messages_sent),
            ],
            "websocket_bytes_total": [
                (["received"], self._websocket_bytes_in),
                (["sent"], self._websocket_bytes_out),
            ],
            "registered": [([], int(bool(hosts)))],
            "sessions": [([host], hosts.count(host)) for host in dict.fromkeys(hosts)],
            "session_age_seconds": [([host], age) for host, age in ages.items()],
            "ping_round_trip_seconds": [([host], seconds) for host, seconds in pings.items()],
            "reconnects_total": [([cause], count) for cause, count in self._reconnects.items()],
            "draining": [([], int(draining))],
            "event_loop_lag_seconds": [([], self.lag.value())],
            "certificate_expiry_timestamp_seconds": expiries,
            "log_lines_dropped_total": [([], lines_dropped)],
        }


def _histograms(by_method: dict[str, Histogram]) -> list[tuple[list[str], Value]]:
    return [([method], histogram.value()) for method, histogram in by_method.items()]


def lasting(report: Report) -> Report:
    """What remains true of a process when it has ended: what only grows."""
    return {
        name: series
        for name, series in report.items()
        if name in METRICS and METRICS[name].kind is not Kind.GAUGE
    }


def added(one: Report, other: Report) -> Report:
    """Both together, series by series."""
    result: Report = {}
    for name in (*one, *(name for name in other if name not in one)):
        values: dict[tuple[str, ...], Value] = {}
        for labels, value in (*one.get(name, ()), *other.get(name, ())):
            key = tuple(labels)
            if key in values:
                value = _together(name, values[key], value)
            values[key] = value
        result[name] = [(list(key), value) for key, value in values.items()]
    return result


def _together(name: str, one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [left + right for left, right in zip(one, other, strict=True)]
    assert not isinstance(one, list)  # noqa: S101 - one metric has one kind
    assert not isinstance(other, list)  # noqa: S101
    return max(one, other) if METRICS[name].is_highest else one + other

"""What a Host and a gateway count of every request that is over, whichever of them carried it.

Apart from `measures.py`, which counts what one Guest tells: these two count alike, by method and class of
status, and each knows its own error codes.
"""

from __future__ import annotations

from collections.abc import Mapping

from verser2_guest_python.service.metrics.measures import (
    CLASSES,
    METHODS,
    OTHER,
    WEBSOCKET,
    Histogram,
    Report,
)
from verser2_guest_python.service.metrics.metric_table import Metric


class RequestCounts:
    """Counts for `metrics`; error codes that are not among `codes` count as `other`.

    Attributes:
        total: requests and WebSockets that are over.
    """

    def __init__(self, metrics: Mapping[str, Metric], codes: frozenset[str]) -> None:
        self.total = 0
        self._codes = codes
        self._by_class: dict[tuple[str, str], int] = {}
        self._errors: dict[str, int] = {}
        self._bytes_in = self._bytes_out = 0
        self._durations = Histogram(metrics["request_duration_seconds"].buckets)

    def add(
        self,
        method: str,
        status: int,
        code: str | None,
        *,
        websocket: bool,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
    ) -> None:
        """One that is over, and has `status` 0 without an answer; how long a WebSocket was is not counted."""
        if websocket:
            method = WEBSOCKET
        else:
            self._durations.add(seconds)
            if method not in METHODS:
                method = OTHER
        key = (method, CLASSES[status // 100])
        self.total += 1
        self._by_class[key] = self._by_class.get(key, 0) + 1
        if code:
            if code not in self._codes:
                code = OTHER
            self._errors[code] = self._errors.get(code, 0) + 1
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out

    def report(self) -> Report:
        """Everything counted here, as it is now."""
        return {
            "requests_total": [
                ([method, status], count) for (method, status), count in self._by_class.items()
            ],
            "errors_total": [([code], count) for code, count in self._errors.items()],
            "request_duration_seconds": [([], self._durations.value())],
            "request_bytes_total": [([], self._bytes_in)],
            "response_bytes_total": [([], self._bytes_out)],
        }

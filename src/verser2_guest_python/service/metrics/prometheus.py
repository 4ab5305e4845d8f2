"""Metrics as Prometheus and OpenMetrics read them, made with prometheus_client (extra `metrics`).

Apart from `measures.py` because this library is loaded only when somebody asks, and only by the process
that answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from verser2_guest_python.service.metrics.measures import Report, Value
from verser2_guest_python.service.metrics.metric_table import (
    GATEWAY_METRICS,
    GATEWAY_PREFIX,
    HOST_METRICS,
    HOST_PREFIX,
    METRICS,
    PREFIX,
    WORKER_LABEL,
    Kind,
    Metric,
)

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

MISSING = "Metrics need prometheus_client: install it with pip install 'verser2-guest-python[metrics]'."


class MetricsMissingError(Exception):
    """The extra `metrics` is not installed."""


def render(
    reports: Mapping[str, Report], accept: str, metrics: Mapping[str, Metric] = METRICS
) -> tuple[str, bytes]:
    """Content type and text of the reports of workers, of a Host or of a gateway, as `accept` asks for it.

    Raises `MetricsMissingError`. The first call loads the library: call it in a thread.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise MetricsMissingError(MISSING) from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(reports, metrics))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    def __init__(self, reports: Mapping[str, Report], metrics: Mapping[str, Metric]) -> None:
        self._reports = reports
        self._metrics = metrics
        self._labels: tuple[str, ...] = ()
        if metrics is HOST_METRICS:
            self._prefix = HOST_PREFIX
        elif metrics is GATEWAY_METRICS:
            self._prefix = GATEWAY_PREFIX
        else:
            self._prefix, self._labels = PREFIX, (WORKER_LABEL,)

    def describe(self) -> list[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        for metric in self._metrics.values():
            yield self._family(metric)

    def _family(self, metric: Metric) -> Family:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        name, labels = metric.full_name(self._prefix), (*self._labels, *metric.labels)
        if metric.kind is Kind.HISTOGRAM:
            histograms = HistogramMetricFamily(name, metric.sentence, labels=labels)
            bounds = (*map(str, metric.buckets), "+Inf")
            for values, value in self._series(metric.name):
                assert isinstance(value, list)  # noqa: S101 - a histogram is one in every report
                *counts, total = value
                histograms.add_metric(values, list(zip(bounds, accumulate(counts), strict=True)), total)
            return histograms
        kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
        family = kind(name, metric.sentence, labels=labels)
        for values, value in self._series(metric.name):
            assert not isinstance(value, list)  # noqa: S101
            family.add_metric(values, value)
        return family

    def _series(self, name: str) -> Iterator[tuple[list[str], Value]]:
        for worker, report in self._reports.items():
            for labels, value in report.get(name, ()):
                yield [*((worker,) if self._labels else ()), *labels], value

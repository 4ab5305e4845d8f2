"""`--otel`: whether this process takes part in traces, and where its spans go.

Apart from `integrations/otel.py`, which makes them: only a process may decide where they are sent. What
OpenTelemetry's own variables say counts (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from verser2_guest_python.errors import VerserConfigurationError

FLUSH_SECONDS: Final = 5.0
"""For the last spans to leave, at the end."""


def set_up_tracing(service_name: str) -> Callable[[], None]:
    """Sends spans by OTLP, unless somebody has configured OpenTelemetry already; returns what ends that.

    `service_name` is what the service is called where OTEL_SERVICE_NAME does not say. Raises
    `VerserConfigurationError` without the extra `otel`.
    """
    if any(find_spec(name) is None for name in ("opentelemetry", "opentelemetry.sdk")):
        raise VerserConfigurationError(
            "--otel needs OpenTelemetry: install it with pip install 'verser2-guest-python[otel]'."
        )
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _nothing  # the app has done so
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", service_name)
    provider = TracerProvider(resource=Resource.create(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def shut_down() -> None:
        # In a thread that may be left behind: a collector that is away must not hold up the end
        thread = threading.Thread(target=provider.shutdown, name="otel: the last spans", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)

    return shut_down


def _nothing() -> None:
    """Whoever has configured it ends it."""

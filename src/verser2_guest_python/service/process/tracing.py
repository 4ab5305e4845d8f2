"""`--otel`: whether this process takes part in traces, and where its spans go.

Apart from `integrations/otel`, which makes them: only a process may decide where they are sent. What
OpenTelemetry's own variables say counts (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from os import environ
from typing import Final

from verser2_guest_python.errors import VerserConfigurationError

FLUSH_SECONDS: Final = 5.0
"""For the last spans to leave, at the end."""
_UNNAMED: Final = "unknown_service"
_DELAY_VARIABLE: Final = "OTEL_BSP_SCHEDULE_DELAY"
_MODULES: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.export",
    "verser2_guest_python.integrations.otel",
)


def check_tracing() -> None:
    """Raises `VerserConfigurationError` without the extra `otel`."""
    if any(find_spec(name) is None for name in ("opentelemetry", "opentelemetry.sdk")):
        raise VerserConfigurationError(
            "--otel needs OpenTelemetry: install it with pip install 'verser2-guest-python[otel]'."
        )


def warm_up_tracing() -> None:
    """Loads all that is needed, which takes a while, for who has time now and none later."""
    check_tracing()
    for name in _MODULES:
        import_module(name)


def set_up_tracing(
    service_name: str, *, flush_seconds: float = FLUSH_SECONDS, delay_seconds: float | None = None
) -> Callable[[], bool]:
    """Sends spans by OTLP, unless somebody has configured OpenTelemetry already; returns what ends that.

    That tells whether it could be done in time. `service_name` is what the service is called where
    OpenTelemetry's variables do not say. At the end the last spans get `flush_seconds` to leave; before that
    they do so every `delay_seconds`, None for OpenTelemetry's own default of 5. Raises
    `VerserConfigurationError` without the extra `otel`.
    """
    check_tracing()
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _nothing  # the app has done so
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: service_name}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    delay = None if delay_seconds is None or _DELAY_VARIABLE in environ else delay_seconds * 1_000
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay))
    trace.set_tracer_provider(provider)

    def shut_down() -> bool:
        # In a thread that may be left behind: a collector that is away must not hold up the end
        thread = threading.Thread(target=provider.shutdown, name="otel: the last spans", daemon=True)
        thread.start()
        thread.join(flush_seconds)
        return not thread.is_alive()

    return shut_down


def _nothing() -> bool:
    """Whoever has configured it ends it."""
    return True

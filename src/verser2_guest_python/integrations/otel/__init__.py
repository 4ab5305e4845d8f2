"""OpenTelemetry (extra `otel`): one trace from a caller through gateway, Broker and Host to the app.

    app      server spans: an app call in a Guest, a request in a gateway
    broker   client spans: one for each try of a request, one for a WebSocket until it is open
    host     what a Host carries, and how long it waits for a lease
    common   names and attributes that all of them use

Apart from the roles because none of them knows tracing: an app, a Broker and a Host are wrapped, and
what is not wrapped pays nothing. Contexts travel in the headers that the global propagators write
(`traceparent`, `tracestate`, `baggage`: W3C). Queries, bodies and other headers are in no span.
"""

from __future__ import annotations

from verser2_guest_python.integrations.otel.app import traced_app
from verser2_guest_python.integrations.otel.broker import trace_broker
from verser2_guest_python.integrations.otel.host import trace_host

__all__ = ["trace_broker", "trace_host", "traced_app"]

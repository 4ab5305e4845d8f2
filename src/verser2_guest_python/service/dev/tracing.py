"""`dev --otel`: one trace from the gateway to the app, whichever process the app runs in.

Apart from `tracing.py` because here the parts of one command share it, and whoever works on an app wants to
see a trace at once, and to wait for nothing when no collector is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.process.tracing import check_tracing, set_up_tracing

SERVICE_NAME: Final = "verser2-dev"
"""The process of Host and gateway; an app is called by its domain."""
_FLUSH_SECONDS: Final = 0.5
_DELAY_SECONDS: Final = 0.5


class DevTracing:
    """What each part of `dev` asks for its traces; all of it does nothing where they are not `wanted`."""

    def __init__(self, *, wanted: bool) -> None:
        if wanted:
            check_tracing()
        self._wanted = wanted
        self._end: Callable[[], bool] | None = None

    def start(self, service_name: str) -> None:
        """Sends spans from now on; an app that configures that itself has been imported by now."""
        if self._wanted:
            self._end = set_up_tracing(
                service_name, flush_seconds=_FLUSH_SECONDS, delay_seconds=_DELAY_SECONDS
            )

    def end(self) -> None:
        """Sends what is left, for half a second at most: the next app waits for it."""
        if self._end is not None:
            self._end()

    def host(self, host: VerserHost) -> None:
        """Has the requests of a Host in traces."""
        if self._wanted:
            from verser2_guest_python.integrations.otel import trace_host

            trace_host(host)

    def broker(self, broker: VerserBroker) -> VerserBroker:
        """The same Broker, with its requests in traces."""
        if self._wanted:
            from verser2_guest_python.integrations.otel import trace_broker

            trace_broker(broker)
        return broker

    def app(self, app: ASGIApp) -> ASGIApp:
        """The app, with its requests in traces."""
        if not self._wanted:
            return app
        from verser2_guest_python.integrations.otel import traced_app

        return traced_app(app)

"""The log of `dev`: a line for each request, and for what a Host of one's own finds worth a word.

Apart from `logs/guest.py` because here the Host and the gateway tell of requests: they also know those
that no app has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from verser2_guest_python.host.events import HostEvent, RequestRecord
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.dev.stack import GUEST_ID
from verser2_guest_python.service.logs.access import AccessLog
from verser2_guest_python.service.logs.setup import Logs
from verser2_guest_python.service.settings.model import LogSettings

if TYPE_CHECKING:
    from verser2_guest_python.integrations.gateway import GatewayRecord

GATEWAY_BROKER: Final = "gateway"
_GATEWAY_ID: Final = f"broker-{GATEWAY_BROKER}"
_WARNINGS: Final = frozenset({"refused", "internal-error"})


class DevLog:
    """Writes the lines; without `settings.access_log`, requests get none."""

    def __init__(self, logs: Logs, settings: LogSettings) -> None:
        self._events = logs.events
        self._trace_ids = logs.trace_ids
        self._access: AccessLog | None = None
        if settings.access_log:
            self._access = logs.access(GUEST_ID, query=True)

    def watch(self, host: VerserHost) -> None:
        """Tells of what comes to `host`, from now on."""
        host.on_lifecycle(self._event)
        if self._access is not None:
            host.on_request(self._request)

    def _event(self, event: HostEvent) -> None:
        if event.name in _WARNINGS:
            self._events.warning(event.name, **event.fields)
        else:
            self._events.debug(event.name, **event.fields)

    def _request(self, record: RequestRecord) -> None:
        if self._access is None or record.source_id == _GATEWAY_ID:
            return  # the gateway tells more of it
        self._access.write(
            request_id=record.request_id,
            source_id=record.source_id,
            method="WS" if record.method == "WEBSOCKET" else record.method,  # as the gateway's
            path=record.path,
            status=record.status,
            duration_ms=record.seconds * 1000,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            reason=record.error or "",
            **record.noted,
        )

    def gateway(self, record: GatewayRecord) -> None:
        """A request that came through the gateway."""
        if self._access is None:
            return
        self._access.write(
            request_id=record.request_id,
            source_id=_GATEWAY_ID if record.request_id.startswith(_GATEWAY_ID) else GATEWAY_BROKER,
            method="WS" if record.websocket else record.method,
            path=record.path,
            status=record.status or None,
            duration_ms=record.duration_ms,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            reason=record.reason,
            **self._trace_ids(),
        )

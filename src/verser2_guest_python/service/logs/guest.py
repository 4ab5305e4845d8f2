"""What a Guest does, as log lines: registration, each request, loss and return.

Apart from the Guest, which only tells events: what is worth a line, and how often, is for whoever
reads the log at night. An outage is told once and then once a minute, not at every attempt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from verser2_guest_python.guest.guest import VerserGuest
from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.logs.access import AccessLog
from verser2_guest_python.service.logs.setup import Logs
from verser2_guest_python.service.metrics.measures import APP_FAILED
from verser2_guest_python.service.metrics.totals import Totals

_GUEST_LOGGER: Final = "verser2_guest_python.guest"
OUTAGE_REMINDER_SECONDS: Final = 60.0
_REMEMBERED_REASONS: Final = 32  # a Host may have any number of words for it


class GuestLog:
    """A lifecycle listener that writes lines; without `access`, requests get none."""

    def __init__(
        self, logs: Logs, access: AccessLog | None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._events = logs.events
        self._access = access
        self._said: dict[str, float] = {}  # the reasons of this outage that were told, and when
        self.registered = False
        self.totals = Totals()

    def __call__(self, event: GuestEvent) -> None:
        fields = event.fields
        match event.type:
            case "request-completed":
                self.totals.add(failed=str(fields["reason"] or "").startswith(APP_FAILED))
                if self._access is not None:
                    _write(self._access, event)
            case "request-started":
                self._events.debug("request started", request_id=fields["request_id"])
            case "registered":
                self.registered = True
                self._said.clear()
                self._events.info("registered", **fields)
            case "disconnected":
                self.registered = False
                self._remember(str(fields.get("reason")))
                self._events.warning("disconnected", **fields)
            case "reconnecting":
                self._outage(event)
            case "draining":
                if self.registered:
                    self._events.info("draining", **fields)
            case "error":
                self._remember(str(fields.get("reason")))
                self._events.error("error", **fields)
            case "route-revoked":
                self._events.info("route revoked", **fields)
            case "connected" | "closed":
                self._events.debug(event.type, **fields)

    def _outage(self, event: GuestEvent) -> None:
        reason = str(event.fields.get("reason"))
        if self._is_known(reason):
            self._events.debug("reconnecting", **event.fields)
        else:
            self._remember(reason)
            self._events.warning("reconnecting", reason=reason)

    def _is_known(self, reason: str) -> bool:
        said_at = self._said.get(reason)
        return said_at is not None and self._now() - said_at < OUTAGE_REMINDER_SECONDS

    def _remember(self, reason: str) -> None:
        if len(self._said) >= _REMEMBERED_REASONS:
            self._said.clear()
        self._said[reason] = self._now()


def _is_no_event(record: logging.LogRecord) -> bool:
    """A filter for the Guest's own logger: what it says of an outage is told by events, with their fields."""
    return record.module != "keeper"


def watch(guest: VerserGuest, log: GuestLog) -> None:
    """Has `log` tell what `guest` does, for the rest of the process."""
    guest.on_lifecycle(log)
    logging.getLogger(_GUEST_LOGGER).addFilter(_is_no_event)


def _write(access: AccessLog, event: GuestEvent) -> None:
    fields = event.fields
    access.write(
        request_id=str(fields["request_id"]),
        source_id=str(fields["source_id"]),
        method=str(fields["method"]),
        path=str(fields["path"]),
        status=int(fields["status"] or 0) or None,
        duration_ms=float(fields["duration_ms"] or 0.0),
        bytes_in=int(fields["bytes_in"] or 0),
        bytes_out=int(fields["bytes_out"] or 0),
        reason=str(fields["reason"] or ""),
        session_id=str(fields.get("session_id") or ""),
        trace_id=str(fields.get("trace_id") or ""),
        span_id=str(fields.get("span_id") or ""),
    )

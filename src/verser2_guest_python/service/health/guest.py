"""How the one Guest of this process is: counted, watched, and put into words.

Apart from `health.py` because a worker knows it too, and tells its supervisor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

from verser2_guest_python.guest.guest import GuestState, VerserGuest
from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.certificates.expiry import Expiries
from verser2_guest_python.service.health.checks import Verdict, unregistered
from verser2_guest_python.service.metrics.loop_lag import LoopLag
from verser2_guest_python.service.metrics.measures import GuestMeasures, Report
from verser2_guest_python.service.metrics.metric_table import METRICS, Metric
from verser2_guest_python.service.metrics.process_facts import process_report

DISTRIBUTION: Final = "verser2-guest-python"
ALONE: Final = "1"
"""The number of a worker that is the only one."""


class GuestHealth:
    """Watches `guest` from now on, in the running loop; `stop` at the end.

    `lines_dropped` tells how many lines of log were lost, `expiries` how long certificates hold.
    """

    metrics: Mapping[str, Metric] = METRICS

    def __init__(
        self, guest: VerserGuest, lines_dropped: Callable[[], int], expiries: Expiries = list
    ) -> None:
        self._guest = guest
        self._expiries = expiries
        self._lines_dropped = lines_dropped
        self._version = version(DISTRIBUTION)
        self._began = time.monotonic()
        self._measures = GuestMeasures()
        self._trouble = ""  # why there was no session the last time
        guest.on_lifecycle(self._measures)
        guest.on_lifecycle(self._note)
        guest.on_first_byte(self._measures.first_byte)
        self._lag = LoopLag(self._measures.lag.add)

    def stop(self) -> None:
        """Watches no more."""
        self._lag.stop()

    def _note(self, event: GuestEvent) -> None:
        if event.type in ("disconnected", "reconnecting", "error"):
            self._trouble = str(event.fields.get("reason") or "")

    async def live(self) -> Verdict:
        return Verdict(True, "live: the event loop turns")

    async def ready(self) -> Verdict:
        return self.readiness()

    def readiness(self) -> Verdict:
        """Whether requests can come, and if not, why."""
        guest = self._guest
        state = guest.state
        if state is GuestState.NEW:
            return Verdict(False, "not ready: the app is starting")
        if state is not GuestState.SERVING:
            return Verdict(False, f"not ready: {state.value}")
        sessions = guest.facts().sessions
        if not sessions:
            return unregistered(self._trouble)
        where = ", ".join(f"{session.host} as {session.peer_id}" for session in sessions)
        return Verdict(True, f"ready: registered at {where}")

    async def status(self) -> Mapping[str, Any]:
        return self.facts()

    async def reports(self) -> Mapping[str, Report]:
        return {ALONE: self.report()}

    def report(self) -> Report:
        """The metrics as they are now."""
        measured = self._measures.report(
            self._guest.facts(),
            guest_id=self._guest.guest_id,
            version=self._version,
            draining=self._guest.state is GuestState.DRAINING,
            lines_dropped=self._lines_dropped(),
            expiries=self._expiries(),
        )
        return {**measured, **process_report()}

    def facts(self) -> dict[str, Any]:
        """What /status says of this Guest."""
        guest, measures = self._guest, self._measures
        facts, verdict = guest.facts(), self.readiness()
        return {
            "ready": verdict.ok,
            "reason": verdict.sentence,
            "state": guest.state.name.lower(),
            "guest_id": guest.guest_id,
            "version": self._version,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "domains": list(guest.routed_domains),
            "sessions": [
                {
                    "host": session.host,
                    "guest_id": session.peer_id,
                    "age_seconds": round(session.age_seconds, 3),
                    "round_trip_seconds": session.round_trip_seconds,
                }
                for session in facts.sessions
            ],
            "requests": {"total": measures.requests, "in_flight": facts.requests_running},
            "leases": {"idle": facts.leases_idle, "active": facts.requests_running},
            "websockets_open": facts.websockets_open,
            "reconnects": measures.reconnects(),
        }

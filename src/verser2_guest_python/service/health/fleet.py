"""How all workers of a supervisor are: asked when somebody asks, and put together.

Apart from `supervisor.py`, which keeps them running and knows nothing of metrics. Counters go on where a
worker is replaced: what one had counted when it ended is kept for its slot.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, cast

from verser2_guest_python.service.health.checks import Verdict
from verser2_guest_python.service.health.guest import DISTRIBUTION
from verser2_guest_python.service.metrics.measures import Report, added, lasting
from verser2_guest_python.service.metrics.metric_table import METRICS, SUPERVISOR, Metric
from verser2_guest_python.service.metrics.process_facts import process_report
from verser2_guest_python.service.metrics.totals import totals_fields
from verser2_guest_python.service.process.supervisor import Supervisor
from verser2_guest_python.service.process.worker_process import WorkerProcess, WorkerState

REPORT_SECONDS: Final = 2.0
"""For a worker to report; one whose event loop is blocked for longer counts as silent."""


class FleetHealth:
    """Knows how the workers of `supervisor` are."""

    metrics: Mapping[str, Metric] = METRICS

    def __init__(self, supervisor: Supervisor, guest_id: str) -> None:
        self._supervisor = supervisor
        self._guest_id = guest_id
        self._version = version(DISTRIBUTION)
        self._began = time.monotonic()
        self._kept: dict[int, Report] = {}
        self._starts: dict[int, int] = {}
        self._asking: asyncio.Task[dict[WorkerProcess, bool]] | None = None
        supervisor.on_worker_started = self._started
        supervisor.on_worker_ended = self._ended

    def _started(self, worker: WorkerProcess) -> None:
        self._starts[worker.slot] = self._starts.get(worker.slot, 0) + 1

    def _ended(self, worker: WorkerProcess) -> None:
        metrics = worker.report.get("metrics", {})
        self._kept[worker.slot] = added(self._kept.get(worker.slot, {}), lasting(metrics))

    async def _ask(self) -> dict[WorkerProcess, bool]:
        """Whether each worker has reported just now; those who ask at the same time ask together."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask_all(), name="health: reports")
        answers = await asyncio.shield(self._asking)
        there = self._supervisor.all_workers  # one that has ended meanwhile is in what was kept
        return {worker: came for worker, came in answers.items() if worker in there}

    async def _ask_all(self) -> dict[WorkerProcess, bool]:
        workers = [worker for worker in self._supervisor.all_workers if worker.state is not WorkerState.GONE]
        answers = await asyncio.gather(*(worker.ask_report(REPORT_SECONDS) for worker in workers))
        return dict(zip(workers, answers, strict=True))

    async def close(self) -> None:
        """Ends a question that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))

    async def live(self) -> Verdict:
        """A worker that still starts may be busy with its imports; one that has served has to answer."""
        answers = await self._ask()
        served = {worker: came for worker, came in answers.items() if worker.state is WorkerState.READY}
        if served and not any(served.values()):
            return Verdict(False, f"not live: no worker has answered within {REPORT_SECONDS:g} s")
        return Verdict(True, "live: the supervisor and its workers answer")

    async def ready(self) -> Verdict:
        answers = await self._ask()
        ready = [worker for worker, came in answers.items() if came and _status(worker).get("ready")]
        if self._supervisor.stopping:
            return Verdict(False, "not ready: draining")
        if not ready:
            return Verdict(False, "not ready: no worker is registered at any Host")
        names = ", ".join(sorted(worker.peer_id for worker in ready))
        return Verdict(True, f"ready: {len(ready)} of {len(answers)} workers are registered ({names})")

    async def status(self) -> Mapping[str, Any]:
        verdict = await self.ready()
        answers = await self._ask()
        workers = sorted(answers, key=lambda worker: (worker.slot, worker.peer_id))
        return {
            "ready": verdict.ok,
            "reason": verdict.sentence,
            "state": "draining" if self._supervisor.stopping else "serving",
            "guest_id": self._guest_id,
            "version": self._version,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "requests": {
                "total": self._total("requests_total"),
                "in_flight": sum(_status(one).get("requests", {}).get("in_flight", 0) for one in workers),
            },
            "workers": [
                {
                    "slot": worker.slot,
                    "process": worker.state.value,
                    "answers": answers[worker],
                    "guest_id": worker.peer_id,
                    "pid": worker.pid,
                    "ready": False,
                    **_status(worker),
                }
                for worker in workers
            ],
        }

    def totals(self) -> dict[str, int]:
        """What all workers have done, those too that have ended, as far as they have told."""
        requests = self._total("requests_total") + self._total("websockets_total")
        return totals_fields(requests, self._total("app_errors_total"))

    def _total(self, name: str) -> int:
        workers = self._supervisor.all_workers
        reports = (*self._kept.values(), *(one.report.get("metrics", {}) for one in workers))
        return sum(value for report in reports for _, value in report.get(name, ()))

    async def reports(self) -> Mapping[str, Report]:
        answers = await self._ask()
        reports = dict(self._kept)
        # Also one that has ended and is not in what was kept yet: a counter never goes down
        for worker in sorted(self._supervisor.all_workers, key=lambda worker: worker.peer_id):
            metrics = cast("Report", worker.report.get("metrics", {}))
            if answers.get(worker, False):
                reports[worker.slot] = added(reports.get(worker.slot, {}), metrics)
            else:  # its counters are not lost, and what it does now is not known
                reports[worker.slot] = added(reports.get(worker.slot, {}), lasting(metrics))
        for slot, starts in self._starts.items():
            reports[slot] = added(reports.get(slot, {}), {"worker_starts_total": [([], starts)]})
        return {**{str(slot): one for slot, one in sorted(reports.items())}, SUPERVISOR: process_report()}


def _status(worker: WorkerProcess) -> dict[str, Any]:
    return cast("dict[str, Any]", worker.report.get("status", {}))

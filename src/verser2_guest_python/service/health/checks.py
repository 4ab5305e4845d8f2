"""What health checks and metrics are answered: the same four paths for a Guest alone and for a supervisor.

    /livez    200 while the event loop turns; else nothing comes, or 503
    /readyz   200 while requests can come: registered, the app started, not draining
    /metrics  for Prometheus (extra `metrics`)
    /status   the same facts as JSON, for people and scripts

Apart from `server.py`, which speaks HTTP, and from the two who know the facts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from verser2_guest_python.service.health.server import HealthAnswer, HealthServer
from verser2_guest_python.service.metrics.measures import Report
from verser2_guest_python.service.metrics.metric_table import Metric
from verser2_guest_python.service.metrics.prometheus import MetricsMissingError, render
from verser2_guest_python.service.output.text import safe
from verser2_guest_python.service.settings.health_address import HealthAddress, parse_listen
from verser2_guest_python.service.settings.model import HealthSettings

JSON: Final = "application/json"
PATHS: Final = ("/livez", "/readyz", "/metrics", "/status")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes or no, and the sentence that says why."""

    ok: bool
    sentence: str


def unregistered(trouble: str) -> Verdict:
    """Not ready: there is no session, and `trouble` is why, if that is known."""
    why = f": {safe(trouble)}" if trouble else ""
    return Verdict(False, f"not ready: not registered at any Host{why}")


class Health(Protocol):
    """Who knows how the process is; `metrics` is the table of what it reports."""

    metrics: Mapping[str, Metric]

    async def live(self) -> Verdict: ...
    async def ready(self) -> Verdict: ...
    async def status(self) -> Mapping[str, Any]: ...

    async def reports(self) -> Mapping[str, Report]:
        """The metrics of each worker, by its number."""


async def answer(health: Health, path: str, headers: Mapping[str, str]) -> HealthAnswer:
    """What is answered on a path."""
    match path:
        case "/livez":
            return _verdict(await health.live())
        case "/readyz":
            return _verdict(await health.ready())
        case "/status":
            text = json.dumps(await health.status(), indent=2) + "\n"
            return HealthAnswer(HTTPStatus.OK, text.encode(), JSON)
        case "/metrics":
            reports = await health.reports()
            try:
                content_type, body = await asyncio.to_thread(
                    render, reports, headers.get("accept", ""), health.metrics
                )
            except MetricsMissingError as error:
                return HealthAnswer(HTTPStatus.NOT_IMPLEMENTED, f"{error}\n".encode())
            return HealthAnswer(HTTPStatus.OK, body, content_type)
    return HealthAnswer(HTTPStatus.NOT_FOUND, f"There is {', '.join(PATHS)}.\n".encode())


def _verdict(verdict: Verdict) -> HealthAnswer:
    status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return HealthAnswer(status, f"{verdict.sentence}\n".encode())


def addresses(settings: HealthSettings) -> list[HealthAddress]:
    """Where the settings say to listen: nowhere, or at one or two places; raises `VerserUsageError`."""
    found = [] if settings.listen is None else [parse_listen(settings.listen)]
    return found if settings.socket is None else [*found, HealthAddress(path=settings.socket)]


@asynccontextmanager
async def answering(settings: HealthSettings, health: Health, log: Any) -> AsyncIterator[None]:
    """Answers health checks where the settings say, inside of the block.

    Raises `VerserConfigurationError` when one of the places cannot be had.
    """

    async def handle(path: str, headers: Mapping[str, str]) -> HealthAnswer:
        return await answer(health, path, headers)

    servers: list[HealthServer] = []
    try:
        for address in addresses(settings):
            server = await HealthServer.open(address, handle)
            servers.append(server)
            log.info("health", address=str(server.address))
        yield
    finally:
        for server in servers:
            await server.close()

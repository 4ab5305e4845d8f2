"""Several workers, or one that is started anew when its source changes: the process that owns them.

Apart from `guest.py`, which is what each worker runs. The supervisor imports no app and dials no
Host; it runs on asyncio's own loop, which leaves SIGCHLD to us.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.certificates.watch import watched_certificates
from verser2_guest_python.service.daemons.checks import (
    check_credentials,
    warn_of_credentials,
    warn_of_variables,
)
from verser2_guest_python.service.health.checks import answering
from verser2_guest_python.service.health.fleet import FleetHealth
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.process.exit_codes import WorkerFailedError
from verser2_guest_python.service.process.reload import SourceFilter, changes, require_watchfiles
from verser2_guest_python.service.process.supervisor import Supervisor
from verser2_guest_python.service.process.systemd import Notifier, counted
from verser2_guest_python.service.process.worker_process import WORKER_REPORTS_VARIABLE
from verser2_guest_python.service.settings.model import Settings, TlsSettings

_DISTRIBUTION = "verser2-guest-python"


def run_workers(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs the workers that `settings` ask for until told to stop; `arguments` are those of this command.

    Raises `VerserConfigurationError` where processes cannot be supervised, and for what no worker could
    work with; `WorkerFailedError` when none of them ever served.
    """
    if sys.platform == "win32":
        raise VerserConfigurationError("--workers and --reload need a system with signals and socket pairs.")
    source = watched_source(settings) if settings.workers.reload else None
    check_credentials(settings.tls)
    logs = set_up_logs(settings.log)
    # -P: what lies in the current directory does not stand in for what we import, as in the command itself
    command = (sys.executable, "-P", "-m", "verser2_guest_python", *arguments)
    supervisor = Supervisor(
        command,
        settings.guest_id,
        settings.workers.workers,
        drain_seconds=settings.session.timeout_graceful_shutdown,
        log=logs.events,
        patient=source is not None,
        last_words=logs.last_words,
    )
    warn_of_credentials(settings.tls, logs)
    warn_of_variables(logs)
    logs.events.info(
        "supervising",
        workers=settings.workers.workers,
        guest_id=settings.guest_id,
        version=version(_DISTRIBUTION),
        pid=os.getpid(),
    )
    code, totals = asyncio.run(_run(settings, supervisor, source, logs))
    if supervisor.failure:
        if not logs.is_json:
            logs.flush()
            raise WorkerFailedError(supervisor.failure, code)
        logs.events.error("stopped", reason=supervisor.failure, exit_code=code)
    else:
        logs.events.info("stopped", exit_code=code, **totals)
    return code


def watched_source(settings: Settings) -> SourceFilter:
    """What is watched; raises `VerserConfigurationError` where that cannot be done."""
    require_watchfiles()
    workers = settings.workers
    directories = workers.reload_dir or (Path.cwd(), settings.app_dir)
    for directory in directories:
        if not directory.is_dir():
            raise VerserConfigurationError(f"{directory} cannot be watched: there is no such directory.")
    return SourceFilter(directories, workers.reload_include, workers.reload_exclude)


async def _run(
    settings: Settings, supervisor: Supervisor, source: SourceFilter | None, logs: Logs
) -> tuple[int, dict[str, int]]:
    """The exit code, and what all workers have done, if they were asked; each says its own anyway."""
    notifier = Notifier.of_process()
    if not settings.health.wanted and notifier is None:
        return await _supervise(supervisor, source, settings.tls, logs), {}
    os.environ[WORKER_REPORTS_VARIABLE] = "1"
    async with AsyncExitStack() as stack:
        health = FleetHealth(supervisor, settings.guest_id)
        stack.push_async_callback(health.close)
        await stack.enter_async_context(answering(settings.health, health, logs.events))
        if notifier is not None:
            _notify(supervisor, notifier)
            await stack.enter_async_context(notifier.watched(partial(_describe, health, settings)))
        code = await _supervise(supervisor, source, settings.tls, logs)
        return code, health.totals()


def _notify(supervisor: Supervisor, notifier: Notifier) -> None:
    """Has systemd told what the supervisor does."""
    supervisor.on_settled = notifier.started
    supervisor.on_reload = lambda begins: notifier.reloading() if begins else notifier.ready()
    supervisor.on_stopping = notifier.stopping


async def _describe(health: FleetHealth, settings: Settings) -> tuple[bool, str]:
    status, live = await health.status(), await health.live()
    ready = sum(bool(worker["ready"]) for worker in status["workers"])
    requests = status["requests"]
    return live.ok, (
        f"{ready} of {counted(len(status['workers']), 'worker')} registered; "
        f"{counted(len(settings.routed_domains), 'route')}, {counted(requests['total'], 'request')}, "
        f"{requests['in_flight']} in flight"
    )


async def _supervise(
    supervisor: Supervisor, source: SourceFilter | None, tls: TlsSettings, logs: Logs
) -> int:
    loop = asyncio.get_running_loop()
    running = loop.create_task(supervisor.run(), name="supervisor")
    if source is None:
        async with watched_certificates(tls, logs.events, supervisor.reload_in_turn):
            return await running
    watching = loop.create_task(_reload(supervisor, source, logs), name="reload")
    try:
        await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            supervisor.stop()
            await running
            watching.result()
        return await running
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _reload(supervisor: Supervisor, source: SourceFilter, logs: Logs) -> None:
    async for paths in changes(source):
        shown = ", ".join(path.name for path in paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        logs.events.info("source changed", files=shown + more)
        supervisor.reload()

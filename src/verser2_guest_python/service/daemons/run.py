"""Which kind of process this is: a worker, the supervisor of several, or a Guest alone.

Apart from the three because none of them needs to know the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from verser2_guest_python.service.daemons.checks import check_settings
from verser2_guest_python.service.process.worker_process import WORKER_ID_VARIABLE
from verser2_guest_python.service.settings.model import Settings


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Serves as `settings` say until told to stop; returns the exit code.

    `arguments` are those of this command: workers are started with them once more. Raises
    `VerserError` for what failed before the first line of the log, or while the log goes to a terminal.
    """
    check_settings(settings)
    if os.environ.get(WORKER_ID_VARIABLE):
        from verser2_guest_python.service.daemons.guest import run_guest
        from verser2_guest_python.service.process.worker import Worker

        return run_guest(settings, Worker.of_this_process())
    if settings.workers.workers > 1 or settings.workers.reload:
        from verser2_guest_python.service.daemons.workers import run_workers

        return run_workers(settings, arguments)
    from verser2_guest_python.service.daemons.guest import run_guest

    return run_guest(settings)

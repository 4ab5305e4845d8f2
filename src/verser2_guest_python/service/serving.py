"""A Guest from its start to the end of the process: serve, drain at the first signal, end at the second.

Apart from `run_guest.py` because `dev` and the demo end in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from verser2_guest_python.guest.guest import GuestState, VerserGuest
from verser2_guest_python.service.exit_codes import ExitCode
from verser2_guest_python.service.signals import StopSignals


async def serve_until_stopped(guest: VerserGuest, work: Coroutine[Any, Any, None]) -> int:
    """Runs `work`, which serves `guest` and returns once that is closed; returns the exit code.

    The first signal closes the Guest with a drain. At the second this returns at once, and the end of
    the loop cancels what is left, which closes the session in good order. What `work` raises, this
    raises.
    """
    loop = asyncio.get_running_loop()
    serving = loop.create_task(work, name="serving")
    hurry = asyncio.Event()
    tasks = [serving]

    def drain(name: str) -> None:
        if guest.state is GuestState.NEW:  # still starting: there is nothing to drain
            serving.cancel()
        tasks.append(loop.create_task(guest.close(f"{name} received"), name="closing"))

    signals = StopSignals(loop, drain, lambda _name: hurry.set())
    signals.install()
    hurrying = loop.create_task(hurry.wait(), name="hurry")
    try:
        for task in tasks:  # `drain` adds to them while the first one is awaited
            await asyncio.wait((task, hurrying), return_when=asyncio.FIRST_COMPLETED)
            if (code := signals.exit_code()) is not None:
                logging.disable()  # what is torn out by the roots has nothing to say that helps
                return code
            if not task.cancelled():
                task.result()
    finally:
        hurrying.cancel()
    return ExitCode.DONE

"""One `broker` command in its event loop, until it is done or a signal ends it in good order.

Apart because it is the same for a request, a load run, a table of routes and a WebSocket: the first SIGINT
or SIGTERM cancels what is under way, so that apps and the Host learn of it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from verser2_guest_python.service.output.errors import OutputClosed
from verser2_guest_python.service.process.exit_codes import ExitCode, exit_code_of_signal


def run_until_signal(main: Callable[[], Coroutine[Any, Any, int]], *, fast_loop: bool = False) -> int:
    """Runs `main` and returns its exit code, or that of the signal which ended it.

    `fast_loop` takes the loop of the daemons, which costs time at the start and saves it later.
    """
    if fast_loop:
        from verser2_guest_python.service.process.event_loop import run_in_loop

        return run_in_loop(_until_signal(main))
    with asyncio.Runner() as runner:
        return runner.run(_until_signal(main))


async def _until_signal(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # not on Windows
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except OutputClosed:
        return ExitCode.DONE  # `| head` has what it wanted
    except asyncio.CancelledError:
        if not received:
            raise
        return exit_code_of_signal(received[0])

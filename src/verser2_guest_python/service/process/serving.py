"""A Guest from its start to the end of the process: serve, drain at the first signal, end at the second.

Apart from `daemons/guest.py` because `dev` and the demo end in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from signal import Signals
from typing import Any

from verser2_guest_python.guest.guest import GuestState, VerserGuest
from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.process.hang_up import HangUp
from verser2_guest_python.service.process.signals import STOP_SIGNALS, StopSignals


class Serving:
    """One Guest that serves; made in the loop that it serves in. While it runs, `stop` ends it too.

    `last_words` is called where the process ends without coming back here.
    """

    def __init__(
        self,
        guest: VerserGuest,
        *,
        stop_signals: Sequence[Signals] = STOP_SIGNALS,
        last_words: Callable[[], None] = lambda: None,
    ) -> None:
        self._guest = guest
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._hurry = asyncio.Event()
        self._hang_up: Callable[[], None] = lambda: None
        self._signals = StopSignals(
            self._loop,
            self.stop,
            lambda _reason: self._hurry.set(),
            stop_signals,
            last_words=last_words,
        )

    def on_hang_up(self, reload: Callable[[], None]) -> None:
        """Has SIGHUP call `reload`, or stop the Guest where it says that the terminal was closed."""
        self._hang_up = partial(HangUp(self._loop, self._signals).install, reload)

    def stop(self, reason: str, timeout: float | None = None) -> None:
        """Closes the Guest with a drain, of `timeout` seconds if it is given; once more does nothing more."""
        if self._guest.state is GuestState.NEW:  # still starting: there is nothing to drain
            self._tasks[0].cancel()
        self._tasks.append(self._loop.create_task(self._guest.close(reason, timeout), name="closing"))

    async def run(self, work: Coroutine[Any, Any, None]) -> int:
        """Runs `work`, which serves the Guest and returns once that is closed; returns the exit code.

        At the second signal this returns at once, and the end of the loop cancels what is left, which
        closes the session in good order. What `work` raises, this raises.
        """
        self._tasks.insert(0, self._loop.create_task(work, name="serving"))
        self._signals.install()
        self._hang_up()
        hurrying = self._loop.create_task(self._hurry.wait(), name="hurry")
        try:
            for task in self._tasks:  # `stop` adds to them while the first one is awaited
                await asyncio.wait((task, hurrying), return_when=asyncio.FIRST_COMPLETED)
                if (code := self._signals.exit_code()) is not None:
                    logging.disable()  # what is torn out by the roots has nothing to say that helps
                    return code
                if not task.cancelled():
                    task.result()
        finally:
            hurrying.cancel()
        return ExitCode.DONE


async def serve_until_stopped(
    guest: VerserGuest,
    work: Coroutine[Any, Any, None],
    *,
    last_words: Callable[[], None] = lambda: None,
) -> int:
    """Runs `work` as `Serving.run` does, until a signal says otherwise; returns the exit code."""
    return await Serving(guest, last_words=last_words).run(work)

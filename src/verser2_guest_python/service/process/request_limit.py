"""`--limit-max-requests`: after so many requests a process has done its share.

Apart from `worker.py` because a Guest without supervisor knows it too: there the process ends, and
whoever started it starts it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from verser2_guest_python.guest.lifecycle import GuestEvent


class RequestLimit:
    """Counts requests, and says once when there were enough; a lifecycle listener.

    `jitter` adds up to so many, by chance, so that workers of the same age do not tire together.
    """

    def __init__(self, limit: int, jitter: int, on_reached: Callable[[], None]) -> None:
        self._left = limit + random.randint(0, jitter)  # noqa: S311 - no secret
        self._on_reached = on_reached

    def __call__(self, event: GuestEvent) -> None:
        """Counts requests that are over."""
        if event.type == "request-completed":
            self._left -= 1
            if self._left == 0:
                self._on_reached()

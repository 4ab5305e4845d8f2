"""How many requests and WebSockets wait in a Broker at this moment, and have not left it.

Apart from those who wait because they do it in many places: for a session, for a route, before another
attempt. Whoever has to wait does it `with queue:`; nobody else pays for it.
"""

from __future__ import annotations

from types import TracebackType


class Queue:
    """Counts those who wait; may be entered by any number of tasks."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = 0

    def __enter__(self) -> None:
        self.waiting += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.waiting -= 1

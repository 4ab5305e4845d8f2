"""How much a process has done in all, for its last line: what was counted after the last scrape is lost else.

Apart from the metrics because it costs nothing, and is there without them.
"""

from __future__ import annotations


class Totals:
    """Requests and WebSockets that are over, and how many of them failed."""

    def __init__(self) -> None:
        self._requests = 0
        self._errors = 0

    def add(self, *, failed: bool) -> None:
        """One that is over."""
        self._requests += 1
        self._errors += failed

    def fields(self) -> dict[str, int]:
        """For the line."""
        return totals_fields(self._requests, self._errors)


def totals_fields(requests: int, errors: int) -> dict[str, int]:
    """The same of numbers that were counted elsewhere."""
    return {"requests_total": requests, "errors_total": errors}

"""Latencies of a load run: percentiles, and a histogram that shows the bulk and the tail alike.

Apart because it is arithmetic. Buckets grow by steps of a logarithmic scale, since a few slow requests
would leave all others in one row of a linear one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

from verser2_guest_python.service.output.text import duration

# Upper ends of the buckets of one power of ten
_STEPS: Final = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
_SHOWN_PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_EDGES: Final = tuple(step * 10.0**power for power in range(-2, 7) for step in _STEPS)  # milliseconds
_BAR_WIDTH: Final = 40


class Latencies:
    """Times of requests, in milliseconds: eight bytes each."""

    def __init__(self) -> None:
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values)

    def add(self, milliseconds: float) -> None:
        self._values.append(milliseconds)

    def percentile(self, percent: float) -> float:
        """The smallest value that `percent` per cent of all do not exceed (nearest rank)."""
        ordered = sorted(self._values)
        return ordered[_rank(percent, len(ordered))]

    def summary(self) -> list[tuple[str, str]]:
        """Names and values: the extremes, the mean, the percentiles that so many values can support."""
        ordered = sorted(self._values)
        count = len(ordered)
        rows = [("fastest", ordered[0]), ("mean", sum(ordered) / count)]
        rows += [
            (f"{percent:g} %", ordered[_rank(percent, count)])
            for percent in _SHOWN_PERCENTILES
            if round(count * (100.0 - percent)) >= 100 or percent == _SHOWN_PERCENTILES[0]
        ]
        rows.append(("slowest", ordered[-1]))
        return [(name, duration(value)) for name, value in rows]

    def histogram(self, blocks: str = "█") -> list[str]:
        """One line for each bucket from the fastest to the slowest value."""
        counts: dict[int, int] = {}
        for value in self._values:
            index = min(bisect_left(_EDGES, value), len(_EDGES) - 1)
            counts[index] = counts.get(index, 0) + 1
        most = max(counts.values())
        width = len(f"{most:,}")
        lines = []
        for index in range(min(counts), max(counts) + 1):
            count = counts.get(index, 0)
            bar = blocks * max(round(count / most * _BAR_WIDTH), 1 if count else 0)
            lines.append(f"{f'up to {_label(_EDGES[index])}':>14}  {count:>{width},}  {bar}".rstrip())
        return lines


def _label(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


def _rank(percent: float, count: int) -> int:
    return max(0, min(count - 1, -int(-percent * count // 100) - 1))

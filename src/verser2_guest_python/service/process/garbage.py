"""How often a daemon lets Python look for garbage: seldom, and never through what is there for good.

Apart because it is for processes that serve until they are stopped, and no library's business. Nothing that
a request needs here is garbage of that kind; yet looking for some took 4 to 9 % of the CPU of a request, and
up to 30 ms at a time.
"""

from __future__ import annotations

import gc
from typing import Final

_OBJECTS: Final = (
    5_000  # more than were there at the last look; Python's own number is 700, from 3.13 on 2,000
)


def look_seldom() -> None:
    """Before the app is imported, so that one which has a number of its own in mind keeps it."""
    _, second, third = gc.get_threshold()
    gc.set_threshold(_OBJECTS, second, third)


def pass_over_what_is_there() -> None:
    """What has been loaded by now stays: no look goes through it again. Garbage among it goes first."""
    gc.collect()
    gc.freeze()

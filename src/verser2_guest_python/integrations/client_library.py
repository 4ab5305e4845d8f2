"""httpx2 and httpx, seen as the same thing: whichever of them asks is answered in its own classes.

Apart because everything else here is written once for both. Neither is imported before one of its
requests is there, and neither needs the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

NAMES: Final = ("httpx2", "httpx")


@dataclass(frozen=True, slots=True)
class ClientLibrary:
    """One of the two; its public names are attributes of `module`."""

    module: Any

    def error(self, name: str, message: str) -> Exception:
        """A new exception of that name."""
        error: Exception = getattr(self.module, name)(message)
        return error


def library_of(request: Any) -> ClientLibrary:
    """The library that this request is of; `TypeError` when it is of neither."""
    for base in type(request).__mro__:
        name = base.__module__.partition(".")[0]
        if name in NAMES:
            return _load(name)
    raise TypeError(f"{type(request).__name__} is not a request of {' or '.join(NAMES)}.")


@lru_cache(maxsize=len(NAMES))
def _load(name: str) -> ClientLibrary:
    return ClientLibrary(import_module(name))

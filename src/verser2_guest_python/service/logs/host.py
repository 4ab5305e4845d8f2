"""What a Host does, as log lines: who comes, who is refused and why, who leaves.

Apart from the Host, which only tells events: what is worth a line, and how often, is for whoever reads
the log. What strangers can cause at will is told at most so often a minute, with how much was left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from verser2_guest_python.host.events import EventValue, HostEvent
from verser2_guest_python.service.logs.setup import Logs

LINES_A_MINUTE: Final = 60
"""Of each kind of event that strangers can cause."""

_WINDOW_SECONDS: Final = 60.0
_LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "registered": "info",
        "refused": "warning",
        "denied": "warning",
        "disconnected": "info",
        "revoked": "info",
        "route": "debug",
        "handshake-failed": "info",
        "turned-away": "warning",
        "cut-off": "warning",
        "certificates-reloaded": "info",
        "policy-replaced": "info",
        "internal-error": "error",
        "closed": "debug",
    }
)
_BY_STRANGERS: Final = frozenset({"refused", "denied", "disconnected", "handshake-failed", "turned-away"})
_SAID_ELSEWHERE: Final = frozenset({"listening"})


class HostLog:
    """A listener for `VerserHost.on_lifecycle` that writes lines."""

    def __init__(self, logs: Logs, *, now: Callable[[], float] = time.monotonic) -> None:
        self._events = logs.events
        self._windows = {name: _Window(now) for name in _BY_STRANGERS}

    def __call__(self, event: HostEvent) -> None:
        name = event.name
        if name in _SAID_ELSEWHERE:
            return
        level = _LEVELS.get(name, "info")
        if name == "disconnected" and event.fields.get("peer") is None and not event.fields.get("limit"):
            level = "debug"  # it never registered: a look from a monitor, or a refusal that was told
        elif event.fields.get("limit"):
            level = "warning"  # the Host has ended it, for what it did
        fields = {
            key: _shown(value) for key, value in event.fields.items() if value is not None and value != []
        }
        if level != "debug" and (window := self._windows.get(name)) is not None:
            if not window.has_room():
                return
            if left_out := window.take_left_out():
                fields["left_out"] = left_out
        getattr(self._events, level)(name.replace("-", " "), **fields)


def _shown(value: EventValue) -> EventValue:
    return ", ".join(value) if isinstance(value, list) else value


class _Window:
    """Lets so many through in a minute, and counts the others."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._passed = 0
        self._left_out = 0

    def has_room(self) -> bool:
        now = self._now()
        if now - self._began >= _WINDOW_SECONDS:
            self._began = now
            self._passed = 0
        if self._passed >= LINES_A_MINUTE:
            self._left_out += 1
            return False
        self._passed += 1
        return True

    def take_left_out(self) -> int:
        left_out, self._left_out = self._left_out, 0
        return left_out

"""What a Guest tells its listeners: one event object, and the list of those who listen.

Listeners are for logs and metrics: one that fails is reported and hurts nobody else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

_log = logging.getLogger("verser2_guest_python.guest")

LifecycleType: TypeAlias = Literal[
    "connected",
    "registered",
    "disconnected",
    "reconnecting",
    "request-started",
    "request-completed",
    "route-revoked",
    "draining",
    "error",
    "closed",
]
"""What a `GuestEvent` is about."""

Cause: TypeAlias = Literal[
    "connection-lost",
    "ping-timeout",
    "goaway",
    "stream-ids",
    "renewal",
    "connect-failed",
    "refused",
    "busy",
]
"""Why a Guest dials: a `reason` for programs."""

Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """Something that happened to a Guest.

    `fields` by type:

    - connected: `host` (URL), `guest_id` (as it will register, `GUEST_ID~2` after a handover)
    - registered: these, `session_id` (made up here) and `domains` (with commas)
    - disconnected: `reason`, `host`, `guest_id`, `session_id`; not told of a session that was handed over
    - reconnecting, before each attempt but the first: `delay_seconds`, `attempt` (from 1 in each outage),
      `reason` (why the session or the last attempt ended), `cause` (the same as one of `Cause`), `host`
      (the first to be dialled)
    - request-started: `request_id`, `source_id`, `method`, `path`
    - request-completed: these, `session_id` and `status`, `duration_ms`, `bytes_in`, `bytes_out`, `reason`
      (None when all went well); with traces also `trace_id` and `span_id` of the app call
    - route-revoked: `domain`
    - draining: `reason`
    - error, a refusal that would have been final before the first registration, told once until it
      changes: `reason`, `code`
    - closed: `reason`
    """

    type: LifecycleType
    fields: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


Listener: TypeAlias = Callable[[GuestEvent], None]


class Listeners:
    """Those who listen, in the order in which they came."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener; the function that comes back takes it away again."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def tell(self, kind: LifecycleType, /, **fields: Value) -> None:
        """Calls every listener; a failure is logged and goes no further."""
        event = GuestEvent(kind, fields)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a listener of anybody's, reported right here
                _log.exception("A lifecycle listener failed on %r", kind)

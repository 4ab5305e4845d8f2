"""What a Broker hears on its control stream: route tables and lifecycle events (protocol.md §3, §10).

It stands apart because it is the one conversation that goes on for as long as a session lives, in
lines that a later Host may extend: lines and events of unknown types are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from verser2_guest_python.errors import VerserProtocolError

from .domains import normalize_domain
from .errors_wire import refusal_of
from .excerpt import excerpt
from .json_fields import list_field, text_field
from .json_text import dump, parse_object

ADDED: Final = "added"
REMOVED: Final = "removed"
CHANGED: Final = "changed"
DEGRADED: Final = "degraded"
EVENT_TYPES: Final = frozenset({ADDED, REMOVED, CHANGED, DEGRADED})


@dataclass(frozen=True, slots=True)
class Route:
    """One Guest serves one domain (normalised: lower case, no trailing dot)."""

    target_id: str
    domain: str


@dataclass(frozen=True, slots=True)
class Generation:
    """Which registration of a Guest a route belongs to."""

    generation_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """What became of a route: `type` is one of `added`, `removed`, `changed`, `degraded`."""

    type: str
    target_id: str
    domain: str
    reason: str | None = None
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """The Host took the registration: its table, and the extensions it announces (§14)."""

    routes: tuple[Route, ...]
    extensions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RoutesTable:
    """The full table: it replaces what the Broker knew."""

    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Changes of the table, in order."""

    events: tuple[LifecycleEvent, ...]


def encode_routes(routes: Iterable[Route]) -> bytes:
    """A `routes` line, newline included."""
    return dump({"type": "routes", "routes": routes_json(routes)}) + b"\n"


def encode_lifecycle(events: Iterable[LifecycleEvent]) -> bytes:
    """A `route-lifecycle` line, newline included."""
    return dump({"type": "route-lifecycle", "events": [_event_json(event) for event in events]}) + b"\n"


def parse_control_line(line: bytes) -> Registered | RoutesTable | Lifecycle | None:
    """One line of a Broker's control stream; None for a type that this version does not know.

    Raises:
        VerserProtocolError: it is not a JSON object, or a known type is malformed.
        VerserError: it is a refusal or an error object instead of a line.
    """
    what = "The control line"
    values = parse_object(line, what)
    line_type = values.get("type")
    if line_type == "routes":
        return RoutesTable(read_routes(values, what))
    if line_type == "route-lifecycle":
        events = (_read_event(item) for item in list_field(values, "events", what))
        return Lifecycle(tuple(event for event in events if event is not None))
    if line_type is None and values.get("status") == "registered":
        return read_registered(values, what)
    if line_type is None and ("status" in values or "error" in values):
        raise refusal_of(200, values)
    return None


def routes_json(routes: Iterable[Route]) -> list[dict[str, str]]:
    """A table as the wire says it."""
    return [{"targetId": route.target_id, "domain": route.domain} for route in routes]


def read_routes(values: dict[str, Any], what: str) -> tuple[Route, ...]:
    """The table in `routes`, in its order, each pair once."""
    routes: dict[Route, None] = {}
    for item in list_field(values, "routes", what):
        if type(item) is not dict:
            raise VerserProtocolError(f"{what} has {excerpt(item)} among its routes, where an object is due.")
        target_id = text_field(item, "targetId", "A route")
        routes[Route(target_id, normalize_domain(text_field(item, "domain", "A route")))] = None
    return tuple(routes)


def read_registered(values: dict[str, Any], what: str) -> Registered:
    """The answer to a registration that was taken."""
    announced = values.get("extensions")
    extensions = announced if isinstance(announced, list) else ()
    return Registered(
        read_routes(values, what), frozenset(name for name in extensions if isinstance(name, str))
    )


def _event_json(event: LifecycleEvent) -> dict[str, Any]:
    said: dict[str, Any] = {"type": event.type, "targetId": event.target_id, "domain": event.domain}
    if event.reason is not None:
        said["reason"] = event.reason
    if event.generation is not None:
        said["generation"] = {
            "generationId": event.generation.generation_id,
            "sessionId": event.generation.session_id,
        }
    return said


def _read_event(item: object) -> LifecycleEvent | None:
    what = "A lifecycle event"
    if not isinstance(item, dict):
        raise VerserProtocolError(f"{what} is {excerpt(item)}, where an object is due.")
    event_type = text_field(item, "type", what)
    if event_type not in EVENT_TYPES:
        return None
    reason = item.get("reason")
    return LifecycleEvent(
        event_type,
        text_field(item, "targetId", what),
        normalize_domain(text_field(item, "domain", what)),
        reason if isinstance(reason, str) else None,
        _read_generation(item.get("generation")),
    )


def _read_generation(value: object) -> Generation | None:
    """Lenient: it informs people, and nothing is decided by it."""
    if not isinstance(value, dict):
        return None
    generation_id, session_id = value.get("generationId"), value.get("sessionId")
    if isinstance(generation_id, str) and isinstance(session_id, str):
        return Generation(generation_id, session_id)
    return None

"""What a Guest is doing at this moment, in numbers: for health checks and metrics.

Apart from `lifecycle.py`, which tells what happens as it happens: a gauge is read when somebody asks,
and costs nothing until then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session that requests come on.

    `age_seconds` counts from its registration; `round_trip_seconds` is that of the last PING, None
    before the first answer.
    """

    host: str
    peer_id: str
    age_seconds: float
    round_trip_seconds: float | None


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """A Guest as it is now.

    `requests_running` counts app calls, also of sessions that were lost; the messages are those of all
    WebSockets since the Guest was made.
    """

    sessions: tuple[SessionFacts, ...]
    requests_running: int
    leases_idle: int
    websockets_open: int
    websocket_messages_received: int
    websocket_messages_sent: int

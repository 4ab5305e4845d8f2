"""What a Guest is doing at this moment, in numbers: for health checks and metrics.

Apart from `lifecycle.py`, which tells what happens as it happens: a gauge is read when somebody asks,
and costs nothing until then.
"""

from __future__ import annotations

from dataclasses import dataclass

from verser2_guest_python.peer.facts import SessionFacts


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

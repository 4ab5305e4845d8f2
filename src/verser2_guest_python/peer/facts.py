"""How one session with a Host is at this moment, in numbers: the same for a Guest and for a Broker.

Apart from what each of them tells of itself because both have sessions, and a session is told alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from verser2_guest_python.http2 import Session
from verser2_guest_python.peer.address import HostAddress


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session that requests use.

    `age_seconds` counts from its registration; `round_trip_seconds` is that of the last PING, None
    before the first answer.
    """

    host: str
    peer_id: str
    age_seconds: float
    round_trip_seconds: float | None


def session_facts(session: Session, address: HostAddress, peer_id: str, registered_at: float) -> SessionFacts:
    """As it is now; `registered_at` is by the loop's clock."""
    return SessionFacts(address.url, peer_id, session.loop.time() - registered_at, session.last_rtt)

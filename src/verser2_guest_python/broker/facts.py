"""How a Broker's session is at this moment, in numbers: for health checks and metrics.

Apart from the Broker because it is read when somebody asks, and costs nothing until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from verser2_guest_python.peer.facts import SessionFacts


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """A Broker as it is now.

    `session` is the one that new requests leave on, None while there is none. `reconnects` counts attempts to
    get another one, by why: connection-lost, ping-timeout, goaway, stream-ids; connect-failed, refused and
    busy (the Host is full) are further attempts after one that failed so. `waiting` are the requests and
    WebSockets that wait in the Broker now: for a session, for a route, for another one to end where the Host
    allows few at a time, or before another attempt. `trouble` is why the last attempt to get a session
    failed, in a sentence; empty while there is one.
    """

    session: SessionFacts | None
    reconnects: Mapping[str, int]
    waiting: int
    trouble: str = ""

"""Who is registered: a Guest with its leases, a Broker with its control stream.

Apart from the sessions because a peer is what others look up and send to; its session is only how it
is reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from verser2_guest_python.host.authorization import Grant
from verser2_guest_python.host.control import ControlStream
from verser2_guest_python.host.leases import LeasePool
from verser2_guest_python.http2 import Session
from verser2_guest_python.wire.registration import BROKER, GUEST


@dataclass(eq=False, slots=True)
class Guest:
    """A registered Guest. `field` is its id as the fields of its streams say it.

    `websockets` holds idle WebSocket leases; nobody waits for one (protocol.md §11).
    """

    id: str
    session: Session
    grant: Grant
    pool: LeasePool
    websockets: LeasePool
    field: bytes
    role: ClassVar[str] = GUEST


@dataclass(eq=False, slots=True)
class Broker:
    """A registered Broker, and where it is told of routes."""

    id: str
    session: Session
    grant: Grant
    control: ControlStream
    role: ClassVar[str] = BROKER


Peer = Guest | Broker

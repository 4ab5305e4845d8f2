"""The Host: where Guests and Brokers dial in, and requests pass from one to the other.

    host            VerserHost: starting, closing, looking at it
    core            what runs while it is started
    session         one peer's session, and which stream is whose business
    registration    letting peers in (§2)
    revocation      taking routes back (§9)
    registry        who is registered; degraded routes and their clock (§10)
    routes          the route table, pure
    control         route lines to a Broker (§3)
    leases          idle leases and waiting requests of one Guest (§5)
    forwarding      from a Broker's request to an exchange (§7)
    exchange        one request under way (§5, §7)
    upload          its body on the way to the Guest
    download        the answer's body on the way to a Broker that reads slowly
    response        a Guest's envelope as an answer (§6, §13)
    websockets      from a Broker's WebSocket request to a bridge (§11)
    bridge          one WebSocket under way
    relay           one direction of it
    observing       what somebody who watches requests live is shown
    observed        an exchange and a bridge that are watched
    services        what exchanges and bridges share
    answers         what the Host says for itself (§8)
    authorization   who may do what: decisions
    policy          … what they go by: entries of a policy
    policy_entries  … and how those are written in a file
    identity        who a peer has proven to be
    globs           patterns of names
    rejudging       … and when it changes, for those who are in
    takeover        a peer that comes back before its dead session is gone (§2)

The numbers are sections of protocol.md.
"""

from __future__ import annotations

from verser2_guest_python.host.authorization import Applicant, Authorization, Grant
from verser2_guest_python.host.events import HostEvent, RequestRecord
from verser2_guest_python.host.host import VerserHost, create_verser_host
from verser2_guest_python.host.identity import Identity
from verser2_guest_python.host.limits import HostLimits
from verser2_guest_python.host.observing import (
    ExchangeEnd,
    ExchangeObserver,
    ExchangeStart,
    HostObserver,
    Side,
)
from verser2_guest_python.host.policy import Permissions, Policy, PolicyEntry
from verser2_guest_python.host.stats import GuestStats, HostStats
from verser2_guest_python.wire.vws import Accept, Binary, Close, Error, Message, Open, Ping, Pong, Text

__all__ = [
    "Accept",
    "Applicant",
    "Authorization",
    "Binary",
    "Close",
    "Error",
    "ExchangeEnd",
    "ExchangeObserver",
    "ExchangeStart",
    "Grant",
    "GuestStats",
    "HostEvent",
    "HostLimits",
    "HostObserver",
    "HostStats",
    "Identity",
    "Message",
    "Open",
    "Permissions",
    "Ping",
    "Policy",
    "PolicyEntry",
    "Pong",
    "RequestRecord",
    "Side",
    "Text",
    "VerserHost",
    "create_verser_host",
]

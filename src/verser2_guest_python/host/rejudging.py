"""A policy has changed while peers are registered: each is judged anew, and told of what it sees now.

Apart from the registration because nobody asks to come in here: those who are in may have to leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from verser2_guest_python.errors import AuthorizationDeniedError
from verser2_guest_python.host.peers import Broker, Peer

if TYPE_CHECKING:
    from verser2_guest_python.host.core import HostCore
    from verser2_guest_python.host.session import PeerSession


def judge_anew(core: HostCore, sessions: Iterable[PeerSession]) -> None:
    """Ends the sessions of those who would not be let in now, and renews the grants of the others."""
    for caller in list(sessions):
        peer = caller.peer
        if peer is not None and caller.session.lost is None and not caller.session.closing:
            _judge(core, caller, peer)


def _judge(core: HostCore, caller: PeerSession, peer: Peer) -> None:
    # What it has revoked since need not be allowed any more
    domains = tuple(route.domain for route in core.registry.routes.routes() if route.target_id == peer.id)
    applicant = replace(peer.grant.applicant, domains=domains)
    try:
        grant = core.authorization.admit(applicant)
    except AuthorizationDeniedError as error:
        caller.deny(applicant, error, "the policy has changed, and does not let it stay")
        return
    seen = core.registry.visible_routes(peer.grant)
    peer.grant = grant
    if isinstance(peer, Broker) and core.registry.visible_routes(grant) != seen:
        peer.control.refresh()

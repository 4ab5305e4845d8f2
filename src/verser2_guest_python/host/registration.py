"""A registration, from its body to its answer (protocol.md §2).

Apart from the session because everything that decides whether a peer may come in is here, in the
order in which it is decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verser2_guest_python.errors import AuthorizationDeniedError, InvalidRegistrationError
from verser2_guest_python.host.answers import error_mark
from verser2_guest_python.host.authorization import Applicant, Grant
from verser2_guest_python.host.bodies import read_body
from verser2_guest_python.host.control import ControlStream
from verser2_guest_python.host.identity import read_identity
from verser2_guest_python.host.leases import LeasePool
from verser2_guest_python.host.peers import Broker, Guest
from verser2_guest_python.http2 import FieldBlock, Http2Error, Stream
from verser2_guest_python.wire.names import (
    EXTENSIONS,
    NDJSON_TYPE,
    REGISTER_PATH,
)
from verser2_guest_python.wire.registration import (
    GUEST,
    Registration,
    encode_refusal,
    encode_registered,
    parse_registration,
)

if TYPE_CHECKING:
    from verser2_guest_python.host.session import PeerSession

_CONTROL_FIELDS = FieldBlock([(b":status", b"200"), (b"content-type", NDJSON_TYPE)])
_REFUSED_STATUS = 403


async def register(caller: PeerSession, stream: Stream) -> None:
    """Reads and answers a registration; raises a `VerserError` for one that is to be refused."""
    core = caller.core
    try:
        body = await read_body(stream, core.limits.registration_bytes, "The registration")
    except Http2Error:
        return  # the peer changed its mind, or is gone
    registration = parse_registration(body)
    applicant = _applicant(caller, registration)

    def is_wanted() -> bool:
        return stream.error is None and caller.session.lost is None and not caller.session.closing

    try:
        _check(caller, registration)
        grant = core.authorization.admit(applicant)
        if core.registry.peer(applicant.peer_id) is not None:
            await core.takeover.make_way(applicant.peer_id, applicant.role, grant, is_wanted)
            grant = core.authorization.admit(applicant)  # others have come in meanwhile
    except AuthorizationDeniedError as error:
        _deny(caller, stream, applicant, error)
        return
    except InvalidRegistrationError as error:
        who = {"peer": applicant.peer_id, "role": applicant.role, "identity": str(applicant.identity)}
        caller.refuse(stream, REGISTER_PATH, error, **who)
        return
    if not is_wanted():
        return
    core.authorization.registered(applicant)
    if registration.role == GUEST:
        _admit_guest(caller, stream, registration, grant)
    else:
        _admit_broker(caller, stream, registration, grant)
    core.tell(
        "registered",
        peer=registration.peer_id,
        role=registration.role,
        identity=grant.who,
        address=caller.address,
        domains=list(registration.routed_domains),
    )


def _check(caller: PeerSession, registration: Registration) -> None:
    limits = caller.core.limits
    if len(registration.routed_domains) > limits.domains_per_guest:
        message = f"A Guest may register at most {limits.domains_per_guest:,} domains."
        raise InvalidRegistrationError(message, context={"peerId": registration.peer_id})


def _applicant(caller: PeerSession, registration: Registration) -> Applicant:
    certificate = caller.session.peer_certificate
    return Applicant(
        peer_id=registration.peer_id,
        role=registration.role,
        domains=registration.routed_domains,
        address=caller.session.peer_address[0],
        certificate=certificate,
        token=registration.token,
        identity=read_identity(certificate, registration.token),
    )


def _deny(caller: PeerSession, stream: Stream, applicant: Applicant, error: AuthorizationDeniedError) -> None:
    """Refused by policy: the peer is told, and its session ends (protocol.md §2)."""
    caller.core.answers.send_json(stream, _REFUSED_STATUS, encode_refusal(error), error_mark(error))
    caller.deny(applicant, error, "its registration was refused")


def _admit_guest(caller: PeerSession, stream: Stream, registration: Registration, grant: Grant) -> None:
    core = caller.core
    guest_id = registration.peer_id
    pool = LeasePool(
        guest_id,
        max_idle=core.limits.idle_leases_per_guest,
        max_waiting=core.limits.queued_requests_per_guest,
        budget=core.queue_budget,
    )
    websockets = LeasePool(
        guest_id,
        max_idle=core.limits.idle_websocket_leases_per_guest,
        max_waiting=0,
        budget=core.queue_budget,
    )
    guest = Guest(guest_id, caller.session, grant, pool, websockets, guest_id.encode())
    caller.registered(guest)
    core.registry.add_guest(guest, registration.routed_domains)
    core.answers.send_json(stream, 200, encode_registered(core.registry.visible_routes(grant), EXTENSIONS))


def _admit_broker(caller: PeerSession, stream: Stream, registration: Registration, grant: Grant) -> None:
    core = caller.core
    broker_id = registration.peer_id
    control = ControlStream(
        stream,
        core.tasks,
        lambda: core.registry.routes_line(broker.grant),
        max_events=core.limits.unread_control_events,
        on_overflow=lambda: caller.exceeded("control-events", "it does not read its control stream"),
    )
    broker = Broker(broker_id, caller.session, grant, control)
    caller.registered(broker)
    core.registry.add_broker(broker)
    try:
        stream.send_fields(_CONTROL_FIELDS)
    except Http2Error:
        return  # the session's end is told elsewhere
    control.start(encode_registered(core.registry.visible_routes(grant), EXTENSIONS) + b"\n")

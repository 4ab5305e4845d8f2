"""One peer's session on the Host: which stream it opened, and who takes it.

    NEW --registration--> GUEST or BROKER --session lost--> gone
     |
     +-- no registration in time: closed

Apart from what the streams carry (registration, revocation, exchanges): this is only the way in, and
the place that knows who registered here (protocol.md §14 binds leases and requests to that).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    DisconnectedTargetError,
    InvalidRegistrationError,
    LeaseTimeoutError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.host.authorization import IDENTITY_KEY, Applicant
from verser2_guest_python.host.events import EventValue
from verser2_guest_python.host.peers import Broker, Guest, Peer
from verser2_guest_python.host.registration import register
from verser2_guest_python.host.revocation import revoke
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, FieldBlock, Ration, Session, Stream
from verser2_guest_python.http2.deadline import call_within
from verser2_guest_python.wire import names

if TYPE_CHECKING:
    from verser2_guest_python.host.core import HostCore

_GUEST_CONTROL_FIELDS = FieldBlock([(b":status", b"200"), (b"content-type", names.NDJSON_TYPE)])
_LEASE_FIELDS = FieldBlock([(b":status", b"200"), (b"content-type", names.OCTETS_TYPE)])
_WEBSOCKET_LEASE_FIELDS = FieldBlock([(b":status", b"200")])

RequestFields = dict[bytes, bytes]


class PeerSession:
    """A session that a peer opened; `peer` is who registered on it."""

    def __init__(self, core: HostCore, session: Session) -> None:
        self.core = core
        self.session = session
        self.peer: Peer | None = None
        self._registering: Stream | None = None
        self._guest_control: Stream | None = None
        self._streams = 0  # that were opened before it registered
        self._refusals: Ration | None = None
        seconds = core.limits.registration_seconds
        reason = f"it did not register within {seconds:g} s"
        late = partial(self.exceeded, "registration", reason)
        self._deadline = call_within(session.loop, seconds, late)
        session.on_stream = self._on_stream
        session.on_lost = self._on_lost

    @property
    def address(self) -> str:
        """Where the peer is, as `address:port`."""
        host, port = self.session.peer_address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def end(self, reason: str, code: ErrorCode = ErrorCode.NO_ERROR, limit: str = "") -> None:
        """Closes the session, with the courtesies of protocol.md §12.8; its peer is told the reason."""
        self._deadline.cancel()
        self.core.tasks.spawn(
            self.session.close(code, reason, limit, tell=True), "verser host: closing a session"
        )

    def exceeded(self, limit: str, reason: str) -> None:
        """Closes the session of a peer that does not keep to a limit."""
        self.end(reason, ErrorCode.ENHANCE_YOUR_CALM, limit)

    def registered(self, peer: Peer) -> None:
        """The registration is accepted."""
        self._deadline.cancel()
        self.peer = peer
        if self.core.limits.silence_seconds > 0:
            self._listen()

    def deny(self, applicant: Applicant, error: AuthorizationDeniedError, reason: str) -> None:
        """The policy has no place for it: tells who watches why, and ends the session."""
        self.core.tell(
            "refused",
            address=self.address,
            peer=applicant.peer_id,
            role=applicant.role,
            identity=error.context.get(IDENTITY_KEY, str(applicant.identity)),
            fingerprint=applicant.identity.fingerprint or None,
            code=error.code,
            reason=error.message,
        )
        self.end(reason)

    # --- Silence --------------------------------------------------------------------------

    def _listen(self) -> None:
        """Looks in a while whether anything came; one timer is its whole cost."""
        self.session.heard = False
        self._deadline = call_within(self.session.loop, self.core.limits.silence_seconds, self._probe)

    def _probe(self) -> None:
        if self.session.heard:
            self._listen()
        else:
            self.session.probe()
            seconds = self.core.limits.ping_answer_seconds
            self._deadline = call_within(self.session.loop, seconds, self._check_answer)

    def _check_answer(self) -> None:
        if self.session.heard:
            self._listen()
            return
        limits = self.core.limits
        seconds = limits.silence_seconds + limits.ping_answer_seconds
        self.end(f"nothing came for {seconds:g} s, and no answer to a PING", limit="silence")

    # --- Streams --------------------------------------------------------------------------

    def _on_stream(self, stream: Stream) -> None:
        if self.peer is None:
            self._streams += 1
            if self._streams > self.core.limits.streams_before_registration:
                if self._streams == self.core.limits.streams_before_registration + 1:
                    self.exceeded("streams-before-registration", "it opens streams and does not register")
                return
        if stream.error is not None:
            return  # opened and given up within one read
        fields = dict(stream.fields or ())
        path = fields.get(b":path", b"")
        handler = _HANDLERS.get(path)
        try:
            if self.core.closing:
                stream.reset(ErrorCode.REFUSED_STREAM)
            elif handler is None or fields.get(b":method") != b"POST":
                raise VerserProtocolError("Nothing is served on this path with this method.")
            else:
                handler(self, stream, fields)
        except VerserError as error:
            self.refuse(stream, path, error)

    def refuse(self, stream: Stream, path: bytes, error: VerserError, **who: EventValue) -> None:
        """Answers with an error object, and tells who watches; `who` is what is known of an applicant."""
        self.core.answers.send_error(stream, error)
        if not isinstance(error, LeaseTimeoutError):  # which a Guest with many leases may well meet
            now = self.session.loop.time()
            if self._refusals is None:
                self._refusals = Ration(self.core.limits.refusals_per_session, 1.0, now)
            if not self._refusals.take(now):
                if not self.session.closing:
                    self.exceeded("refusals", "it opens streams that have no place here")
                return
        fields: dict[str, EventValue] = {
            "address": self.address,
            "peer": self.peer.id if self.peer is not None else None,
            "path": path[:200].decode("latin-1"),
            "code": error.code,
            "reason": error.message,
        }
        self.core.tell("refused", **{**fields, **who})

    def _on_register(self, stream: Stream, fields: RequestFields) -> None:
        if self.peer is not None or (self._registering is not None and not self._registering.closed):
            raise InvalidRegistrationError("A peer has registered on this session already.")
        self._registering = stream
        self._spawn(stream, register(self, stream), "registration")

    def _spawn(self, stream: Stream, work: Coroutine[Any, Any, None], name: str) -> None:
        self.core.tasks.spawn(self._answer(stream, work), f"verser host: {name}")

    async def _answer(self, stream: Stream, work: Coroutine[Any, Any, None]) -> None:
        """Work that answers a stream; whatever becomes of it, the peer is not left waiting."""
        try:
            await work
        except VerserError as error:
            self.refuse(stream, dict(stream.fields or ()).get(b":path", b""), error)
        except Exception:
            stream.reset(ErrorCode.INTERNAL_ERROR)
            raise

    def _on_guest_control(self, stream: Stream, fields: RequestFields) -> None:
        self._guest(fields)
        if self._guest_control is not None and not self._guest_control.closed:
            raise VerserProtocolError("The control stream is open already.")
        self._guest_control = stream
        stream.send_fields(_GUEST_CONTROL_FIELDS)
        stream.discard()  # a Guest says nothing here (protocol.md §4)

    def _on_lease(self, stream: Stream, fields: RequestFields) -> None:
        guest = self._guest(fields)
        if not fields.get(names.LEASE_ID_FIELD):
            raise VerserProtocolError("A lease needs an id in x-verser-lease-id.")
        if stream.ended:
            raise VerserProtocolError("A lease that has ended cannot carry an answer.")
        if guest.pool.full:
            raise LeaseTimeoutError(f"{guest.id} has too many idle leases already.")
        stream.send_fields(_LEASE_FIELDS)
        guest.pool.offer(stream)

    def _on_websocket_lease(self, stream: Stream, fields: RequestFields) -> None:
        guest = self._guest(fields)
        if stream.ended:
            raise VerserProtocolError("A WebSocket lease that has ended cannot carry anything.")
        if guest.websockets.full:
            raise LeaseTimeoutError(f"{guest.id} has too many idle WebSocket leases already.")
        stream.send_fields(_WEBSOCKET_LEASE_FIELDS)
        guest.websockets.offer(stream)

    def _on_websocket(self, stream: Stream, fields: RequestFields) -> None:
        if not isinstance(self.peer, Broker):
            raise DisconnectedTargetError("No Broker has registered on this session.")
        self.core.websockets.forward(self.peer, stream, stream.fields or ())

    def _on_revoke(self, stream: Stream, fields: RequestFields) -> None:
        self._spawn(stream, revoke(self, stream, fields), "revocation")

    def _on_request(self, stream: Stream, fields: RequestFields) -> None:
        if not isinstance(self.peer, Broker):
            raise DisconnectedTargetError("No Broker has registered on this session.")
        self.core.forwarder.forward(self.peer, stream, stream.fields or ())

    def _guest(self, fields: RequestFields) -> Guest:
        """The Guest that registered on this session, and names itself."""
        guest = self.registered_guest(fields)
        if guest is None:
            raise DisconnectedTargetError("No Guest of this id has registered on this session.")
        return guest

    def registered_guest(self, fields: RequestFields) -> Guest | None:
        """The Guest that registered on this session, if the fields name it."""
        peer = self.peer
        named = fields.get(names.PEER_ID_FIELD, b"")
        return peer if isinstance(peer, Guest) and named == peer.field else None

    # --- The end --------------------------------------------------------------------------

    def _on_lost(self, error: ConnectionLost) -> None:
        self._deadline.cancel()
        self.core.forget(self, error)
        peer = self.peer
        if peer is None:
            return
        self.core.registry.remove(peer)
        if isinstance(peer, Guest):
            context = {"targetId": peer.id}
            peer.pool.fail(lambda: DisconnectedTargetError(f"Guest {peer.id} went away.", context=context))


_HANDLERS: Final[dict[bytes, Callable[[PeerSession, Stream, RequestFields], None]]] = {
    names.REQUEST_PATH: PeerSession._on_request,
    names.GUEST_LEASE_PATH: PeerSession._on_lease,
    names.REGISTER_PATH: PeerSession._on_register,
    names.GUEST_CONTROL_PATH: PeerSession._on_guest_control,
    names.GUEST_REVOKE_PATH: PeerSession._on_revoke,
    names.GUEST_WEBSOCKET_LEASE_PATH: PeerSession._on_websocket_lease,
    names.WEBSOCKET_PATH: PeerSession._on_websocket,
}

"""One registered session of a Guest: its leases, the requests on them, and how it ends.

A Guest has one of these; during a handover, two.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass

from verser2_guest_python.errors import RevocationFailedError, VerserError
from verser2_guest_python.http2 import ConnectionLost, FieldBlock, Goaway, Http2Error, Session, Stream
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.peer.dial import converse, exchange, peer_block, verser_error
from verser2_guest_python.peer.refusal import refused
from verser2_guest_python.peer.tasks import wait_over
from verser2_guest_python.wire.names import EXTENSIONS
from verser2_guest_python.wire.registration import (
    GUEST,
    Registration,
    encode_registration,
    parse_registration_answer,
)
from verser2_guest_python.wire.revocation import RevocationAnswer, encode_revocation, parse_revocation_answer

from .demand import Calls
from .dispatch import Dispatcher
from .http_leases import HttpLeases
from .lifecycle import Cause
from .websocket_leases import WebSocketLeases

_log = logging.getLogger("verser2_guest_python.guest")

_JSON_FIELDS = ((b"content-type", b"application/json"),)

CANCEL_SECONDS = 5.0
"""How long an app that was cancelled may take to end."""
QUEUE_SECONDS = 5.0
"""How long a Host lets a request wait for a lease (protocol.md §5)."""
_SPARE_STREAMS = 32  # where a Host allows fewer, none is held back for a revocation


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """How many leases a session keeps idle, and how much runs at a time."""

    min_waiting_streams: int = 8
    limit_concurrency: int = 1_000
    min_waiting_websocket_streams: int = 2
    max_websocket_streams: int = 256


class GuestSession:
    """Serves requests from its registration until it is lost, drained or closed.

    Attributes:
        session: The HTTP/2 session.
        address: The Host that it is with.
        peer_id: The id that is registered on it.
        session_id: What logs call it; made up here, the Host does not know it.
        extensions: What the Host announced (protocol.md §14).
        binds_brokers: Whether the Host knows who a request came from: those of §14 do.
        registered_at: When it was, by the loop's clock; 0.0 before.
        over: Done with a reason once the session is lost, or should be given up for a new one.
        cause: The same as one of a few words.
    """

    def __init__(
        self,
        session: Session,
        address: HostAddress,
        peer_id: str,
        dispatcher: Dispatcher,
        *,
        calls: Calls,
        limits: LeaseLimits,
    ) -> None:
        loop = session.loop
        self.session = session
        self.peer_id = peer_id
        self.session_id = secrets.token_hex(4)
        self.over: asyncio.Future[str] = loop.create_future()
        self.extensions: frozenset[str] = frozenset()
        self.binds_brokers = False
        self.registered_at = 0.0
        self.cause: Cause = "connection-lost"
        self.address = address
        self.dispatcher = dispatcher
        self._settled = asyncio.Event()  # a request or a WebSocket has ended
        self._hurried = False
        self._limit: asyncio.Timeout | None = None  # of a drain
        self._keepalive: asyncio.Task[None] | None = None
        self._control: Stream | None = None
        self._revocation: Stream | None = None
        self.leases = HttpLeases(
            self,
            self._block(b"/verser/guest/lease"),
            calls=calls,
            idle=limits.min_waiting_streams,
            limit=limits.limit_concurrency,
        )
        self.websockets = WebSocketLeases(
            self,
            self._block(b"/verser/guest/websocket-lease"),
            calls=calls,
            idle=limits.min_waiting_websocket_streams,
            limit=limits.max_websocket_streams,
        )
        session.on_goaway = self._on_goaway
        session.on_lost = self._on_lost

    def _block(self, path: bytes) -> FieldBlock:
        base = peer_block(self.address, path)
        return FieldBlock((*base.constant, (b"x-verser-peer-id", self.peer_id.encode("latin-1"))))

    # --- Registration ---------------------------------------------------------------------

    async def register(self, domains: tuple[str, ...], *, timeout: float, token: str | None = None) -> None:
        """Registers (protocol.md §2), opens the control stream and the first leases.

        Raises:
            VerserError: the Host refused, or the session was lost.
        """
        body = encode_registration(Registration(self.peer_id, GUEST, domains, token))
        block = peer_block(self.address, b"/verser/register")
        status, answer = await exchange(self.session, block, _JSON_FIELDS, body, timeout=timeout)
        try:
            self.extensions = parse_registration_answer(status, answer).extensions
        except VerserError as error:
            raise refused(error, self.address, self.peer_id) from None
        self.registered_at = self.session.loop.time()
        self.binds_brokers = not self.extensions.isdisjoint(EXTENSIONS)
        if self.dispatcher.limits_proxy_headers and not self.binds_brokers:
            _log.warning(
                "%s does not check who its Brokers are: proxy headers are believed of none of them",
                self.address,
            )
        block = self._block(b"/verser/guest/control")
        try:
            self._control = self.session.open(block, listener=self._on_control)
            self._hold_revocation_back()
        except Http2Error as error:  # the Host has taken leave already
            raise verser_error(error) from error
        self.leases.start()
        self.websockets.start()
        self.session.on_settings = self._on_settings

    def _on_settings(self) -> None:
        """The Host may allow more streams now."""
        self.leases.fill()
        self.websockets.fill()

    def _on_control(self, stream: Stream) -> None:
        """The Host says nothing here today; that it ends means that the session goes down (§4)."""
        stream.take()
        if stream.ended or (stream.error is not None and self.session.lost is None):
            self.give_up("the Host ended the control stream", "goaway")

    def _hold_revocation_back(self) -> None:
        """Opens the stream on which to revoke the routes after GOAWAY, when no other can be opened.

        Without it a Host that sends GOAWAY and lives on would send requests here until the session ends, and
        for as long as it keeps the routes of a lost Guest. Hosts of this project send GOAWAY only when they
        close, and end a stream on which nothing comes.
        """
        if not self.binds_brokers and self.session.peer_max_concurrent_streams >= _SPARE_STREAMS:
            self._revocation = self.session.open(
                self._block(b"/verser/guest/revoke"), _JSON_FIELDS, listener=self._on_revocation
            )

    def _on_revocation(self, stream: Stream) -> None:
        """The Host did not want to wait."""
        if stream.error is not None or stream.ended:
            stream.listener = self._revocation = None
            stream.discard()
            if not stream.closed and not stream.write_ended:
                stream.write_now(b"", end=True)

    def keep_alive(self, interval: float, timeout: float) -> None:
        """Sends a PING every `interval` seconds; a Host that does not answer in time is gone."""
        self._keepalive = self.session.loop.create_task(
            self._ping(interval, timeout), name="verser-guest-ping"
        )

    async def _ping(self, interval: float, timeout: float) -> None:
        while self.session.lost is None:
            await asyncio.sleep(interval)
            try:
                await self.session.ping(timeout)
            except TimeoutError:
                reason = f"the Host did not answer a PING within {timeout:g} s"
                self.give_up(reason, "ping-timeout")
                self.session.abort(reason)
            except ConnectionLost:
                return

    # --- Revocation and drain (protocol.md §9) --------------------------------------------

    async def revoke(self, domains: tuple[str, ...], *, timeout: float = 10.0) -> RevocationAnswer:
        """Asks the Host to send no new requests for `domains`; raises RevocationFailedError."""
        asked = encode_revocation(domains)
        spare = self._revocation
        if spare is not None and self.session.closing:
            spare.listener = self._revocation = None
            status, body = await converse(spare, asked, timeout=timeout)
        else:
            block = self._block(b"/verser/guest/revoke")
            status, body = await exchange(self.session, block, _JSON_FIELDS, asked, timeout=timeout)
        answer = parse_revocation_answer(status, body)
        if answer.status == "error":
            raise RevocationFailedError(
                f"The Host refused to revoke {', '.join(domains)}: {answer.message}",
                context={"status": status},
            )
        return answer

    async def drain(self, domains: tuple[str, ...], *, timeout: float) -> None:
        """Takes leave without losing anything: answers all that the Host has sent or queued.

        Returns when nothing runs any more, or after `timeout` seconds; what still runs then is cut.
        """
        try:
            async with asyncio.timeout(0.0 if self._hurried else timeout) as self._limit:
                try:
                    await self._take_leave(domains)
                except (VerserError, Http2Error) as error:
                    _log.warning("The session was lost while it drained: %s", error)
                while self.active:  # after a loss too: what an app does behind its answer is not lost
                    await self._next_settled()
        except TimeoutError:
            if self._hurried:
                _log.warning("The drain was cut short: cutting off %d requests", self.active)
            else:
                _log.warning("The drain took longer than %g s: cutting off %d requests", timeout, self.active)
        finally:
            self._limit = None

    def hurry(self) -> None:
        """What is under way is waited for no longer, neither by a drain nor after a loss."""
        self._hurried = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self.session.loop.time())
        self.settled()

    async def _take_leave(self, domains: tuple[str, ...]) -> None:
        revoked = not domains
        if domains:
            try:
                await self.revoke(domains)
                revoked = True
            except VerserError as error:
                if self.session.lost is not None:
                    raise
                _log.warning("Draining although the routes could not be revoked: %s", error.message)
        self.leases.drain()
        await self._barrier()
        if revoked and self.leases.exhausted:
            # What still waits at the Host gets no lease here. It had better end there, as a request that
            # no app has seen, than with this session (protocol.md §14)
            await lost_within(self.session, QUEUE_SECONDS)
        self.leases.end_idle()
        self.websockets.restart()

    async def _barrier(self) -> None:
        """Until an idle lease has stayed idle through two PINGs: the Host's queue is empty then."""
        leases = self.leases
        while True:
            idle_before = leases.idle
            await self.session.ping(timeout=30.0)
            await self.session.ping(timeout=30.0)
            if leases.exhausted or not idle_before.isdisjoint(leases.idle):
                return
            if not leases.idle:
                await self._next_settled()

    @property
    def active(self) -> int:
        """Requests and WebSockets that an app has in hand."""
        return self.leases.active + self.websockets.open

    def settled(self) -> None:
        """One of them has ended, or the session has."""
        self._settled.set()

    async def _next_settled(self) -> None:
        self._settled.clear()
        await self._settled.wait()

    async def close(self, reason: str) -> None:
        """Ends the session in an orderly way; app calls that still run are cancelled.

        One that does not end then is left to itself after `CANCEL_SECONDS`.
        """
        self.leases.stop()
        self.websockets.stop()
        tasks = self.leases.tasks() + self.websockets.tasks()
        if self._keepalive is not None:
            tasks.append(self._keepalive)
        for task in tasks:
            task.cancel()
        try:
            await self.session.close(reason=reason)
        finally:
            await self._see_off(tasks)

    async def _see_off(self, tasks: list[asyncio.Task[None]]) -> None:
        try:
            await wait_over(tasks, seconds=CANCEL_SECONDS)
        finally:
            if running := sum(not task.done() for task in tasks):
                _log.error("%d app calls go on although they were cancelled: leaving them", running)
            self.leases.forget_cancelled()
            self.websockets.forget_cancelled()

    async def linger(self) -> None:
        """After a loss: until the app calls that still run have ended; they see `http.disconnect`."""
        self.leases.stop()
        self.websockets.stop()
        try:
            while self.active and not self._hurried:
                await self._next_settled()
        finally:
            await self.close("the session was lost")

    # --- The end --------------------------------------------------------------------------

    def _on_goaway(self, farewell: Goaway) -> None:
        self.give_up(f"the Host sent GOAWAY ({farewell})", "goaway")

    def _on_lost(self, error: ConnectionLost) -> None:
        self.give_up(error.reason, "connection-lost")
        self.settled()

    def give_up(self, reason: str, cause: Cause) -> None:
        """No new requests can come here: the Guest should move to another session."""
        if not self.over.done():
            self.cause = cause
            self.over.set_result(reason)


async def lost_within(session: Session, seconds: float) -> bool:
    """Waits so long, or until the session is lost; returns whether it is."""
    if seconds <= 0 or session.lost is not None:
        return session.lost is not None
    try:
        async with asyncio.timeout(seconds):
            await session.wait_lost()
    except TimeoutError:
        return False
    return True

"""One registered session of a Guest: its leases, the requests on them, and how it ends.

A Guest has one of these; during a handover, two.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from verser2_guest_python.errors import RevocationFailedError, VerserError, VerserProtocolError
from verser2_guest_python.http2 import (
    ConnectionLost,
    ErrorCode,
    FieldBlock,
    Http2Error,
    Session,
    SessionClosing,
    Stream,
    TooManyStreams,
)
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.peer.dial import exchange, peer_block
from verser2_guest_python.wire.envelopes import EnvelopeParser, RequestHead
from verser2_guest_python.wire.registration import (
    GUEST,
    Registration,
    encode_registration,
    parse_registration_answer,
)
from verser2_guest_python.wire.revocation import RevocationAnswer, encode_revocation, parse_revocation_answer

from .demand import Calls, LeaseDemand
from .dispatch import Dispatcher
from .lease import Lease

_log = logging.getLogger("verser2_guest_python.guest")

_REFILL_DELAY_SECONDS = 0.05  # after an idle lease was lost without a request, doubling
_REFILL_MAX_DELAY_SECONDS = 2.0
_CONTROL_STREAMS = 8  # of the peer's limit, kept for control, revocation and WebSockets


class GuestSession:
    """Serves requests from its registration until it is lost, drained or closed.

    Attributes:
        session: The HTTP/2 session.
        peer_id: The id that is registered on it.
        over: Done with a reason once the session is lost, or should be given up for a new one.
    """

    def __init__(
        self,
        session: Session,
        address: HostAddress,
        peer_id: str,
        dispatcher: Dispatcher,
        *,
        calls: Calls,
        min_waiting: int,
        limit_concurrency: int,
    ) -> None:
        loop = session.loop
        self.session = session
        self.peer_id = peer_id
        self.over: asyncio.Future[str] = loop.create_future()
        self.extensions: frozenset[str] = frozenset()
        self._address = address
        self._dispatcher = dispatcher
        self._calls = calls
        self._demand = LeaseDemand(min_waiting, limit_concurrency, calls, monotonic())
        self._idle: dict[int, Stream] = {}
        self._partial: dict[int, EnvelopeParser] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lease_count = 0
        self._replacing = False
        self._refill_delay = 0.0
        self._refill_timer: asyncio.TimerHandle | None = None
        self._settled: asyncio.Event = asyncio.Event()  # a lease turned idle, or a request ended
        self._keepalive: asyncio.Task[None] | None = None
        self._control: Stream | None = None
        self._lease_block = self._block(b"/verser/guest/lease")
        session.on_goaway = self._on_goaway
        session.on_lost = self._on_lost

    def _block(self, path: bytes) -> FieldBlock:
        base = peer_block(self._address, path)
        return FieldBlock((*base.constant, (b"x-verser-peer-id", self.peer_id.encode("latin-1"))))

    # --- Registration ---------------------------------------------------------------------

    async def register(self, domains: tuple[str, ...], *, timeout: float) -> None:
        """Registers (protocol.md §2), opens the control stream and the first leases.

        Raises:
            VerserError: the Host refused, or the session was lost.
        """
        body = encode_registration(Registration(self.peer_id, GUEST, domains))
        block = peer_block(self._address, b"/verser/register")
        status, answer = await exchange(
            self.session, block, ((b"content-type", b"application/json"),), body, timeout=timeout
        )
        self.extensions = parse_registration_answer(status, answer).extensions
        self._control = self.session.open(self._block(b"/verser/guest/control"), listener=self._on_control)
        self._replacing = True
        self._calls.on_finished = self._fill
        self._fill()

    def _on_control(self, stream: Stream) -> None:
        """The Host says nothing here today; that it ends means that the session goes down (§4)."""
        stream.take()
        if stream.ended or (stream.error is not None and self.session.lost is None):
            self._give_up("the Host ended the control stream")

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
                self.session.abort(f"the Host did not answer a PING within {timeout:g} s")
            except ConnectionLost:
                return

    # --- Leases ---------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """App calls that run."""
        return len(self._tasks)

    @property
    def idle(self) -> int:
        """Leases that wait for a request."""
        return len(self._idle)

    def _fill(self) -> None:
        """Opens the leases that the demand asks for."""
        if not self._replacing or self.session.lost is not None:
            return
        session = self.session
        room = session.peer_max_concurrent_streams - session.open_streams - _CONTROL_STREAMS
        try:
            for _ in range(min(self._demand.missing(), room)):
                self._lease_count += 1
                stream = session.open(
                    self._lease_block,
                    ((b"x-verser-lease-id", b"%d" % self._lease_count),),
                    listener=self._on_idle,
                )
                self._idle[stream.id] = stream
                self._demand.idle += 1
        except SessionClosing as error:
            self._give_up(error.reason)
        except (TooManyStreams, ConnectionLost):
            return  # room comes with the next lease that ends; a lost session is told elsewhere

    def _on_idle(self, stream: Stream) -> None:
        """Something came on an idle lease: the Host's 200, a request, or its end."""
        if stream.error is not None:
            self._lease_lost(stream, None)
            return
        data = stream.take_frame()
        if not data:
            if stream.fields is not None and stream.fields[0][1] != b"200":
                if stream.ended:
                    self._lease_lost(stream, "the Host refused a lease")
            elif stream.ended:
                self._lease_lost(stream, "the Host ended an idle lease")
            return
        if stream.fields is not None and stream.fields[0][1] != b"200":
            self._lease_lost(stream, f"the Host refused a lease: {data[:300].decode('utf-8', 'replace')}")
            return
        parser = self._partial.pop(stream.id, None) or EnvelopeParser()
        try:
            while (head := parser.feed(data)) is None and (data := stream.take_frame()):
                pass
            if head is None and not stream.ended:
                self._partial[stream.id] = parser
                return
            if not isinstance(head, RequestHead):
                raise VerserProtocolError("The Host sent something else than a request on a lease.")
        except VerserProtocolError as error:
            self._lease_lost(stream, error.message)
            stream.reset(ErrorCode.PROTOCOL_ERROR)
            return
        self._activate(stream, head, parser.rest)

    def _activate(self, stream: Stream, head: RequestHead, rest: bytes) -> None:
        """A request took the lease: call the app, and open a replacement at once (§5)."""
        stream.listener = None
        del self._idle[stream.id]
        self._refill_delay = 0.0
        self._demand.turned_active(monotonic())
        length = head.headers.get("content-length", "")
        lease = Lease(stream, head, rest, int(length[:20]) if length.isascii() and length.isdigit() else None)
        self._tasks[stream.id] = self.session.loop.create_task(self._serve(lease))
        self._fill()

    async def _serve(self, lease: Lease) -> None:
        stream = lease.stream
        try:
            await self._dispatcher.serve(lease)
        except asyncio.CancelledError:
            stream.reset(ErrorCode.INTERNAL_ERROR)
            raise
        finally:
            if stream.unread or not stream.ended:
                stream.discard()  # nobody will read the rest of an upload
            del self._tasks[stream.id]
            self._settled.set()
            self._calls.finished()

    def _lease_lost(self, stream: Stream, reason: str | None) -> None:
        """An idle lease ended without a request: open another, more slowly each time in a row."""
        if self._idle.pop(stream.id, None) is None:
            return
        self._partial.pop(stream.id, None)
        stream.listener = None
        stream.discard()
        self._demand.idle -= 1
        if self.session.lost is not None:
            return
        if reason is not None:
            _log.warning("An idle lease was lost: %s", reason)
        if self._refill_timer is None:
            delay, self._refill_delay = (
                self._refill_delay,
                min(max(self._refill_delay * 2, _REFILL_DELAY_SECONDS), _REFILL_MAX_DELAY_SECONDS),
            )
            self._refill_timer = self.session.loop.call_later(delay, self._refill)

    def _refill(self) -> None:
        self._refill_timer = None
        self._fill()

    # --- Revocation and drain (protocol.md §9) --------------------------------------------

    async def revoke(self, domains: tuple[str, ...], *, timeout: float = 10.0) -> RevocationAnswer:
        """Asks the Host to send no new requests for `domains`; raises RevocationFailedError."""
        status, body = await exchange(
            self.session,
            self._block(b"/verser/guest/revoke"),
            ((b"content-type", b"application/json"),),
            encode_revocation(domains),
            timeout=timeout,
        )
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
            async with asyncio.timeout(timeout):
                if domains:
                    try:
                        await self.revoke(domains)
                    except VerserError as error:
                        if self.session.lost is not None:
                            raise
                        _log.warning("Draining although the routes could not be revoked: %s", error.message)
                await self._barrier()
                self._end_idle_leases()
                while self._tasks and self.session.lost is None:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            _log.warning(
                "The drain took longer than %g s: cutting off %d requests", timeout, len(self._tasks)
            )
        except (VerserError, Http2Error) as error:
            _log.warning("The session was lost while it drained: %s", error)

    async def _barrier(self) -> None:
        """Until an idle lease has stayed idle through two PINGs: the Host's queue is empty then."""
        while True:
            idle_before = set(self._idle)
            await self.session.ping(timeout=30.0)
            await self.session.ping(timeout=30.0)
            if not idle_before.isdisjoint(self._idle):
                return
            if not self._idle:
                self._settled.clear()
                await self._settled.wait()

    def _end_idle_leases(self) -> None:
        self._replacing = False
        for stream in list(self._idle.values()):
            stream.listener = None
            stream.discard()
            stream.write_now(b"", end=True)
            self._demand.idle -= 1
        self._idle.clear()

    async def close(self, reason: str) -> None:
        """Ends the session in an orderly way; app calls that still run are cancelled."""
        self._replacing = False
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None
        tasks = list(self._tasks.values())
        if self._keepalive is not None:
            tasks.append(self._keepalive)
        for task in tasks:
            task.cancel()
        await self.session.close(reason=reason)
        if tasks:
            await asyncio.wait(tasks)

    async def linger(self) -> None:
        """After a loss: until the app calls that still run have ended; they see `http.disconnect`."""
        self._replacing = False
        while self._tasks:
            self._settled.clear()
            await self._settled.wait()
        await self.close("the session was lost")

    # --- The end --------------------------------------------------------------------------

    def _on_goaway(self, code: int) -> None:
        self._give_up(f"the Host sent GOAWAY ({ErrorCode.name_of(code)})")

    def _on_lost(self, error: ConnectionLost) -> None:
        self._give_up(error.reason)

    def _give_up(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)

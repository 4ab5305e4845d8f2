"""HTTP leases of a session: idle ones that wait, and the app calls that took one (protocol.md §5)."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from verser2_guest_python.errors import VerserProtocolError
from verser2_guest_python.http2 import (
    ConnectionLost,
    ErrorCode,
    FieldBlock,
    SessionClosing,
    Stream,
    TooManyStreams,
)
from verser2_guest_python.wire.envelopes import EnvelopeParser, RequestHead

from .demand import Calls, LeaseDemand
from .lease import Lease

if TYPE_CHECKING:
    from .session import GuestSession

_log = logging.getLogger("verser2_guest_python.guest")

_REFILL_DELAY_SECONDS = 0.05  # after an idle lease was lost without a request, doubling
_REFILL_MAX_DELAY_SECONDS = 2.0
_OTHER_STREAMS = 8  # of what the Host allows, kept for control, revocation and WebSockets


class HttpLeases:
    """Opens as many leases as the demand asks for, and starts an app call on each that turns active."""

    def __init__(
        self, guest_session: GuestSession, block: FieldBlock, *, calls: Calls, idle: int, limit: int
    ) -> None:
        self._guest_session = guest_session
        self._session = guest_session.session
        self._dispatcher = guest_session.dispatcher
        self._block = block
        self._calls = calls
        self._demand = LeaseDemand(idle, limit, calls, monotonic())
        self._idle: dict[int, Stream] = {}
        self._partial: dict[int, EnvelopeParser] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._count = 0
        self._replacing = False
        self._refill_delay = 0.0
        self._refill_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> frozenset[int]:
        """The stream ids of the leases that wait for a request."""
        return frozenset(self._idle)

    @property
    def active(self) -> int:
        """App calls that run."""
        return len(self._tasks)

    def tasks(self) -> list[asyncio.Task[None]]:
        """One an app call."""
        return list(self._tasks.values())

    # --- Opening --------------------------------------------------------------------------

    def start(self) -> None:
        """Opens the first leases; from now on each that turns active is replaced."""
        self._replacing = True
        self._calls.on_finished = self._fill
        self._fill()

    def stop(self) -> None:
        """Opens no further leases."""
        self._replacing = False
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None

    def _fill(self) -> None:
        session = self._session
        missing = self._demand.missing()
        if not missing or not self._replacing or session.lost is not None:
            return
        room = session.peer_max_concurrent_streams - session.open_streams - _OTHER_STREAMS
        try:
            for _ in range(min(missing, room)):
                self._count += 1
                lease_id = (b"x-verser-lease-id", b"%d" % self._count)
                stream = session.open(self._block, (lease_id,), listener=self._on_idle)
                self._idle[stream.id] = stream
                self._demand.idle += 1
        except SessionClosing as error:
            self._guest_session.give_up(error.reason)
        except (TooManyStreams, ConnectionLost):
            return  # room comes with the next lease that ends; a lost session is told elsewhere

    def end_idle(self) -> None:
        """The end of a drain: no request is on its way to any of them."""
        self.stop()
        for stream in self._idle.values():
            stream.listener = None
            stream.discard()
            if stream.error is None and not stream.write_ended:
                stream.write_now(b"", end=True)
        self._demand.idle = 0
        self._idle.clear()

    # --- What comes on an idle lease ------------------------------------------------------

    def _on_idle(self, stream: Stream) -> None:
        """The Host's 200, a request, or the end."""
        if stream.error is not None:
            self._lost(stream, None)
            return
        data = stream.take_frame()
        fields = stream.fields
        if fields is not None and fields[0][1] != b"200":
            if data or stream.ended:
                self._lost(stream, f"the Host refused it: {data[:300].decode('utf-8', 'replace')}")
            return
        if not data:
            if stream.ended:
                self._lost(stream, "the Host ended it")
            return
        parser = self._partial.pop(stream.id, None) or EnvelopeParser()
        try:
            while (head := parser.feed(data)) is None and (data := stream.take_frame()):
                pass
            if head is None and not stream.ended:
                self._partial[stream.id] = parser
                return
            if not isinstance(head, RequestHead):
                raise VerserProtocolError("The Host sent something else than a request.")
        except VerserProtocolError as error:
            self._lost(stream, error.message)
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
        self._tasks[stream.id] = self._session.loop.create_task(self._serve(lease))
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
            self._guest_session.settled()
            self._calls.finished()

    def _lost(self, stream: Stream, reason: str | None) -> None:
        """An idle lease ended without a request: open another, more slowly each time in a row."""
        if self._idle.pop(stream.id, None) is None:
            return
        self._partial.pop(stream.id, None)
        stream.listener = None
        stream.discard()
        self._demand.idle -= 1
        if self._session.lost is not None or not self._replacing:
            return
        if reason is not None:
            _log.warning("An idle lease was lost: %s", reason)
        if self._refill_timer is None:
            delay = self._refill_delay
            self._refill_delay = min(max(delay * 2, _REFILL_DELAY_SECONDS), _REFILL_MAX_DELAY_SECONDS)
            self._refill_timer = self._session.loop.call_later(delay, self._refill)

    def _refill(self) -> None:
        self._refill_timer = None
        self._fill()

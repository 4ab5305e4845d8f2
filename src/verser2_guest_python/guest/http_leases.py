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
    StreamReset,
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
_OTHER_STREAMS = 8  # of what the Host allows, kept for revocation and WebSockets …
_OTHER_STREAMS_SHARE = 4  # … but at most a quarter of it
_HANDOVER_STREAM_IDS = 1 << 20  # left for the time of a handover, and for a drain behind it
_IDS_RUN_OUT = "the session's stream ids run out"
_REVOCATION_STREAMS = 8  # of these ids no lease takes the last ones: the routes have to be revoked


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
        self._opening: dict[int, Stream] = {}  # the Host has not answered yet
        self._idle: dict[int, Stream] = {}
        self._partial: dict[int, EnvelopeParser] = {}  # part of a request head has come
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._count = 0
        self._replacing = False
        self._draining = False
        last_id = self._session.options.last_stream_id
        self._handover_id = last_id - min(_HANDOVER_STREAM_IDS, last_id // 2)
        self._refill_delay = 0.0
        self._refill_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> frozenset[int]:
        """The stream ids of the leases that the Host has in hand for further requests."""
        return frozenset(self._idle.keys() - self._partial.keys())

    @property
    def final(self) -> bool:
        """Whether no further lease can be opened, nor anything else be asked of the Host."""
        return self._session.closing or self._session.ids_left <= _REVOCATION_STREAMS

    @property
    def exhausted(self) -> bool:
        """Whether no lease will ever be idle again."""
        return not self._idle and not self._opening and self.final

    @property
    def active(self) -> int:
        """Requests that have come, or begun to: app calls that run, nearly all of them."""
        return len(self._tasks) + len(self._partial)

    def tasks(self) -> list[asyncio.Task[None]]:
        """One an app call."""
        return list(self._tasks.values())

    # --- Opening --------------------------------------------------------------------------

    def start(self) -> None:
        """Opens the first leases; from now on each that turns active is replaced."""
        self._replacing = True
        self._calls.join(self.fill)
        self.fill()

    def stop(self) -> None:
        """Opens no further leases."""
        self._replacing = False
        self._calls.leave(self.fill)
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None

    def fill(self) -> None:
        """Opens the leases that are missing."""
        session = self._session
        missing = self._demand.missing()
        if not missing or not self._replacing or session.lost is not None:
            return
        allowed = session.peer_max_concurrent_streams
        room = allowed - session.open_streams - max(1, min(_OTHER_STREAMS, allowed // _OTHER_STREAMS_SHARE))
        if room > missing:
            room = missing
        if room > session.ids_left - _REVOCATION_STREAMS:
            room = session.ids_left - _REVOCATION_STREAMS
            self._guest_session.give_up(_IDS_RUN_OUT, "stream-ids")
        try:
            for _ in range(room):
                self._count += 1
                lease_id = (b"x-verser-lease-id", b"%d" % self._count)
                stream = session.open(self._block, (lease_id,), listener=self._on_opened)
                self._opening[stream.id] = stream
                self._demand.opened()
                self.check_id(stream.id)
        except SessionClosing as error:
            self._guest_session.give_up(error.reason, "stream-ids")
        except (TooManyStreams, ConnectionLost):
            return  # room comes with the next stream that ends; a lost session is told elsewhere

    def check_id(self, stream_id: int) -> None:
        """Time for a new session, well before the ids are used up (protocol.md §12.11)."""
        if stream_id >= self._handover_id:
            self._guest_session.give_up(_IDS_RUN_OUT, "stream-ids")

    def drain(self) -> None:
        """Tells the session as well when a lease turns idle."""
        self._draining = True

    def end_idle(self) -> None:
        """The end of a drain: no request is on its way to any of them.

        Where no routes could be revoked, requests still come: the Host keeps as many as are this
        session's share, the oldest, which it takes first, until the session ends.
        """
        idle = {**self._opening, **self._idle}
        for stream_id in self._partial:
            del idle[stream_id]  # the rest of its head is on its way
        kept = self._demand.share if self.final else 0
        for stream in sorted(idle.values(), key=lambda one: one.id)[kept:]:
            self._take(stream)
            self._demand.lost()
            self._give_up(stream)
        self.stop()

    def _take(self, stream: Stream) -> bool:
        """It waits no longer; False when it did not."""
        self._partial.pop(stream.id, None)
        stream.listener = None
        return (self._idle.pop(stream.id, None) or self._opening.pop(stream.id, None)) is not None

    def _give_up(self, stream: Stream) -> None:
        """Leaves nothing behind of a lease that no request will come on."""
        stream.discard()
        if not stream.closed and not stream.write_ended:
            stream.write_now(b"", end=True)

    # --- What comes on an idle lease ------------------------------------------------------

    def _on_opened(self, stream: Stream) -> None:
        """The Host's 200: it may use the lease from now on. With anything else, it goes on below."""
        stream.listener = self._on_idle
        fields = stream.fields
        if stream.error is None and not stream.ended and not stream.unread and fields is not None:
            if fields[0][1] == b"200":
                self._idle[stream.id] = self._opening.pop(stream.id)
                if self._draining:
                    self._guest_session.settled()
        else:
            self._on_idle(stream)

    def _on_idle(self, stream: Stream) -> None:
        """A request, or the end."""
        if stream.error is not None:
            self._lost(stream, None)
            return
        data = stream.take_frame()
        fields = stream.fields
        if fields is not None and fields[0][1] != b"200":
            if data or stream.ended:
                status = fields[0][1].decode("latin-1")
                self._lost(stream, f"the Host refused it ({status} {data[:300].decode('utf-8', 'replace')})")
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
            stream.reset(ErrorCode.PROTOCOL_ERROR)
            self._lost(stream, error.message)
            return
        self._activate(stream, head, parser.rest)

    def _activate(self, stream: Stream, head: RequestHead, rest: bytes) -> None:
        """A request took the lease: call the app, and open a replacement at once (§5)."""
        self._take(stream)
        self._refill_delay = 0.0
        self._demand.turned_active(monotonic(), bool(self._idle) or self._any_accepted())
        length = head.headers.get("content-length", "")
        expected = int(length[:20]) if length.isascii() and length.isdigit() else None
        session = self._guest_session
        lease = Lease(stream, head, rest, expected, session.binds_brokers, session.session_id)
        self._tasks[stream.id] = self._session.loop.create_task(self._serve(lease))
        self.fill()

    def _any_accepted(self) -> bool:
        """Whether this read also brought the Host's 200 for a lease that is told of it after this one."""
        return any(
            one.fields is not None and not one.unread and not one.closed for one in self._opening.values()
        )

    async def _serve(self, lease: Lease) -> None:
        stream = lease.stream
        try:
            await self._dispatcher.serve(lease)
        except BaseException:  # cancelled, or a fault that the loop reports: nobody is left waiting
            stream.reset(ErrorCode.INTERNAL_ERROR)
            raise
        finally:
            if stream.unread or not stream.ended:
                stream.discard()  # nobody will read the rest of an upload
                stream.listener = self._on_upload
            self._over(stream.id)

    def _over(self, stream_id: int) -> None:
        del self._tasks[stream_id]
        self._guest_session.settled()
        self._calls.finished()

    def forget_cancelled(self) -> None:
        """Counts out calls whose task was cancelled before its first step."""
        for stream_id in [key for key, task in self._tasks.items() if task.done()]:
            self._over(stream_id)

    def _on_upload(self, stream: Stream) -> None:
        """An upload that nobody reads; its end makes room where the Host allows few streams."""
        if stream.closed:
            stream.listener = None
            self.fill()

    def _lost(self, stream: Stream, reason: str | None) -> None:
        """An idle lease ended without a request: open another, more slowly each time in a row."""
        error = stream.error
        if not self._take(stream):
            return
        self._demand.lost()
        if self._session.lost is not None:
            return
        if not stream.ended and reason is not None:
            stream.reset(ErrorCode.CANCEL)  # the Host has refused it, and still speaks
        self._give_up(stream)
        if not self._replacing:
            self._guest_session.settled()
        elif self._refill_timer is None:
            delay = self._refill_delay
            self._refill_delay = max(delay, _REFILL_DELAY_SECONDS)
            if isinstance(error, StreamReset) and error.code == ErrorCode.CANCEL:
                # Often a request that was cancelled before it got here, so that both came in one read
                delay = min(delay, _REFILL_DELAY_SECONDS)
            else:
                self._refill_delay = min(self._refill_delay * 2, _REFILL_MAX_DELAY_SECONDS)
            if reason is not None:
                _log.warning("An idle lease was lost: %s", reason)
            self._refill_timer = self._session.loop.call_later(delay, self._refill)

    def _refill(self) -> None:
        self._refill_timer = None
        self.fill()

"""One HTTP/2 session over TLS: the engine, its streams, credit, resets, PING and an orderly end.

Bytes come in from the TLS transport through `records_received`; everything that a turn of the event
loop produces leaves in one flush (protocol.md §12.5). Reading never waits for writing (§12.7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .credit import Credit
from .engine import Engine
from .errors import ConnectionLost, ErrorCode, SessionClosing, StreamReset, TooManyStreams
from .fields import FieldBlock, Fields
from .floods import FloodGuard
from .frames import EngineError
from .goaway import Goaway, read_words
from .notices import Notices
from .options import SessionOptions
from .pings import Pings
from .records import pack_records
from .resets import Resets
from .sending import Sender
from .stream import Stream

if TYPE_CHECKING:
    from .backend import H2Stream
    from .frames import EngineStream
    from .tls import TlsTransport


class Session:
    """One end of a connection; made by `connect` and `listen`.

    Attributes:
        is_client: Whether this end opens the streams.
        on_stream: Server: called with each stream that the peer opened, at the end of the read that
            brought its fields.
        on_goaway: Called with what the peer's GOAWAY says; open streams go on.
        on_settings: Called when the peer's SETTINGS have come: it may allow more streams than before.
        on_lost: Called once when the session is over, also after our own `close`.
        lost: Why the session is over, or None.
        farewell: What the peer's last GOAWAY says, or None.
        closing: GOAWAY was sent or received: no new streams.
        heard: Something came in; whoever watches for silence sets it back.
        credit: Flow-control credit for what the peer sends.
    """

    def __init__(self, transport: TlsTransport, is_client: bool, options: SessionOptions) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.is_client = is_client
        self.on_stream: Callable[[Stream], None] | None = None
        self.on_goaway: Callable[[Goaway], None] | None = None
        self.on_settings: Callable[[], None] | None = None
        self.on_lost: Callable[[ConnectionLost], None] | None = None
        self.lost: ConnectionLost | None = None
        self.farewell: Goaway | None = None
        self.closing = False
        self.settings_seen = False
        self.heard = True
        self.notices = Notices(self)
        self.engine = Engine(is_client, options, self)
        self.sender = Sender(self)
        self.credit = Credit(self)
        self._resets = Resets(self)
        self._transport = transport
        self._reading = False
        self._flush_planned = False
        self._paused = False
        self._pings = Pings(self)
        self._over = asyncio.Event()
        self._answered = asyncio.Event()  # the peer's SETTINGS are here, or never will be
        self._sent_bytes = 0
        self._guard = FloodGuard(options.floods) if options.floods is not None else None

    # --- Facts ----------------------------------------------------------------------------

    @property
    def peer_address(self) -> tuple[str, int]:
        """Address and port of the other end."""
        return self._transport.peer_address

    @property
    def peer_certificate(self) -> bytes | None:
        """The other end's certificate in DER, if it showed one."""
        return self._transport.peer_certificate

    @property
    def tls_version(self) -> str:
        """For example `TLSv1.3`."""
        return self._transport.tls_version

    @property
    def last_rtt(self) -> float | None:
        """Round trip of the last PING in seconds, or None."""
        return self._pings.last_rtt

    @property
    def open_streams(self) -> int:
        """Streams that are not closed."""
        return len(self.engine.live)

    @property
    def unread_bytes(self) -> int:
        """Bytes of all streams that nobody has read yet."""
        return self.credit.unread

    @property
    def peer_max_concurrent_streams(self) -> int:
        """How many streams the peer lets us open at a time."""
        return self.engine.peer_max_concurrent_streams

    @property
    def ids_left(self) -> int:
        """How many streams this session can still open (protocol.md §12.11)."""
        next_id = self.engine.highest_id + 1 | 1
        return max(0, (self.options.last_stream_id - next_id) // 2 + 1)

    @property
    def has_room(self) -> bool:
        """Whether DATA may be produced now: the transport takes it, and this turn's share is not used up."""
        return (
            not self._paused and self.engine.out_bytes < self.options.write_buffer_bytes and self.lost is None
        )

    # --- Streams --------------------------------------------------------------------------

    def open(
        self,
        block: FieldBlock,
        extra: Fields = (),
        *,
        secret: Fields = (),
        end: bool = False,
        listener: Callable[[Stream], None] | None = None,
    ) -> Stream:
        """Opens a stream with request fields: a block of constant ones and those that vary.

        `secret` fields are never indexed by HPACK; `end` ends our side at once.

        Raises:
            ConnectionLost: the session is over.
            SessionClosing: GOAWAY was sent or received, or the stream ids are used up.
            TooManyStreams: the peer's SETTINGS_MAX_CONCURRENT_STREAMS is reached.
        """
        if self.lost is not None:
            raise self.lost.with_traceback(None)
        engine = self.engine
        if self.closing:
            farewell = self.farewell
            raise SessionClosing(
                "the session is closing" if farewell is None else f"the other end sent GOAWAY ({farewell})"
            )
        if engine.highest_id + 1 | 1 > self.options.last_stream_id:
            raise SessionClosing("the session's stream ids are used up")
        if len(engine.live) >= engine.peer_max_concurrent_streams:
            raise TooManyStreams
        h2_stream = engine.open(block, extra, secret, end)
        stream = Stream(self, h2_stream.stream_id, h2_stream)
        stream.listener = listener
        stream.write_ended = end
        engine.live[stream.id] = stream
        self.wrote()
        return stream

    def send_fields(self, stream: Stream, block: FieldBlock, extra: Fields, end: bool) -> None:
        """See `Stream.send_fields`."""
        self.engine.send_fields(stream, block, extra, end)
        self.wrote()

    def reset_stream(self, stream: Stream, code: int) -> None:
        """Resets a stream within the ration (§12.10), else later; it counts as reset from now on."""
        if self.lost is None and stream.id in self.engine.live:
            self._resets.reset(stream, code)
        stream.fail(StreamReset(code, False))

    # --- Writing --------------------------------------------------------------------------

    def wrote(self) -> None:
        """Frames are ready: let them leave at the end of this turn."""
        if not self._flush_planned and not self._reading:
            self._flush_planned = True
            self.loop.call_soon(self._flush)

    def pump_soon(self) -> None:
        """A writer has window again: send at the end of this read or turn."""
        if not self._reading:
            self.sender.pump()

    def _flush(self) -> None:
        self._flush_planned = False
        if self.lost is not None:
            return
        self._write_out()
        if self.sender.waiting and not self._paused:
            self.sender.pump()

    def _write_out(self) -> None:
        self._sent_bytes += self.engine.out_bytes
        frames = self.engine.take_output()
        if frames:
            self._transport.write(pack_records(frames))
            if self._transport.backlog > self.options.max_backlog_bytes:
                self.abort("the other end does not read", limit="backlog")

    def pause_writing(self) -> None:
        """The transport's buffer is full: bodies wait."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._paused = False
        self.sender.pump()

    # --- Reading --------------------------------------------------------------------------

    def start(self) -> None:
        """The TLS handshake is over."""
        self.engine.start()
        self._write_out()

    def data_dropped(self, flow_bytes: int) -> None:
        """Engine: DATA of a stream that is closed already."""
        self.credit.dropped(flow_bytes)

    def records_received(self, records: Sequence[bytes]) -> None:
        """Plaintext of one transport read, as its TLS records had it, or cut in any other way.

        Listeners run when all of it was understood (§5).
        """
        if self.lost is not None:
            return
        self.heard = True
        self._reading = True
        failure: EngineError | None = None
        try:
            self.engine.feed(records)
        except EngineError as error:
            failure = error
        self.notices.tell_all()
        self._reading = False
        if failure is not None:
            self._write_out()
            self._lose(failure.reason, failure.limit)
            self._transport.close(self.options.close_timeout_seconds)
            return
        if self.sender.waiting:
            self.sender.pump()
        if self.engine.out:
            self.wrote()

    def stream_opened(self, stream_id: int, h2_stream: H2Stream) -> Stream:
        """Engine: the peer opened a stream."""
        stream = Stream(self, stream_id, h2_stream)
        self.notices.opened.append(stream)
        return stream

    def stream_broken(self, stream: EngineStream, code: int) -> None:
        """Engine: the peer broke the rules of one stream (RFC 9113 §5.4.2), or opened one too many."""
        if isinstance(stream, Stream) and not stream.reset_pending:
            if stream in self.notices.opened:
                self.notices.opened.remove(stream)
            stream.touch()
            self.reset_stream(stream, code)

    def costly(self, what: str, count: int) -> None:
        """Engine: frames that only cost; raises `EngineError` when a peer sends too many (see `floods`)."""
        if self._guard is not None:
            self._guard.count(what, count, self._sent_bytes, self.loop.time())

    def connection_window_opened(self) -> None:
        """Engine: the connection has more window; writers are served at the end of the read."""

    def settings_received(self) -> None:
        """Engine: the peer's SETTINGS came."""
        self.settings_seen = True
        self._answered.set()
        for stream in list(self.engine.live.values()):
            stream.on_window()  # windows may have grown (RFC 9113 §6.9.2)
        if self.on_settings is not None:
            self.loop.call_soon(self._tell_settings)

    def _tell_settings(self) -> None:
        if self.on_settings is not None and self.lost is None:
            self.on_settings()

    async def wait_settings(self) -> None:
        """Until the peer's first SETTINGS; raises ConnectionLost when they never come."""
        await self._answered.wait()
        if not self.settings_seen and self.lost is not None:
            raise self.lost.with_traceback(None)

    # --- PING -----------------------------------------------------------------------------

    async def ping(self, timeout: float = 10.0) -> float:
        """A round trip in seconds. Returns after the whole read that held the answer was processed.

        Raises:
            ConnectionLost: the session is over.
            TimeoutError: no answer within `timeout` seconds.
        """
        return await self._pings.round_trip(timeout)

    def probe(self) -> None:
        """Sends a PING that nobody waits for: what comes back is `heard`."""
        self._pings.send()

    def ping_answered(self, opaque: bytes) -> None:
        """Engine: the answer to a PING."""
        self._pings.answered(opaque)

    # --- The end --------------------------------------------------------------------------

    def goaway_received(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """Engine: the peer takes no new streams, and will not serve those beyond `last_stream_id`."""
        self.closing = True
        farewell = self.farewell = Goaway(code, read_words(debug))
        if self.is_client:
            for stream in [one for one in self.engine.live.values() if one.id > last_stream_id]:
                self.engine.forget(stream)
                stream.on_reset(ErrorCode.REFUSED_STREAM, str(farewell))
        if self.on_goaway is not None:
            self.loop.call_soon(self._tell_goaway, farewell)

    def _tell_goaway(self, farewell: Goaway) -> None:
        if self.on_goaway is not None and self.lost is None:
            self.on_goaway(farewell)

    def goaway(self, code: int = ErrorCode.NO_ERROR) -> None:
        """Tells the peer to open nothing more; open streams go on."""
        if self.lost is None:
            self.closing = True
            self.engine.goaway(code)
            self.wrote()

    async def close(
        self,
        code: int = ErrorCode.NO_ERROR,
        reason: str = "the session was closed",
        limit: str = "",
        *,
        tell: bool = False,
    ) -> None:
        """An orderly end (protocol.md §12.8). Streams that are open fail with ConnectionLost.

        Sends GOAWAY, TLS close_notify and the end of the TCP stream, then reads and drops until the
        other end closes, at most `close_timeout_seconds`. `limit` names the one that the peer exceeded.
        `tell`: whether GOAWAY says the reason, which then has to be fit for the peer's eyes.
        """
        if self.lost is None:
            self.closing = True
            self.engine.goaway(code, reason if tell else "")
            self._write_out()
            self._lose(reason, limit)
            self._transport.close(self.options.close_timeout_seconds)
        await self._transport.wait_closed()

    def abort(self, reason: str, limit: str = "") -> None:
        """Ends the connection now, without the courtesies of `close`."""
        self._lose(reason, limit)
        self._transport.abort()

    async def wait_lost(self) -> None:
        """Until the session is over, for whatever reason."""
        await self._over.wait()

    def connection_lost(self, reason: str, limit: str = "") -> None:
        """The transport has ended, or the other end has."""
        farewell = self.farewell
        if farewell is not None and (farewell.code or farewell.words):
            reason = f"{reason}, and said why: {farewell}"
        self._lose(reason, limit)

    def _lose(self, reason: str, limit: str = "") -> None:
        if self.lost is not None:
            return
        error = self.lost = ConnectionLost(reason, limit)
        self.credit.stop()
        self._resets.stop()
        self._pings.fail(error)
        live = self.engine.live
        streams = [one for one in live.values() if isinstance(one, Stream) and not one.reset_pending]
        live.clear()
        self.engine.lingering.clear()
        self.engine.take_output()
        for stream in streams:
            stream.fail(error)
        for stream in streams:
            self.notices.tell(stream)
        self._answered.set()
        self._over.set()
        if self.on_lost is not None:
            self.loop.call_soon(self.on_lost, error)

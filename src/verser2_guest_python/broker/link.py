"""A link: one session of a registered Broker with its Host, from dialling to its end.

Apart from the Broker because a Broker outlives its sessions: everything that ends with the
session is here, and nothing that does not. When to dial another one is `keeper.py`.

    SERVING ──GOAWAY, stream ids running out, control stream ended──> LEAVING ──retire()──> RETIRED
       └──the session is lost──> LOST <──the last request is done─────────┴───────────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import perf_counter

from verser2_guest_python.broker.control import ControlMessage, ControlStream
from verser2_guest_python.broker.options import BrokerOptions
from verser2_guest_python.broker.room import Room
from verser2_guest_python.errors import (
    DisconnectedTargetError,
    RequestTimeoutError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.http2 import (
    ConnectionLost,
    ErrorCode,
    FieldBlock,
    Fields,
    Http2Error,
    Session,
    SessionClosing,
    Stream,
    StreamReset,
    TooManyStreams,
)
from verser2_guest_python.http2.deadline import Deadline
from verser2_guest_python.peer import HostAddress, dial, find_proxy, peer_block, verser_error
from verser2_guest_python.peer.refusal import note_busy
from verser2_guest_python.peer.tasks import end_tasks
from verser2_guest_python.peer.websocket import WebSocketChannel
from verser2_guest_python.wire.names import (
    ERROR_HEADER_EXTENSION,
    REQUEST_PATH,
    SOURCE_ID_FIELD,
    STAGE_EXTENSION,
    WEBSOCKET_PATH,
    WS_HEADERS_EXTENSION,
)
from verser2_guest_python.wire.routes import Registered

OnMessage = Callable[["Link", ControlMessage], None]

# So many stream ids before they run out, the next session is dialled: a few seconds of the busiest Broker,
# or an eighth of a range that was made small.
_HANDOVER_IDS = 200_000
_HANDOVER_SHARE = 8
_GOING_AWAY = 1001
_OWN_STREAMS = 1  # the control stream
_PATIENCE_SECONDS = 1.0


class Link:
    """One registered session.

    Attributes:
        peer_id: What this session registered as.
        over: Done with the reason once no new request should come here.
        worn_out: Its stream ids are running out (protocol.md §12.11).
        silent: The Host did not answer a PING.
        retired: Another link has taken its place.
        failure: The error that ended the session, where it was not simply lost.
        room: How many requests and WebSockets are under way.
        requests, websockets: The constant fields of their streams.
        marks_errors, tells_stage, takes_headers: What the Host announced (protocol.md §14): a mark on its
            errors, how far a request came, headers of WebSockets.
        extensions: All that it announced.
        sockets: The WebSockets that are open.
        dial_seconds, register_seconds: How long it took.
        registered_at: When that was done, by the clock of the loop.
    """

    def __init__(self, session: Session, address: HostAddress, options: BrokerOptions, peer_id: str) -> None:
        self.session = session
        self.address = address
        self.peer_id = peer_id
        self.over: asyncio.Future[str] = session.loop.create_future()
        self.worn_out = False
        self.silent = False
        self.registered_at = 0.0
        self.retired = False
        self.failure: VerserError | None = None
        self.room = Room()
        self.requests = _block(address, REQUEST_PATH, peer_id)
        self.websockets = _block(address, WEBSOCKET_PATH, peer_id)
        self.marks_errors = self.tells_stage = self.takes_headers = False
        self.extensions: frozenset[str] = frozenset()
        self.sockets: set[WebSocketChannel] = set()
        self.dial_seconds = self.register_seconds = 0.0
        self._options = options
        self._control = ControlStream(session, address)
        self._tasks: set[asyncio.Task[None]] = set()
        last = options.session.last_stream_id
        self._handover_id = last - 2 * min(_HANDOVER_IDS, last // (2 * _HANDOVER_SHARE))

    @classmethod
    async def open(
        cls, options: BrokerOptions, address: HostAddress, peer_id: str
    ) -> tuple[Link, Registered]:
        """Dials and registers within `connect_timeout` seconds; returns the Host's first line too.

        Raises what `dial` raises, and the refusal of the Host.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + options.connect_timeout
        started = perf_counter()
        session = await dial(
            address,
            options.tls,
            timeout=options.connect_timeout,
            options=options.session,
            proxy=find_proxy(address, options.proxy),
        )
        dialled = perf_counter()
        link = cls(session, address, options, peer_id)
        try:
            async with Deadline(deadline):
                registered = await link._control.register(options.registration(peer_id))
        except TimeoutError:
            await session.close(reason="the Host did not answer the registration")
            raise RequestTimeoutError(
                f"{address} did not answer the registration within {options.connect_timeout:g} s."
            ) from None
        except BaseException as error:
            if isinstance(error, VerserError):
                note_busy(error, session)
            await session.close(reason="the registration failed")
            raise
        link.dial_seconds, link.register_seconds = dialled - started, perf_counter() - dialled
        link.registered_at = loop.time()
        link.extensions = registered.extensions
        link.marks_errors = ERROR_HEADER_EXTENSION in registered.extensions
        link.tells_stage = STAGE_EXTENSION in registered.extensions
        link.takes_headers = WS_HEADERS_EXTENSION in registered.extensions
        return link, registered

    def start(self, on_message: OnMessage) -> None:
        """Follows the Host from now on."""
        session = self.session

        def lost(error: ConnectionLost) -> None:
            self._leave(error.reason)

        session.on_lost = lost
        session.on_settings = self.room.wake_all  # there may be more of it now
        session.on_goaway = lambda farewell: self._leave(f"the Host sent GOAWAY ({farewell})")
        self.own(asyncio.create_task(self._follow(on_message), name="verser2-broker-control"))
        self.own(asyncio.create_task(self._keep_alive(), name="verser2-broker-ping"))
        if session.lost is not None:
            lost(session.lost)
        elif session.closing:
            self._leave(f"the Host sent GOAWAY ({session.farewell})")

    def own(self, task: asyncio.Task[None]) -> None:
        """A task that must be over when the link is."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Streams ----------------------------------------------------------------------------

    async def open_stream(
        self, block: FieldBlock, extra: Fields = (), secret: Fields = (), *, end: bool = False
    ) -> Stream:
        """A stream for one attempt; waits for room where the Host allows few at a time.

        Raises `ConnectionLost` or `SessionClosing` when nothing was sent and nothing can be any more.
        """
        room = self.room
        if room.crowded:
            await room.wait()
        while True:
            try:
                stream = self.session.open(block, extra, secret=secret, end=end)
            except TooManyStreams:
                if self.retired:
                    raise SessionClosing("another session has taken its place") from None
                if not room.in_flight:  # no end of a request can make room
                    room.wake()
                    raise
                await room.wait()
            except BaseException:
                room.wake()  # this turn is somebody else's now
                raise
            else:
                if stream.id >= self._handover_id:
                    self.worn_out = True
                    self._leave("its stream ids are running out")
                return stream

    def error(self, error: Http2Error, context: dict[str, str | int | float | bool]) -> VerserError:
        """What a caller is told about a failed stream: why the session ended, if it did."""
        if self.failure is not None and isinstance(error, ConnectionLost):
            return type(self.failure)(self.failure.message, code=self.failure.code, context=context)
        return verser_error(error, **context)

    # --- The life of the session --------------------------------------------------------------

    def _leave(self, reason: str) -> None:
        """No new request should come here."""
        if not self.over.done():
            self.over.set_result(reason)
        if self.session.lost is not None or self.session.closing:
            self.room.wake_all()  # whoever waits for room finds that out

    async def _follow(self, on_message: OnMessage) -> None:
        try:
            await self._control.follow(lambda message: on_message(self, message))
        except ConnectionLost:
            return
        except StreamReset as error:
            await self._control_ended(f"The Host gave up the control stream: {error}.")
        except VerserProtocolError as error:
            self.failure = VerserProtocolError(
                f"The Host broke the protocol on the control stream: {error.message}"
            )
            await self.session.close(ErrorCode.PROTOCOL_ERROR, self.failure.message)
        else:
            await self._control_ended("The Host ended the control stream.")

    async def _control_ended(self, message: str) -> None:
        """Nothing is heard of routes any more. What is under way may still come to its end."""
        if self._options.reconnect:
            self._leave(message)
            return
        self.failure = DisconnectedTargetError(message)
        await self.session.close(reason=message)

    async def _keep_alive(self) -> None:
        """A Host that vanished without a word is noticed only by its silence."""
        interval, limit = self._options.ping_interval, self._options.ping_timeout
        while self.session.lost is None:
            await asyncio.sleep(interval)
            try:
                await self.session.ping(limit)
            except TimeoutError:
                self.silent = True
                self.session.abort(f"the Host did not answer a PING within {limit:g} s")
            except ConnectionLost:
                return

    @property
    def awaited(self) -> bool:
        """Whether somebody awaits anything of it that can still come."""
        return self.session.lost is None and self.room.awaited > 0

    @property
    def patience(self) -> float:
        """For how many seconds somebody may still come for an answer of which not all is here."""
        if self.session.lost is not None or self.session.open_streams <= _OWN_STREAMS:
            return 0.0
        return self.room.answered_at + _PATIENCE_SECONDS - self.session.loop.time()

    async def retire(self) -> None:
        """Another link has taken its place: closes once what is under way is done."""
        self.retired = True
        self.room.wake_all()
        while self.session.lost is None and self.room.in_flight:
            await self.room.wait_change()
        await self.close("the session was handed over")

    def refuse(self) -> None:
        """Takes nothing new from now on; who waits to send something finds that out."""
        self.session.goaway()
        self.room.wake_all()

    async def close(self, reason: str, spare: Collection[asyncio.Task[object]] = ()) -> None:
        """Ends the session, and with it whatever is under way.

        WebSockets are told 1001 and have 1 s to answer that. `spare` are tasks that wait for this, and so
        cannot be waited for.
        """
        await self.close_sockets()
        await self.session.close(reason=reason)
        await self.wait_closed(spare)

    async def close_sockets(self) -> None:
        """Tells WebSockets 1001, and waits up to 1 s for the answers."""
        if self.session.lost is not None:
            return
        sockets = tuple(self.sockets)
        for socket in sockets:
            socket.close(_GOING_AWAY, "the Broker goes away")
        for socket in sockets:
            await socket.wait_closed()

    def owns(self, task: asyncio.Task[object] | None) -> bool:
        """Whether a task is one of those that end with the session, such as an upload."""
        return task in self._tasks

    async def wait_closed(self, spare: Collection[asyncio.Task[object]] = ()) -> None:
        """Until the tasks of a session that is over have ended."""
        current = asyncio.current_task()
        await end_tasks([task for task in self._tasks if task is not current and task not in spare])


def _block(address: HostAddress, path: bytes, peer_id: str) -> FieldBlock:
    """The constant fields of a kind of stream, encoded once a session (protocol.md §12.9)."""
    return FieldBlock((*peer_block(address, path).constant, (SOURCE_ID_FIELD, peer_id.encode("ascii"))))

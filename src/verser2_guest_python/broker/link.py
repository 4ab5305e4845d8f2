"""A link: one session of a registered Broker with its Host, from dialling to its end.

Apart from the Broker because a Broker may outlive its session: everything that ends with the
session is here, and nothing that does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from verser2_guest_python.broker.control import ControlMessage, ControlStream
from verser2_guest_python.broker.options import BrokerOptions
from verser2_guest_python.broker.request import Request
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
    Stream,
    StreamReset,
    TooManyStreams,
)
from verser2_guest_python.peer import HostAddress, dial, peer_block, verser_error
from verser2_guest_python.wire.names import ERROR_HEADER_EXTENSION, REQUEST_PATH, SOURCE_ID_FIELD
from verser2_guest_python.wire.routes import Registered

OnMessage = Callable[[ControlMessage], None]
OnLost = Callable[["Link"], None]


class Link:
    """One registered session.

    Attributes:
        extensions: What the Host announced (protocol.md §14).
        failure: The error that ended the session, where it was not simply lost.
        room: How many requests are under way.
        marks_errors: Whether the Host marks its errors, so that only those are its own.
    """

    def __init__(self, session: Session, address: HostAddress, options: BrokerOptions) -> None:
        self.session = session
        self.extensions: frozenset[str] = frozenset()
        self.marks_errors = False
        self.failure: VerserError | None = None
        self.room = Room()
        self._options = options
        self._address = address
        self._control = ControlStream(session, address)
        self._requests = _request_block(address, options.broker_id)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, options: BrokerOptions) -> tuple[Link, Registered]:
        """Dials and registers within `connect_timeout` seconds; returns the Host's first line too.

        Raises what `dial` raises, and the refusal of the Host.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + options.connect_timeout
        session = await dial(
            options.address, options.tls, timeout=options.connect_timeout, options=options.session
        )
        link = cls(session, options.address, options)
        try:
            async with asyncio.timeout_at(deadline):
                registered = await link._control.register(options.registration)
        except TimeoutError:
            await session.close(reason="the Host did not answer the registration")
            raise RequestTimeoutError(
                f"{options.address} did not answer the registration within {options.connect_timeout:g} s."
            ) from None
        except BaseException:
            await session.close(reason="the registration failed")
            raise
        link.extensions = registered.extensions
        link.marks_errors = ERROR_HEADER_EXTENSION in registered.extensions
        return link, registered

    def start(self, on_message: OnMessage, on_lost: OnLost) -> None:
        """Follows the Host from now on; `on_lost` is called once, when the session is over."""
        session = self.session

        def lost(error: ConnectionLost) -> None:
            self.room.wake_all()
            on_lost(self)

        session.on_lost = lost
        self.own(asyncio.create_task(self._follow(on_message), name="verser2-broker-control"))
        self.own(asyncio.create_task(self._keep_alive(), name="verser2-broker-ping"))
        if session.lost is not None:
            lost(session.lost)

    def own(self, task: asyncio.Task[None]) -> None:
        """A task that must be over when the link is."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Streams ----------------------------------------------------------------------------

    async def open_stream(self, request: Request, extra: Fields, secret: Fields) -> Stream:
        """A stream for one attempt; waits for room where the Host allows few at a time."""
        room = self.room
        end = request.body is None
        if room.crowded:
            await room.wait()
        while True:
            try:
                return self.session.open(self._requests, extra, secret=secret, end=end)
            except TooManyStreams:
                if not room.in_flight:  # no end of a request can make room
                    room.wake()
                    raise
                await room.wait()

    def error(self, error: Http2Error, context: dict[str, str | int | float | bool]) -> VerserError:
        """What a caller is told about a failed stream: why the session ended, if it did."""
        if self.failure is not None and isinstance(error, ConnectionLost):
            return type(self.failure)(self.failure.message, code=self.failure.code, context=context)
        return verser_error(error, **context)

    # --- The life of the session --------------------------------------------------------------

    async def _follow(self, on_message: OnMessage) -> None:
        try:
            await self._control.follow(on_message)
        except ConnectionLost:
            return
        except StreamReset as error:
            self.failure = DisconnectedTargetError(f"The Host gave up the control stream: {error}.")
            await self.session.close(reason="the Host reset the control stream")
        except VerserProtocolError as error:
            self.failure = VerserProtocolError(
                f"The Host broke the protocol on the control stream: {error.message}"
            )
            await self.session.close(ErrorCode.PROTOCOL_ERROR, self.failure.message)
        else:
            await self.session.close(reason="the Host ended the control stream")

    async def _keep_alive(self) -> None:
        """A Host that vanished without a word is noticed only by its silence."""
        interval, limit = self._options.ping_interval, self._options.ping_timeout
        while self.session.lost is None:
            await asyncio.sleep(interval)
            try:
                await self.session.ping(limit)
            except TimeoutError:
                self.session.abort(f"the Host did not answer a PING within {limit:g} s")
            except ConnectionLost:
                return

    async def close(self, reason: str, timeout: float) -> None:
        """Takes no new request, waits up to `timeout` seconds for those under way, and ends the session."""
        if self.session.lost is None and timeout > 0 and self.room.in_flight:
            self.session.goaway()
            try:
                async with asyncio.timeout(timeout):
                    await self.room.wait_idle()
            except TimeoutError:
                pass  # they fail with the session
        await self.session.close(reason=reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Until the tasks of a session that is over have ended."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _request_block(address: HostAddress, broker_id: str) -> FieldBlock:
    """The constant fields of every request, encoded once a session (protocol.md §12.9)."""
    constant = peer_block(address, REQUEST_PATH).constant
    return FieldBlock((*constant, (SOURCE_ID_FIELD, broker_id.encode("ascii"))))

"""Keeps a Broker registered: dials, dials again after a loss, and hands over to a new session.

    NEW ──connect()──> CONNECTED <──────────────────────────────────────────┐
                        │    └─GOAWAY, stream ids used up─> dials a second ─┤ the first one retires
                        └─lost─> LOST ──────────────────────dials again─────┘

Apart from the link, which is one session, and from requests, which only ask for the link of the day.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum

from verser2_guest_python.broker.control import ControlMessage
from verser2_guest_python.broker.directory import Directory
from verser2_guest_python.broker.ending import Ending
from verser2_guest_python.broker.facts import BrokerFacts
from verser2_guest_python.broker.link import Link
from verser2_guest_python.broker.options import BrokerOptions
from verser2_guest_python.broker.pulse import Pulse
from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    DisconnectedTargetError,
    InvalidRegistrationError,
    RequestTimeoutError,
    StreamFailureError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserUsageError,
)
from verser2_guest_python.errors import ConnectFailure as Failure
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.peer import HostAddress
from verser2_guest_python.peer.backoff import Backoff
from verser2_guest_python.peer.facts import session_facts
from verser2_guest_python.peer.refusal import cause_of
from verser2_guest_python.wire.routes import Registered

_LOGGER = logging.getLogger("verser2_guest_python.broker")
# Not reached, or left before we were registered, as by a Host that is full or about to stop
_NOT_JOINED = (VerserConnectionError, RequestTimeoutError, DisconnectedTargetError, StreamFailureError)


class _State(Enum):
    NEW = "not connected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "disconnected"
    CLOSED = "closed"


class Keeper:
    """Owns the sessions of a Broker. The directory hears what the current one says of routes."""

    def __init__(self, options: BrokerOptions, directory: Directory) -> None:
        self._options = options
        self._directory = directory
        self._state = _State.NEW
        self._link: Link | None = None
        self._retired: dict[Link, asyncio.Task[None]] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._ending: Ending | None = None
        self._changed = Pulse()
        self._backoff = Backoff(options.reconnect_max_delay)
        self._address = 0  # of the Hosts, the one whose turn it is
        self._suffix = 0  # of the peer id, see `_free_id`
        self._trouble: VerserError | None = None  # of the last attempt
        self._said: set[str] = set()  # in this outage
        self._reconnects: dict[str, int] = {}  # attempts, by why

    @property
    def state(self) -> str:
        """In a word."""
        return self._state.value

    @property
    def link(self) -> Link | None:
        """The session for new requests, if there is one just now."""
        link = self._link
        if link is None or link.session.lost is not None or link.session.closing:
            return None
        return link

    def facts(self) -> BrokerFacts:
        """As it is now."""
        link = self.link
        session = None
        if link is not None:
            session = session_facts(link.session, link.address, link.peer_id, link.registered_at)
        links = {one for one in (self._link, *self._retired) if one is not None}
        waiting = self._directory.queue.waiting + sum(one.room.waiting for one in links)
        trouble = "" if self._trouble is None else self._trouble.message
        return BrokerFacts(session, dict(self._reconnects), waiting, trouble)

    # --- For requests -------------------------------------------------------------------------

    def check(self) -> None:
        """Raises why there is no session, and none to be waited for; returns if there may be."""
        if self._state is _State.CLOSED:
            raise VerserUsageError(f"The Broker {self._options.broker_id!r} is closed: call connect() again.")
        if self._state in (_State.NEW, _State.CONNECTING):
            raise VerserUsageError(
                f"The Broker {self._options.broker_id!r} is not connected: call connect() first."
            )
        if not self._options.reconnect and self.link is None:
            raise self._loss()

    async def next_link(self, failed: Link | None = None, error: VerserError | None = None) -> Link:
        """The session for a request: the one that is there, or the next, within `connect_timeout`.

        `failed` is one that took no request, because of `error`.

        Raises:
            VerserUsageError: the Broker is not connected, or closed.
            DisconnectedTargetError: there is no session, and there was none in time.
        """
        with self._directory.queue:
            return await self._await_link(failed, error)

    async def _await_link(self, failed: Link | None = None, error: VerserError | None = None) -> Link:
        limit = self._options.connect_timeout
        try:
            async with within(limit):
                while (link := self.link) is None or link is failed:
                    self.check()
                    if not self._options.reconnect:
                        raise error or self._loss()
                    await self._changed.wait()
                return link
        except TimeoutError:
            because = f" {self._trouble.message}" if self._trouble is not None else ""
            raise DisconnectedTargetError(
                f"The session with the Host was lost, and there was no new one within {limit:g} s.{because}",
                context={"brokerId": self._options.broker_id},
            ) from None

    def _loss(self) -> VerserError:
        link = self._link
        context: dict[str, str | int | float | bool] = {"brokerId": self._options.broker_id}
        if link is not None and link.session.lost is not None:
            return link.error(link.session.lost, context)
        return DisconnectedTargetError("The session with the Host is closing.", context=context)

    # --- Connecting -----------------------------------------------------------------------------

    async def connect(self) -> None:
        """Dials and registers once; with several Hosts, at the first that answers.

        Raises why there is no session.
        """
        if self._state is _State.LOST and self._options.reconnect:
            await self._await_link()
            return
        if self._state in (_State.CONNECTING, _State.CONNECTED):
            raise VerserUsageError(f"The Broker {self._options.broker_id!r} is {self.state} already.")
        before, self._state = self._state, _State.CONNECTING
        self._suffix = 0
        try:
            if self._ending is not None:
                await self._ending.wait()
            if self._link is not None:
                await self._link.wait_closed()
                self._link = None
            link, registered = await self._open_first()
        except BaseException as error:
            if isinstance(error, VerserError):
                self._trouble = error
            if self._state is _State.CONNECTING:
                self._state = before
            raise
        if self._state is not _State.CONNECTING:
            await link.close("closed")
            raise VerserUsageError(
                f"The Broker {self._options.broker_id!r} was closed while it was connecting."
            )
        self._take(link, registered)
        self._keeping = asyncio.create_task(self._keep(), name="verser2-broker-keeper")

    async def _open_first(self) -> tuple[Link, Registered]:
        """A session with the first Host that answers, from the one whose turn it is on."""
        for left in range(len(self._options.addresses) - 1, -1, -1):
            try:
                return await Link.open(self._options, self._host, self._free_id())
            except _NOT_JOINED as error:
                if not left:
                    raise
                _LOGGER.warning("Trying the next Host. %s", error.message)
                self._address += 1
        raise AssertionError("there is a Host, or the options would not be there")

    @property
    def _host(self) -> HostAddress:
        addresses = self._options.addresses
        return addresses[self._address % len(addresses)]

    def _free_id(self) -> str:
        """The id to register: the Broker's own, or with `~2` while a session of ours has that one.

        Also when the Host says that the plain one is taken: after a silent loss it may be our own,
        until TCP gives up (protocol.md §13).
        """
        taken = {link.peer_id for link in (self._link, *self._retired) if link and link.session.lost is None}
        plain = self._options.broker_id
        number = 1 + self._suffix
        while (peer_id := plain if number == 1 else f"{plain}~{number}") in taken:
            number += 1
        return peer_id

    def _take(self, link: Link, registered: Registered) -> None:
        """From now on, this is the session."""
        gap = self._state is not _State.CONNECTED
        returns = self._link is not None and gap
        self._link = link
        self._state = _State.CONNECTED
        self._trouble = None
        self._suffix = 0
        self._said.clear()
        self._backoff.connected(asyncio.get_running_loop().time())
        self._directory.begin(registered, gap=gap, returns=returns)
        link.start(self._on_message)
        self._changed.fire()

    def _on_message(self, link: Link, message: ControlMessage) -> None:
        if link is self._link:  # what a retired one says, its successor says as well
            self._directory.on_message(message)

    # --- For as long as it lives ------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            link = self._link
            if link is None:
                raise AssertionError("it is kept from the first session on")
            reason = await asyncio.shield(link.over)
            if not self._options.reconnect:
                await link.session.wait_lost()
                self._lost(link)
                return
            if link.session.lost is None:
                await self._hand_over(link, reason)
            if link is self._link:
                self._lost(link)
                self._put_away(link)
                await self._return("ping-timeout" if link.silent else "connection-lost")

    def _lost(self, link: Link) -> None:
        self._state = _State.LOST
        lost = link.session.lost
        reason = link.failure.message if link.failure is not None else lost.reason if lost else "unknown"
        _LOGGER.warning("The session with %s was lost: %s", link.address.url, reason.rstrip("."))
        self._directory.wake()
        self._changed.fire()

    async def _return(self, cause: str) -> None:
        """Until there is another session; `cause` is why the last one ended."""
        loop = asyncio.get_running_loop()
        self._backoff.lost(loop.time())
        self._address += 1
        while True:
            await asyncio.sleep(self._backoff.next_delay(loop.time()))
            if await self._try(cause):
                return
            cause = cause_of(self._trouble)
            self._address += 1

    async def _hand_over(self, link: Link, reason: str) -> None:
        """A new session first, then the old one retires. Returns when that is done, or the old one lost."""
        _LOGGER.info("Moving to a new session with %s: %s", link.address.url, reason.rstrip("."))
        loop = asyncio.get_running_loop()
        self._changed.fire()
        cause = "stream-ids" if link.worn_out else "goaway"
        delay = 0.0  # that stream ids are running out is no outage
        if not link.worn_out:
            self._backoff.lost(loop.time())
            delay = self._backoff.next_delay(loop.time())
            self._address += 1  # another Host, if there is one: this one is about to go
        while link.session.lost is None:
            if delay:
                await self._pause(link, delay)
            if await self._try(cause):
                self._put_away(link)
                return
            cause = cause_of(self._trouble)
            self._address += 1
            self._backoff.lost(loop.time())
            delay = max(0.1, self._backoff.next_delay(loop.time()))

    async def _pause(self, link: Link, delay: float) -> None:
        """For so long, or until the session is lost."""
        try:
            async with asyncio.timeout(delay):
                await link.session.wait_lost()
        except TimeoutError:
            return

    async def _try(self, cause: str) -> bool:
        """One attempt; what went wrong is logged, once an outage, and tried again."""
        self._reconnects[cause] = self._reconnects.get(cause, 0) + 1
        try:
            link, registered = await Link.open(self._options, self._host, self._free_id())
        except VerserError as error:
            self._trouble = error
            if isinstance(error, InvalidRegistrationError) and error.taken:
                self._suffix = (self._suffix + 1) % 3
            self._complain(error)
            return False
        self._take(link, registered)
        _LOGGER.info("Registered at %s as %s", link.address.url, link.peer_id)
        return True

    def _complain(self, error: VerserError) -> None:
        final = isinstance(error, (AuthorizationDeniedError, VerserConfigurationError)) or (
            isinstance(error, VerserConnectionError)
            and error.reason in (Failure.TRUST, Failure.CERTIFICATE_REFUSED, Failure.ALPN)
        )
        taken = isinstance(error, InvalidRegistrationError) and error.taken
        what = "taken" if taken else error.message  # whichever of our ids it is
        if what not in self._said:
            self._said.add(what)
            level = logging.ERROR if final else logging.WARNING
            _LOGGER.log(level, "No new session yet, trying on: %s", error.message)

    def _put_away(self, link: Link) -> None:
        """Its end, however long that takes, holds up nothing."""
        self._retired[link] = asyncio.create_task(self._retire(link), name="verser2-broker-retired")

    async def _retire(self, link: Link) -> None:
        try:
            await link.retire()
        finally:
            self._retired.pop(link, None)

    # --- The end ------------------------------------------------------------------------------------

    async def close(self, reason: str, timeout: float) -> None:
        """Ends all sessions; what is awaited has up to `timeout` seconds. A second call joins the first."""
        if self._state is not _State.NEW:
            self._state = _State.CLOSED
        ending = self._ending
        if ending is None or ending.over:
            ending = self._begin_end(reason, timeout)
        try:
            await ending.join(timeout)
        finally:
            if self._ending is ending and ending.over:
                self._ending = None

    def _begin_end(self, reason: str, timeout: float) -> Ending:
        keeping, self._keeping = self._keeping, None
        link, self._link = self._link, None
        links = [one for one in (link, *self._retired) if one is not None]
        duties = [task for task in (keeping, *self._retired.values()) if task is not None]
        self._directory.wake()
        self._changed.fire()
        self._ending = Ending(links, duties, reason, timeout)
        return self._ending

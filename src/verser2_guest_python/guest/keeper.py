"""Keeps a Guest registered at one Host, or at one of several: dials, dials again after a loss, hands over.

connect ─→ serving ─(lost)─→ waiting ─→ dialling ─→ serving
              └─(GOAWAY, stream ids run out, renewal asked)─→ dialling a second session ─→ serving,
                                                              while the first one drains
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count

from verser2_guest_python.errors import InvalidRegistrationError, VerserError
from verser2_guest_python.http2 import Session, SessionOptions
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.peer.backoff import Backoff
from verser2_guest_python.peer.dial import dial
from verser2_guest_python.peer.hosts import Hosts, is_final
from verser2_guest_python.peer.proxy import Proxy
from verser2_guest_python.peer.refusal import cause_of, note_busy
from verser2_guest_python.peer.tasks import wait_over
from verser2_guest_python.peer.tls import TlsFiles

from .lifecycle import Cause, Listeners
from .session import GuestSession, lost_within

_log = logging.getLogger("verser2_guest_python.guest")

_CLOSE_SECONDS = 1.0  # what a session may take to close once it has drained

MakeSession = Callable[[Session, HostAddress, str], GuestSession]


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """How a Guest dials, and how it behaves when that fails; times in seconds."""

    tls: TlsFiles
    guest_id: str
    session: SessionOptions
    connect_timeout: float
    ping_interval: float
    ping_timeout: float
    drain_timeout: float
    reconnect_max_delay: float
    fail_if_registered: bool
    handover: bool
    registration_token: str | None = field(default=None, repr=False)


class Chances:
    """Whether a refusal is final: before the first registration anywhere, once each keeper has had one.

    Later a refusal is retried, so that a mistimed rotation of certificates does not end a fleet.
    """

    def __init__(self, keepers: int) -> None:
        self.registered = False
        self._keepers = keepers
        self._refused: set[Keeper] = set()

    def refused(self, keeper: Keeper) -> bool:
        """Counts a refusal; True when nothing is left to hope for."""
        self._refused.add(keeper)
        return not self.registered and len(self._refused) == self._keepers


class Keeper:
    """Owns the sessions of a Guest with one of `hosts`; `make` turns an HTTP/2 session into one of a Guest.

    Attributes:
        current: The session that requests come on, or the last one; None while there is none.
    """

    def __init__(
        self,
        options: KeeperOptions,
        hosts: Hosts,
        domains: Callable[[], tuple[str, ...]],
        make: MakeSession,
        listeners: Listeners,
        chances: Chances,
    ) -> None:
        self.current: GuestSession | None = None
        self._options = options
        self._hosts = hosts
        self._domains = domains
        self._make = make
        self._listeners = listeners
        self._chances = chances
        self._backoff = Backoff(options.reconnect_max_delay)
        self._handover_backoff = Backoff(options.reconnect_max_delay)  # while another session still serves
        self._peer_id = options.guest_id
        self._failure: VerserError | None = None
        self._reported = ""  # the last refusal that was told as an error
        self._retired: dict[asyncio.Task[None], GuestSession] = {}
        self._hurry = asyncio.Event()  # the next attempt is to come at once
        self._hurried = False
        self._renewal: str | None = None
        self._taken_warned = False

    @property
    def session(self) -> GuestSession | None:
        """The session that requests come on now."""
        current = self.current
        return None if current is None or current.session.lost is not None else current

    # --- One session ----------------------------------------------------------------------

    async def connect(self) -> None:
        """Dials and registers once; raises VerserError when that fails."""
        self._failure = None
        try:
            await self._open(self._peer_id)
        except VerserError as error:
            self._failure = error
            raise

    async def _open(self, peer_id: str) -> None:
        """Registers as `peer_id` at the first Host that answers; that session is then the current one."""
        options = self._options
        self._renewal = None

        async def dial_one(address: HostAddress, proxy: Proxy | None) -> Session:
            return await dial(
                address, options.tls, timeout=options.connect_timeout, options=options.session, proxy=proxy
            )

        async def register(address: HostAddress, session: Session) -> None:
            await self._register(address, session, peer_id)

        before = self.current
        try:
            await self._hosts.join(dial_one, register)
        except asyncio.CancelledError:
            joined = self.current
            if joined is not None and joined is not before:  # and other sessions were being ended
                self.current = before
                await joined.close("the connecting was given up")
            raise

    async def _register(self, address: HostAddress, session: Session, peer_id: str) -> None:
        options, listeners = self._options, self._listeners
        listeners.tell("connected", host=address.url, guest_id=peer_id)
        guest_session = self._make(session, address, peer_id)
        try:
            domains = self._domains()
            await guest_session.register(
                domains, timeout=options.connect_timeout, token=options.registration_token
            )
            if revoked := tuple(domain for domain in domains if domain not in self._domains()):
                await guest_session.revoke(revoked)  # while this session registered
        except BaseException as error:
            if isinstance(error, VerserError):
                note_busy(error, session)
            await guest_session.close(f"the registration failed ({type(error).__name__}: {error})")
            raise
        guest_session.keep_alive(options.ping_interval, options.ping_timeout)
        self.current = guest_session
        self._peer_id = peer_id
        self._backoff.connected(session.loop.time())
        self._handover_backoff.connected(session.loop.time())
        self._chances.registered = True
        self._taken_warned = False
        self._reported = ""
        listeners.tell(
            "registered",
            host=address.url,
            guest_id=peer_id,
            session_id=guest_session.session_id,
            domains=", ".join(domains),
        )
        if self._renewal is not None:
            guest_session.give_up(self._renewal, "renewal")  # it was asked for while this one was dialled

    # --- For ever -------------------------------------------------------------------------

    async def run(self) -> None:
        """Stays registered until cancelled, also when the first attempts fail.

        Raises:
            VerserError: what can never work, or was refused for good before the first registration.
        """
        if self.current is None:
            failure = self._failure
            if failure is None:
                await self._connect_again(None)
            else:
                self._check(failure)
                await self._connect_again(failure.message, cause_of(failure))
        while (current := self.current) is not None:
            reason = await asyncio.shield(current.over)
            if current.session.lost is None:
                await self._hand_over(current, reason)
            else:
                self._lost(current, reason)
                await self._connect_again(reason, current.cause)

    def _lost(self, session: GuestSession, reason: str) -> None:
        self._hosts.lost(session.address)
        self._listeners.tell(
            "disconnected",
            reason=reason,
            host=session.address.url,
            guest_id=session.peer_id,
            session_id=session.session_id,
        )
        self._retire(session, drain=False)
        self.current = None

    async def _connect_again(self, reason: str | None, cause: Cause = "connection-lost") -> None:
        loop = asyncio.get_running_loop()
        self._backoff.lost(loop.time())
        while True:
            delay = self._backoff.next_delay(loop.time())
            if reason is not None:
                self._tell_reconnecting(delay, self._backoff.attempt, reason, cause)
            await self._pause(delay)
            try:
                await self.connect()
                return
            except VerserError as error:
                self._check(error)
                reason, cause = error.message, cause_of(error)

    def _tell_reconnecting(self, delay: float, attempt: int, reason: str, cause: Cause) -> None:
        self._listeners.tell(
            "reconnecting",
            delay_seconds=delay,
            attempt=attempt,
            reason=reason,
            cause=cause,
            host=self._hosts.order()[0].url,
        )

    async def _pause(self, seconds: float) -> None:
        """Until the next attempt; a renewal that is asked for makes it come at once."""
        self._hurry.clear()
        if seconds > 0 and self._renewal is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()

    def _check(self, error: VerserError) -> None:
        """Raises what no further attempt can mend; logs the rest."""
        if isinstance(error, InvalidRegistrationError):
            if self._options.fail_if_registered and self._chances.refused(self):
                raise error
            if not self._taken_warned:
                self._taken_warned = True
                _log.warning("Not registered yet, trying on: %s", error.message)
        elif is_final(error):
            if self._chances.refused(self):
                raise error
            if self._reported != error.message:
                self._reported = error.message
                self._listeners.tell("error", reason=error.message, code=error.code)
                _log.error("The Host cannot be joined, trying on: %s", error.message)

    # --- Handover (protocol.md §12.11) ----------------------------------------------------

    def renew(self, reason: str) -> None:
        """Asks for a new session, with TLS files read anew; without one, the next attempt comes at once."""
        current = self.current
        if current is not None and not current.over.done():
            current.give_up(reason, "renewal")
        else:
            self._renewal = reason
            self._hurry.set()

    async def _hand_over(self, old: GuestSession, reason: str) -> None:
        """A new session first, then the old one drains; without `handover`, the other way round."""
        loop = asyncio.get_running_loop()
        if old.session.closing:
            self._hosts.lost(old.address)  # GOAWAY: this Host is about to end
        backoff = self._handover_backoff
        backoff.lost(loop.time())
        # The first attempt comes at once, unless there were others a moment ago: a Host that takes leave
        # of every session must not be dialled in a loop
        delay = backoff.next_delay(loop.time())
        if old.cause == "stream-ids":
            delay = 0.0  # it has served as many requests, and those that are left are all the time there is
        self._tell_reconnecting(delay, backoff.attempt, reason, old.cause)
        if not self._options.handover:
            self.current = None
            await asyncio.shield(self._retire(old, drain=True))
            await self._connect_again(None)
            return
        while not await lost_within(old.session, delay):
            try:
                await self._open(self._free_id())
            except VerserError as error:
                self._check(error)
                delay = backoff.next_delay(loop.time())
                self._tell_reconnecting(delay, backoff.attempt, error.message, cause_of(error))
            finally:
                if self.current is not old:
                    self._retire(old, drain=True)
            if self.current is not old:
                return
        lost = old.session.lost
        reason = reason if lost is None else lost.reason
        self._lost(old, reason)
        await self._connect_again(reason)

    def _free_id(self) -> str:
        """The plain id, or `~2` while the session that has the plain one still drains (interface.md).

        While both do, because handovers follow each other faster than requests end, `~3`.
        """
        sessions = (*self._retired.values(), *((self.current,) if self.current is not None else ()))
        taken = {one.peer_id for one in sessions if one.session.lost is None}
        plain = self._options.guest_id
        names = chain((plain,), (f"{plain}~{number}" for number in count(2)))
        return next(name for name in names if name not in taken)

    def _retire(
        self,
        session: GuestSession,
        *,
        drain: bool,
        reason: str = "the session was handed over",
        timeout: float | None = None,
    ) -> asyncio.Task[None]:
        work = self._drain_and_close(session, reason, timeout) if drain else session.linger()
        task = asyncio.get_running_loop().create_task(work, name="verser-guest-retired-session")
        self._retired[task] = session
        task.add_done_callback(self._retired.pop)
        return task

    async def _drain_and_close(self, session: GuestSession, reason: str, timeout: float | None) -> None:
        try:
            await session.drain(
                self._domains(), timeout=self._options.drain_timeout if timeout is None else timeout
            )
        finally:
            await session.close(reason)

    # --- The end --------------------------------------------------------------------------

    async def stop(self, reason: str, timeout: float) -> None:
        """Drains what is left, at most `timeout` seconds, and closes every session."""
        current, self.current = self.current, None
        if current is not None:
            self._retire(current, drain=current.session.lost is None, reason=reason, timeout=timeout)
        if self._hurried:
            self.hurry()
        try:
            if self._retired:
                # One that drains since longer has a time of its own, one that was lost has none
                await asyncio.wait(self._retired, timeout=timeout + _CLOSE_SECONDS)
        finally:
            self.hurry()
            await wait_over(tuple(self._retired))
            self._hurried = False

    def hurry(self) -> None:
        """What still drains, or is about to, is cut off and closed in good order."""
        self._hurried = True
        for session in self._retired.values():
            session.hurry()

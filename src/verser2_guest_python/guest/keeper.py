"""Keeps a Guest registered: dials, dials again after a loss, and hands over to a new session.

connect ─→ serving ─(lost)─→ waiting ─→ dialling ─→ serving
              └─(GOAWAY, stream ids used up, renewal asked)─→ dialling a second session ─→ serving,
                                                              while the first one drains
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    CertificateVerificationError,
    ConnectFailure,
    InvalidRegistrationError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
)
from verser2_guest_python.http2 import Session, SessionOptions
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.peer.backoff import Backoff
from verser2_guest_python.peer.dial import dial
from verser2_guest_python.peer.tls import TlsFiles

from .lifecycle import Listeners
from .session import GuestSession

_log = logging.getLogger("verser2_guest_python.guest")

_CLOSE_SECONDS = 1.0  # what a session may take to close once it has drained
_SECOND_SUFFIX = "~2"  # of the peer id during a handover, whose plain form is still taken (interface.md)


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """How a Guest dials, and how it behaves when that fails; times in seconds."""

    address: HostAddress
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


class Keeper:
    """Owns the sessions of a Guest. `make` turns an HTTP/2 session into one of a Guest."""

    def __init__(
        self,
        options: KeeperOptions,
        domains: Callable[[], tuple[str, ...]],
        make: Callable[[Session, str], GuestSession],
        listeners: Listeners,
    ) -> None:
        self._options = options
        self._domains = domains
        self._make = make
        self._listeners = listeners
        self._backoff = Backoff(options.reconnect_max_delay)
        self._peer_id = options.guest_id
        self._retired: set[asyncio.Task[None]] = set()
        self._wake: asyncio.Future[None] | None = None
        self._taken_warned = False
        self.current: GuestSession | None = None

    # --- One session ----------------------------------------------------------------------

    async def connect(self) -> None:
        """Dials and registers once; raises VerserError when that fails."""
        self.current = await self._open(self._peer_id)
        self._backoff.connected(asyncio.get_running_loop().time())

    async def _open(self, peer_id: str) -> GuestSession:
        options = self._options
        session = await dial(
            options.address, options.tls, timeout=options.connect_timeout, options=options.session
        )
        self._listeners.tell("connected", host=options.address.url, guest_id=peer_id)
        guest_session = self._make(session, peer_id)
        try:
            domains = self._domains()
            await guest_session.register(domains, timeout=options.connect_timeout)
        except BaseException as error:
            await guest_session.close(f"the registration failed ({type(error).__name__}: {error})")
            raise
        guest_session.keep_alive(options.ping_interval, options.ping_timeout)
        self._taken_warned = False
        self._listeners.tell(
            "registered", host=options.address.url, guest_id=peer_id, domains=", ".join(domains)
        )
        return guest_session

    # --- For ever -------------------------------------------------------------------------

    async def run(self, *, first: bool) -> None:
        """Stays registered until cancelled; with `first`, the first attempts may fail as well.

        Raises:
            VerserError: what can never work, or was refused for good before the first registration.
        """
        if self.current is None:
            await self._connect_again(None, final=first)
        while True:
            current = self.current
            if current is None:
                await self._connect_again(None, final=False)
                continue
            reason = await asyncio.shield(current.over)
            if current.session.lost is None:
                await self._hand_over(current, reason)
            else:
                self._listeners.tell("disconnected", reason=reason, guest_id=current.peer_id)
                self._retire(current, drain=False)
                self.current = None
                await self._connect_again(reason, final=False)

    async def _connect_again(self, reason: str | None, *, final: bool) -> None:
        loop = asyncio.get_running_loop()
        self._backoff.lost(loop.time())
        while True:
            delay = self._backoff.next_delay(loop.time())
            if reason is not None:
                self._listeners.tell(
                    "reconnecting", delay_seconds=delay, attempt=self._backoff.attempt, reason=reason
                )
            if delay > 0:
                await asyncio.sleep(delay)
            try:
                await self.connect()
                return
            except VerserError as error:
                self._check(error, final=final)
                reason = error.message

    def _check(self, error: VerserError, *, final: bool) -> None:
        """Raises what no further attempt can mend; logs the rest."""
        if isinstance(error, InvalidRegistrationError):
            if self._options.fail_if_registered and final:
                raise error
            if not self._taken_warned:
                self._taken_warned = True
                _log.warning("The Host refused the registration, trying on: %s", error.message)
            return
        if final and is_final(error):
            raise error
        if is_final(error):
            _log.error("The Host cannot be joined, trying on: %s", error.message)

    # --- Handover (protocol.md §12.11) ----------------------------------------------------

    async def _hand_over(self, old: GuestSession, reason: str) -> None:
        """A new session first, then the old one drains; without `handover`, the other way round."""
        loop = asyncio.get_running_loop()
        self._backoff.lost(loop.time())
        # The first attempt comes at once, unless there were others a moment ago: a Host that takes leave
        # of every session must not be dialled in a loop
        delay = self._backoff.next_delay(loop.time())
        self._listeners.tell(
            "reconnecting", delay_seconds=delay, attempt=self._backoff.attempt, reason=reason
        )
        plain = self._options.guest_id
        self._peer_id = plain if old.peer_id != plain else plain + _SECOND_SUFFIX
        if not self._options.handover:
            self._peer_id = plain
            self.current = None
            await asyncio.shield(self._retire(old, drain=True))
            await self._connect_again(reason, final=False)
            return
        while not await _lost_within(old.session, delay):
            try:
                self.current = await self._open(self._peer_id)
                self._backoff.connected(loop.time())
                self._retire(old, drain=True)
                return
            except VerserError as error:
                self._check(error, final=False)
            delay = self._backoff.next_delay(loop.time())
        self._peer_id = plain
        lost = old.session.lost
        if lost is not None:
            self._listeners.tell("disconnected", reason=lost.reason, guest_id=old.peer_id)
        self._retire(old, drain=False)
        self.current = None
        await self._connect_again(reason, final=False)

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
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)
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
        if self._retired:
            # One that drains since longer has a time of its own, one that was lost has none
            _, pending = await asyncio.wait(self._retired, timeout=timeout + _CLOSE_SECONDS)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)


async def _lost_within(session: Session, seconds: float) -> bool:
    """Waits so long, or until the session is lost."""
    if seconds <= 0 or session.lost is not None:
        return session.lost is not None
    try:
        async with asyncio.timeout(seconds):
            await session.wait_lost()
    except TimeoutError:
        return False
    return True


def is_final(error: VerserError) -> bool:
    """Whether trying again cannot help before anything has changed: trust, policy, configuration."""
    if isinstance(error, VerserConnectionError):
        return error.reason in (ConnectFailure.TRUST, ConnectFailure.CERTIFICATE_REFUSED, ConnectFailure.ALPN)
    return isinstance(
        error, (AuthorizationDeniedError, CertificateVerificationError, VerserConfigurationError)
    )

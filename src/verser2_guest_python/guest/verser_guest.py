"""`VerserGuest`: the public face of a Guest, from connecting to its end.

Apart from `create_verser_guest`, which knows every option by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Self

from verser2_guest_python.asgi.adapters import adapt
from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.errors import (
    RevocationFailedError,
    VerserConnectionError,
    VerserUsageError,
)
from verser2_guest_python.http2 import Session
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.peer.facts import session_facts
from verser2_guest_python.peer.hosts import Hosts
from verser2_guest_python.peer.tasks import end_tasks
from verser2_guest_python.wire.domains import normalize_domain

from .demand import Calls
from .direct import DispatchedResponse, dispatch
from .dispatch import Dispatcher
from .facts import GuestFacts
from .keeper import Chances, Keeper, KeeperOptions
from .keepers import Keepers
from .lifecycle import GuestEvent
from .session import GuestSession, LeaseLimits


class GuestState(Enum):
    """Where a Guest is in its life."""

    NEW = "not connected yet"
    SERVING = "connected, or connecting again"
    DRAINING = "taking leave"
    CLOSED = "closed"


class VerserGuest:
    """Serves ASGI apps for some domains through a Host; made by `create_verser_guest`.

    It belongs to the event loop in which it was connected: another thread reaches it by
    `asyncio.run_coroutine_threadsafe` and `loop.call_soon_threadsafe` alone.

    Example:
        async with create_verser_guest(host_url="https://host:8443", guest_id="a", app=app,
                                       routed_domains=["a.local.test"]) as guest:
            await guest.serve_forever()
    """

    def __init__(
        self,
        options: KeeperOptions,
        hosts: Iterable[Hosts],
        dispatcher: Dispatcher,
        domains: Iterable[str],
        limits: LeaseLimits,
        max_response_bytes: int,
    ) -> None:
        self._options = options
        self._dispatcher = dispatcher
        self._domains = tuple(dict.fromkeys(normalize_domain(domain) for domain in domains))
        self._calls = Calls()
        self._limits = limits
        self._max_response_bytes = max_response_bytes
        self._state = GuestState.NEW
        groups = tuple(hosts)
        chances = Chances(len(groups))
        self._keepers = Keepers(
            [
                Keeper(
                    options, group, lambda: self._domains, self._make_session, dispatcher.listeners, chances
                )
                for group in groups
            ]
        )
        self._keeping: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._step: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    def _make_session(self, session: Session, address: HostAddress, peer_id: str) -> GuestSession:
        return GuestSession(
            session,
            address,
            peer_id,
            self._dispatcher,
            calls=self._calls,
            limits=self._limits,
        )

    def __repr__(self) -> str:
        hosts = ", ".join(self.connected_hosts)
        where = f"registered at {hosts}" if hosts else self._state.value
        return f"<VerserGuest {self.guest_id!r} for {', '.join(self._domains)}, {where}>"

    # --- Facts ----------------------------------------------------------------------------

    @property
    def guest_id(self) -> str:
        """The id that it was made with."""
        return self._options.guest_id

    @property
    def routed_domains(self) -> tuple[str, ...]:
        """The domains that it serves; fewer after `revoke_routes`."""
        return self._domains

    @property
    def state(self) -> GuestState:
        """Where it is in its life."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether it is registered at a Host now; with several, at any of them."""
        return bool(self._keepers.sessions)

    @property
    def connected_hosts(self) -> tuple[str, ...]:
        """The URLs of the Hosts where it is registered now; more than one only with `all_hosts`."""
        return tuple(session.address.url for session in self._keepers.sessions)

    def facts(self) -> GuestFacts:
        """What it is doing now, in numbers; to be asked in its event loop."""
        calls = self._calls
        return GuestFacts(
            sessions=tuple(
                session_facts(one.session, one.address, one.peer_id, one.registered_at)
                for one in self._keepers.sessions
            ),
            requests_running=calls.running,
            leases_idle=calls.idle,
            websockets_open=calls.websockets,
            websocket_messages_received=calls.messages_received,
            websocket_messages_sent=calls.messages_sent,
        )

    # --- Serving --------------------------------------------------------------------------

    def attach(self, app: ASGIApp, domain: str | None = None) -> None:
        """Serves `domain` with an app of its own; without a domain, all domains that have none.

        Before `connect()`: the app's lifespan begins there.
        """
        if self._state is not GuestState.NEW:
            raise VerserUsageError("An app can be attached before connect() only.")
        self._dispatcher.apps.attach(adapt(app)[0], domain)

    async def connect(self) -> None:
        """Starts the app, dials the Host and registers; returns once requests can come.

        From then on the Guest stays registered by itself: a lost session is dialled again. With
        `all_hosts` each Host is tried once, and one is enough: the others are tried on.

        Raises:
            VerserConnectionError: there was no session; `reason` says why.
            InvalidRegistrationError, AuthorizationDeniedError: the Host refused.
            VerserConfigurationError: a TLS file cannot be used.
            LifespanStartupFailed: the app failed in its startup.
        """
        async with self._connecting:
            if self._state is GuestState.SERVING:
                return
            self._check_new()
            try:
                for step in (self._dispatcher.apps.startup, self._keepers.connect):
                    if not await self._unless_closed(step):
                        raise VerserConnectionError("The Guest was closed while it connected.")
            except asyncio.CancelledError:  # perhaps when it had registered already
                if not self._is_closing():
                    await self._keepers.stop("the connecting was given up", 0.0)
                raise
            self._state = GuestState.SERVING
            self._keep()

    async def _unless_closed(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Does a step of connecting; False when `close` has ended it."""
        if self._is_closing():
            return False
        step = self._step = asyncio.get_running_loop().create_task(work(), name="verser-guest-connecting")
        try:
            await step
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._is_closing() or (task is not None and task.cancelling()):
                raise
        finally:
            self._step = None
        return not self._is_closing()

    def _is_closing(self) -> bool:
        return self._closing is not None

    async def serve_forever(self) -> None:
        """Serves until `close()` is called, and returns after the drain.

        Not connected yet, it connects first, and tries again until a Host is there; only what can
        never work, or was refused for trust or policy before the first registration, raises.
        """
        async with self._connecting:
            if self._state is GuestState.NEW and await self._unless_closed(self._dispatcher.apps.startup):
                self._state = GuestState.SERVING
                self._keep()
        waiter = asyncio.ensure_future(self._closed.wait())
        try:
            keeping = self._keeping
            if keeping is not None:
                await asyncio.wait((waiter, keeping), return_when=asyncio.FIRST_COMPLETED)
                if keeping.done() and not keeping.cancelled() and (error := keeping.exception()) is not None:
                    await self.close(str(error))
                    raise error
            await waiter
        finally:
            await end_tasks([waiter])

    def _keep(self) -> None:
        self._keeping = asyncio.get_running_loop().create_task(self._keepers.run(), name="verser-guest")

    def renew(self, reason: str = "a renewal was asked for") -> None:
        """Moves to a new session, dialled with TLS files read anew; nothing is lost, and there is no gap.

        Returns at once: `registered` is told when the new session serves. Without a session the next
        attempt comes at once. Before `connect()` and after `close()` there is nothing to do.

        Example:
            loop.add_signal_handler(signal.SIGHUP, guest.renew, "SIGHUP received")
        """
        if self._state is GuestState.SERVING:
            self._keepers.renew(reason)

    def _check_new(self) -> None:
        if self._state is not GuestState.NEW:
            raise VerserUsageError(f"This Guest is {self._state.value}: make a new one.")

    # --- Routes ---------------------------------------------------------------------------

    async def revoke_routes(self, domains: Iterable[str]) -> None:
        """Asks the Host to send no new requests for `domains`; those under way are still served.

        Raises:
            RevocationFailedError: the Host refused all of them, or some (named in the message).
            VerserConnectionError: not connected.
        """
        if isinstance(domains, str):
            raise VerserUsageError("revoke_routes takes a list of names, not one string.")
        wanted = tuple(normalize_domain(domain) for domain in domains)
        failed = await self._keepers.revoke(wanted)
        for domain in wanted:
            if domain not in failed:
                self._dispatcher.listeners.tell("route-revoked", domain=domain)
        self._domains = tuple(domain for domain in self._domains if domain not in wanted or domain in failed)
        if failed:
            raise _partly_revoked(failed)

    async def dispatch_routed_request(
        self, metadata: Mapping[str, Any], body: bytes | AsyncIterable[bytes] = b""
    ) -> DispatchedResponse:
        """Runs one request through the app without a Host, and returns the whole response.

        `metadata` is spelled as on the wire (`requestId`, `method`, `path`, `headers`). A body larger
        than `max_response_bytes` (10 MiB), or a failing app, is an `error` in what comes back.
        """
        if self._state is GuestState.CLOSED:
            self._check_new()
        if self._state is GuestState.NEW:
            await self._dispatcher.apps.startup()
        return await dispatch(self._dispatcher, metadata, body, self._max_response_bytes)

    def on_lifecycle(self, listener: Callable[[GuestEvent], None]) -> Callable[[], None]:
        """Calls `listener` with everything that happens; returns a function that ends that.

        A listener that fails is logged and does not hurt the Guest.
        """
        return self._dispatcher.listeners.add(listener)

    def on_first_byte(self, listener: Callable[[str, float], None]) -> None:
        """Calls `listener` for each response that begins: the request's method, the seconds until then.

        One listener, for metrics: it must not raise. Without it, nothing is timed.
        """
        self._dispatcher.time_first_bytes(listener)

    # --- The end --------------------------------------------------------------------------

    async def close(self, reason: str = "the Guest was closed", timeout: float | None = None) -> None:
        """Drains, stops the app, and closes: nothing that the Host has sent is lost.

        `timeout` is in seconds, `timeout_graceful_shutdown` (30) without one. Calls that come while
        it drains wait for the same end. Cancelled, the drain goes on without its caller: call this again to
        wait for it.
        """
        if self._closing is None:
            timeout = self._options.drain_timeout if timeout is None else timeout
            work = self._close(reason, timeout)
            self._closing = asyncio.get_running_loop().create_task(work, name="verser-guest-closing")
        await asyncio.wait([self._closing])  # which goes on, whatever becomes of who waits
        if not self._closing.cancelled():  # by a loop that ends
            self._closing.result()

    async def _close(self, reason: str, timeout: float) -> None:
        listeners = self._dispatcher.listeners
        self._state = GuestState.DRAINING
        listeners.tell("draining", reason=reason)
        try:
            try:
                await end_tasks([task for task in (self._step, self._keeping) if task is not None])
            except asyncio.CancelledError:  # the loop ends
                self._keepers.hurry()
                raise
            finally:
                await self._keepers.stop(reason, timeout)
        finally:
            try:
                await self._dispatcher.apps.shutdown(timeout)
            finally:
                self._state = GuestState.CLOSED
                self._closed.set()
                listeners.tell("closed", reason=reason)

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close("it could not connect")
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _partly_revoked(failed: Mapping[str, str]) -> RevocationFailedError:
    named = ", ".join(f"{domain} ({why})" for domain, why in failed.items())
    return RevocationFailedError(f"The Host did not revoke {named}.")

"""`VerserHost`: a Host as a library object, from its certificate to its last session.

Apart from the core because this is what users hold: options are checked, files are read, errors
become sentences here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Self

from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.host.authorization import Authorization, ByPolicy, choose_authorization
from verser2_guest_python.host.core import HostCore
from verser2_guest_python.host.events import HostEvent, Listeners, RequestRecord
from verser2_guest_python.host.files import HostFiles
from verser2_guest_python.host.identity import load_parser
from verser2_guest_python.host.limits import HostLimits, door_limits, limited_options
from verser2_guest_python.host.observing import HostObserver, Observation
from verser2_guest_python.host.policy import PolicyEntry, PolicyFunction
from verser2_guest_python.host.stats import GuestStats, HostStats
from verser2_guest_python.http2 import Listener, SessionOptions, listen, why
from verser2_guest_python.peer.tasks import Closing
from verser2_guest_python.wire.routes import Route

DEFAULT_LEASE_TIMEOUT_SECONDS = 5.0
DEFAULT_DEGRADED_TIMEOUT_SECONDS = 5.0
DEFAULT_CLOSE_TIMEOUT_SECONDS = 30.0

_ANY_ADDRESS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - what a user may give, not what is used


class _Run:
    """A Host between its start and its end."""

    def __init__(self, core: HostCore, listener: Listener) -> None:
        self.core = core
        self.listener = listener
        self.port = listener.port
        self.closed = asyncio.Event()
        self.closing: Closing | None = None

    async def close(self, reason: str, timeout: float) -> None:
        try:
            self.listener.close()
            await self.listener.wait_closed()
            await self.core.close(reason, timeout)
        finally:
            self.core.tell("closed", reason=reason)
            self.closed.set()


class VerserHost:
    """A Host: Guests and Brokers dial it, and it carries requests between them.

    Made by `create_verser_host`. One object is one run: started once, closed once. It belongs to the event
    loop in which it was started: another thread reaches it by `asyncio.run_coroutine_threadsafe` and
    `loop.call_soon_threadsafe` alone. What listens and observes is called in that loop.
    """

    def __init__(
        self,
        *,
        address: str,
        port: int,
        files: HostFiles,
        lease_timeout: float,
        degraded_timeout: float,
        server_timing: bool,
        limits: HostLimits,
        authorization: Authorization,
        session_options: SessionOptions,
    ) -> None:
        self._address = address
        self._given_port = port
        self._files = files
        self._lease_seconds = lease_timeout
        self._degraded_seconds = degraded_timeout
        self._server_timing = server_timing
        self._limits = limits
        self._authorization = authorization
        self._session_options = session_options
        self._events: Listeners[HostEvent] = Listeners()
        self._records: Listeners[RequestRecord] = Listeners()
        self._observation = Observation()
        self._tls: ssl.SSLContext | None = None
        self._run: _Run | None = None

    def __repr__(self) -> str:
        run = self._run
        if run is None:
            return "<VerserHost, not started>"
        state = "closed" if run.closed.is_set() else "closing" if run.closing is not None else "listening"
        return f"<VerserHost at {self.url}, {state}>"

    # --- Life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Reads the certificate and listens; returns once Guests and Brokers can connect.

        Raises:
            VerserConfigurationError: a file cannot be used, or the address and port cannot be listened on.
            VerserUsageError: the Host was started before.
        """
        if self._run is not None:
            raise VerserUsageError("This Host was started before: make a new one with create_verser_host().")
        core = HostCore(
            limits=self._limits,
            authorization=self._authorization,
            lease_seconds=self._lease_seconds,
            degraded_seconds=self._degraded_seconds,
            server_timing=self._server_timing,
            events=self._events,
            records=self._records,
            observation=self._observation,
        )
        self._tls = self._files.context()
        if self._files.client_ca_file is not None:
            load_parser()
        try:
            listener = await listen(
                self._address,
                self._given_port,
                tls=self._context,
                on_session=core.accept,
                options=limited_options(self._limits, self._session_options),
                limits=door_limits(self._limits),
                on_refused=core.turned_away,
                on_error=lambda error: core.tell(
                    "handshake-failed", address=error.address, reason=error.reason
                ),
            )
        except OSError as error:
            raise VerserConfigurationError(
                f"Cannot listen on {self._address}, port {self._given_port}: {why(error)}. "
                "Choose another address or port."
            ) from error
        self._run = _Run(core, listener)
        core.tell("listening", address=self._address, port=self.port, url=self.url)

    def reload_certificates(self) -> None:
        """Reads the files of certificates, keys and authorities anew; sessions that are there go on.

        New sessions are made with what is in the files now. `certificates-reloaded` is told.

        Raises:
            VerserConfigurationError: a file cannot be used; what was there before stays in use.

        Example:
            loop.add_signal_handler(signal.SIGHUP, host.reload_certificates)
        """
        self._tls = self._files.context()
        if self._run is not None:
            self._run.core.tell("certificates-reloaded")

    def replace_policy(self, policy: Iterable[PolicyEntry] | PolicyFunction) -> None:
        """Goes by another policy from now on, also for peers that are registered already.

        Whoever may not stay is told as `refused`, and its session ends; Brokers get the routes that they may
        call now. Requests under way go on. A policy that is a function sees no tokens of peers that are
        registered already, only their digest. `policy-replaced` is told.

        Raises:
            VerserUsageError: the Host has no policy that could be replaced, or the new one needs client
                certificates, and no authorities for those are known.
            VerserConfigurationError: a certificate file, read anew for it, cannot be used.
        """
        if not isinstance(self._authorization, ByPolicy):
            raise VerserUsageError("This Host was made without a policy: one cannot be added while it runs.")
        has_ca = self._files.client_ca_file is not None
        chosen = choose_authorization(policy, None, allow_anonymous=False, has_ca=has_ca)
        files = replace(self._files, require_client_certificate=has_ca and chosen.needs_certificate)
        if files != self._files:
            self._tls = files.context()
            self._files = files
        self._authorization = chosen
        if self._run is not None:
            self._run.core.authorize_by(chosen)
            self._run.core.tell("policy-replaced")

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._files.context()
        return self._tls

    async def close(
        self, reason: str = "the Host is closing", timeout: float = DEFAULT_CLOSE_TIMEOUT_SECONDS
    ) -> None:
        """Stops: takes no new sessions and streams, finishes requests under way, closes every session.

        Requests that take longer than `timeout` seconds are cut off; 0 cuts them off at once. Called again
        it may leave less time, never more. Does nothing for a Host that is closed, or never was started.
        Cancelled, it cuts off what is under way, and closes at once, unless another call waits as well.
        """
        run = self._run
        if run is None:
            return
        if run.closing is None:
            run.closing = Closing(run.close(reason, timeout), partial(run.core.hurry, 0.0))
        else:
            run.core.hurry(timeout)
        await run.closing.join()

    async def serve_forever(self) -> None:
        """Runs until `close` is called elsewhere; cancelled, it closes the Host. Starts it if need be."""
        run = self._run
        if run is None:
            await self.start()
            run = self._running()
        try:
            await run.closed.wait()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _running(self) -> _Run:
        if self._run is None:
            raise VerserUsageError("The Host has not been started: call start() first.")
        return self._run

    # --- Looking at it --------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that it listens on, also when port 0 was asked for.

        Raises `VerserUsageError` before `start`.
        """
        return self._running().port

    @property
    def url(self) -> str:
        """What Guests and Brokers on this machine take as `host_url`, such as `https://127.0.0.1:8443`."""
        name = "localhost" if self._address in _ANY_ADDRESS else self._address
        return f"https://[{name}]:{self.port}" if ":" in name else f"https://{name}:{self.port}"

    def get_routes(self) -> list[Route]:
        """The route table as Brokers see it, degraded routes included."""
        return list(self._run.core.registry.routes.routes()) if self._run is not None else []

    def get_stats(self) -> HostStats:
        """How many sessions, Guests, leases and requests there are just now."""
        if self._run is None:
            return HostStats(0, 0, 0, 0, 0)
        core = self._run.core
        guests = core.registry.guests()
        return HostStats(
            sessions=core.sessions,
            guests=len(guests),
            idle_leases=sum(guest.pool.idle for guest in guests),
            queued_requests=sum(guest.pool.waiting for guest in guests),
            active_requests=core.exchanges.active,
            brokers=core.registry.brokers,
            websockets=len(core.exchanges.bridges),
            idle_websocket_leases=sum(guest.websockets.idle for guest in guests),
            messages_to_guests=core.exchanges.messages_to_guests,
            messages_to_brokers=core.exchanges.messages_to_brokers,
            limits_hit=core.limits_hit,
        )

    def get_guests(self) -> list[GuestStats]:
        """The Guests that are there, or are expected back: their routes and leases as they are just now."""
        if self._run is None:
            return []
        registry = self._run.core.registry
        domains: dict[str, dict[str, str]] = {guest.id: {} for guest in registry.guests()}
        for route in registry.routes.routes():
            state = registry.routes.state(route.target_id, route.domain)
            if state is not None:
                domains.setdefault(route.target_id, {})[route.domain] = state.value
        stats = []
        for guest_id, states in domains.items():
            guest = registry.guest(guest_id)
            if guest is None:
                stats.append(GuestStats(guest_id, states, 0, 0, 0))
            else:
                pool = guest.pool
                stats.append(GuestStats(guest_id, states, pool.idle, guest.websockets.idle, pool.waiting))
        return stats

    def on_lifecycle(self, listener: Callable[[HostEvent], None]) -> Callable[[], None]:
        """Calls `listener` with everything worth a log line; what is returned ends that.

        Example:
            host.on_lifecycle(lambda event: print(event.name, dict(event.fields)))
        """
        return self._events.add(listener)

    def on_request(self, listener: Callable[[RequestRecord], None]) -> Callable[[], None]:
        """Calls `listener` with a record of each request once it is over; what is returned ends that."""
        return self._records.add(listener)

    def observe(self, observer: HostObserver) -> Callable[[], None]:
        """Shows `observer` each request live: heads, bodies, messages. What is returned ends that.

        There may be several; one that raises is left alone, and harms no other. What they see may be
        secret; without any, nothing is shown and nothing is paid.

        Example:
            stop = host.observe(recorder)
        """
        return self._observation.add(observer)


def create_verser_host(
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    tls_cert_file: str | PathLike[str] | None = None,
    tls_key_file: str | PathLike[str] | None = None,
    tls_key_password: str | None = None,
    tls_pfx_file: str | PathLike[str] | None = None,
    tls_pfx_password: str | None = None,
    client_ca_file: str | PathLike[str] | None = None,
    lease_timeout: float = DEFAULT_LEASE_TIMEOUT_SECONDS,
    degraded_timeout: float = DEFAULT_DEGRADED_TIMEOUT_SECONDS,
    server_timing: bool = False,
    limits: HostLimits | None = None,
    policy: Iterable[PolicyEntry] | PolicyFunction | None = None,
    allow_anonymous: bool = False,
    authorization: Authorization | None = None,
    session_options: SessionOptions | None = None,
) -> VerserHost:
    """Makes a Host; no I/O happens before `start()`.

    Args:
        address: What to listen on: an IP address, or a name that has one.
        port: 0 takes a free one; `host.port` says which.
        tls_cert_file, tls_key_file, tls_key_password: The Host's certificate chain and key (PEM).
        tls_pfx_file, tls_pfx_password: The same as PKCS#12, instead.
        client_ca_file: Peers must show a certificate that these authorities (PEM) have signed; with a
            policy that has entries for tokens alone, they may.
        lease_timeout: How long a request waits for a lease of its Guest, in seconds, where its Broker
            does not say.
        degraded_timeout: How long the routes of a Guest that was lost wait for its return, in seconds;
            0 removes them at once.
        server_timing: Whether each answer of an app says how long its request waited for a lease, in a
            `server-timing` field (W3C) of its own: `verser-lease;dur=12.3`, in milliseconds. Whoever gets
            the answer can read it.
        limits: See `HostLimits`.
        policy: Who may register, call and see what: entries, or a function from an `Applicant` to
            `Permissions` (one, several, or None). Without one, and with `client_ca_file`, a peer is called
            as its certificate says, and a domain belongs to who registers it first; with neither, peers on
            this machine may do everything, and others nothing.
        allow_anonymous: With neither, everybody may do everything.
        authorization: Your own decisions instead of all that.
        session_options: Windows of HTTP/2; what `limits` say as well, they say.

    Raises:
        VerserUsageError: a value cannot be right.

    Example:
        async with create_verser_host(tls_cert_file="host.pem", tls_key_file="host-key.pem") as host:
            await host.serve_forever()
    """
    if not 0 <= port <= 65_535:
        raise VerserUsageError(f"There is no port {port}: choose one from 1 to 65535, or 0 for a free one.")
    if not lease_timeout >= 0 or not degraded_timeout >= 0:
        raise VerserUsageError("lease_timeout and degraded_timeout are seconds, 0 or more.")
    chosen = choose_authorization(
        policy, authorization, allow_anonymous=allow_anonymous, has_ca=client_ca_file is not None
    )
    return VerserHost(
        address=address,
        port=port,
        files=HostFiles(
            tls_cert_file,
            tls_key_file,
            tls_key_password,
            tls_pfx_file,
            tls_pfx_password,
            client_ca_file,
            require_client_certificate=client_ca_file is not None and chosen.needs_certificate,
        ),
        lease_timeout=lease_timeout,
        degraded_timeout=degraded_timeout,
        server_timing=server_timing,
        limits=limits if limits is not None else HostLimits(),
        authorization=chosen,
        session_options=session_options if session_options is not None else SessionOptions(),
    )

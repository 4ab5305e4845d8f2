"""The Broker: calls apps behind Guests through a Host.

This module is what a user holds. What one session is, is `link.py`; which routes there are,
`directory.py`; how a request is made and answered, `request.py`, `dispatch.py` and `response.py`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self, Unpack

from verser2_guest_python.broker.body import UNSET, Body
from verser2_guest_python.broker.directory import Directory
from verser2_guest_python.broker.dispatch import dispatch, never_reached_an_app
from verser2_guest_python.broker.link import Link
from verser2_guest_python.broker.listeners import RouteListener
from verser2_guest_python.broker.options import (
    DEFAULT_PING_INTERVAL_SECONDS,
    DEFAULT_PING_TIMEOUT_SECONDS,
    BrokerOptions,
)
from verser2_guest_python.broker.request import Request, RequestHeaders, RequestOptions, make_request
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.broker.routes import BrokerRoute
from verser2_guest_python.broker.target import parse_target
from verser2_guest_python.errors import RequestTimeoutError, VerserError, VerserUsageError
from verser2_guest_python.http2 import SessionOptions
from verser2_guest_python.peer import DEFAULT_CONNECT_TIMEOUT_SECONDS, FilePath, TlsFiles, parse_host_url

DEFAULT_ROUTE_TIMEOUT_SECONDS = 10.0

_LOGGER = logging.getLogger("verser2_guest_python.broker")


class _State(Enum):
    NEW = "not connected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "disconnected"
    CLOSED = "closed"


class VerserBroker:
    """Sends requests to the apps that Guests serve; made by `create_verser_broker`.

    One Broker is one session with one Host, for any number of requests at a time. It belongs to the
    event loop in which `connect` was called.

    Example::

        async with create_verser_broker(host_url="https://localhost:8443", broker_id="broker-a") as broker:
            await broker.wait_for_route("a.local.test")
            response = await broker.get("http://a.local.test/items?q=1")
            print(response.status, await response.json())
    """

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._state = _State.NEW
        self._link: Link | None = None
        self._directory = Directory()
        self._requests = 0

    def __repr__(self) -> str:
        return f"<VerserBroker {self.broker_id!r} at {self._options.address.url}, {self._state.value}>"

    @property
    def broker_id(self) -> str:
        """The id under which the Host knows this Broker."""
        return self._options.broker_id

    @property
    def connected(self) -> bool:
        """Whether there is a session, so that requests can be made."""
        return self._state is _State.CONNECTED

    # --- Connecting -------------------------------------------------------------------------

    async def connect(self) -> None:
        """Dials the Host and registers; returns once the route table is known.

        The TLS files are read anew at every call. After the session was lost, or after `close`, it
        may be called again.

        Raises:
            VerserConnectionError: there was no session; `reason` says why.
            VerserConfigurationError: a TLS file cannot be used.
            InvalidRegistrationError: the Host refused the id; `taken` when it is in use.
            AuthorizationDeniedError: the Host's policy refused this Broker.
            RequestTimeoutError: the Host did not answer the registration within `connect_timeout`.
            VerserUsageError: it is connected, or connecting, already.
        """
        if self._state in (_State.CONNECTING, _State.CONNECTED):
            raise VerserUsageError(f"The Broker {self.broker_id!r} is {self._state.value} already.")
        before, self._state = self._state, _State.CONNECTING
        try:
            if self._link is not None:
                await self._link.wait_closed()
                self._link = None
            link, registered = await Link.open(self._options)
        except BaseException:
            if self._state is _State.CONNECTING:
                self._state = before
            raise
        if self._state is not _State.CONNECTING:
            await link.close("closed", 0.0)
            raise VerserUsageError(f"The Broker {self.broker_id!r} was closed while it was connecting.")
        self._link = link
        self._state = _State.CONNECTED
        self._directory.table.restore()
        self._directory.on_message(registered)
        link.start(self._directory.on_message, self._on_lost)

    async def close(self, reason: str = "closed", *, timeout: float = 0.0) -> None:
        """Ends the session in good order. Safe to call at any time, and more than once.

        Requests under way get up to `timeout` seconds to be done (those after it fail at once); then
        they raise `DisconnectedTargetError`. `reason` is what they say.
        """
        if self._state is not _State.NEW:
            self._state = _State.CLOSED
        link, self._link = self._link, None
        self._directory.wake()
        if link is not None:
            await link.close(reason, timeout)
        await self._directory.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _on_lost(self, link: Link) -> None:
        if link is self._link and self._state is _State.CONNECTED:
            self._state = _State.LOST
            reason = link.session.lost.reason if link.session.lost else "unknown"
            _LOGGER.warning("The session with %s was lost: %s", self._options.address.url, reason)
        self._directory.wake()

    def _connected_link(self) -> Link:
        link = self._link
        if link is not None and self._state is _State.CONNECTED:
            return link
        if self._state is _State.LOST and link is not None and link.session.lost is not None:
            raise link.error(link.session.lost, {"brokerId": self.broker_id})
        if self._state is _State.CLOSED:
            raise VerserUsageError(f"The Broker {self.broker_id!r} is closed: call connect() again.")
        raise VerserUsageError(f"The Broker {self.broker_id!r} is not connected: call connect() first.")

    # --- Routes -----------------------------------------------------------------------------

    def get_routes(self) -> list[BrokerRoute]:
        """The routes that the Host has said there are, degraded ones too."""
        return self._directory.table.routes()

    async def wait_for_route(
        self, domain: str, *, timeout: float | None = DEFAULT_ROUTE_TIMEOUT_SECONDS
    ) -> BrokerRoute:
        """Waits until a Guest serves `domain`, and returns its route; at most `timeout` seconds.

        Raises:
            RequestTimeoutError: no such route appeared in time; the message names those that exist.
            DisconnectedTargetError: the session was lost.
        """
        wanted = parse_target("/", domain).domain
        return (await self._directory.wait_for(wanted, timeout, self._connected_link)).public()

    def on_route_change(self, listener: RouteListener) -> Callable[[], None]:
        """Calls `listener` with each `RouteChange` from now on; returns a function that ends that.

        The table has changed already when the listener runs. An asynchronous listener runs in a task
        of the Broker, one change after the other; what a listener raises is logged.
        """
        return self._directory.listeners.add(listener)

    # --- Requests ---------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: RequestHeaders | None = None,
        body: Body | None = None,
        json: object = UNSET,
        text: str | None = None,
        route_domain: str | None = None,
        timeout: float | None = None,
        lease_timeout: float | None = None,
    ) -> VerserBrokerResponse:
        """Sends a request to the app that serves the URL's domain; returns once its headers are there.

        The app's answer is a response, whatever its status. Only an error of the Host raises. Where
        several Guests serve the domain, the one with the fewest requests in flight gets it; a request
        that certainly reached no app moves on to the next, if its body is at hand.
        Cancelling the calling task cancels the request, and the app learns of it.

        Args:
            method: An HTTP method.
            url: `http://domain/path?query`, `https://…` or `domain/path`; what is not ASCII is encoded.
            headers: A mapping (a list repeats a header) or pairs; hop-by-hop headers are dropped.
            body: Bytes, str (sent as UTF-8), a file, or an iterable, asynchronous or not, of bytes or
                str. Whatever does not fit at once is sent while the answer is awaited, as fast as the
                app takes it. A file is read in a thread and stays open.
            json: A value that is sent as JSON.
            text: Text that is sent as `text/plain; charset=utf-8`.
            route_domain: The domain whose route is taken, where that is not the URL's.
            timeout: Seconds until the headers are there, then between two pieces of the body; None
                for the Broker's default.
            lease_timeout: Seconds that the Host may wait for a free Guest; None for its default (5).

        Raises:
            MissingGuestError: nobody serves the domain.
            LeaseTimeoutError, LocalHandlerFailureError, …: what the Host says (see `errors`).
            RequestTimeoutError: `timeout` ran out.
            DisconnectedTargetError: the session was lost.
            StreamFailureError: the request was cut off before the answer was there.
            VerserProtocolError, VerserUsageError: the request cannot be said.
        """
        link = self._connected_link()
        request = make_request(
            method,
            url,
            headers=headers,
            body=body,
            json=json,
            text=text,
            route_domain=route_domain,
            lease_timeout=self._options.lease_timeout if lease_timeout is None else lease_timeout,
        )
        if timeout is None:
            timeout = self._options.timeout
        if timeout is None:
            return await self._send(link, request, None)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._send(link, request, timeout)
        except TimeoutError:
            if not limit.expired():
                raise  # from the caller's own body
            raise RequestTimeoutError(
                f"No answer to {request.method} {url} came within {timeout:g} s.",
                context={"domain": request.target.domain},
            ) from None

    async def _send(self, link: Link, request: Request, timeout: float | None) -> VerserBrokerResponse:
        domain = request.target.domain
        entry = self._directory.table.choose(domain)
        if entry is None:
            entry = await self._directory.route_for(domain, self._connected_link)
        tried: set[str] = set()
        while True:
            self._requests += 1
            try:
                return await dispatch(link, request, entry, f"{self.broker_id}-{self._requests}", timeout)
            except VerserError as error:
                if not (request.replayable and never_reached_an_app(error)):
                    raise
                tried.add(entry.guest.target_id)
                entry = self._directory.table.choose(domain, avoid=tried)
                if entry is None:
                    raise

    async def get(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("GET", …)`."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("POST", …)`."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("PUT", …)`."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("PATCH", …)`."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("DELETE", …)`."""
        return await self.request("DELETE", url, **options)

    async def head(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("HEAD", …)`."""
        return await self.request("HEAD", url, **options)

    async def options(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("OPTIONS", …)`."""
        return await self.request("OPTIONS", url, **options)


def create_verser_broker(
    *,
    host_url: str,
    broker_id: str | None = None,
    tls_ca_file: FilePath | None = None,
    tls_cert_file: FilePath | None = None,
    tls_key_file: FilePath | None = None,
    tls_key_password: str | None = None,
    tls_pfx_file: FilePath | None = None,
    tls_pfx_password: str | None = None,
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS,
    timeout: float | None = None,
    lease_timeout: float | None = None,
    ping_interval: float = DEFAULT_PING_INTERVAL_SECONDS,
    ping_timeout: float = DEFAULT_PING_TIMEOUT_SECONDS,
    registration_token: str | None = None,
    session_options: SessionOptions | None = None,
) -> VerserBroker:
    """A Broker that is not connected yet; does no I/O.

    Args:
        host_url: The Host, such as `https://localhost:8443`.
        broker_id: Unique on the Host, among Guests and Brokers; None makes one up.
        tls_ca_file: PEM file with the CA of the Host; None trusts what the system trusts.
        tls_cert_file: PEM certificate for a Host that asks for one, with `tls_key_file`.
        tls_key_file: Its key.
        tls_key_password: The password of the key, if it has one.
        tls_pfx_file: PKCS#12 file instead of the PEM pair.
        tls_pfx_password: Its password.
        connect_timeout: Seconds for dialling and registering.
        timeout: Default of the same argument of `VerserBroker.request`; None sets no limit.
        lease_timeout: Default of the same argument of `VerserBroker.request`.
        ping_interval: Seconds between two looks at whether the Host is still there.
        ping_timeout: Seconds for it to answer, before the session counts as lost.
        registration_token: What the Host's policy may ask for.
        session_options: Windows and limits of the HTTP/2 session.

    Raises:
        VerserUsageError: a value cannot be used; says which and why.

    Example::

        broker = create_verser_broker(host_url="https://localhost:8443", tls_ca_file="ca.pem")
    """
    return VerserBroker(
        BrokerOptions(
            address=parse_host_url(host_url),
            broker_id=(f"broker-{secrets.token_hex(6)}" if broker_id is None else broker_id.strip()),
            tls=TlsFiles(
                tls_ca_file, tls_cert_file, tls_key_file, tls_key_password, tls_pfx_file, tls_pfx_password
            ),
            connect_timeout=connect_timeout,
            timeout=timeout,
            lease_timeout=lease_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            registration_token=registration_token,
            session=session_options or SessionOptions(),
        )
    )

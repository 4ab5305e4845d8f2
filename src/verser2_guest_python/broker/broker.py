"""The Broker: calls apps behind Guests through a Host.

This module is what a user holds. Which session there is, is the business of `keeper.py`; which routes there
are, of `directory.py`; how a request comes to its answer, of `delivery.py`; WebSockets, of `opening.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from os import PathLike
from types import TracebackType
from typing import Self

from verser2_guest_python.broker.body import UNSET, Body
from verser2_guest_python.broker.changes import RouteChanges
from verser2_guest_python.broker.delivery import Deliver, Delivery
from verser2_guest_python.broker.directory import Directory
from verser2_guest_python.broker.facts import BrokerFacts
from verser2_guest_python.broker.keeper import Keeper
from verser2_guest_python.broker.listeners import RouteListener
from verser2_guest_python.broker.methods import HttpMethods
from verser2_guest_python.broker.opening import OpenWebSocket, WebSocketOpener
from verser2_guest_python.broker.options import (
    DEFAULT_CLOSE_SECONDS,
    DEFAULT_MAX_REDIRECTS,
    DEFAULT_PING_INTERVAL_SECONDS,
    DEFAULT_PING_TIMEOUT_SECONDS,
    DEFAULT_RECONNECT_MAX_DELAY_SECONDS,
    BrokerOptions,
    check_count,
)
from verser2_guest_python.broker.request import RequestHeaders, make_request
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.broker.routes import BrokerRoute
from verser2_guest_python.broker.target import parse_target
from verser2_guest_python.broker.websocket import VerserBrokerWebSocket
from verser2_guest_python.broker.websocket_wish import websocket_wish
from verser2_guest_python.http2 import SessionOptions
from verser2_guest_python.peer import DEFAULT_CONNECT_TIMEOUT_SECONDS, TlsFiles, parse_host_url

DEFAULT_ROUTE_TIMEOUT_SECONDS = 10.0


class VerserBroker(HttpMethods):
    """Sends requests to the apps that Guests serve; made by `create_verser_broker`.

    One Broker is one session with one Host, for any number of requests at a time; a lost session is
    dialled again. It belongs to the event loop in which `connect` was called; for other threads there is
    `integrations.sync.SyncVerserBroker`.

    Example::

        async with create_verser_broker(host_url="https://localhost:8443", broker_id="broker-a") as broker:
            await broker.wait_for_route("a.local.test")
            response = await broker.get("http://a.local.test/items?q=1")
            print(response.status, await response.json())
    """

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._directory = Directory()
        self._keeper = Keeper(options, self._directory)
        self._delivery: Deliver = Delivery(options.broker_id, self._keeper, self._directory)
        self._opener: OpenWebSocket = WebSocketOpener(self._keeper, self._directory)

    def __repr__(self) -> str:
        return f"<VerserBroker {self.broker_id!r} at {self._options.address.url}, {self._keeper.state}>"

    @property
    def broker_id(self) -> str:
        """The id under which the Host knows this Broker."""
        return self._options.broker_id

    @property
    def connected(self) -> bool:
        """Whether there is a session just now, so that requests leave at once."""
        return self._keeper.link is not None

    @property
    def connect_times(self) -> tuple[float, float]:
        """Seconds that dialling (name, TCP, TLS) and registering took for the session of now."""
        link = self._keeper.link
        return (0.0, 0.0) if link is None else (link.dial_seconds, link.register_seconds)

    @property
    def extensions(self) -> frozenset[str]:
        """What the Host of the session of now announced (protocol.md §14); empty without one."""
        link = self._keeper.link
        return frozenset() if link is None else link.extensions

    def facts(self) -> BrokerFacts:
        """How the session is just now, and how often another one was tried for."""
        return self._keeper.facts()

    # --- Connecting -------------------------------------------------------------------------

    async def connect(self) -> None:
        """Dials the Host and registers; returns once the route table is known.

        The TLS files are read anew for every session. From then on the Broker stays registered by itself,
        unless it was created with `reconnect=False`: then, and after `close`, this may be called again.

        Raises:
            VerserConnectionError: there was no session; `reason` says why.
            VerserConfigurationError: a TLS file cannot be used.
            InvalidRegistrationError: the Host refused the id; `taken` when it is in use.
            AuthorizationDeniedError: the Host's policy refused this Broker.
            RequestTimeoutError: the Host did not answer the registration within `connect_timeout`.
            VerserUsageError: it is connected, or connecting, already.
        """
        await self._keeper.connect()

    async def close(self, reason: str = "closed", *, timeout: float = DEFAULT_CLOSE_SECONDS) -> None:
        """Drains, and ends the session in good order. Safe to call at any time, and more than once.

        What is under way gets up to `timeout` seconds (30; `math.inf` sets no limit), and then raises
        `DisconnectedTargetError`, which says `reason`. That is: a request whose answer is awaited or whose
        body is still sent, a body that somebody reads, and an iteration over one that has begun and has
        not been left, also the caller's own. An answer that nobody reads holds nothing up; what has come of
        it completely can still be read. New requests fail at once. WebSockets are closed with 1001.

        A second call joins the first; a shorter `timeout` shortens it. Cancelled, it ends the session at
        once. In an upload's own source nothing is waited for. Leaving `async with` calls it; leaving by an
        exception, with a `timeout` of 0.
        """
        try:
            await self._keeper.close(reason, timeout)
        finally:
            await self._directory.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(timeout=DEFAULT_CLOSE_SECONDS if kind is None else 0.0)

    # --- Routes -----------------------------------------------------------------------------

    def get_routes(self) -> list[BrokerRoute]:
        """The routes that the Host has said there are, degraded ones too."""
        return self._directory.table.routes()

    def has_route(self, domain: str, *, degraded: bool = True) -> bool:
        """Whether some Guest serves `domain`; `degraded` counts those whose Guest was lost a moment ago."""
        table = self._directory.table
        return table.has(domain) if degraded else table.usable(domain)

    async def wait_for_route(
        self, domain: str, *, timeout: float | None = DEFAULT_ROUTE_TIMEOUT_SECONDS
    ) -> BrokerRoute:
        """Waits until a Guest serves `domain`, and returns its route; at most `timeout` seconds.

        Raises:
            RequestTimeoutError: no such route appeared in time; the message names those that exist.
            DisconnectedTargetError: the session was lost, and none is dialled again (`reconnect=False`).
        """
        wanted = parse_target("/", domain).domain
        return (await self._directory.wait_for(wanted, timeout, self._keeper.check)).public()

    def on_route_change(self, listener: RouteListener) -> Callable[[], None]:
        """Calls `listener` with each `RouteChange` from now on; returns a function that ends that.

        The table has changed already when the listener runs. An asynchronous listener runs in a task
        of the Broker, one change after the other; what a listener raises is logged.
        """
        return self._directory.listeners.add(listener)

    def routes(self) -> RouteChanges:
        """Each `RouteChange` from now on, as an asynchronous iterator, until the Broker is closed."""
        return self._directory.changes()

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
        total_timeout: float | None = None,
        lease_timeout: float | None = None,
        retries: int | None = None,
        max_redirects: int | None = None,
    ) -> VerserBrokerResponse:
        """Sends a request to the app that serves the URL's domain; returns once its headers are there.

        The app's answer is a response, whatever its status. Only an error of the Host raises. Where
        several Guests serve the domain, the one with the fewest requests in flight gets it; a request
        that certainly reached no app moves on to the next, if its body is at hand.
        Cancelling the calling task cancels the request, and the app learns of it.

        For the last five arguments None means the Broker's own default.

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
            timeout: Seconds until the headers are there, waiting for a session and a route included; then
                between two pieces of the body. `math.inf` sets no limit.
            total_timeout: Seconds for all of it, to the last byte of the body. `math.inf` sets no limit.
            lease_timeout: Seconds that the Host may wait for a free Guest; its own default is 5.
            retries: How often a request may be sent again that fails on the way. One that an app may have
                seen is sent again only if it is a GET, HEAD, OPTIONS, PUT or DELETE; and none whose body
                can be read only once.
            max_redirects: How many 307 and 308 to domains with a route are followed (with bodies of up to
                16 KiB); all others are answers. To another domain neither `authorization` nor `cookie` goes.

        Raises:
            MissingGuestError: nobody serves the domain.
            LeaseTimeoutError, LocalHandlerFailureError, …: what the Host says (see `errors`).
            RequestTimeoutError: `timeout` or `total_timeout` ran out.
            DisconnectedTargetError: the session was lost, or there was none within `connect_timeout`.
            StreamFailureError: the request was cut off before the answer was there.
            VerserProtocolError, VerserUsageError: the request cannot be said.
        """
        options = self._options
        request = make_request(
            method,
            url,
            headers=headers,
            body=body,
            json=json,
            text=text,
            route_domain=route_domain,
            lease_timeout=options.lease_timeout if lease_timeout is None else lease_timeout,
        )
        if retries is None:
            retries = options.retries
        else:
            check_count("retries", retries)
        if max_redirects is None:
            max_redirects = options.max_redirects
        else:
            check_count("max_redirects", max_redirects)
        if timeout is None:
            timeout = options.timeout
        if total_timeout is None:
            total_timeout = options.total_timeout
        return await self._delivery.fetch(request, retries, max_redirects, timeout, total_timeout)

    def _intercept(self, wrap: Callable[[Deliver], Deliver]) -> None:
        """Puts what `wrap` makes in front of the delivery of all requests from now on: for traces."""
        self._delivery = wrap(self._delivery)

    def _intercept_websockets(self, wrap: Callable[[OpenWebSocket], OpenWebSocket]) -> None:
        """Likewise in front of what opens WebSockets."""
        self._opener = wrap(self._opener)

    # --- WebSockets -------------------------------------------------------------------------

    async def websocket(
        self,
        url: str,
        *,
        protocol: str | None = None,
        subprotocols: Iterable[str] | None = None,
        headers: RequestHeaders | None = None,
        route_domain: str | None = None,
        timeout: float | None = None,
        lease_timeout: float | None = None,
    ) -> VerserBrokerWebSocket:
        """Opens a WebSocket with the app that serves the URL's domain.

        Example::

            async with await broker.websocket("ws://a.local.test/chat", protocol="chat.v1") as socket:
                await socket.send_text("hello")
                async for message in socket:
                    print(message)

        Args:
            url: `ws://domain/path?query`, `wss://…`, `http://…`, `https://…` or `domain/path`.
            protocol: The subprotocol that is offered.
            subprotocols: Several of them, the best first. Through a deployed Host none of several can be
                chosen (protocol.md §11).
            headers: As for `request`, and only where the Host can pass them on (extension `ws-headers`);
                others drop them, with one warning in the log.
            route_domain: The domain whose route is taken, where that is not the URL's.
            timeout: Seconds until it is open; None for the Broker's default.
            lease_timeout: Seconds in which it is tried again while no Guest can take one more, where the
                Host says that this is why; None for the Broker's default (5).

        Raises:
            VerserWebSocketError: it did not open; `code`, `status` and `context` say why.
            VerserProtocolError, VerserUsageError: it cannot be said.
        """
        request = websocket_wish(
            url,
            protocol=protocol,
            subprotocols=subprotocols,
            headers=headers,
            route_domain=route_domain,
            timeout=self._options.timeout if timeout is None else timeout,
            lease_timeout=self._options.lease_timeout if lease_timeout is None else lease_timeout,
        )
        return await self._opener.open(request)

    web_socket = websocket


def create_verser_broker(
    *,
    host_url: str | Iterable[str],
    broker_id: str | None = None,
    tls_ca_file: str | PathLike[str] | None = None,
    tls_cert_file: str | PathLike[str] | None = None,
    tls_key_file: str | PathLike[str] | None = None,
    tls_key_password: str | None = None,
    tls_pfx_file: str | PathLike[str] | None = None,
    tls_pfx_password: str | None = None,
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS,
    timeout: float | None = None,
    total_timeout: float | None = None,
    lease_timeout: float | None = None,
    retries: int = 0,
    max_redirects: int = DEFAULT_MAX_REDIRECTS,
    ping_interval: float = DEFAULT_PING_INTERVAL_SECONDS,
    ping_timeout: float = DEFAULT_PING_TIMEOUT_SECONDS,
    reconnect: bool = True,
    reconnect_max_delay: float = DEFAULT_RECONNECT_MAX_DELAY_SECONDS,
    proxy: str | None = None,
    registration_token: str | None = None,
    session_options: SessionOptions | None = None,
) -> VerserBroker:
    """A Broker that is not connected yet; does no I/O.

    Args:
        host_url: The Host, such as `https://localhost:8443`. Of several the first that answers is used,
            and a lost one is replaced by the next.
        broker_id: Unique on the Host, among Guests and Brokers; None makes one up.
        tls_ca_file: PEM file with the CA of the Host; None trusts what the system trusts.
        tls_cert_file: PEM certificate for a Host that asks for one, with `tls_key_file`.
        tls_key_file: Its key.
        tls_key_password: The password of the key, if it has one.
        tls_pfx_file: PKCS#12 file instead of the PEM pair.
        tls_pfx_password: Its password.
        connect_timeout: Seconds for dialling and registering, and for a request to wait for a session
            after one was lost.
        timeout, total_timeout: Defaults of the same arguments of `VerserBroker.request`; None sets no limit.
        lease_timeout, retries, max_redirects: Likewise.
        ping_interval: Seconds between two looks at whether the Host is still there.
        ping_timeout: Seconds for it to answer, before the session counts as lost.
        reconnect: Whether a lost session is dialled again, and another one before a Host goes away or
            stream ids run out. Requests under way when a session is lost fail; new ones wait.
        reconnect_max_delay: The longest pause between two attempts, in seconds.
        proxy: URL of a proxy on the way to the Host (`http://`, `socks5://`, `socks5h://`); None for what
            `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, an empty one for none.
        registration_token: What the Host may ask for instead of a client certificate, or beside it.
        session_options: Windows and limits of the HTTP/2 session.

    Raises:
        VerserUsageError: a value cannot be used; says which and why.

    Example::

        broker = create_verser_broker(host_url="https://localhost:8443", tls_ca_file="ca.pem")
    """
    urls = (host_url,) if isinstance(host_url, str) else host_url
    return VerserBroker(
        BrokerOptions(
            addresses=tuple(parse_host_url(url) for url in urls),
            broker_id=(f"broker-{secrets.token_hex(6)}" if broker_id is None else broker_id.strip()),
            tls=TlsFiles(
                tls_ca_file, tls_cert_file, tls_key_file, tls_key_password, tls_pfx_file, tls_pfx_password
            ),
            connect_timeout=connect_timeout,
            timeout=timeout,
            total_timeout=total_timeout,
            lease_timeout=lease_timeout,
            retries=retries,
            max_redirects=max_redirects,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            reconnect=reconnect,
            reconnect_max_delay=reconnect_max_delay,
            proxy=proxy,
            registration_token=registration_token,
            session=session_options or SessionOptions(),
        )
    )

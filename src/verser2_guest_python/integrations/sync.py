"""`SyncVerserBroker`: a Broker for programs without an event loop, and for notebooks that run one already.

Apart from the Broker because nothing is decided here: every call is the same call of a `VerserBroker`,
made in the loop of a thread that this object owns.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack
from warnings import warn

from verser2_guest_python.broker.body import UNSET, request_body
from verser2_guest_python.broker.broker import DEFAULT_ROUTE_TIMEOUT_SECONDS, VerserBroker
from verser2_guest_python.broker.changes import RouteChanges
from verser2_guest_python.broker.facts import BrokerFacts
from verser2_guest_python.broker.listeners import RouteListener
from verser2_guest_python.broker.options import DEFAULT_CLOSE_SECONDS
from verser2_guest_python.broker.request import RequestHeaders, RequestOptions
from verser2_guest_python.broker.routes import BrokerRoute
from verser2_guest_python.errors import DisconnectedTargetError, VerserUsageError

from .caller_body import caller_body
from .loop_thread import ErrandSource, LoopThread, run_here
from .sync_response import SyncVerserResponse, SyncVerserStatusError
from .sync_websocket import SyncRouteChanges, SyncVerserWebSocket

__all__ = [
    "SyncRouteChanges",
    "SyncVerserBroker",
    "SyncVerserResponse",
    "SyncVerserStatusError",
    "SyncVerserWebSocket",
]

_CLOSE_SECONDS: Final = 5.0  # for the end of a session, after the time for what is under way
_CONTENT_LENGTH: Final = "content-length"

T = TypeVar("T")


class SyncVerserBroker:
    """The methods of a `VerserBroker`, for threads that may wait; any number of threads at a time.

    Its event loop runs in a thread of its own, from `connect` to `close`. What is called back, such as a
    listener for routes, is called in that thread and must not block it. Plain iterables and files given
    as a body are read in the thread that waits for the answer, while it waits for the head or for a
    piece of the body.

    Args:
        broker: A Broker that is not connected; from here on it is used through this object alone.
        loop_factory: Makes the loop, for example `uvloop.new_event_loop`; asyncio's own by default.

    Example::

        with SyncVerserBroker(create_verser_broker(host_url="https://localhost:8443")) as broker:
            print(broker.get("http://a.local.test/items?q=1").json())
    """

    def __init__(
        self, broker: VerserBroker, *, loop_factory: Callable[[], AbstractEventLoop] | None = None
    ) -> None:
        self._broker = broker
        self._loop_factory = loop_factory
        self._thread: LoopThread | None = None
        self._draining = False
        self._turn = threading.Lock()  # one connects or closes at a time

    def __repr__(self) -> str:
        return f"<Sync{repr(self._broker)[1:]}"

    @property
    def broker_id(self) -> str:
        """The id under which the Host knows this Broker."""
        return self._broker.broker_id

    @property
    def inner(self) -> VerserBroker:
        """The Broker that is used in the loop: not to be used outside of it."""
        return self._broker

    @property
    def connected(self) -> bool:
        """Whether there is a session, so that requests can be made."""
        return self._broker.connected

    @property
    def connect_times(self) -> tuple[float, float]:
        """See `VerserBroker.connect_times`."""
        return self._broker.connect_times

    @property
    def extensions(self) -> frozenset[str]:
        """See `VerserBroker.extensions`."""
        return self._broker.extensions

    def facts(self) -> BrokerFacts:
        """How the session is just now, and how often another one was tried for."""

        async def look(broker: VerserBroker) -> BrokerFacts:
            return broker.facts()

        return self.run(look)

    # --- Life -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Starts the thread, dials the Host and registers; returns once the route table is known.

        Raises what `VerserBroker.connect` raises; the thread is then over again.
        """
        with self._my_turn():
            if self._thread is not None and self._thread.alive:
                self._thread.run(self._broker.connect())
                return
            thread = LoopThread(
                f"verser broker {self.broker_id}",
                loop_factory=self._loop_factory,
                farewell=partial(self._broker.close, timeout=0.0),
            )
            try:
                thread.run(self._broker.connect())
            except BaseException:
                thread.close()
                raise
            self._thread = thread

    def close(self, reason: str = "closed", *, timeout: float = DEFAULT_CLOSE_SECONDS) -> None:
        """Drains, ends the session in good order, and the thread in any case. Safe to call more than once.

        What other threads have under way gets up to `timeout` seconds (30), and then raises
        `DisconnectedTargetError`, which says `reason`; what that is, `VerserBroker.close` says. A second
        call joins the first; a shorter `timeout` shortens it. An interrupt (Ctrl-C) ends the session at
        once. Leaving `with` calls it; leaving by an exception, with a `timeout` of 0.
        """
        thread, closing = self._thread, partial(self._broker.close, reason, timeout=timeout)
        if self._draining and thread is not None and not thread.inside:
            self._join(thread, closing)
        with self._my_turn():
            if self._thread is None:
                return
            self._draining = True
            try:
                self._thread.close(closing, timeout + _CLOSE_SECONDS)
            except BaseException:  # an interrupt
                self._join(self._thread, partial(self._broker.close, reason, timeout=0.0))
                self._thread.close()
                raise
            finally:
                self._draining = False
                self._thread = None

    def _join(self, thread: LoopThread, closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has a say in a close that is under way."""
        with suppress(VerserUsageError, DisconnectedTargetError):  # it is over
            thread.run(closing())

    def _my_turn(self) -> threading.Lock:
        if self._thread is not None and self._thread.inside:
            raise VerserUsageError(
                f"The Broker {self.broker_id!r} cannot be connected or closed from within its own thread."
            )
        return self._turn

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(timeout=DEFAULT_CLOSE_SECONDS if kind is None else 0.0)

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is not None:
            warn(f"{self!r} was not closed: call close(), or use it in a with block.", ResourceWarning, 2)

    # --- The way into the loop --------------------------------------------------------------

    def run(self, function: Callable[[VerserBroker], Awaitable[T]]) -> T:
        """Calls `function` in the loop with the Broker that is used there, and returns what it comes to.

        For what has no method here. The Broker must not be used outside of `function`. Example::

            async def both(broker: VerserBroker) -> list[bytes]:
                answers = await asyncio.gather(broker.get("http://a.test/"), broker.get("http://b.test/"))
                return [await answer.read() for answer in answers]

            first, second = broker.run(both)
        """
        return self._run_coroutine(_call(function, self._broker))

    def _run_coroutine(
        self,
        coroutine: Coroutine[Any, Any, T],
        errands: ErrandSource | None = None,
        settled: Callable[[], bool] | None = None,
        /,
    ) -> T:
        """Runs a coroutine in the loop; `errands` is what it needs of the calling thread meanwhile.

        Once this is closed, `settled` is asked whether it waits for nothing any more; then it runs here.
        """
        thread = self._thread
        if thread is None:
            if settled is not None and settled():
                return run_here(coroutine)
            coroutine.close()
            raise VerserUsageError(f"The Broker {self.broker_id!r} is not connected: call connect() first.")
        return thread.run(coroutine, errands, settled)

    # --- Routes -----------------------------------------------------------------------------

    def get_routes(self) -> list[BrokerRoute]:
        """The routes that the Host has said there are, degraded ones too."""
        return self.run(_get_routes)

    def has_route(self, domain: str, *, degraded: bool = True) -> bool:
        """Whether some Guest serves `domain`; `degraded` counts those whose Guest was lost a moment ago."""

        async def look(broker: VerserBroker) -> bool:
            return broker.has_route(domain, degraded=degraded)

        return self.run(look)

    def wait_for_route(
        self, domain: str, *, timeout: float | None = DEFAULT_ROUTE_TIMEOUT_SECONDS
    ) -> BrokerRoute:
        """Waits until a Guest serves `domain`; raises what `VerserBroker.wait_for_route` raises."""
        return self.run(lambda broker: broker.wait_for_route(domain, timeout=timeout))

    def on_route_change(self, listener: RouteListener) -> Callable[[], None]:
        """Calls `listener` in the loop's thread with each change; returns a function that ends that.

        It must not block, nor call this object; `queue.SimpleQueue().put` makes a good listener.
        """

        async def subscribe(broker: VerserBroker) -> Callable[[], None]:
            return broker.on_route_change(listener)

        unsubscribe = self.run(subscribe)

        async def end(_broker: VerserBroker) -> None:
            unsubscribe()

        def end_here() -> None:
            if self._thread is not None:
                self.run(end)

        return end_here

    def routes(self) -> SyncRouteChanges:
        """Each `RouteChange` from now on, as an iterator that waits for the next, until this is closed."""

        async def subscribe(broker: VerserBroker) -> RouteChanges:
            return broker.routes()

        return SyncRouteChanges(self, self.run(subscribe))

    # --- WebSockets -------------------------------------------------------------------------

    def websocket(
        self,
        url: str,
        *,
        protocol: str | None = None,
        subprotocols: Iterable[str] | None = None,
        headers: RequestHeaders | None = None,
        route_domain: str | None = None,
        timeout: float | None = None,
        lease_timeout: float | None = None,
    ) -> SyncVerserWebSocket:
        """Opens a WebSocket; arguments, and what is raised, are those of `VerserBroker.websocket`."""
        opening = self._broker.websocket(
            url,
            protocol=protocol,
            subprotocols=subprotocols,
            headers=headers,
            route_domain=route_domain,
            timeout=timeout,
            lease_timeout=lease_timeout,
        )
        return SyncVerserWebSocket(self, self._run_coroutine(opening))

    def web_socket(self, url: str, **options: Any) -> SyncVerserWebSocket:
        """The same as `websocket`."""
        return self.websocket(url, **options)

    # --- Requests ---------------------------------------------------------------------------

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Sends a request; returns once the headers of the answer are there.

        The options are those of `VerserBroker.request`, and so is what is raised. Interrupted (Ctrl-C),
        the request is cancelled, and the app learns of it.
        """
        errands = caller_body(options.get("body"))
        if errands is not None:
            _declare_length(options)
            options["body"] = errands
        try:
            inner = self._run_coroutine(self._broker.request(method, url, **options), errands)
        except BaseException:
            if errands is not None:
                errands.close()
            raise
        return SyncVerserResponse(self, inner, errands)

    def get(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("GET", …)`."""
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("POST", …)`."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("PUT", …)`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("PATCH", …)`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("DELETE", …)`."""
        return self.request("DELETE", url, **options)

    def head(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("HEAD", …)`."""
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Unpack[RequestOptions]) -> SyncVerserResponse:
        """Like `request("OPTIONS", …)`."""
        return self.request("OPTIONS", url, **options)


def _declare_length(options: RequestOptions) -> None:
    """Says how long a file is, which cannot be seen any more once it is read piece by piece."""
    content = request_body(options.get("body"), UNSET, None)
    if content is None or content.length is None:
        return
    headers = options.get("headers") or ()
    pairs: list[Any] = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not any(str(pair[0]).lower() == _CONTENT_LENGTH for pair in pairs if isinstance(pair, tuple)):
        pairs.append((_CONTENT_LENGTH, str(content.length)))
    options["headers"] = pairs


async def _call(function: Callable[[VerserBroker], Awaitable[T]], broker: VerserBroker) -> T:
    return await function(broker)


async def _get_routes(broker: VerserBroker) -> list[BrokerRoute]:
    return broker.get_routes()

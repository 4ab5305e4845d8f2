"""From a request's head to the app and back: scope, cycle, and what its end means.

Leases and direct dispatch share it; what carries the request stays behind `RequestExchange`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import Final, Protocol

from verser2_guest_python.asgi.exceptions import only_disconnected
from verser2_guest_python.asgi.forwarded import ProxyHeaders
from verser2_guest_python.asgi.http import HttpCycle, HttpExchange, Phase
from verser2_guest_python.asgi.http_timed import TimedHttpCycle
from verser2_guest_python.asgi.scopes import http_scope
from verser2_guest_python.asgi.types import Scope
from verser2_guest_python.errors import VerserError
from verser2_guest_python.wire.envelopes import RequestHead
from verser2_guest_python.wire.headers import request_fields

from .apps import Apps
from .lifecycle import Listeners

_log = logging.getLogger("verser2_guest_python.guest")

APP_FAILED = "The app failed before it answered; the Guest's log says why."
APP_SILENT = "The app ended without answering."
NO_APP = "No app is attached for this domain."
CUT_OFF = "cut off by the end of the Guest"

UNTRACED: Final[Mapping[str, str]] = MappingProxyType({})
_COMPLETE, _CUT = Phase.COMPLETE, Phase.CUT


class RequestExchange(HttpExchange, Protocol):
    """An exchange that can also say that there will be no response."""

    head: RequestHead
    received: int
    bound: bool  # whether `head.source_id` is known to be right
    session_id: str  # "" where there is none

    def refuse(self, message: str, code: str = ..., **context: str) -> Awaitable[None] | None:
        """An error instead of a response."""


class Dispatcher:
    """Runs requests through the attached apps.

    `debug` lets error texts of an app reach the Broker; without it a fixed sentence does.
    `proxy_headers` fills scopes from headers of proxies; None leaves them alone.
    """

    def __init__(
        self,
        apps: Apps,
        listeners: Listeners,
        *,
        guest_id: str,
        root_path: str,
        debug: bool,
        proxy_headers: ProxyHeaders | None = None,
    ) -> None:
        self.apps = apps
        self.listeners = listeners
        self.guest_id = guest_id
        self.root_path = root_path
        self.debug = debug
        self.proxy_headers = proxy_headers
        self._make_cycle: Callable[..., HttpCycle] = HttpCycle

    @property
    def limits_proxy_headers(self) -> bool:
        """Whether only some Brokers are believed."""
        return self.proxy_headers is not None and bool(self.proxy_headers.allowed)

    def time_first_bytes(self, listener: Callable[[str, float], None]) -> None:
        """Tells `listener` of each response that begins: the method, and the seconds until then."""
        self._make_cycle = partial(TimedHttpCycle, on_first_byte=listener)

    async def serve(self, exchange: RequestExchange) -> None:
        """One request from its head to its end. Raises nothing but cancellation."""
        head = exchange.head
        listeners = self.listeners
        started = perf_counter() if listeners else 0.0
        if listeners:
            listeners.tell(
                "request-started",
                request_id=head.request_id,
                source_id=head.source_id,
                method=head.method,
                path=head.path,
            )
        reason: str | None = CUT_OFF
        cycle: HttpCycle | None = None
        try:
            try:
                cycle = self._cycle(exchange)
            except VerserError as error:
                reason = error.message
                await self._refuse(exchange, error.message, error.code)
            else:
                await cycle.run()
                complete = cycle.phase is _COMPLETE and cycle.error is None
                reason = None if complete else await self._conclude(exchange, cycle)
        finally:
            if listeners:
                begun = cycle if cycle is not None and cycle.phase in (_COMPLETE, _CUT) else None
                listeners.tell(
                    "request-completed",
                    session_id=exchange.session_id,
                    request_id=head.request_id,
                    source_id=head.source_id,
                    method=head.method,
                    path=head.path,
                    status=0 if begun is None else begun.status,
                    duration_ms=(perf_counter() - started) * 1_000,
                    bytes_in=exchange.received,
                    bytes_out=0 if begun is None else begun.sent,
                    reason=reason,
                    **({} if cycle is None else trace_of(cycle.scope)),
                )

    def _cycle(self, exchange: RequestExchange) -> HttpCycle:
        head = exchange.head
        domain = head.route_domain or head.headers.get("host", "")
        mounted = self.apps.find(domain)
        if mounted is None:
            raise VerserError(NO_APP, code="local-handler-failure")
        scope = http_scope(
            method=head.method,
            target=head.path,
            headers=request_fields(head.headers),
            root_path=self.root_path,
            state=mounted.state,
            verser={
                "request_id": head.request_id,
                "source_id": head.source_id,
                "guest_id": self.guest_id,
                "route_domain": domain,
            },
        )
        if self.proxy_headers is not None:
            self.proxy_headers.apply(scope, head.source_id if exchange.bound else None)
        return self._make_cycle(mounted.app, scope, exchange)

    async def _conclude(self, exchange: RequestExchange, cycle: HttpCycle) -> str | None:
        """What is left to do for a request that did not simply complete; the reason for the log."""
        error = cycle.error
        gone = exchange.disconnected
        head = exchange.head
        path = head.path.partition("?")[0]
        fields = {"request_id": head.request_id, "source_id": head.source_id, **trace_of(cycle.scope)}
        if error is not None and not (is_departure(error) and (gone or cycle.phase is _CUT)):
            _log.error("The app failed on %s %s", head.method, path, exc_info=error, extra=fields)
            reason = f"app failed: {type(error).__name__}"
        elif gone:
            reason = "cancelled"
        else:
            _log.error("The app ended without answering %s %s", head.method, path, extra=fields)
            reason = "app ended without answering"
        if cycle.phase in (_COMPLETE, _CUT) or gone:
            return None if cycle.phase is _COMPLETE and error is None else reason
        message = (
            APP_SILENT if error is None else str(error) or type(error).__name__ if self.debug else APP_FAILED
        )
        await self._refuse(exchange, message)
        return reason

    async def _refuse(
        self, exchange: RequestExchange, message: str, code: str = "local-handler-failure"
    ) -> None:
        try:
            waiting = exchange.refuse(message, code, guestId=self.guest_id, path=exchange.head.path)
            if waiting is not None:
                await waiting
        except OSError:
            return  # the Broker is gone: nobody waits for this


def trace_of(scope: Scope) -> Mapping[str, str]:
    """`trace_id` and `span_id` of an app call that is traced, which its tracer has left in the scope."""
    known: Mapping[str, str] = scope["extensions"]["verser"]
    return {name: known[name] for name in ("trace_id", "span_id")} if "trace_id" in known else UNTRACED


def is_departure(error: BaseException) -> bool:
    """Whether an app ended so because its client has left: with our error, or with what it made of it.

    Starlette and FastAPI raise a `ClientDisconnect` of their own, instead of ours or when they receive
    `http.disconnect`; each cancelled download would be an error in the log.
    """
    return only_disconnected(error) or type(error).__name__ == "ClientDisconnect"

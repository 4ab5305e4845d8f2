"""The gateway as an ASGI app: lifespan, HTTP and WebSockets, each on its way, and counted.

Apart from the cycles because here is what lives as long as the gateway does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from verser2_guest_python.asgi.types import Receive, Scope, Send
from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.errors import VerserError, VerserUsageError

from .config import GatewayConfig
from .forwarding import Forwarding
from .http_cycle import HttpCycle
from .limits import GatewayLimits
from .record import GatewayRecord
from .refusal import too_busy
from .routing import Names
from .websocket_cycle import WebSocketCycle

OnDone = Callable[[GatewayRecord], None]


class Gateway:
    """An ASGI app that sends what comes in through a Broker; made by `create_gateway`.

    Attributes:
        active: Requests and WebSockets under way.
        websockets: Those of them that are WebSockets, open or being negotiated.
    """

    def __init__(self, config: GatewayConfig, on_done: OnDone | None) -> None:
        self.active: int = 0
        self.websockets: int = 0
        self._config = config
        self._on_done = on_done

    def __repr__(self) -> str:
        return f"<Gateway before {self._config.broker!r}, {self.active} under way>"

    @property
    def waiting(self) -> int:
        """Those of them that wait for a route that is away (`route_wait`); others may wait in the Broker."""
        return self._config.queue.waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket."""
        record = _record_of(scope)
        kind = WebSocketCycle if record.websocket else HttpCycle
        cycle = kind(self._config, scope, receive, send, record)
        full = self.active >= self._config.limits.limit_concurrency
        self.active += 1
        self.websockets += record.websocket
        try:
            await cycle.run(too_busy() if full else None)
        finally:
            self.active -= 1
            self.websockets -= record.websocket
            record.end()
            if self._on_done is not None:
                self._on_done(record)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Connects a Broker that is not connected yet, and closes it in the end."""
        broker = self._config.broker
        ours = False
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if not broker.connected:
                    try:
                        await broker.connect()
                    except VerserError as error:
                        await send({"type": "lifespan.startup.failed", "message": error.message})
                        return
                    ours = True
                await send({"type": "lifespan.startup.complete"})
            else:
                if ours:
                    await broker.close("the gateway stops", timeout=0.0)
                await send({"type": "lifespan.shutdown.complete"})
                return


def create_gateway(
    broker: VerserBroker,
    *,
    maps: Mapping[str, str] | None = None,
    only_mapped: bool = False,
    default_domain: str | None = None,
    list_routes: bool = False,
    route_wait: float = 0.0,
    trust_forwarded: Iterable[str] = (),
    limits: GatewayLimits | None = None,
    on_done: Callable[[GatewayRecord], None] | None = None,
) -> Gateway:
    """An ASGI app that passes requests and WebSockets on to the apps behind Guests.

    The `host` header picks the route. A Broker that is not connected yet is connected, and closed in the
    end, by the server's lifespan.

    Args:
        broker: The Broker that sends them.
        maps: Public names and the domains that they stand for; other names stand for themselves.
        only_mapped: Whether other names are unknown instead.
        default_domain: The domain that answers `localhost`, unknown names under `.localhost`, and plain
            addresses; None for none.
        list_routes: Whether the page for an unknown name lists the known ones.
        route_wait: Seconds that a request waits for a route that was there, or is mapped, and is away.
        trust_forwarded: Networks of proxies whose `x-forwarded-*` and `forwarded` headers are believed.
        limits: Sizes, times and counts; None for the defaults.
        on_done: Called with the record of each request and WebSocket when it is over; must not raise.

    Raises:
        VerserUsageError: a name, a domain or a network is none.

    Example::

        app = create_gateway(broker, maps={"shop.example.com": "shop.local.test"})
    """
    names = Names(
        maps or {},
        only_mapped=only_mapped,
        default_domain=default_domain,
        has_route=broker.has_route,
    )
    if not route_wait >= 0:
        raise VerserUsageError(f"route_wait is {route_wait}: give a number of seconds.")
    config = GatewayConfig(
        broker,
        names,
        Forwarding(trust_forwarded),
        limits or GatewayLimits(),
        route_wait=route_wait,
        list_routes=list_routes,
    )
    return Gateway(config, on_done)


def _record_of(scope: Any) -> GatewayRecord:
    peer = scope.get("client")
    query = scope.get("query_string", b"")
    path = scope["path"] if not query else f"{scope['path']}?{query.decode('latin-1')}"
    name = next((value for key, value in scope["headers"] if key.lower() == b"host"), b"")
    return GatewayRecord(
        client=str(peer[0]) if peer else "",
        method=scope.get("method", "GET"),
        name=name.decode("latin-1"),
        path=path,
        websocket=scope["type"] == "websocket",
    )

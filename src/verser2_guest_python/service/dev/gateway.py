"""The gateway of `dev`: a port on loopback where browsers find the app.

Apart from `run.py` because it needs the extra `gateway`, and because choosing the port is a matter of
its own: 8080 or the next one that is free, unless the user has named one, which is then taken or refused.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.http2 import why
from verser2_guest_python.service.dev.log import GATEWAY_BROKER
from verser2_guest_python.service.dev.stack import DRAIN_SECONDS, DevStack
from verser2_guest_python.service.dev.tracing import DevTracing

if TYPE_CHECKING:
    from verser2_guest_python.integrations.gateway import GatewayRecord

DEFAULT_PORT: Final = 8080
ROUTE_WAIT_SECONDS: Final = 30.0
"""How long requests wait for an app that is being reloaded."""
_PATIENCE_SECONDS: Final = 3_600.0
"""For an app to answer in: it may stand at a breakpoint."""
_PORTS_TRIED: Final = 100
_NEEDED: Final = ("uvicorn", "httptools", "websockets")
_IPV4, _IPV6 = "127.0.0.1", "::1"


def missing_for_gateway() -> list[str]:
    """The modules that a gateway needs and that are not installed."""
    return [name for name in _NEEDED if find_spec(name) is None]


def loopback_sockets(port: int | None, first: int = DEFAULT_PORT) -> list[socket.socket]:
    """Listening sockets at one port of both loopback addresses, as browsers try either for `*.localhost`.

    `port` None is `first` or the next one that is free at both; 0 any free one. Raises
    `VerserConfigurationError` where there is none.
    """
    candidates = range(first, first + _PORTS_TRIED) if port is None else (port,)
    for candidate in candidates:
        try:
            return _listen(candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port is not None:
                raise VerserConfigurationError(
                    f"Cannot listen on port {candidate} of this machine: {why(error)}. Choose another one "
                    "with --port, or leave that out to have a free one chosen."
                ) from None
    raise VerserConfigurationError(
        f"The ports from {first} to {first + _PORTS_TRIED - 1} are all in use: "
        "choose another one with --port."
    )


def _listen(port: int) -> list[socket.socket]:
    sockets = [socket.create_server((_IPV4, port))]
    try:
        sockets.append(socket.create_server((_IPV6, sockets[0].getsockname()[1]), family=socket.AF_INET6))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sockets[0].close()
            if port == 0:
                return _listen(port)
            raise
        # A machine without IPv6 has one address only
    return sockets


class DevGateway:
    """A gateway before the Host of `stack`, for `async with`; requests under way are drained behind it.

    Attributes:
        url: Where the app is found.
        inspector_url: Where its requests can be looked at, with the token that opens it.
        port_taken: The port that would have been taken first, if somebody else has it.
    """

    url: str
    inspector_url: str
    port_taken: int | None

    def __init__(
        self,
        stack: DevStack,
        port: int | None,
        on_done: Callable[[GatewayRecord], None],
        tracing: DevTracing | None = None,
    ) -> None:
        self._stack = stack
        self._tracing = tracing or DevTracing(wanted=False)
        self._port = port
        self._on_done = on_done
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> Self:
        from verser2_guest_python.integrations.gateway import GatewayLimits, create_gateway
        from verser2_guest_python.service.gateway_server.server import GatewayServer
        from verser2_guest_python.service.inspector import create_inspector, with_inspector

        domain = self._stack.domains[0]
        sockets = loopback_sockets(self._port)
        port = sockets[0].getsockname()[1]
        self.url = f"http://{domain}:{port}/"
        self.port_taken = DEFAULT_PORT if self._port is None and port != DEFAULT_PORT else None
        async with AsyncExitStack() as ends:
            for one in sockets:
                ends.callback(one.close)
            tracing, stack = self._tracing, self._stack
            broker = await ends.enter_async_context(tracing.broker(stack.broker(GATEWAY_BROKER)))
            replays = await ends.enter_async_context(tracing.broker(stack.broker("inspector")))
            inspector = create_inspector(self._stack.host, replays)
            self.inspector_url = inspector.url(f"http://localhost:{port}")
            limits = GatewayLimits(timeout=_PATIENCE_SECONDS)
            app = create_gateway(
                broker,
                default_domain=domain,
                list_routes=True,
                route_wait=ROUTE_WAIT_SECONDS,
                limits=limits,
                on_done=self._on_done,
            )
            server = GatewayServer(
                with_inspector(inspector, tracing.app(app)),
                sockets=sockets,
                limits=limits,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
            await ends.enter_async_context(server)
            ends.callback(inspector.close)  # before the server waits for whoever looks on
            self._ends = ends.pop_all()
        return self

    async def aclose(self) -> None:
        """Takes no further requests, lets those under way finish for a few seconds, and is gone."""
        await self._ends.aclose()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

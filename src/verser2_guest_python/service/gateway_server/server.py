"""The gateway's server: uvicorn in the loop of whoever owns it, with our limits and our log.

Apart from the command because `dev` runs one too. Signals and exit codes are the owner's business, so
uvicorn takes none; a bad address or certificate is told as one sentence, before anything is served.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.integrations.gateway import GatewayLimits, GatewayRecord
from verser2_guest_python.integrations.gateway.refusal import AnswerCutOff
from verser2_guest_python.service.gateway_server.tls import PublicTls, RenewableContext
from verser2_guest_python.wire.limits import MAX_VWS_LINE_BYTES

if TYPE_CHECKING:
    import uvicorn

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
DEFAULT_KEEP_ALIVE_SECONDS: Final = 5.0
_NEEDED: Final = ("uvicorn", "httptools", "websockets")
_INSTALL: Final = "pip install 'verser2-guest-python[gateway]'"
_BACKLOG: Final = 2048
_KNOWN: Final = frozenset(
    {
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "Invalid UTF-8 sequence received from client.",
    }
)
_TICK_SECONDS: Final = 1.0
_ALL_PORTS: Final = 65_535


def check_extra() -> None:
    """Raises `VerserConfigurationError` when what the gateway needs is not installed."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise VerserConfigurationError(f"The gateway needs {name}: install it with {_INSTALL}.")


class GatewayServer:
    """Serves an ASGI app on one address, for `async with`: listening inside of it, drained behind it.

    Example::

        async with GatewayServer(create_gateway(broker), listen="127.0.0.1:8080") as server:
            print(server.url)

    Args:
        app: What `create_gateway` made, or something around it.
        listen: `address:port`; port 0 takes a free one.
        sockets: What is listened on instead, bound already; they are closed in the end.
        tls: The certificate for https; None for plain http.
        limits: Those of the gateway; the server keeps its share of them.
        keep_alive: Seconds for which an idle connection is kept.
        timeout_graceful_shutdown: Seconds for requests under way, in the end.
        on_refused: Called with a record of what was refused before it came to the app, for it was no request.

    Raises on entering:
        VerserConfigurationError: the address is taken or not ours, or the certificate cannot be used.
        VerserUsageError: `listen` is no address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        listen: str = DEFAULT_LISTEN,
        sockets: Sequence[socket.socket] = (),
        tls: PublicTls | None = None,
        limits: GatewayLimits | None = None,
        keep_alive: float = DEFAULT_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown: float = 30.0,
        on_refused: Callable[[GatewayRecord], None] | None = None,
    ) -> None:
        check_extra()
        self._app = app
        self._host, self._port = parse_listen(listen)
        self._sockets = list(sockets)
        self._tls = tls
        self._context: RenewableContext | None = None
        self._limits = limits or GatewayLimits()
        self._keep_alive = keep_alive
        self._drain_seconds = timeout_graceful_shutdown
        self._on_refused = on_refused
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def url(self) -> str:
        """Where it is, such as `http://127.0.0.1:8080`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http{'s' if self._tls else ''}://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        listening = asyncio.Event()
        server = _uvicorn_server(self._config(), listening, self._stop)
        sockets = self._sockets or [_listener(self._host, self._port)]
        self._host, self._port = sockets[0].getsockname()[:2]
        self._task = asyncio.create_task(server.serve(sockets=sockets), name="verser-gateway-server")
        begun = asyncio.create_task(listening.wait(), name="verser-gateway-listening")
        try:
            await asyncio.wait([self._task, begun], return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
        if self._task.done():
            self._task.result()
        return self

    def reload_certificate(self) -> None:
        """Reads the files of the certificate anew: new connections get it, those that are there go on.

        Does nothing without `tls`. Raises `VerserConfigurationError` when a file cannot be used; what was
        there before stays in use.
        """
        if self._tls is not None and self._context is not None:
            self._context.current = self._tls.context()

    async def wait_ended(self) -> None:
        """Until the server has ended, which it does by itself only when it fails."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._task is None:
            return
        try:
            await asyncio.wait([self._task])
        finally:
            if not self._task.done():  # in a hurry
                self._task.cancel()
        self._task.result()

    def _config(self) -> uvicorn.Config:
        import uvicorn

        from verser2_guest_python.integrations.gateway.http_protocol import http_protocol
        from verser2_guest_python.integrations.gateway.websocket_protocol import websocket_protocol

        config = uvicorn.Config(
            self._app,
            host=self._host,
            port=self._port,
            http=http_protocol(self._limits, self._on_refused),
            ws=websocket_protocol(self._limits),
            ws_max_size=MAX_VWS_LINE_BYTES,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=max(1, round(self._keep_alive)),
            timeout_graceful_shutdown=max(1, round(self._drain_seconds)),
        )
        config.load()
        if self._tls is not None:
            config.ssl = self._context = RenewableContext.of(self._tls.context())
        return config


def _uvicorn_server(config: uvicorn.Config, listening: asyncio.Event, stop: asyncio.Event) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn that leaves signals to the owner, says when it listens, and stops when it is told."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listening.set()

        async def main_loop(self) -> None:
            while not (await self.on_tick(0) or stop.is_set()):  # which also sets the date
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await stop.wait()

    server_log = logging.getLogger("uvicorn.error")
    server_log.setLevel(logging.WARNING)  # our own lines tell of start and end …
    server_log.addFilter(_is_news)  # … and of what became of each request
    return Server(config)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn says more than the access log does."""
    error = record.exc_info[1] if record.exc_info else None
    cut_off = isinstance(error, AnswerCutOff | asyncio.CancelledError)  # the latter at the end of a drain
    return not cut_off and record.getMessage() not in _KNOWN


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port in `127.0.0.1:8080`, `[::1]:8080` or `:8080` (every address)."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _ALL_PORTS:
        raise VerserUsageError(f"{text!r} is no address to listen on: write it like {DEFAULT_LISTEN}.")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise VerserUsageError(f"{text!r} is no address to listen on: write it like [{host}]:{port}.")
    return host or "0.0.0.0", int(port)  # noqa: S104 - that is what it means


def _listener(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise VerserConfigurationError(f"Cannot listen on {host}: {error.strerror or error}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise VerserConfigurationError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Is something else there?"
        ) from None
    return listener

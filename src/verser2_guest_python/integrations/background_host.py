"""A Host with Guests in a thread, and clients before them: what the fixtures of `pytest.py` hand out.

Apart from the fixtures because it knows nothing of pytest: any test runner, or a notebook, can have one.
All of it can be called by plain and by asynchronous code, since nothing here needs the caller's loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.broker.broker import VerserBroker, create_verser_broker
from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.guest.guest import VerserGuest, create_verser_guest
from verser2_guest_python.host.host import create_verser_host
from verser2_guest_python.host.stats import HostStats
from verser2_guest_python.peer.tasks import end_tasks
from verser2_guest_python.wire.routes import Route

from .client_library import NAMES
from .httpx import SyncVerserTransport, VerserTransport
from .loop_thread import LoopThread
from .own_certificate import make_certificate
from .sync import SyncVerserBroker

if TYPE_CHECKING:
    import httpx2

__all__ = ["BackgroundGuest", "BackgroundHost"]

T = TypeVar("T")

DRAIN_SECONDS: Final = 2.0
"""How long an app may take for what it still does when its Guest is closed."""


class BackgroundGuest:
    """An app that is served; made by `BackgroundHost.guest`. Leaving `with` ends it.

    Attributes:
        domain: The name that it is served under.
        guest_id: The id of its Guest.
        closed: Whether it has ended.
    """

    def __init__(self, thread: LoopThread, guest: VerserGuest, domain: str) -> None:
        self.domain: str = domain
        self.guest_id: str = guest.guest_id
        self.closed: bool = False
        self._thread = thread
        self._guest = guest

    def __repr__(self) -> str:
        return f"<BackgroundGuest {self.guest_id!r} at {self.url}{', closed' if self.closed else ''}>"

    @property
    def url(self) -> str:
        """Where a Broker finds it, such as `http://app.test`."""
        return f"http://{self.domain}"

    def close(self) -> None:
        """Drains, runs the app's shutdown, and takes its routes away. Safe to call more than once."""
        if not self.closed and self._thread.alive:
            self._thread.run(self._guest.close())
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class BackgroundHost:
    """A Host on loopback, in a thread of its own, with a certificate of its own; runs once it is made.

    Example::

        with BackgroundHost() as host, host.client(app) as client:
            assert client.get("/").status_code == 200

    Args:
        directory: Where the certificate's files go; a temporary one, removed by `close`, without it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._guests: list[BackgroundGuest] = []
        self._numbers = itertools.count(1)
        with ExitStack() as ends:
            if directory is None:
                directory = Path(ends.enter_context(TemporaryDirectory(prefix="verser-")))
            files = make_certificate(directory)
            self._ca_file = files.cert_file
            self._thread = LoopThread("verser host and guests")
            ends.callback(self._thread.close)
            self._host = create_verser_host(tls_cert_file=files.cert_file, tls_key_file=files.key_file)
            self._thread.run(self._host.start())
            ends.callback(self._close_host)
            self._ends = ends.pop_all()

    def _close_host(self) -> None:
        for guest in self._guests:
            guest.close()
        self._thread.run(self._host.close(timeout=0.0))

    def __repr__(self) -> str:
        return f"<BackgroundHost {self.url}>"

    # --- Looking at it --------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What Guests and Brokers take as `host_url`."""
        return self._host.url

    @property
    def ca_file(self) -> Path:
        """What they take as `tls_ca_file`."""
        return self._ca_file

    def get_routes(self) -> list[Route]:
        """The route table as Brokers see it."""
        return self._thread.run(_call(self._host.get_routes))

    def get_stats(self) -> HostStats:
        """How many sessions, Guests, leases and requests there are just now."""
        return self._thread.run(_call(self._host.get_stats))

    # --- Apps and clients -----------------------------------------------------------------

    def guest(self, app: ASGIApp, *, domain: str | None = None, **options: Any) -> BackgroundGuest:
        """Serves `app`, in the thread of this Host; returns once requests can come.

        Its lifespan begins here and ends when the Guest is closed. Error texts of the app reach callers.

        Args:
            app: An ASGI or WSGI app.
            domain: The name to serve it under; without it `app.test`, or `app-2.test` while that is taken.
            options: More arguments for `create_verser_guest`, such as `root_path` or `lifespan`.
        """
        if domain is None:
            domain = self._free_domain()
        options = {
            "guest_id": f"guest-{next(self._numbers)}",
            "timeout_graceful_shutdown": DRAIN_SECONDS,
            "debug": True,
            **options,
        }
        guest = create_verser_guest(
            host_url=self.url, app=app, routed_domains=[domain], tls_ca_file=self.ca_file, **options
        )
        served = BackgroundGuest(self._thread, guest, domain)
        try:
            self._thread.run(guest.connect())
        except BaseException:
            served.close()
            raise
        self._guests = [other for other in self._guests if not other.closed] + [served]
        return served

    def _free_domain(self) -> str:
        taken = {guest.domain for guest in self._guests if not guest.closed}
        names = itertools.chain(["app.test"], (f"app-{number}.test" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)

    def broker(self, **options: Any) -> VerserBroker:
        """A Broker for this Host, not connected; `options` are those of `create_verser_broker`."""
        return create_verser_broker(host_url=self.url, tls_ca_file=self.ca_file, **options)

    def client(
        self, app: ASGIApp | BackgroundGuest, *, domain: str | None = None, **options: Any
    ) -> httpx2.Client:
        """An `httpx2.Client` before `app`; closing it ends all that was made for it.

        Args:
            app: An app, which is served for this client, or a Guest of this Host.
            domain: See `guest`.
            options: More arguments for the client, such as `headers`, `timeout` or `follow_redirects`.
        """
        with ExitStack() as ends:
            guest = self._guest_of(app, domain, ends)
            broker = ends.enter_context(SyncVerserBroker(self.broker()))
            broker.wait_for_route(guest.domain)
            transport = _OwningTransport(broker)
            options.setdefault("base_url", guest.url)
            client: httpx2.Client = _library().Client(transport=transport, **options)
            transport.ends = ends.pop_all()
        return client

    def async_client(
        self, app: ASGIApp | BackgroundGuest, *, domain: str | None = None, **options: Any
    ) -> httpx2.AsyncClient:
        """An `httpx2.AsyncClient` before `app`, for `async with`; arguments as for `client`.

        Its Broker is connected in the loop of the first request.
        """
        with ExitStack() as ends:
            guest = self._guest_of(app, domain, ends)
            transport = _ConnectingTransport(self.broker(), guest.domain)
            options.setdefault("base_url", guest.url)
            client: httpx2.AsyncClient = _library().AsyncClient(transport=transport, **options)
            transport.ends = ends.pop_all()
        return client

    def _guest_of(
        self, app: ASGIApp | BackgroundGuest, domain: str | None, ends: ExitStack
    ) -> BackgroundGuest:
        _library()  # before anything is started
        if not isinstance(app, BackgroundGuest):
            return ends.enter_context(self.guest(app, domain=domain))
        if domain is not None:
            raise VerserUsageError(f"The Guest has a domain already, {app.domain}: leave domain= out.")
        return app

    # --- The end --------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the Host, its Guests and the thread. Safe to call more than once."""
        self._ends.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _OwningTransport(SyncVerserTransport):
    """One whose Broker and Guest are nobody else's, and end with it."""

    def __init__(self, broker: SyncVerserBroker) -> None:
        super().__init__(broker)
        self.ends = ExitStack()

    def close(self) -> None:
        self.ends.close()


class _ConnectingTransport(VerserTransport):
    """The same, connected in whatever loop its first request runs."""

    def __init__(self, broker: VerserBroker, domain: str) -> None:
        super().__init__(broker)
        self.ends = ExitStack()
        self._domain = domain
        self._connecting: asyncio.Task[None] | None = None

    async def handle_async_request(self, request: Any) -> Any:
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
        await asyncio.shield(self._connecting)
        return await super().handle_async_request(request)

    async def _connect(self) -> None:
        await self._broker.connect()
        await self._broker.wait_for_route(self._domain)

    async def aclose(self) -> None:
        if self._connecting is not None:
            await end_tasks([self._connecting])
        await self._broker.close(timeout=0.0)  # as the aclose of any client
        await asyncio.to_thread(self.ends.close)


def _library() -> Any:
    from importlib import import_module

    for name in NAMES:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise VerserConfigurationError(
        'A client needs httpx2, which is not installed: pip install "verser2-guest-python[pytest]"'
    )


async def _call(function: Callable[[], T]) -> T:
    return function()

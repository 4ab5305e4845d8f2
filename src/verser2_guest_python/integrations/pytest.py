"""Fixtures for a user's own tests: an app is asked through a real Guest, a real Host and a real Broker.

pytest loads this by itself where the package is installed (entry point `verser2`; `-p no:verser2`
leaves it out), so nothing heavy is imported before a fixture is used. Three lines test an app::

    def test_hello(verser_client):
        client = verser_client(app)
        assert client.get("/").json() == {"hello": "world"}

Host and Guests run in the loop of a background thread, and so does the app: the same fixtures serve
plain tests and asynchronous ones (pytest-asyncio, anyio), and a test's own loop stays free. Where a test
is asynchronous, and wants to wait for several answers at a time::

    async def test_hello(verser_async_client):
        async with verser_async_client(app) as client:
            assert (await client.get("/")).status_code == 200

A fixture of a user's own makes a client for a whole module or session::

    @pytest.fixture(scope="session")
    def client(verser_host):
        with verser_host.client(app, headers={"authorization": "Bearer test"}) as client:
            yield client
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    import httpx2

    from verser2_guest_python.asgi.types import ASGIApp
    from verser2_guest_python.integrations.background_host import BackgroundGuest, BackgroundHost


class GuestFactory(Protocol):
    """The type of `verser_guest`."""

    def __call__(self, app: ASGIApp, *, domain: str | None = None, **options: Any) -> BackgroundGuest: ...


class ClientFactory(Protocol):
    """The type of `verser_client`."""

    def __call__(
        self, app: ASGIApp | BackgroundGuest, *, domain: str | None = None, **options: Any
    ) -> httpx2.Client: ...


class AsyncClientFactory(Protocol):
    """The type of `verser_async_client`."""

    def __call__(
        self, app: ASGIApp | BackgroundGuest, *, domain: str | None = None, **options: Any
    ) -> httpx2.AsyncClient: ...


@pytest.fixture(scope="session")
def verser_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackgroundHost]:
    """A running Host, one a session; Guests and Brokers of your own dial `.url` and trust `.ca_file`."""
    from verser2_guest_python.integrations.background_host import BackgroundHost

    with BackgroundHost(tmp_path_factory.mktemp("verser")) as host:
        yield host


@pytest.fixture
def verser_guest(verser_host: BackgroundHost) -> Iterator[GuestFactory]:
    """`verser_guest(app, domain="shop.test")` serves an app until the test ends, its lifespan included."""
    with ExitStack() as ends:

        def serve(app: ASGIApp, *, domain: str | None = None, **options: Any) -> BackgroundGuest:
            return ends.enter_context(verser_host.guest(app, domain=domain, **options))

        yield serve


@pytest.fixture
def verser_client(verser_host: BackgroundHost) -> Iterator[ClientFactory]:
    """`verser_client(app)` is an `httpx2.Client` that asks the app through Broker, Host and Guest."""
    with ExitStack() as ends:

        def make(
            app: ASGIApp | BackgroundGuest, *, domain: str | None = None, **options: Any
        ) -> httpx2.Client:
            return ends.enter_context(verser_host.client(app, domain=domain, **options))

        yield make


@pytest.fixture
def verser_async_client(verser_host: BackgroundHost, verser_guest: GuestFactory) -> AsyncClientFactory:
    """Like `verser_client`, for asynchronous tests: what it makes is used with `async with`."""

    def make(
        app: ASGIApp | BackgroundGuest, *, domain: str | None = None, **options: Any
    ) -> httpx2.AsyncClient:
        from verser2_guest_python.integrations.background_host import BackgroundGuest

        if isinstance(app, BackgroundGuest):
            return verser_host.async_client(app, domain=domain, **options)
        return verser_host.async_client(verser_guest(app, domain=domain), **options)

    return make

"""A Host with a Guest, for the doors: in the loop of a test, or in a thread for tests without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import (
    VerserBroker,
    VerserGuest,
    VerserHost,
    create_verser_broker,
    create_verser_guest,
    create_verser_host,
)

DOMAIN = "a.local.test"
END_SECONDS = 10.0


@asynccontextmanager
async def host_at(certs: Certificates, **options: Any) -> AsyncIterator[VerserHost]:
    host = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key, **options)
    await host.start()
    try:
        yield host
    finally:
        await host.close(timeout=0.0)


@asynccontextmanager
async def guest_at(
    host: Any, certs: Certificates, app: Any, *, domain: str = DOMAIN, **options: Any
) -> AsyncIterator[VerserGuest]:
    options.setdefault("guest_id", "guest-a")
    guest = create_verser_guest(
        host_url=host.url,
        routed_domains=[domain],
        app=app,
        tls_ca_file=certs.ca,
        timeout_graceful_shutdown=1.0,
        **options,
    )
    await guest.connect()
    try:
        yield guest
    finally:
        await guest.close()


@asynccontextmanager
async def broker_behind(
    app: Any, certs: Certificates, *, host: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[VerserBroker]:
    """A connected Broker before a Host (made with `host`) before a Guest before `app`."""
    async with (
        host_at(certs, **(host or {})) as host,
        guest_at(host, certs, app),
        create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, **options) as broker,
    ):
        yield broker


@dataclass
class ThreadedStack:
    """A Host and a Guest in the loop of another thread."""

    host: VerserHost
    guest: VerserGuest
    certs: Certificates
    loop: asyncio.AbstractEventLoop

    def broker(self, **options: Any) -> VerserBroker:
        """A Broker for it, not connected yet."""
        return create_verser_broker(host_url=self.host.url, tls_ca_file=self.certs.ca, **options)

    def run(self, coroutine: Any) -> Any:
        """Runs a coroutine where Host and Guest run."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(END_SECONDS)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits in the other thread until the condition, which is looked at there, holds."""
        self.run(until(condition))


@contextmanager
def threaded_stack(app: Any, certs: Certificates, **host_options: Any) -> Iterator[ThreadedStack]:
    """`broker_behind` without the Broker, for tests that have no loop."""
    stacks: list[ThreadedStack] = []
    failures: list[BaseException] = []
    ready, over = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with host_at(certs, **host_options) as host, guest_at(host, certs, app) as guest:
            stacks.append(ThreadedStack(host, guest, certs, asyncio.get_running_loop()))
            ready.set()
            await over.wait()

    def main() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="host and guest")
    thread.start()
    ready.wait(END_SECONDS)
    try:
        if stacks:
            yield stacks[0]
    finally:
        if stacks:
            stacks[0].loop.call_soon_threadsafe(over.set)
        thread.join(END_SECONDS)
        if failures:
            raise failures[0]
    assert stacks, "Host and Guest did not start in time"
    assert not thread.is_alive(), "Host and Guest did not end in time"

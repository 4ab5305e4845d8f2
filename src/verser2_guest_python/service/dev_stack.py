"""A Host and a Guest in one process, on loopback, with certificates made by themselves.

Apart from `run_dev.py` because the demo stands on it too. Both ends show certificates to each other:
nobody else on this machine can register at such a Host, or call the app behind it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.broker.broker import VerserBroker, create_verser_broker
from verser2_guest_python.guest.guest import VerserGuest, create_verser_guest
from verser2_guest_python.host.host import VerserHost, create_verser_host
from verser2_guest_python.service.certificates import CertificateSet, development_certificates
from verser2_guest_python.service.dev_runs import DevRun, announce, withdraw

GUEST_ID: Final = "guest"
DRAIN_SECONDS: Final = 3.0
_ADDRESS: Final = "127.0.0.1"
_NO_PROXY: Final = ""  # whatever the environment says: nothing here leaves this machine
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-z0-9]+")


class DevStack:
    """An app behind a Host of its own, for `async with`.

    Inside the block the app is registered, and `verser2-guest broker` without `--host-url` finds it.
    """

    def __init__(self, app: ASGIApp, domains: Sequence[str], *, lifespan: str = "auto") -> None:
        self.domains = tuple(domains)
        self._app = app
        self._lifespan = lifespan
        self._ends = AsyncExitStack()

    certificates: CertificateSet
    host: VerserHost
    guest: VerserGuest

    async def __aenter__(self) -> Self:
        self.certificates = certificates = development_certificates()
        async with AsyncExitStack() as ends:
            self.host = create_verser_host(
                address=_ADDRESS,
                tls_cert_file=certificates.host.cert_file,
                tls_key_file=certificates.host.key_file,
                client_ca_file=certificates.ca_file,
            )
            await self.host.start()
            ends.push_async_callback(self.host.close, timeout=0.0)
            self.guest = create_verser_guest(
                host_url=self.host.url,
                guest_id=GUEST_ID,
                routed_domains=self.domains,
                app=self._app,
                tls_ca_file=certificates.ca_file,
                tls_cert_file=certificates.guest.cert_file,
                tls_key_file=certificates.guest.key_file,
                proxy=_NO_PROXY,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                lifespan=self._lifespan,
                debug=True,
            )
            ends.push_async_callback(self.guest.close)
            self._ends = ends.pop_all()
        return self

    async def connect(self) -> None:
        """Starts the app and registers it; from here on other processes of this user can find it."""
        await self.guest.connect()
        self._ends.callback(withdraw, announce(self.run()))

    def run(self) -> DevRun:
        """How others reach this Host."""
        broker = self.certificates.broker
        return DevRun(
            pid=os.getpid(),
            started_at=time.time(),
            port=self.host.port,
            host_url=self.host.url,
            ca_file=str(self.certificates.ca_file),
            cert_file=str(broker.cert_file),
            key_file=str(broker.key_file),
            domains=self.domains,
        )

    def broker(self) -> VerserBroker:
        """A Broker for this Host, not connected yet."""
        identity = self.certificates.broker
        return create_verser_broker(
            host_url=self.host.url,
            broker_id=f"broker-{os.getpid()}",
            tls_ca_file=self.certificates.ca_file,
            tls_cert_file=identity.cert_file,
            tls_key_file=identity.key_file,
            proxy=_NO_PROXY,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._ends.aclose()


def domain_of(reference: str) -> str:
    """A domain for the app that is named like its module: `shop.web:app` is `web.localhost`."""
    module = reference.partition(":")[0].rpartition(".")[2].lower()
    return f"{_NOT_IN_A_LABEL.sub('-', module).strip('-') or 'app'}.localhost"

"""A Host on loopback with certificates made by themselves, and peers that may join it.

Apart from `run.py` because the demo stands on it too. All ends show certificates to each other:
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
from verser2_guest_python.service.certificates.development import CertificateSet, development_certificates
from verser2_guest_python.service.process.dev_runs import DevRun, announce, withdraw

GUEST_ID: Final = "guest"
"""The app's; others of ours begin with it and `-` or `~`, as their certificate says."""
DRAIN_SECONDS: Final = 3.0
_DEGRADED_SECONDS: Final = 30.0
"""How long the routes of an app that crashed wait for its return: an app may take its time to start."""
_ADDRESS: Final = "127.0.0.1"
_NO_PROXY: Final = ""  # whatever the environment says: nothing here leaves this machine
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-z0-9]+")


class DevStack:
    """A Host for some domains, for `async with`; its Guests and Brokers are made by its methods."""

    def __init__(self, domains: Sequence[str]) -> None:
        self.domains = tuple(domains)
        self._ends = AsyncExitStack()

    certificates: CertificateSet
    host: VerserHost

    async def __aenter__(self) -> Self:
        self.certificates = certificates = development_certificates()
        self.host = create_verser_host(
            address=_ADDRESS,
            tls_cert_file=certificates.host.cert_file,
            tls_key_file=certificates.host.key_file,
            client_ca_file=certificates.ca_file,
            degraded_timeout=_DEGRADED_SECONDS,
            server_timing=True,  # for the network tab of a browser
        )
        await self.host.start()
        self._ends.push_async_callback(self.host.close, timeout=0.0)
        return self

    def announce(self) -> None:
        """From here to the end, `verser2-guest broker` without `--host-url` finds this Host."""
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

    def guest(self, app: ASGIApp, *, guest_id: str = GUEST_ID, lifespan: str = "auto") -> VerserGuest:
        """A Guest that serves `app` for all domains, not connected yet."""
        identity = self.certificates.guest
        return dev_guest(
            app,
            lifespan=lifespan,
            guest_id=guest_id,
            host_url=self.host.url,
            domains=self.domains,
            ca_file=str(self.certificates.ca_file),
            cert_file=str(identity.cert_file),
            key_file=str(identity.key_file),
        )

    def broker(self, name: str = "") -> VerserBroker:
        """A Broker, not connected yet."""
        identity = self.certificates.broker
        return create_verser_broker(
            host_url=self.host.url,
            broker_id=f"broker-{name or os.getpid()}",
            tls_ca_file=self.certificates.ca_file,
            tls_cert_file=identity.cert_file,
            tls_key_file=identity.key_file,
            proxy=_NO_PROXY,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._ends.aclose()


def dev_guest(
    app: ASGIApp,
    *,
    lifespan: str,
    guest_id: str,
    host_url: str,
    domains: Sequence[str],
    ca_file: str,
    cert_file: str,
    key_file: str,
) -> VerserGuest:
    """A Guest of a `DevStack`, which may be in another process; not connected yet.

    It believes proxy headers: they come from a gateway beside it, or from whoever works on this app.
    """
    return create_verser_guest(
        host_url=host_url,
        guest_id=guest_id,
        routed_domains=domains,
        app=app,
        tls_ca_file=ca_file,
        tls_cert_file=cert_file,
        tls_key_file=key_file,
        proxy=_NO_PROXY,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan=lifespan,
        proxy_headers=True,
        debug=True,
    )


def domain_of(reference: str) -> str:
    """A domain for the app that is named like its module: `shop.web:app` is `web.localhost`."""
    module = reference.partition(":")[0].rpartition(".")[2].lower()
    return f"{_NOT_IN_A_LABEL.sub('-', module).strip('-') or 'app'}.localhost"

"""Brokers for tests: connected to a scripted Host or to any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, scripted_host
from verser2_guest_python import VerserBroker, create_verser_broker

DOMAIN = "a.local.test"
ROUTES = (("guest-a", DOMAIN),)


@asynccontextmanager
async def broker_at(host: Any, certs: Certificates, **options: Any) -> AsyncIterator[VerserBroker]:
    """A connected Broker."""
    options.setdefault("broker_id", "broker-a")
    async with create_verser_broker(host_url=host.url, tls_ca_file=certs.ca, **options) as broker:
        yield broker


@asynccontextmanager
async def scripted(
    certs: Certificates, *, broker: dict[str, Any] | None = None, **host_options: Any
) -> AsyncIterator[tuple[ScriptedHost, VerserBroker]]:
    """A scripted Host with a route for `DOMAIN`, and a Broker that is connected to it."""
    host_options.setdefault("routes", ROUTES)
    async with (
        scripted_host(certs, **host_options) as host,
        broker_at(host, certs, **(broker or {})) as client,
    ):
        yield host, client

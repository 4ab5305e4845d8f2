"""Gateways for tests: uvicorn in the loop of the test, before a Broker, a Host, a Guest and an app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.integrations.apps import Diary, make_app
from tests.integrations.stacks import DOMAIN, broker_behind
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import VerserBroker
from verser2_guest_python.integrations.gateway import Gateway, GatewayRecord, create_gateway
from verser2_guest_python.service.gateway_server.server import GatewayServer

PUBLIC = "public.example.com"


@dataclass
class Place:
    """A running gateway, and what it told of its requests."""

    gateway: Gateway
    server: GatewayServer
    broker: VerserBroker
    diary: Diary
    records: list[GatewayRecord]

    @property
    def port(self) -> int:
        return self.server.port

    async def recorded(self, count: int) -> list[GatewayRecord]:
        """The records, once there are so many: a client has its answer a moment before."""
        await until(lambda: len(self.records) >= count)
        assert len(self.records) == count
        return self.records

    def client(self, host: str = DOMAIN, **options: Any) -> httpx2.AsyncClient:
        """A client that calls the app by the name `host`."""
        headers = {"host": host, **options.pop("headers", {})}
        return httpx2.AsyncClient(
            base_url=self.server.url, headers=headers, trust_env=False, timeout=20.0, **options
        )


@asynccontextmanager
async def gateway_before(
    broker: VerserBroker, diary: Diary | None = None, *, server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Place]:
    """A gateway before a Broker that is there already."""
    records: list[GatewayRecord] = []
    gateway = create_gateway(broker, on_done=records.append, **options)
    listening = GatewayServer(
        gateway,
        listen="127.0.0.1:0",
        limits=options.get("limits"),
        **{"timeout_graceful_shutdown": 1.0, **(server or {})},
    )
    async with listening:
        yield Place(gateway, listening, broker, diary or Diary(), records)


@asynccontextmanager
async def gateway_at(
    certs: Certificates, *, app: Any = None, broker: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Place]:
    """A gateway with all that is behind it."""
    diary = Diary()
    async with (
        broker_behind(app or make_app(diary), certs, **(broker or {})) as connected,
        gateway_before(connected, diary, **options) as place,
    ):
        yield place

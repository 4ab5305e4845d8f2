"""Guests of one domain share the load: over 10,000 requests their shares differ by under 5 %."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from examples.bench_app import app
from tests.support.brokers import DOMAIN, broker_at
from tests.support.certificates import Certificates
from verser2_guest_python import create_verser_guest, create_verser_host

REQUESTS = 10_000
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("guests", "in_flight"),
    [
        (3, 16),
        pytest.param(2, 16, marks=slow),
        pytest.param(3, 1, marks=slow),
        pytest.param(3, 64, marks=slow),
        pytest.param(7, 50, marks=slow),
    ],
)
async def test_shares(certs: Certificates, guests: int, in_flight: int) -> None:
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)
        )
        for number in range(guests):
            guest = create_verser_guest(
                host_url=host.url,
                guest_id=f"guest-{number}",
                app=app,
                routed_domains=[DOMAIN],
                tls_ca_file=certs.ca,
                min_waiting_streams=64,
            )
            await stack.enter_async_context(guest)
        broker = await stack.enter_async_context(broker_at(host, certs))
        left = REQUESTS

        async def some() -> None:
            nonlocal left
            while left:
                left -= 1
                response = await broker.get(f"http://{DOMAIN}/plain")
                counts[response.target_id] += 1
                await response.read()

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(some())
    assert sum(counts.values()) == REQUESTS
    assert len(counts) == guests
    assert max(counts.values()) - min(counts.values()) < 0.05 * REQUESTS / guests, counts

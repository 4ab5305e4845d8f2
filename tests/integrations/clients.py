"""The two libraries that the transports serve, and clients of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest

from tests.integrations.apps import Diary, make_app
from tests.integrations.stacks import DOMAIN, broker_behind
from tests.support.certificates import Certificates
from verser2_guest_python.integrations.httpx import VerserTransport

URL = f"http://{DOMAIN}"

both_libraries = pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])


@asynccontextmanager
async def client_of(
    library: Any, certs: Certificates, diary: Diary | None = None, **options: Any
) -> AsyncIterator[Any]:
    """An asynchronous client before a Broker, a Host, a Guest and the app of these tests."""
    async with (
        broker_behind(make_app(diary), certs) as broker,
        library.AsyncClient(transport=VerserTransport(broker), base_url=URL, **options) as client,
    ):
        yield client

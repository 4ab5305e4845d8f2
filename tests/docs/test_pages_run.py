"""The pages work: what they tell a reader to do is done, and gives what they show."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import CodeType
from typing import Any, cast

import pytest

from examples.hello import app
from tests.docs.markdown import PAGES, blocks_of, name_of, needs_of
from tests.docs.playing import Player
from tests.support.certificates import Certificates
from verser2_guest_python import create_verser_broker, create_verser_guest, create_verser_host
from verser2_guest_python.asgi.types import ASGIApp

ALIVE = {"run", "start"}
LONG = {"docs/frameworks.md", "docs/mtls.md"}  # many processes, one after the other
PLAYED = [
    pytest.param(page, marks=[pytest.mark.slow] if name_of(page) in LONG else [], id=name_of(page))
    for page in PAGES
    if any(block.marker in ALIVE for block in blocks_of(page))
]
WITH_SNIPPETS = [page for page in PAGES if any(block.marker == "inside" for block in blocks_of(page))]


@pytest.mark.parametrize("page", PLAYED)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    with Player(tmp_path) as player:
        for block in blocks:
            if block.marker == "file":
                player.play(block)
        player.prepare(needs_of(page))
        for block in blocks:
            if block.marker != "file":
                player.play(block)


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=name_of)
async def test_snippets_work_beside_a_real_host(page: Path, tmp_path: Path) -> None:
    async with surroundings(Certificates.make(tmp_path)) as names:
        for block in blocks_of(page):
            if block.marker == "inside":
                await execute(block.text, f"{name_of(page)}:{block.line}", names)


async def execute(text: str, place: str, names: dict[str, Any]) -> None:
    code: CodeType = compile(text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)  # noqa: S307 - our own pages
    if asyncio.iscoroutine(result):
        await result


@asynccontextmanager
async def surroundings(certificates: Certificates) -> AsyncIterator[dict[str, Any]]:
    """What a snippet may use: `host`, `guest` and `broker`, connected."""
    async with (
        create_verser_host(tls_cert_file=certificates.host, tls_key_file=certificates.host_key) as host,
        create_verser_guest(
            host_url=host.url,
            guest_id="guest-a",
            routed_domains=["a.local.test"],
            app=cast("ASGIApp", app),
            tls_ca_file=certificates.ca,
        ) as guest,
        create_verser_broker(host_url=host.url, tls_ca_file=certificates.ca) as broker,
    ):
        await broker.wait_for_route("a.local.test")
        yield {"host": host, "guest": guest, "broker": broker}

"""The pages work: what they tell a reader to do is done, and gives what they show."""

from __future__ import annotations

import ast
import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from pathlib import Path
from types import CodeType
from typing import Any, cast

import pytest

from examples.hello import app
from tests.docs.markdown import PAGES, Block, blocks_of, name_of, needs_of
from tests.docs.playing import Player, matches
from tests.support.certificates import Certificates
from verser2_guest_python import create_verser_broker, create_verser_guest, create_verser_host
from verser2_guest_python.asgi.types import ASGIApp

ALIVE = {"run", "start"}
LONG = {  # many processes, one after the other, or what takes long by itself
    "docs/frameworks.md",
    "docs/mtls.md",
    "docs/performance.md",
    "docs/systemd.md",
}
PLAYED = [
    pytest.param(page, marks=[pytest.mark.slow] if name_of(page) in LONG else [], id=name_of(page))
    for page in PAGES
    if any(block.marker in ALIVE for block in blocks_of(page))
]
WITH_SNIPPETS = [page for page in PAGES if any(block.marker == "inside" for block in blocks_of(page))]
INSTALLS = [block for page in PAGES for block in blocks_of(page) if block.marker == "install"]


def in_order(page: Path, markers: set[str]) -> list[Block]:
    """The blocks of the page with these markers, and what belongs to each of them: its output."""
    chosen: list[Block] = []
    last = ""
    for block in blocks_of(page):
        last = last if block.marker == "output" else block.marker
        if last in markers:
            chosen.append(block)
    return chosen


@pytest.mark.parametrize("page", PLAYED)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    with Player(tmp_path) as player:
        player.prepare(needs_of(page))
        for block in in_order(page, {"file"}):
            player.play(block)
        for block in in_order(page, ALIVE):
            player.play(block)


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.mark.slow
@pytest.mark.parametrize("block", INSTALLS, ids=lambda block: block.place)
def test_what_a_page_installs_is_there(block: Block, tmp_path: Path, package_cache: Path) -> None:
    with Player(tmp_path, PIP_CACHE_DIR=str(package_cache)) as player:
        player.play(block)


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=name_of)
async def test_snippets_work_beside_a_real_host(page: Path, tmp_path: Path) -> None:
    async with surroundings(Certificates.make(tmp_path)) as names:
        printed = ""
        for block in in_order(page, {"inside"}):
            if block.marker == "output":
                assert matches(printed, block.text), f"{block.place}: this was printed:\n{printed}"
                continue
            with redirect_stdout(io.StringIO()) as output:
                await execute(block.text, block.place, names)
            printed = output.getvalue()


async def execute(text: str | ast.Module, place: str, names: dict[str, Any]) -> None:
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

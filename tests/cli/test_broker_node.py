"""`broker` with a Host and Guests that are not ours: the Node.js ones, strict about what is sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import fails, run, start
from tests.support.certificates import Certificates
from tests.support.node_peers import node_guest, node_host

pytestmark = pytest.mark.interop


async def test_everything_works_with_either_guest_behind_a_node_host(
    certs: Certificates, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(3_000_000)
    async with node_host(certs, strict=True) as host:
        where = ("--host-url", host.url, "--tls-ca-file", certs.ca)

        async def broker(*arguments: str | Path, **options: Any) -> bytes:
            result = await asyncio.to_thread(run, "broker", *arguments, *where, **options)
            assert result.returncode == 0, result.stderr
            return result.stdout

        names = ("--guest-id", "ours", "--domain", "ours.test")
        async with node_guest(host.url, certs, guest_id="node", domain="node.test"):
            with start("examples.bench_app:app", *where, *names) as guest:
                await host.event("registered", peer="ours")
                for domain in ("ours.test", "node.test"):
                    assert await broker("get", f"{domain}/big?3", "-o", tmp_path / "out") == b""
                    assert (tmp_path / "out").stat().st_size == 3 << 20
                    assert await broker("post", f"{domain}/sink", "-d", f"@{large}") == b"3000000"
                    assert json.loads(await broker("put", f"{domain}/echo", "--json", "[1]")) == [1]
                    assert b"boundary" in await broker("post", "-F", f"a=@{large}", f"{domain}/headers")
                    assert (await broker("get", f"{domain}/sse?3")).count(b"data: ") == 3
                    assert (await broker("get", "-I", f"{domain}/plain")).startswith(b"HTTP/1.1 200 OK")
                    assert b"20 requests" in await broker("get", f"{domain}/plain", "--repeat", "20")
                    assert (
                        await broker("ws", f"{domain}/chat", "--protocol", "a", data=b"one\ntwo\n")
                        == b"one\ntwo\n"
                    )
                rows = json.loads(await broker("routes", "--json"))
                assert [row["guest"] for row in rows] == ["node", "ours"]
                refused = ("broker", "ws", "node.test/refuse", *where)
                await asyncio.to_thread(fails, 1, "not accepted", arguments=refused)
                headers = ("broker", "ws", "ours.test/", "-H", "x-one: 1", *where)
                told = await asyncio.to_thread(run, *headers, data=b"")
                assert b"passes on no headers" in told.stderr
                assert await asyncio.to_thread(guest.stop) == 0
        assert host.violations == []

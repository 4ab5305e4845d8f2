"""curl through the gateway: what people try first, and what browsers do without being asked."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.gateways import Place, gateway_at
from tests.integrations.apps import BLOCK
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import Certificates
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def curl(
    place: Place, path: str, *options: str | Path, data: bytes | None = None
) -> tuple[int, str, bytes]:
    """Exit code, what `-v` told, and the body."""
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-sv",
        "--noproxy",
        "*",
        "--max-time",
        "30",
        "--connect-to",
        f"{DOMAIN}:80:127.0.0.1:{place.port}",
        *map(str, options),
        f"http://{DOMAIN}{path}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    body, told = await process.communicate()
    return process.returncode or 0, told.decode("latin-1"), body


async def test_what_people_try_first(certs: Certificates, tmp_path: Path) -> None:
    async with gateway_at(certs) as place:
        code, told, body = await curl(place, "/")
        assert (code, body) == (0, b"Hello, World!")
        assert "HTTP/1.1 200 OK" in told
        code, told, body = await curl(place, "/", "-I")
        assert (code, body.count(b"HTTP/1.1 200 OK")) == (0, 1)
        code, _, body = await curl(
            place, "/describe/x", "-d", "a=1&b=2", "-b", "session=1", "-u", "me:secret"
        )
        said = json.loads(body)
        assert (said["method"], said["text"]) == ("POST", "a=1&b=2")
        assert (said["cookies"], said["headers"]["authorization"][:6]) == ({"session": "1"}, "Basic ")
        code, _, body = await curl(place, "/", "--http1.0")
        assert (code, body) == (0, b"Hello, World!")
        code, told, _ = await curl(place, "/redirect?to=/", "-L")
        assert (code, told.count("< HTTP/1.1 302"), told.count("< HTTP/1.1 200")) == (0, 1, 1)
        code, told, body = await curl(place, "/status/304")
        assert (code, body, "HTTP/1.1 304" in told) == (0, b"", True)
        code, told, body = await curl(place, "/status/204", "-X", "DELETE")
        assert "HTTP/1.1 405" in told
        code, told, body = await curl(place, "/zipped", "--compressed")
        assert body == b"unzipped " * 1_000
        code, told, _ = await curl(place, "/cut")
        assert code in (18, 22) or "502" in told


@pytest.mark.parametrize("chunked", [True, False])
async def test_uploads_that_wait_to_be_asked(certs: Certificates, tmp_path: Path, chunked: bool) -> None:
    body = BLOCK * 64
    file = tmp_path / "body"
    file.write_bytes(body)
    options: list[Any] = ["-T", file, "-X", "POST", "-H", "Expect: 100-continue", "--expect100-timeout", "30"]
    if chunked:
        options += ["-H", "Transfer-Encoding: chunked"]
    async with gateway_at(certs) as place:
        code, told, answer = await curl(place, "/count", *options)
        assert (code, answer) == (0, str(len(body)).encode())
        assert told.index("HTTP/1.1 100 Continue") < told.index("HTTP/1.1 200 OK")
        code, told, _ = await curl(place, "/count", *options, "-H", "Host: nobody.test")
        assert "HTTP/1.1 100" not in told  # nobody is asked for what nobody takes
        assert "HTTP/1.1 404" in told
        code, told, answer = await curl(place, "/refuse", *options)
        assert "HTTP/1.1 413" in told


async def test_a_range_of_a_file(certs: Certificates) -> None:
    async with gateway_at(certs, app=_file) as place:
        code, told, body = await curl(place, "/", "-r", "2-4")
        assert (code, body, "HTTP/1.1 206" in told) == (0, b"cde", True)
        assert "content-range: bytes 2-4/10" in told


async def _file(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        asked = dict(scope["headers"]).get(b"range", b"bytes=0-9").partition(b"=")[2]
        first, last = map(int, asked.split(b"-"))
        headers = [(b"content-range", b"bytes %d-%d/10" % (first, last))]
        await send({"type": "http.response.start", "status": 206, "headers": headers})
        await send({"type": "http.response.body", "body": b"abcdefghij"[first : last + 1]})


async def test_events_come_as_they_are_sent(certs: Certificates) -> None:
    async with gateway_at(certs) as place:
        process = await asyncio.create_subprocess_exec(
            "curl",
            "-sN",
            "--noproxy",
            "*",
            "-H",
            f"Host: {DOMAIN}",
            f"{place.server.url}/lines",
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"first\n"
            assert await process.stdout.readline() == b"second\r\n"
            place.diary.go_on.set()
            assert await process.stdout.read() == "thïrd".encode()
            await process.wait()
        await until(lambda: place.diary.active == 0)

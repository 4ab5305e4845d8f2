"""The small HTTP server of health checks: strict with who asks, careful with sockets."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.service.asking import get, raw
from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.service.health.server import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    HealthAnswer,
    HealthServer,
)
from verser2_guest_python.service.settings.health_address import HealthAddress, parse_listen


async def echo(path: str, headers: Mapping[str, str]) -> HealthAnswer:
    return HealthAnswer(HTTPStatus.OK, f"{path} {headers.get('accept', '')}".encode())


@asynccontextmanager
async def serving(address: HealthAddress | None = None) -> AsyncIterator[HealthServer]:
    server = await HealthServer.open(address or HealthAddress("127.0.0.1", 0), echo)
    try:
        yield server
    finally:
        await server.close()


def at(server: HealthServer) -> tuple[str, int]:
    return server.address.host, server.address.port


@pytest.mark.both_loops
async def test_it_answers_get_and_head_and_closes() -> None:
    async with serving() as server:
        answer = await raw(at(server), b"GET /livez?x=1 HTTP/1.1\r\nAccept: a/b\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert body == b"/livez a/b"
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close" in head
        answer = await raw(at(server), b"HEAD /livez HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n")
        assert b"content-length: 7\r\n" in answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /livez HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", 405),
        (b"GET livez HTTP/1.1\r\n\r\n", 400),
        (b"GET http://other/livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\n\r\n", 400),
        (b"GET /li\x00vez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\na: b\r\n c\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\nhost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\na: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    ],
)
async def test_anything_else_is_refused(data: bytes, status: int) -> None:
    async with serving() as server:
        assert (await raw(at(server), data)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_there_is_an_end_to_how_many_may_ask() -> None:
    async with serving() as server:
        silent = [await asyncio.open_connection(*at(server)) for _ in range(MAX_CONNECTIONS)]
        reader, writer = await asyncio.open_connection(*at(server))
        with suppress(ConnectionResetError):
            assert await reader.read() == b"", "it is told to go, and not kept waiting"
        writer.close()
        for _, other in silent:
            other.close()


async def test_a_socket_is_for_its_owner_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    async with serving(HealthAddress(path=path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await get(path, "/livez") == (200, "/livez ")
    assert not path.exists()


async def test_a_socket_that_is_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    async with serving(HealthAddress(path=path)):
        assert await get(path, "/livez") == (200, "/livez ")


async def test_a_socket_or_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path, file = tmp_path / "health.sock", tmp_path / "file"
    file.write_text("mine")
    async with serving(HealthAddress(path=path)):
        with pytest.raises(VerserConfigurationError, match="another process listens there"):
            await HealthServer.open(HealthAddress(path=path), echo)
        assert await get(path, "/livez") == (200, "/livez ")
    with pytest.raises(VerserConfigurationError, match="which is no socket"):
        await HealthServer.open(HealthAddress(path=file), echo)
    assert file.read_text() == "mine"
    with pytest.raises(VerserConfigurationError, match="no such file or directory"):
        await HealthServer.open(HealthAddress(path=tmp_path / "missing" / "health.sock"), echo)


async def test_a_port_that_is_taken_is_told() -> None:
    async with serving() as server:
        with pytest.raises(VerserConfigurationError, match="address already in use"):
            await HealthServer.open(server.address, echo)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:9464", "127.0.0.1", 9464), ("[::1]:1", "::1", 1), (" localhost:0 ", "localhost", 0)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = parse_listen(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text.strip()


@pytest.mark.parametrize("text", ["9464", ":9464", "::1:9464", "a:b", "a:99999", "a:-1", "[a]:", ""])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(VerserUsageError, match="does not fit"):
        parse_listen(text)

"""Little proxies: HTTP CONNECT and SOCKS5, on a free port of 127.0.0.1, in the loop of the test.

    async with http_proxy(credentials=("name", "word")) as proxy:
        socket = await find_proxy(address, proxy.url_with("name", "word")).open_socket("localhost", port)
        assert proxy.targets == [f"localhost:{port}"]

They do what a test wants: ask for credentials, refuse, answer in pieces, or never.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

Credentials = tuple[str, str]


class LittleProxy:
    """A running proxy: what it was asked for, and by whom."""

    scheme = "http"

    def __init__(
        self,
        credentials: Credentials | None,
        refusal: str | int | None,
        *,
        hang: bool = False,
        pieces: bool = False,
    ) -> None:
        self.targets: list[str] = []
        self.credentials_seen: list[Credentials | None] = []
        self.port = 0
        self._credentials = credentials
        self._refusal = refusal
        self._hang = hang
        self._pieces = pieces
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def url_with(self, name: str, password: str) -> str:
        """The URL with credentials."""
        return f"{self.scheme}://{quote(name, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}"

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._run(reader, writer), name="little proxy")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Writes an answer, in pieces of a byte if a test wants that."""
        for start in range(len(data)) if self._pieces else ():
            writer.write(data[start : start + 1])
            await writer.drain()
            await asyncio.sleep(0.001)
        if not self._pieces:
            writer.write(data)
            await writer.drain()

    async def join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, granted: bytes
    ) -> None:
        """Says that the way is open, and carries bytes both ways until both sides have ended."""
        far_reader, far_writer = await asyncio.open_connection(host, port)
        try:
            await self.say(writer, granted)
            await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        finally:
            far_writer.close()
            with contextlib.suppress(OSError):
                await far_writer.wait_closed()

    async def close(self) -> None:
        self._closing.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_closing(self) -> None:
        """What a proxy that hangs does."""
        await self._closing.wait()


class HttpProxy(LittleProxy):
    """HTTP CONNECT; `refusal` is a status line."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
        method, target, _version = head[0].split(" ")
        assert method == "CONNECT"
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        assert fields["host"] == target
        self.targets.append(target)
        given = _basic(fields.get("proxy-authorization"))
        self.credentials_seen.append(given)
        if self._hang:
            await self.wait_closing()
        elif self._credentials is not None and given != self._credentials:
            await self.say(
                writer,
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                b"Content-Length: 0\r\n\r\n",
            )
        elif self._refusal is not None:
            await self.say(writer, f"{self._refusal}\r\nContent-Length: 4\r\n\r\nbody".encode())
        else:
            host, _, port = target.rpartition(":")
            granted = b"HTTP/1.1 200 Connection established\r\nProxy-Agent: little\r\n\r\n"
            await self.join(reader, writer, host.strip("[]"), int(port), granted)


class Socks5Proxy(LittleProxy):
    """SOCKS5 (RFC 1928, 1929); `refusal` is a reply code."""

    scheme = "socks5h"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 0 if self._credentials is None else 2
        if self._hang:
            await self.wait_closing()
            return
        if wanted not in methods:
            await self.say(writer, b"\x05\xff")
            return
        await self.say(writer, bytes((5, wanted)))
        if wanted and not await self._authenticate(reader, writer):
            return
        host, port = await self._request(reader)
        self.targets.append(f"{host}:{port}")
        if isinstance(self._refusal, int):
            await self.say(writer, bytes((5, self._refusal, 0, 1)) + bytes(6))
        else:
            await self.join(reader, writer, host, port, bytes((5, 0, 0, 1)) + bytes(6))

    async def _authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        assert await reader.readexactly(1) == b"\x01"
        name = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        self.credentials_seen.append((name, password))
        right = (name, password) == self._credentials
        await self.say(writer, b"\x01\x00" if right else b"\x01\x01")
        return right

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, int]:
        _version, command, _reserved, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        return host, port


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


def _basic(value: str | None) -> Credentials | None:
    if value is None:
        return None
    kind, _, token = value.partition(" ")
    assert kind == "Basic"
    name, _, password = base64.b64decode(token).decode().partition(":")
    return name, password


@asynccontextmanager
async def _running(proxy: LittleProxy) -> AsyncIterator[LittleProxy]:
    server = await asyncio.start_server(proxy.on_connection, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()


@asynccontextmanager
async def http_proxy(
    *,
    credentials: Credentials | None = None,
    refusal: str | None = None,
    hang: bool = False,
    pieces: bool = False,
) -> AsyncIterator[LittleProxy]:
    """An HTTP proxy; `refusal` is for example `HTTP/1.1 403 Forbidden`."""
    async with _running(HttpProxy(credentials, refusal, hang=hang, pieces=pieces)) as proxy:
        yield proxy


@asynccontextmanager
async def socks5_proxy(
    *,
    credentials: Credentials | None = None,
    refusal: int | None = None,
    hang: bool = False,
    pieces: bool = False,
) -> AsyncIterator[LittleProxy]:
    """A SOCKS5 proxy; `refusal` is a reply code, such as 2 (not allowed) or 5 (refused)."""
    async with _running(Socks5Proxy(credentials, refusal, hang=hang, pieces=pieces)) as proxy:
        yield proxy

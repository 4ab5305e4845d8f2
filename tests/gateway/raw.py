"""Raw connections: bytes that no HTTP client would send, and what comes back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

END_SECONDS = 20.0


@dataclass
class Raw:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        async with asyncio.timeout(END_SECONDS):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(first.split(" ")[1]), headers

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer, which says its length or is chunked."""
        status, headers = 100, {}
        while status == 100:
            status, headers = await self.head()
        async with asyncio.timeout(END_SECONDS):
            if "content-length" in headers:
                return status, await self.reader.readexactly(int(headers["content-length"]))
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return status, body

    async def rest(self) -> bytes:
        """All that comes, until the other end closes."""
        async with asyncio.timeout(END_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def statuses(port: int, data: bytes) -> list[int]:
    """The statuses of all answers to `data`, until the other end closes or nothing is left to answer."""
    async with connected(port) as raw:
        raw.say(data)
        text = await raw.rest()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", text)]

"""A very small HTTP server for health checks and metrics: GET and HEAD, one request a connection.

Apart from what it answers (`health.py`), and no framework: whoever watches a Guest must not need more
of it than the Guest itself. Strict on purpose: a bounded head, one deadline, and close.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.settings.health_address import HealthAddress

MAX_HEAD_BYTES: Final = 8_192
REQUEST_SECONDS: Final = 5.0
"""For a request to arrive, and once more for its answer to leave."""
MAX_CONNECTIONS: Final = 64
SOCKET_MODE: Final = 0o600
_BACKLOG: Final = 64
_REQUEST_LINE: Final = re.compile(rb"([!-~]+) (/[!-~]*) HTTP/1\.[01]")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """What a path answers."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


Handler = Callable[[str, Mapping[str, str]], Awaitable[HealthAnswer]]
"""Path and header fields (names in lower case) to an answer."""


class HealthServer:
    """Answers at one address; `await HealthServer.open(…)`, and `await close()` at the end.

    Attributes:
        address: where it listens; the port is the real one where 0 was asked for.
    """

    def __init__(self, handler: Handler, sock: socket.socket, address: HealthAddress) -> None:
        self.address = address
        self._handler = handler
        self._socket = sock
        self._inode = None if address.path is None else os.stat(address.path).st_ino  # noqa: PTH116
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, address: HealthAddress, handler: Handler) -> HealthServer:
        """Listens; raises `VerserConfigurationError` with the reason when it cannot.

        A socket that nobody listens on any more is replaced; of one that somebody does, or of any other
        file, nothing is touched.
        """
        try:
            sock = _unix_socket(address.path) if address.path is not None else await _tcp_socket(address)
        except OSError as error:
            raise VerserConfigurationError(
                f"Health checks cannot be answered at {address}: {_reason(error)}."
            ) from None
        if address.path is None:
            host, port = sock.getsockname()[:2]
            address = HealthAddress(host, port)
        server = cls(handler, sock, address)
        server._server = (
            await asyncio.start_server(server._accept, sock=sock, limit=MAX_HEAD_BYTES)
            if (address.path is None)
            else await asyncio.start_unix_server(server._accept, sock=sock, limit=MAX_HEAD_BYTES)
        )
        return server

    async def close(self) -> None:
        """Listens no more, ends what is under way, and takes the socket's file away."""
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.address.path is not None:
            with suppress(OSError):
                if os.stat(self.address.path).st_ino == self._inode:  # noqa: PTH116 - ours, not a successor's
                    self.address.path.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="health")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer, with_body = await self._answer(reader)
            if answer is not None:
                writer.write(_encode(answer, with_body=with_body))
                async with asyncio.timeout(REQUEST_SECONDS):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return  # whoever asked has gone, or does not read
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[HealthAnswer | None, bool]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None, False
        except asyncio.LimitOverrunError:
            return _said(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        line, *lines = head[:-4].split(b"\r\n")
        request = _REQUEST_LINE.fullmatch(line)
        fields = [_FIELD.fullmatch(one) for one in lines]
        if request is None or None in fields:
            return _said(HTTPStatus.BAD_REQUEST), True
        method, target = request[1], request[2].decode("ascii")
        if method not in {b"GET", b"HEAD"}:
            return _said(HTTPStatus.METHOD_NOT_ALLOWED), True
        headers = {field[1].decode("ascii").lower(): field[2].decode("latin-1") for field in fields if field}
        return await self._handler(target.partition("?")[0], headers), method == b"GET"


def _said(status: HTTPStatus) -> HealthAnswer:
    return HealthAnswer(status, f"{status.phrase}\n".encode())


def _encode(answer: HealthAnswer, *, with_body: bool) -> bytes:
    allow = "allow: GET, HEAD\r\n" if answer.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"content-type: {answer.content_type}\r\n"
        f"content-length: {len(answer.body)}\r\n"
        f"{allow}cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (answer.body if with_body else b"")


async def _tcp_socket(address: HealthAddress) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, number, _, where = found[0]
    sock = socket.socket(family, kind, number)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix_socket(path: Path) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no such sockets")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name which is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError:
            pass  # full, or not ours to ask: somebody is there
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _reason(error: OSError) -> str:
    """In the words of the system, which asyncio and the resolver wrap in more of their own."""
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    known = error.errno is not None and error.strerror is not None and not error.strerror.startswith("[")
    text = str(error.strerror) if known else os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]

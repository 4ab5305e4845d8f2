"""The other end of a WebSocket in memory: a client that a test speaks for, with a wire of limited room."""

from __future__ import annotations

import asyncio
from collections import deque

from verser2_guest_python.asgi.types import Headers, Scope
from verser2_guest_python.asgi.websocket import WebSocketClosed


class MemoryPeer:
    """Implements `WebSocketPeer`; the methods that begin with `client_` are the test's side.

    At most `room` messages wait for the client; the app's next one waits until the client takes some.
    """

    def __init__(self, room: int = 64) -> None:
        self.accepted: tuple[str | None, Headers] | None = None
        self.denied: tuple[int, Headers, bytes] | None = None
        self.closed_by_app: WebSocketClosed | None = None
        self._room = room
        self._to_client: deque[str | bytes] = deque()
        self._to_app: deque[str | bytes] = deque()
        self._closed: WebSocketClosed | None = None
        self._changed = asyncio.Condition()

    # --- the app's side --------------------------------------------------------------------

    async def accept(self, subprotocol: str | None, headers: Headers) -> None:
        await self._tell(lambda: setattr(self, "accepted", (subprotocol, headers)))

    async def send_text(self, data: str) -> None:
        await self._put(data)

    async def send_bytes(self, data: bytes) -> None:
        await self._put(data)

    async def close(self, code: int, reason: str) -> None:
        await self._tell(lambda: self._end(WebSocketClosed(code, reason), by_app=True))

    async def deny(self, status: int, headers: Headers, body: bytes) -> None:
        def refuse() -> None:
            self.denied = (status, headers, body)
            self._end(WebSocketClosed(1006))

        await self._tell(refuse)

    async def receive(self) -> str | bytes | WebSocketClosed:
        async with self._changed:
            await self._changed.wait_for(lambda: self._to_app or self._closed)
            if self._to_app:
                return self._to_app.popleft()
            assert self._closed is not None
            return self._closed

    # --- the client's side -----------------------------------------------------------------

    async def client_send(self, *messages: str | bytes) -> None:
        async with self._changed:
            self._to_app.extend(messages)
            self._changed.notify_all()

    async def client_close(self, code: int = 1000, reason: str = "") -> None:
        async with self._changed:
            self._end(WebSocketClosed(code, reason))

    async def client_receive(self) -> str | bytes | WebSocketClosed:
        async with self._changed:
            await self._changed.wait_for(lambda: self._to_client or self._closed)
            if self._to_client:
                message = self._to_client.popleft()
                self._changed.notify_all()
                return message
            assert self._closed is not None
            return self._closed

    @property
    def waiting_for_client(self) -> int:
        return len(self._to_client)

    # --- between them ----------------------------------------------------------------------

    async def _put(self, data: str | bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._to_client) < self._room)
            self._require_open()
            self._to_client.append(data)
            self._changed.notify_all()

    async def _tell(self, change: object) -> None:
        async with self._changed:
            self._require_open()
            assert callable(change)
            change()
            self._changed.notify_all()

    def _end(self, closed: WebSocketClosed, *, by_app: bool = False) -> None:
        self._closed = self._closed or closed
        if by_app:
            self.closed_by_app = closed
        self._changed.notify_all()

    def _require_open(self) -> None:
        if self._closed is not None:
            raise ConnectionResetError("the client has gone")


def websocket_scope(*subprotocols: str, path: str = "/") -> Scope:
    """Make the scope of a WebSocket as a Guest would."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"a.local.test")],
        "client": None,
        "server": None,
        "subprotocols": list(subprotocols),
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }

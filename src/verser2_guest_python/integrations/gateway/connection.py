"""Ending connections with clients: those that do not read, and those that are still sending.

Apart from the protocols, HTTP and WebSocket, because both need it. A transport that is closed first writes
what waits, for as long as that takes, and one that is closed with unread bytes sends a reset, which may
overtake the answer that the client is about to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 16 << 20
_HELD_BYTES: Final = 16_384
_LONGER: Final = 1.25


class ReadingClient:
    """Cuts off a client that reads nothing, for `seconds` and a little more, of what waits for it.

    A little more, so that whoever waits to send something finds out first, and can say so.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport = transport
        self._loop = loop
        self._seconds = seconds * _LONGER
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._over = False

    def watch(self) -> None:
        """From now on, until nothing waits any more."""
        if self._timer is None and not self._over:
            self._waiting = self._transport.get_write_buffer_size()
            if self._waiting:
                self._timer = self._loop.call_later(self._seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() < self._waiting:
            self.watch()
        else:
            self._transport.abort()

    def end(self) -> None:
        """The connection is gone: there is nothing to watch any more."""
        self._over = True
        self.stop()

    def stop(self) -> None:
        """It reads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PoliteTransport:
    """A transport whose `close` lets a client that is still sending read its answer first.

    What is written in one turn of the loop, head and body of a short answer, leaves in one piece.

    Args:
        transport: The transport itself.
        reading: What watches the client.
        is_sending: Whether more of the request is to come.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        reading: ReadingClient,
        is_sending: Callable[[], bool],
    ) -> None:
        self.real = transport
        self.lingering = False
        self._loop = loop
        self._reading = reading
        self._is_sending = is_sending
        self._left = LINGER_BYTES
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def is_closing(self) -> bool:
        return self.lingering or self.real.is_closing()

    def write(self, data: bytes) -> None:
        if self.lingering:
            return
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hands on what was written in this turn."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            if not self.real.is_closing():
                self.real.write(data)

    def close(self) -> None:
        """Nothing more is written. What still comes is dropped, for a while and up to a limit."""
        if self.is_closing():
            return
        self.flush()
        self._reading.watch()
        if not self._is_sending():
            self.real.close()
            return
        self.lingering = True
        self.real.resume_reading()
        if self.real.can_write_eof():
            self.real.write_eof()
        self._loop.call_later(LINGER_SECONDS, self.real.close)

    def drop(self, data: bytes) -> None:
        """Bytes that came after the end."""
        self._left -= len(data)
        if self._left < 0:
            self.real.abort()

    def abort(self) -> None:
        self.real.abort()

"""uvicorn's WebSocket protocol with an end for clients that do not read.

Apart from the HTTP protocol, which hands a connection over to it. Pings are answered as they come, so a
client that sends them and never reads would fill our memory: while answers wait, nothing of it is read.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .connection import ReadingClient
from .limits import GatewayLimits
from .pages import answer
from .refusal import head_too_large
from .websocket_cycle import STOPPED


class GatewayWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket with a client."""

    limits: ClassVar[GatewayLimits] = GatewayLimits()

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._reading: ReadingClient | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        real = cast("asyncio.Transport", transport)
        self._reading = ReadingClient(real, self.loop, self.limits.write_timeout)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reading is not None:
            self._reading.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not (self.handshake_initiated or self.close_sent):
            # Longer lines, or more headers, than the library reads: it would say nothing
            self.close_sent = True
            self.transport.write(answer(head_too_large(str(self.conn.handshake_exc))))
            self.transport.close()

    def shutdown(self) -> None:
        opening = self.handshake_initiated and not (self.handshake_complete or self.close_sent)
        if opening and self.initial_response is None:
            # uvicorn would say 500 and close; told so, the cycle says what has happened, and then ends
            self.queue.put_nowait({"type": "websocket.disconnect", "code": STOPPED})
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is not None:
            self._reading.watch()
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.stop()
        super().resume_writing()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if self._reading is not None:
            self._reading.watch()


def websocket_protocol(limits: GatewayLimits) -> type[GatewayWebSocketProtocol]:
    """The protocol with these limits; uvicorn makes one of it for each WebSocket."""
    return type("GatewayWebSocketProtocol", (GatewayWebSocketProtocol,), {"limits": limits})

"""Sending a request body that does not fit at once, while the answer may come already.

Apart from the request because it runs in a task of its own: an app may answer before it has read
everything, or read only after it has begun to answer. The answer owns that task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from verser2_guest_python.broker.body import PIECE_BYTES, RequestBody
from verser2_guest_python.broker.room import Room
from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Stream, StreamReset


class Upload:
    """The task that sends one body, and what became of it. A close of the Broker waits for it."""

    __slots__ = ("_room", "_stream", "task")

    def __init__(self, stream: Stream, body: RequestBody, declared: int | None, room: Room) -> None:
        self._stream = stream
        self._room = room
        room.hold()
        self.task = asyncio.create_task(_send(stream, body, declared), name="verser2-broker-upload")
        self.task.add_done_callback(self._on_done)

    @property
    def failure(self) -> BaseException | None:
        """What the body itself raised, if it did: the reason why the stream was reset."""
        task = self.task
        return task.exception() if task.done() and not task.cancelled() else None

    def cancel(self) -> None:
        if not self.task.done():
            self.task.cancel()

    async def wait(self) -> None:
        """Until the task is over."""
        if not self.task.done():
            await asyncio.wait([self.task])

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            # The body is not whole, and must not look whole: whoever waits for the answer learns of it.
            self._stream.reset(ErrorCode.CANCEL)
        self._room.let_go()


async def _send(stream: Stream, body: RequestBody, declared: int | None) -> None:
    try:
        if body.data is not None:
            await _send_whole(stream, body.data)
        elif body.pieces is not None:
            await _send_pieces(stream, body.pieces, declared)
    except (StreamReset, ConnectionLost):
        # The answer tells: it is whole behind RST_STREAM NO_ERROR (protocol.md §7), else reading it fails.
        return
    finally:
        if isinstance(body.pieces, AsyncGenerator):
            await body.pieces.aclose()


async def _send_whole(stream: Stream, data: bytes) -> None:
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        await stream.write(view[start : start + PIECE_BYTES], end=start + PIECE_BYTES >= len(view))


async def _send_pieces(stream: Stream, pieces: AsyncGenerator[bytes, None], declared: int | None) -> None:
    sent = 0
    async for piece in pieces:
        sent += len(piece)
        if declared is not None and sent > declared:
            raise VerserUsageError(f"The body is longer than the {declared} bytes that were declared for it.")
        if piece:
            await stream.write(piece)
    if declared is not None and sent < declared:
        raise VerserUsageError(f"The body is {sent} bytes long, but {declared} were declared for it.")
    await stream.write(b"", end=True)

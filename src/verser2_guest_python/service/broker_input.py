"""Reading standard input, a pipe or a file while the event loop goes on.

Apart because a read that waits must be given up at once when the command is told to stop: nothing that
may wait is read in a thread, which nobody could call back.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncGenerator
from typing import Final

from verser2_guest_python.service.output import may_block

PIECE_BYTES: Final = 262_144


async def read_pieces(descriptor: int, piece_bytes: int = PIECE_BYTES) -> AsyncGenerator[bytes, None]:
    """What can be read from `descriptor`, as it comes, to its end. Raises OSError."""
    if not may_block(descriptor):
        while data := await asyncio.to_thread(os.read, descriptor, piece_bytes):
            yield data
        return
    while True:
        await _wait_for_input(descriptor)
        try:
            data = os.read(descriptor, piece_bytes)
        except BlockingIOError:  # somebody made it non-blocking, and was quicker than we
            continue
        if not data:
            return
        yield data


async def _wait_for_input(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):  # something to read, its end, or an error that reading will tell
        return
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(descriptor, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(descriptor)

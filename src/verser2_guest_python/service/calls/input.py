"""Reading standard input, a pipe or a file while the event loop goes on.

Apart because a read that waits must be given up at once when the command is told to stop: nothing that
may wait is read in a thread, which nobody could call back.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

from verser2_guest_python.service.output.body_output import may_block

PIECE_BYTES: Final = 262_144
_WAKE_BYTES: Final = 64


def read_at_first(descriptor: int, limit: int) -> bytes:
    """Up to `limit` bytes, less only at the end; for the time before the event loop. Raises OSError.

    A signal that comes between a look at the signals and a read that waits would go unheard for as long
    as the read waits, so the wait is for both.
    """
    pieces: list[bytes] = []
    missing = limit
    if not may_block(descriptor):
        while missing and (piece := os.read(descriptor, missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)
    with _signals_heard() as heard:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(heard, select.POLLIN)
        while missing:
            ready = {one for one, _ in poll.poll()}
            if heard.fileno() in ready:
                heard.recv(_WAKE_BYTES)  # what the signal raises has come by now
            if descriptor not in ready:
                continue
            piece = os.read(descriptor, missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
    return b"".join(pieces)


@contextmanager
def _signals_heard() -> Iterator[socket.socket]:
    """A socket that can be read once a signal has come, whenever it came."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(before)


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

"""Where a body goes while it arrives, standard output or a file: bytes, at the reader's pace.

Apart because a blocked write would stop the event loop, and with it the timeout, Ctrl-C and the
session itself (protocol.md §12.7). So a pipe or a terminal is written to only when it has room.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from typing import Final, Self

from verser2_guest_python.service.output.errors import OutputClosed, OutputError

_PIECE_BYTES: Final = 4096  # PIPE_BUF: what a pipe that polls as writable takes without blocking
_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows would else rewrite line ends


class Output:
    """Writes to a file descriptor, standard output unless given. Nothing is buffered here."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = _standard_output() if descriptor is None else descriptor
        self._must_wait = may_block(self._descriptor)
        self._owned = False

    @classmethod
    def to_file(cls, path: str) -> Self:
        """A new file at `path`, or the old one made empty; raises `OutputError`."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None
        output = cls(descriptor)
        output._owned = True
        return output

    @property
    def descriptor(self) -> int:
        """What is written to."""
        return self._descriptor

    @property
    def is_terminal(self) -> bool:
        """Whether somebody reads along."""
        return os.isatty(self._descriptor)

    def close(self) -> None:
        """Closes a file of ours; raises `OutputError` where what was written is found not to be kept."""
        if self._owned:
            self._owned = False
            try:
                os.close(self._descriptor)
            except OSError as error:
                raise OutputError(f"The output cannot be written: {error.strerror or error}.") from None

    async def write(self, data: bytes) -> None:
        """Writes all of `data`; raises `OutputClosed` or `OutputError`."""
        view = memoryview(data)
        try:
            while view:
                if self._must_wait:
                    await self._wait_for_room()
                view = view[os.write(self._descriptor, view[:_PIECE_BYTES] if self._must_wait else view) :]
        except BrokenPipeError:
            raise OutputClosed from None
        except BlockingIOError:  # somebody made it non-blocking, and was quicker than we
            await asyncio.sleep(0)
            await self.write(bytes(view))
        except OSError as error:
            raise OutputError(f"The output cannot be written: {error.strerror or error}.") from None

    async def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if poll.poll(0):  # room, or an error that the write will tell
            return
        loop = asyncio.get_running_loop()
        room = asyncio.Event()
        loop.add_writer(self._descriptor, room.set)
        try:
            await room.wait()
        finally:
            loop.remove_writer(self._descriptor)


def _standard_output() -> int:
    if sys.stdout is None:
        raise OutputError("The output cannot be written: standard output is closed.")
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):
        raise OutputError("The output cannot be written: standard output is not a file.") from None


def may_block(descriptor: int) -> bool:
    """Whether `descriptor` is a pipe, a socket or a terminal, which can be waited for and must be."""
    if not hasattr(select, "poll"):
        return False
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(descriptor))

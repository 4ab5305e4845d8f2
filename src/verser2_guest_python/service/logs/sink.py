"""Where log lines go: to a stream at once, or to a descriptor by a thread, so that nobody waits for it.

Apart from what makes the lines because a reader that stands still (a full pipe, a paused terminal) must
cost lines and never requests: a queue with a limit, and a count of what found no room in it.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, TextIO

MAX_WAITING_LINES: Final = 16_384
_LINE_BYTES: Final = 4_096
"""A line counts as so many as it has of these: 64 MiB wait at most."""
_LINGER_SECONDS: Final = 0.005
"""How long the thread lets lines of a burst come together: a write costs more than a line."""
_BATCH_LINES: Final = 1_024
_TELL_DROPPED_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 1.0
LAST_WORDS_SECONDS: Final = 0.25


class LineSink:
    """Writes each line at once. A stream that can no longer be written to costs lines, never the process.

    Attributes:
        dropped: lines that were lost.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self.dropped = 0

    def write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, or never there (`2>&-`)
            self.dropped += 1

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Waits until everything is written, or so long."""

    def close(self) -> None:
        """Writes what waits, as far as that is possible; nothing comes after it."""

    @property
    def is_terminal(self) -> bool:
        try:
            return self._stream.isatty()
        except (ValueError, AttributeError):
            return False


class QueuedSink(LineSink):
    """Hands lines to a thread that writes them, in order. `write` never waits, and may be called anywhere.

    `describe` makes the line that tells how many were dropped, once there is room again.
    """

    def __init__(self, stream: TextIO, descriptor: int, describe: Callable[[int], str]) -> None:
        super().__init__(stream)
        self._descriptor = descriptor
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._describe = describe
        # Reentrant and in C: the one queue that a signal handler may use as well
        self._queue: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._told = 0
        self._told_at = 0.0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def write(self, line: str) -> None:
        queue = self._queue
        if queue.qsize() >= MAX_WAITING_LINES:
            with self._lock:
                self.dropped += 1
            return
        queue.put(line)
        if len(line) >= _LINE_BYTES:
            for _ in range(len(line) // _LINE_BYTES):
                queue.put("")  # takes the room that the line takes
        if self._thread is None:
            self._start()

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Waits until all that came before is written, or so long; a signal handler may call it."""
        if self._thread is not None and self._thread.is_alive():
            written = threading.Event()
            self._queue.put(written)
            written.wait(timeout)

    def close(self) -> None:
        thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(FLUSH_SECONDS)
            self._thread = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon: a reader that stands still must not keep the process from ending
                thread = threading.Thread(target=self._run, args=(self._queue,), name="log", daemon=True)
                self._thread = thread
                thread.start()

    def _begin_anew(self) -> None:
        """In a process that was forked: the thread stayed behind, and so does what it had to write."""
        self._queue = SimpleQueue()
        self._lock = threading.RLock()
        self._thread = None

    def _run(self, queue: SimpleQueue[str | threading.Event | None]) -> None:
        while True:
            entry = queue.get()
            if isinstance(entry, str):
                time.sleep(_LINGER_SECONDS)
            batch = [entry]
            with suppress(Empty):
                while len(batch) < _BATCH_LINES:
                    batch.append(queue.get_nowait())
            if not self._write_out(batch):
                return

    def _write_out(self, batch: list[str | threading.Event | None]) -> bool:
        """Writes lines in one go, wakes who waits for them; False at the end of all."""
        lines = [entry for entry in batch if isinstance(entry, str) and entry]
        waiting = [entry for entry in batch if isinstance(entry, threading.Event)]
        is_last = None in batch
        now = time.monotonic()
        if self.dropped > self._told and (now - self._told_at > _TELL_DROPPED_SECONDS or waiting or is_last):
            lines.append(self._describe(self.dropped - self._told))
            self._told, self._told_at = self.dropped, now
        if lines:
            self._send("\n".join(lines) + "\n", len(lines))
        for event in waiting:
            event.set()
        return not is_last

    def _send(self, text: str, lines: int) -> None:
        data = memoryview(text.encode(self._encoding, "backslashreplace"))
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody made it non-blocking
                select.select((), (self._descriptor,), ())
            except OSError:  # the reader is gone, the disk is full
                with self._lock:
                    self.dropped += lines
                return

"""What systemd is told of a service of `Type=notify-reload`: sd_notify(3), in as many lines as it takes.

Apart from who tells it (Guest, supervisor, Host), and without libsystemd: it is one datagram. Without
NOTIFY_SOCKET there is no notifier, and nothing is done.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Final

STATUS_SECONDS: Final = 10.0
"""How old a status may be; the watchdog may want to hear from us more often."""
_BEATS: Final = 3
"""How many signs of life fit into the time after which the watchdog would act."""

Describe = Callable[[], Awaitable[tuple[bool, str]]]
"""Whether all is well enough for the watchdog, and the status in words."""


class Notifier:
    """Talks to systemd. What cannot be said is not: a service must not fail because nobody listens."""

    def __init__(self, address: str, watchdog_seconds: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address  # abstract, unix(7)
        self._watchdog_seconds = watchdog_seconds
        self._is_ready = self._is_stopping = self._is_reloading = False
        self._status = ""

    @classmethod
    def of_process(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier | None:
        """The notifier of this process, if systemd wants one; what it starts does not inherit that."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            return None
        watched = microseconds.isdecimal() and pid in {"", str(os.getpid())}
        return cls(address, int(microseconds) / 1e6 if watched else None)

    def ready(self) -> None:
        """The service has started, or what `reloading` has begun is done."""
        if not self._is_stopping and (not self._is_ready or self._is_reloading):
            self._is_ready, self._is_reloading = True, False
            self._send("READY=1")

    def started(self) -> None:
        """It has started: for those who may say so again, while something is reloaded too."""
        if not self._is_ready:
            self.ready()

    def reloading(self) -> None:
        """It takes new certificates, or new processes, into use."""
        if not self._is_stopping:
            self._is_reloading = True
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    def stopping(self) -> None:
        """It drains."""
        self._is_stopping = True
        self._send("STOPPING=1", "STATUS=Draining")

    def status(self, text: str) -> None:
        """What `systemctl status` shows; one that is shown already is not sent again."""
        if text != self._status and not self._is_stopping:
            self._status = text
            self._send(f"STATUS={' '.join(text.split())}")

    def _send(self, *lines: str) -> None:
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), self._address)

    @asynccontextmanager
    async def watched(self, describe: Describe) -> AsyncIterator[None]:
        """Keeps status and watchdog up to date, inside of the block."""
        task = asyncio.get_running_loop().create_task(self._beat(describe), name="systemd")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _beat(self, describe: Describe) -> None:
        watchdog = self._watchdog_seconds
        pause = STATUS_SECONDS if watchdog is None else min(STATUS_SECONDS, watchdog / _BEATS)
        while True:
            is_well, text = await describe()
            if is_well and watchdog is not None:
                self._send("WATCHDOG=1")
            self.status(text)
            await asyncio.sleep(pause)


def counted(number: int, word: str) -> str:
    """`1 request`, `1,234 requests`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"

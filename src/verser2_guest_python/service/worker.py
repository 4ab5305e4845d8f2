"""A worker's side of its supervisor: what it tells, and what it does when nobody is there any more."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from typing import Final

from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.worker_process import (
    REGISTERED,
    WORKER_ID_VARIABLE,
    WORKER_SOCKET_VARIABLE,
    WORN_OUT,
)

_READ_BYTES: Final = 64


class Worker:
    """This process, if a supervisor has started it; a lifecycle listener of its Guest.

    Attributes:
        peer_id: the id to register as.
    """

    def __init__(self, peer_id: str, sock: socket.socket) -> None:
        self.peer_id = peer_id
        self._socket = sock
        sock.setblocking(False)

    @classmethod
    def of_this_process(cls) -> Worker | None:
        """The worker that this process is, or None. What told so is taken out of the environment."""
        peer_id = os.environ.pop(WORKER_ID_VARIABLE, None)
        descriptor = os.environ.pop(WORKER_SOCKET_VARIABLE, None)
        if not peer_id or not descriptor:
            return None
        os.set_inheritable(int(descriptor), False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all: the supervisor decides
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return cls(peer_id, socket.socket(fileno=int(descriptor)))

    def __call__(self, event: GuestEvent) -> None:
        """Tells the supervisor what it waits for."""
        if event.type == "registered":
            self._say(REGISTERED)

    def say_worn_out(self) -> None:
        """Asks to be replaced."""
        self._say(WORN_OUT)

    def _say(self, line: bytes) -> None:
        try:
            self._socket.send(line + b"\n")
        except OSError:
            return  # the supervisor is gone, or will hear of it when this process ends

    def has_lost_its_supervisor(self) -> bool:
        """To be asked when the socket is readable: whether the supervisor has ended."""
        try:
            return not self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def fileno(self) -> int:
        """The socket, for the loop's `add_reader`."""
        return self._socket.fileno()


class RequestLimit:
    """Counts requests, and says once when there were enough; a lifecycle listener.

    `jitter` adds up to so many, by chance, so that workers of the same age do not tire together.
    """

    def __init__(self, limit: int, jitter: int, on_reached: Callable[[], None]) -> None:
        self._left = limit + random.randint(0, jitter)  # noqa: S311 - no secret
        self._on_reached = on_reached

    def __call__(self, event: GuestEvent) -> None:
        """Counts requests that are over."""
        if event.type == "request-completed":
            self._left -= 1
            if self._left == 0:
                self._on_reached()

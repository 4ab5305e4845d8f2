"""A worker's side of its supervisor: what it tells, and what it does when nobody is there any more."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Final

from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.worker_process import (
    BLOCKED_AT_START,
    FAILED,
    REGISTERED,
    WORKER_ID_VARIABLE,
    WORKER_SOCKET_VARIABLE,
    WORN_OUT,
)

_READ_BYTES: Final = 64
_MAX_REASON_BYTES: Final = 4_000


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
        for number in BLOCKED_AT_START:  # the terminal sends them to all: the supervisor decides
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
        return cls(peer_id, socket.socket(fileno=int(descriptor)))

    def __call__(self, event: GuestEvent) -> None:
        """Tells the supervisor what it waits for."""
        if event.type == "registered":
            self._say(REGISTERED + b" " + str(event.fields["guest_id"]).encode())

    def say_worn_out(self) -> None:
        """Asks to be replaced."""
        self._say(WORN_OUT)

    def say_failed(self, reason: str) -> None:
        """Tells why this process ends: the supervisor says it once, where all workers would."""
        self._say(FAILED + b" " + " ".join(reason.split()).encode("utf-8", "replace")[:_MAX_REASON_BYTES])

    def _say(self, line: bytes) -> None:
        try:
            self._socket.send(line + b"\n")
        except OSError:
            return  # the supervisor is gone, or will hear of it when this process ends

    def when_alone(self, call: Callable[[], None]) -> None:
        """Calls `call` in the running loop once the supervisor has ended."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            if self._has_lost_its_supervisor():
                loop.remove_reader(self._socket)
                call()

        loop.add_reader(self._socket, look)

    def _has_lost_its_supervisor(self) -> bool:
        try:
            return not self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            return True

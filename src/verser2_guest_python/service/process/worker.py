"""A worker's side of its supervisor: what it tells, and what it does when nobody is there any more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.process.worker_process import (
    BLOCKED_AT_START,
    DETAILS,
    FAILED,
    IMPORTED,
    REGISTERED,
    REPORT,
    TRYING,
    WORKER_ID_VARIABLE,
    WORKER_REPORTS_VARIABLE,
    WORKER_SOCKET_VARIABLE,
    WORN_OUT,
)

_READ_BYTES: Final = 64
_MAX_REASON_BYTES: Final = 4_000
_MAX_DETAILS_CHARS: Final = 64_000


class Worker:
    """This process, if a supervisor has started it; a lifecycle listener of its Guest.

    Attributes:
        peer_id: the id to register as.
        reports: whether the supervisor will ask for reports, whatever the settings say.
    """

    def __init__(self, peer_id: str, sock: socket.socket, *, reports: bool = False) -> None:
        self.peer_id = peer_id
        self.reports = reports
        self._is_settled = False
        self._socket = sock
        self._unsent = b""  # the rest of a line that did not fit at once, and what follows it
        sock.setblocking(False)

    @classmethod
    def of_this_process(cls) -> Worker | None:
        """The worker that this process is, or None. What told so is taken out of the environment."""
        peer_id = os.environ.pop(WORKER_ID_VARIABLE, None)
        descriptor = os.environ.pop(WORKER_SOCKET_VARIABLE, None)
        reports = os.environ.pop(WORKER_REPORTS_VARIABLE, None)
        if not peer_id or not descriptor:
            return None
        os.set_inheritable(int(descriptor), False)
        for number in BLOCKED_AT_START:  # the terminal sends them to all: the supervisor decides
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
        return cls(peer_id, socket.socket(fileno=int(descriptor)), reports=bool(reports))

    def __call__(self, event: GuestEvent) -> None:
        """Tells the supervisor what it waits for."""
        if event.type == "registered":
            self._say(REGISTERED + b" " + str(event.fields["guest_id"]).encode())
        elif event.type == "reconnecting" and not self._is_settled:
            self._say(TRYING)
        else:
            return
        self._is_settled = True

    def say_worn_out(self) -> None:
        """Asks to be replaced."""
        self._say(WORN_OUT)

    def say_failed(self, reason: str) -> None:
        """Tells why this process ends: the supervisor says it once, where all workers would."""
        self._say(FAILED + b" " + " ".join(reason.split()).encode("utf-8", "replace")[:_MAX_REASON_BYTES])

    def say_report(self, report: Mapping[str, Any]) -> None:
        """Tells how this process is; left out while an earlier report has not left yet."""
        if not self._unsent:
            self._say(REPORT + b" " + json.dumps(report, separators=(",", ":")).encode())

    def say_imported(self, names: Iterable[str]) -> None:
        """Tells which modules a successor may import before it is needed."""
        self._say(IMPORTED + b" " + " ".join(names).encode())

    def say_details(self, text: str) -> None:
        """Tells more of that, before it: several lines, of which the last ones are kept."""
        self._say(DETAILS + b" " + json.dumps(text[-_MAX_DETAILS_CHARS:]).encode())

    def lines(self) -> Iterator[bytes]:
        """What the supervisor says, a line each, until it has ended. Blocks: it is for a thread."""
        self._socket.setblocking(True)
        with self._socket.makefile("rb") as reading:
            try:
                for line in reading:
                    yield line.rstrip(b"\n")
            except OSError:
                return

    def _say(self, line: bytes) -> None:
        waits = bool(self._unsent)
        self._unsent += line + b"\n"
        if waits:
            return
        self._flush()
        if self._unsent:
            with suppress(RuntimeError):  # no loop runs any more: this was a last word
                asyncio.get_running_loop().add_writer(self._socket, self._go_on)

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""  # the supervisor is gone, or will hear of it when this process ends

    def _go_on(self) -> None:
        self._flush()
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._socket)

    def listen(self, when_alone: Callable[[], None], when_asked: Callable[[], None]) -> None:
        """Calls, in the running loop, `when_asked` for each report that the supervisor wants.

        Once the supervisor has ended, it calls `when_alone`.
        """
        loop = asyncio.get_running_loop()

        def look() -> None:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(self._socket)
                when_alone()
            elif REPORT in data:
                when_asked()

        loop.add_reader(self._socket, look)

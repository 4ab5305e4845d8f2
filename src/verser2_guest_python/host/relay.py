"""One direction of a WebSocket through the Host: whole VWS/1 lines, checked, in their order.

Apart from the bridge because both directions are the same. A line is passed on as it came, but only
once all of it is there and it is a message: neither end is shown what the other must not say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.http2 import Http2Error, Stream
from verser2_guest_python.wire.limits import MAX_VWS_LINE_BYTES
from verser2_guest_python.wire.lines import LineParser, LineTooLong
from verser2_guest_python.wire.vws import (
    TOO_BIG_CLOSE,
    Binary,
    Close,
    Message,
    Ping,
    Pong,
    Text,
    VwsViolation,
    decode,
)

CHUNK_BYTES = 65_536
_CONVERSATION = frozenset({Text, Binary, Ping, Pong, Close})


class RelayOwner(Protocol):
    """The bridge, as its relays see it."""

    def relay_ended(self, relay: Relay) -> None:
        """The source has ended its side, and everything has passed."""

    def relay_failed(self) -> None:
        """One of the streams failed."""

    def relay_violated(self, violation: VwsViolation) -> None:
        """The source said what VWS/1 does not allow; what came before has passed."""

    def broke(self) -> None:
        """A fault of our own, which is raised as well."""


class Relay:
    """Passes lines from `source` to `target`; reads no more than it can write (protocol.md §11)."""

    __slots__ = (
        "_lines",
        "_owner",
        "_stopped",
        "_task",
        "_tasks",
        "bytes",
        "messages",
        "source",
        "tap",
        "target",
    )

    def __init__(self, owner: RelayOwner, tasks: Tasks, source: Stream, target: Stream) -> None:
        self.source = source
        self.target = target
        self.bytes = 0
        self.messages = 0  # text and binary ones
        self.tap: Callable[[Message], None] | None = None  # is shown each message that may pass
        self._owner = owner
        self._tasks = tasks
        self._lines = LineParser(MAX_VWS_LINE_BYTES)
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def take_lines(self) -> list[bytes]:
        """The lines that have come, for whoever reads the first ones; raises `VwsViolation`."""
        try:
            return self._lines.feed(self.source.take())
        except LineTooLong as error:
            raise VwsViolation(error.message, close_code=TOO_BIG_CLOSE) from None

    def pass_on(self, lines: list[bytes] | None = None) -> None:
        """Passes on what has come, `lines` that were taken before it first."""
        if self._stopped or self._task is not None:
            return
        payload, violation = self._check(self.source.take(), lines or [])
        try:
            passed = not payload or self.target.write_now(payload)
        except Http2Error:
            self._owner.relay_failed()
            return
        if not passed:
            work = self._pass_on_slowly(payload, violation)
            self._task = self._tasks.spawn(work, "verser host: WebSocket")
        else:
            self._finish(violation)

    def stop(self) -> None:
        """Nothing more is to pass."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    def _check(self, data: bytes, lines: list[bytes]) -> tuple[bytes, VwsViolation | None]:
        """The lines that may pass, and what is wrong with the one behind them."""
        violation: VwsViolation | None = None
        self.bytes += len(data)
        try:
            lines = lines + self._lines.feed(data)
        except LineTooLong as error:
            lines = lines + error.lines
            violation = VwsViolation(error.message, close_code=TOO_BIG_CLOSE)
        for index, line in enumerate(lines):
            try:
                message = decode(line)
                kind = type(message)
                if kind in _CONVERSATION:
                    self.messages += kind is Text or kind is Binary
                    if self.tap is not None:
                        self.tap(message)
                    continue
                violation = VwsViolation("The message belongs to the opening of a WebSocket.")
            except VwsViolation as error:
                violation = error
            lines = lines[:index]
            break
        return (b"\n".join(lines) + b"\n" if lines else b""), violation

    async def _pass_on_slowly(self, payload: bytes, violation: VwsViolation | None) -> None:
        try:
            while True:
                if payload:
                    await self.target.write(payload)
                if violation is not None or self.source.at_end:
                    break
                data = await self.source.read(CHUNK_BYTES)
                payload, violation = self._check(data, [])
        except Http2Error:
            self._task = None
            self._owner.relay_failed()
            return
        except Exception:
            self._owner.broke()
            raise
        self._task = None
        self._finish(violation)

    def _finish(self, violation: VwsViolation | None) -> None:
        if violation is not None:
            self._stopped = True
            self._owner.relay_violated(violation)
        elif self.source.at_end and not self._stopped:
            self._stopped = True
            self._owner.relay_ended(self)

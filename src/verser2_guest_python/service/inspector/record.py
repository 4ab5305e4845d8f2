"""One request as the inspector keeps it: its heads, the beginning of its bodies, its last messages.

Apart from the recorder because this is one of many: it knows its own limits, and tells how many bytes it
grew, but not how many requests are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from verser2_guest_python.host.observing import ExchangeEnd, ExchangeStart, Side
from verser2_guest_python.wire.vws import Binary, Close, Message, Ping, Pong, Text

MAX_BODY_BYTES: Final = 65_536
"""What is kept of each body: its beginning."""

MAX_MESSAGES: Final = 200
"""WebSocket messages that are kept of one socket: the last ones."""

MAX_MESSAGE_BYTES: Final = 16_384
"""What is kept of each message: its beginning."""

MAX_SOCKET_BYTES: Final = 262_144
"""What all messages kept of one socket may have together."""

_RECORD_BYTES: Final = 2_048  # what a record takes by itself, roughly
_MESSAGE_BYTES: Final = 256
_FIELD_BYTES: Final = 128


class Keeper(Protocol):
    """The recorder, as its records see it."""

    def now(self) -> float:
        """A monotonic clock, in seconds."""

    def changed(self, record: Record) -> None:
        """There is something new to show."""

    def grew(self, record: Record, size: int) -> None:
        """It takes so many bytes more, or fewer."""


class Body:
    """The beginning of a body, and how long all of it is."""

    __slots__ = ("kept", "size")

    def __init__(self) -> None:
        self.kept = bytearray()
        self.size = 0

    def add(self, data: bytes) -> int:
        """Keeps what there is room for; returns how much that was, in bytes."""
        self.size += len(data)
        room = MAX_BODY_BYTES - len(self.kept)
        if room <= 0:
            return 0
        self.kept += data[:room]
        return min(room, len(data))

    @property
    def cut(self) -> bool:
        """Whether more has passed than is kept."""
        return self.size > len(self.kept)


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A WebSocket message; `number` counts them from 0, `at` is in seconds from the request's beginning."""

    number: int
    at: float
    side: Side
    kind: str
    data: str | bytes
    size: int
    cut: bool
    code: int | None = None

    @property
    def weight(self) -> int:
        """What it takes in memory, roughly, in bytes."""
        return _MESSAGE_BYTES + min(self.size, 4 * MAX_MESSAGE_BYTES)


class Record:
    """One request. It is written by the Host (`ExchangeObserver`) and read by the page.

    Times are seconds of the recorder's clock, None for what has not happened.
    """

    def __init__(self, keeper: Keeper, number: int, start: ExchangeStart, wall_time: float) -> None:
        self.number = number
        self.version = 0
        self.start = start
        self.wall_time = wall_time
        self.kept = True
        self.began_at = keeper.now()
        self.leased_at: float | None = None
        self.uploaded_at: float | None = None
        self.answered_at: float | None = None
        self.first_byte_at: float | None = None
        self.ended_at: float | None = None
        self.status: int | None = None
        self.fields: Sequence[tuple[bytes, bytes]] = ()
        self.request = Body()
        self.response = Body()
        self.messages: deque[KeptMessage] = deque()
        self.message_count = 0
        self.end: ExchangeEnd | None = None
        self.replay_of: int | None = None
        self.weight = _RECORD_BYTES + len(start.path) + _weight(start.headers.items())
        self._uploaded = False
        self._message_bytes = 0
        self._keeper = keeper

    def now(self) -> float:
        """The clock that its times are of."""
        return self._keeper.now()

    @property
    def cut_messages(self) -> int:
        """How many messages are not kept any more."""
        return self.message_count - len(self.messages)

    @property
    def whole(self) -> bool:
        """Whether all of the request's body has passed, and is kept."""
        return self._uploaded and not self.request.cut

    # --- As an observer -------------------------------------------------------------------

    def leased(self) -> None:
        self.leased_at = self._keeper.now()
        self._changed()

    def request_body(self, data: bytes) -> None:
        self.uploaded_at = self._keeper.now()
        self._grew(self.request.add(data) if self.kept else 0)
        self._changed()

    def uploaded(self) -> None:
        self._uploaded = True
        self._changed()

    def answered(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self.answered_at = self._keeper.now()
        self.status = status
        self.fields = fields
        self._grew(_weight(fields))
        self._changed()

    def response_body(self, data: bytes) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = self._keeper.now()
        self._grew(self.response.add(data) if self.kept else 0)
        self._changed()

    def message(self, side: Side, message: Message) -> None:
        if not self.kept:
            return
        kept = _kept(self.message_count, self._keeper.now() - self.began_at, side, message)
        self.message_count += 1
        self.messages.append(kept)
        grown = kept.weight
        self._message_bytes += kept.weight
        while len(self.messages) > MAX_MESSAGES or (
            self._message_bytes > MAX_SOCKET_BYTES and len(self.messages) > 1
        ):
            weight = self.messages.popleft().weight
            self._message_bytes -= weight
            grown -= weight
        self._grew(grown)
        self._changed()

    def ended(self, end: ExchangeEnd) -> None:
        self.ended_at = self._keeper.now()
        self.end = end
        if end.error is not None and not (self.start.websocket and self.status is not None):
            self.status = end.status
        self._changed()

    # --- Its place in the recorder --------------------------------------------------------

    def forget(self) -> None:
        """It is no longer kept: what still comes is nobody's."""
        self.kept = False

    def _grew(self, size: int) -> None:
        if self.kept and size:
            self.weight += size
            self._keeper.grew(self, size)

    def _changed(self) -> None:
        self.version += 1
        if self.kept:
            self._keeper.changed(self)


def _weight(fields: object) -> int:
    pairs: list[tuple[str | bytes, str | bytes]] = list(fields)  # type: ignore[call-overload]
    return sum(_FIELD_BYTES + len(name) + len(value) for name, value in pairs)


def _kept(number: int, at: float, side: Side, message: Message) -> KeptMessage:
    match message:
        case Text(text):
            kind, code = "text", None
        case Ping(text) | Pong(text):
            kind, code = type(message).__name__.lower(), None
        case Close(close_code, text):
            kind, code = "close", close_code
        case Binary(data):
            kept = data[:MAX_MESSAGE_BYTES]
            return KeptMessage(number, at, side, "binary", kept, len(data), len(kept) < len(data))
        case _:
            kind, text, code = type(message).__name__.lower(), "", None
    part = text[:MAX_MESSAGE_BYTES]
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return KeptMessage(number, at, side, kind, part, size, len(part) < len(text), code)


OnChange = Callable[[Record], None]
"""Is called for each change of a record that is kept."""

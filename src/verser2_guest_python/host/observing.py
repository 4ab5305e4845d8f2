"""What a Host shows to somebody who watches requests live: heads, bodies and messages as they pass.

Apart from `events.py`, which tells of a request once it is over and in numbers: here observers see
the content too. A Host without any pays nothing for it: what is watched has classes of its own
(`observed.py`), and is made only while there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from verser2_guest_python.wire.vws import Message

_logger = logging.getLogger("verser2_guest_python.host")


class Side(Enum):
    """Who said a WebSocket message."""

    BROKER = "broker"
    GUEST = "guest"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class ExchangeStart:
    """A request as its Broker asked for it; of one that the Host cannot read, fields may be empty.

    `websocket` says that it is one; its method is then `WEBSOCKET` and `protocol` what was offered.
    """

    request_id: str
    source_id: str
    target_id: str
    domain: str | None
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    websocket: bool = False
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeEnd:
    """How it ended; fields as in `RequestRecord`."""

    status: int | None
    error: str | None
    bytes_in: int
    bytes_out: int
    message: str = ""
    """What the error says, where the Host made it."""


class ExchangeObserver(Protocol):
    """Watches one request. All is called from the event loop as it happens, and must be quick.

    One that also has `told`, a mapping of header fields, has the Guest told these too, where they fit: the
    context of a trace. One that has `noted`, names and texts, has them in the request's record.
    """

    def leased(self) -> None:
        """It has a lease: the Guest is being asked."""

    def request_body(self, data: bytes) -> None:
        """A piece of the request's body passes."""

    def uploaded(self) -> None:
        """The request's body has passed, all of it."""

    def answered(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """The Guest's status and header fields; of a WebSocket, that it was accepted."""

    def response_body(self, data: bytes) -> None:
        """A piece of the answer's body passes."""

    def message(self, side: Side, message: Message) -> None:
        """A WebSocket message passes: text, binary, ping, pong or close."""

    def ended(self, end: ExchangeEnd) -> None:
        """It is over; called once. The rest of a request's body may still come."""


class HostObserver(Protocol):
    """Watches a Host: `host.observe(observer)`."""

    def began(self, start: ExchangeStart) -> ExchangeObserver | None:
        """A request has come. None where this one is not to be watched."""


class Observation:
    """Who watches just now, if anybody. An observer that raises harms nobody but itself.

    Attributes:
        observers: Those who do, in the order in which they came.
    """

    __slots__ = ("observers",)

    def __init__(self) -> None:
        self.observers: tuple[HostObserver, ...] = ()

    def add(self, observer: HostObserver) -> Callable[[], None]:
        """One more; what is returned ends that for requests to come, and does nothing a second time."""
        self.observers = (*self.observers, observer)
        watching = True

        def stop() -> None:
            nonlocal watching
            if watching:
                watching = False
                place = next(n for n, one in enumerate(self.observers) if one is observer)
                self.observers = self.observers[:place] + self.observers[place + 1 :]

        return stop

    def begin(self, start: ExchangeStart) -> Watch | None:
        """What the observers want of a request that begins now."""
        exchanges = []
        for observer in self.observers:
            try:
                exchange = observer.began(start)
            except Exception:
                _logger.exception("An observer of the Host failed")
                continue
            if exchange is not None:
                exchanges.append(exchange)
        return Watch(exchanges) if exchanges else None


class Watch:
    """One or more `ExchangeObserver`s as one that never raises: one that does is not called again."""

    __slots__ = ("_observers",)

    def __init__(self, observers: Sequence[ExchangeObserver]) -> None:
        self._observers = tuple(observers)

    @property
    def told(self) -> dict[str, str]:
        """Header fields that the Guest is to be told beside those of the Broker."""
        return self._said("told")

    @property
    def noted(self) -> dict[str, str]:
        """What the record of the request is to say beside what the Host knows."""
        return self._said("noted")

    def _said(self, name: str) -> dict[str, str]:
        fields: dict[str, str] = {}
        for observer in self._observers:
            try:
                fields.update(getattr(observer, name, {}))
            except Exception:
                _logger.exception("An observer of the Host failed")
                self._drop(observer)
        return fields

    def leased(self) -> None:
        self._tell("leased")

    def request_body(self, data: bytes) -> None:
        if data:
            self._tell("request_body", data)

    def uploaded(self) -> None:
        self._tell("uploaded")

    def answered(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._tell("answered", status, tuple(fields))

    def response_body(self, data: bytes) -> None:
        if data:
            self._tell("response_body", data)

    def message(self, side: Side, message: Message) -> None:
        self._tell("message", side, message)

    def ended(self, end: ExchangeEnd) -> None:
        self._tell("ended", end)

    def _tell(self, name: str, *values: object) -> None:
        for observer in self._observers:
            try:
                getattr(observer, name)(*values)  # one that has no such method fails like one that raises
            except Exception:
                _logger.exception("An observer of the Host failed")
                self._drop(observer)

    def _drop(self, failed: ExchangeObserver) -> None:
        self._observers = tuple(one for one in self._observers if one is not failed)

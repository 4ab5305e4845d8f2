"""What a Host tells those who watch it: lifecycle events for logs, one record for each request.

Apart because the Host itself logs nothing: it calls listeners, and what they make of it (a log line,
a counter, a live view) is theirs. A record is made only while somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Generic, TypeVar

_logger = logging.getLogger("verser2_guest_python.host")

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
EventValue = str | int | float | bool | None | list[str]


@dataclass(frozen=True, slots=True)
class HostEvent:
    """Something happened to the Host or a peer.

    Names: `listening`, `registered`, `refused`, `denied`, `disconnected`, `revoked`, `route`,
    `handshake-failed`, `turned-away`, `certificates-reloaded`, `policy-replaced`, `cut-off`,
    `internal-error`, `closed`.
    `fields` hold what belongs to it, such as `peer`, `role`, `reason`; of `disconnected` and `turned-away`
    also `limit`, the one that was exceeded, where it was that.
    """

    name: str
    fields: Mapping[str, str | int | float | bool | list[str] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that a Host forwarded or refused, told once it is over.

    `status` is what the Broker was answered, None when it cancelled before; `error` the code of a
    Host-made or forwarded error, `cancelled`, or None. Bodies are in bytes, times in seconds.
    """

    request_id: str
    source_id: str
    target_id: str
    domain: str | None
    method: str
    path: str
    status: int | None
    error: str | None
    bytes_in: int
    bytes_out: int
    queued_seconds: float
    seconds: float
    first_byte_seconds: float | None = None
    """Until the head of the app's answer was there, waiting for a lease included; None without one."""
    noted: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """What observers have said of it (`ExchangeObserver.noted`): with traces `trace_id` and `span_id`."""


T = TypeVar("T")


class Listeners(Generic[T]):
    """Functions that want to hear of something; one that raises harms neither the Host nor the others."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: tuple[Callable[[T], None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, listener: Callable[[T], None]) -> Callable[[], None]:
        """Adds a listener; what is returned takes it away again."""
        self._all = (*self._all, listener)

        def remove() -> None:
            self._all = tuple(known for known in self._all if known is not listener)

        return remove

    def tell(self, value: T) -> None:
        for listener in self._all:
            try:
                listener(value)
            except Exception:
                _logger.exception("A listener of the Host failed")

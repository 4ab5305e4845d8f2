"""The recorder: the last requests of a Host, in bounded memory.

Apart from the page that shows them because it is bound to the Host and needs no browser. Two limits
hold: how many requests are kept, and how many bytes all of them take. The oldest goes first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from verser2_guest_python.host.observing import ExchangeStart
from verser2_guest_python.service.inspector.record import OnChange, Record

MAX_REQUESTS: Final = 500
MAX_BYTES: Final = 32 * 1024 * 1024


class Recorder:
    """Observes a Host (`host.observe(recorder)`) and keeps its last requests.

    Args:
        max_requests: How many are kept.
        max_bytes: What all of them may take together, in bytes, as counted roughly. One request is kept
            whatever it takes; its own parts are bounded too (`record.py`).
        clock: Seconds, for how long things take.
        wall_clock: Seconds since 1970, for when they began.
    """

    def __init__(
        self,
        *,
        max_requests: int = MAX_REQUESTS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.bytes = 0
        self.count = 0
        self.clearings = 0
        self._clock = clock
        self._wall_clock = wall_clock
        self._records: OrderedDict[int, Record] = OrderedDict()
        self._listeners: tuple[OnChange, ...] = ()
        self._cleared: tuple[Callable[[], None], ...] = ()

    def began(self, start: ExchangeStart) -> Record:
        """The Host: a request has come."""
        self.count += 1
        record = Record(self, self.count, start, self._wall_clock())
        self._records[record.number] = record
        self.bytes += record.weight
        self._shrink()
        self.changed(record)
        return record

    # --- What is kept ---------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        """The oldest first."""
        return iter(list(self._records.values()))

    def get(self, number: int) -> Record | None:
        """The request of this number, if it is kept still."""
        return self._records.get(number)

    def find(self, source_id: str, request_id: str) -> Record | None:
        """The newest request that a Broker gave this id."""
        for record in reversed(self._records.values()):
            if record.start.request_id == request_id and record.start.source_id == source_id:
                return record
        return None

    @property
    def oldest(self) -> int:
        """The number of the oldest request that is kept, or of the next one where none is."""
        return next(iter(self._records), self.count + 1)

    def clear(self) -> None:
        """Forgets all that is over; what is under way stays."""
        for record in list(self._records.values()):
            if record.end is not None:
                self._drop(record)
        self.clearings += 1
        for listener in self._cleared:
            listener()

    def listen(self, listener: OnChange, on_clear: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """Calls `listener` with each record that changes; what is returned ends that."""
        self._listeners = (*self._listeners, listener)
        self._cleared = (*self._cleared, on_clear)

        def stop() -> None:
            self._listeners = tuple(known for known in self._listeners if known is not listener)
            self._cleared = tuple(known for known in self._cleared if known is not on_clear)

        return stop

    # --- For its records ------------------------------------------------------------------

    def now(self) -> float:
        return self._clock()

    def changed(self, record: Record) -> None:
        for listener in self._listeners:
            listener(record)

    def grew(self, record: Record, size: int) -> None:
        self.bytes += size
        self._shrink()

    def _shrink(self) -> None:
        while len(self._records) > self.max_requests or (
            self.bytes > self.max_bytes and len(self._records) > 1
        ):
            self._drop(next(iter(self._records.values())))

    def _drop(self, record: Record) -> None:
        del self._records[record.number]
        self.bytes -= record.weight
        record.forget()

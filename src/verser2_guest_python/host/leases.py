"""The lease pool of one Guest: idle leases first in, first out, and the requests that wait for one.

A lease is a stream that the Guest opened in advance; it carries one request (protocol.md §5). The
pool decides only *which* request gets *which* lease and when one has waited long enough; what
happens on the lease is `exchange.py`. An idle lease is an entry in a dict, and nothing more.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Protocol

from verser2_guest_python.errors import LeaseTimeoutError, VerserError
from verser2_guest_python.http2 import ErrorCode, Http2Error, Stream
from verser2_guest_python.http2.deadline import LateCall, call_within


class LeaseWaiter(Protocol):
    """A request that wants a lease."""

    def lease_came(self, lease: Stream) -> None:
        """Called once, from `offer`: the lease is the waiter's now."""

    def lease_failed(self, error: VerserError) -> None:
        """Called once: no lease will come."""


class QueueBudget:
    """How many requests may wait on the whole Host, and how many bytes their heads may take."""

    __slots__ = ("_bytes_free", "_free", "refused")

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._free = limit
        self._bytes_free = limit_bytes
        self.refused = 0  # for want of room, here or with one Guest

    def take(self, size: int) -> bool:
        """Makes room for one more with a head of `size` bytes; False where there is none."""
        if self._free <= 0 or self._bytes_free < size:
            return False
        self._free -= 1
        self._bytes_free -= size
        return True

    def give_back(self, size: int) -> None:
        """One that took `size` bytes waits no longer."""
        self._free += 1
        self._bytes_free += size


class LeasePool:
    """Leases of one Guest's session, and who waits for them."""

    def __init__(self, guest_id: str, *, max_idle: int, max_waiting: int, budget: QueueBudget) -> None:
        self._guest_id = guest_id
        self._max_idle = max_idle
        self._max_waiting = max_waiting
        self._budget = budget
        self._idle: OrderedDict[int, Stream] = OrderedDict()
        self._waiting: OrderedDict[LeaseWaiter, tuple[LateCall, int]] = OrderedDict()
        self._watch = self._on_idle_event  # one bound method for all idle leases

    @property
    def idle(self) -> int:
        """Leases that wait for a request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a lease."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no further idle lease is taken."""
        return len(self._idle) >= self._max_idle

    def offer(self, lease: Stream) -> None:
        """A new lease: for the request that has waited longest, else it is idle."""
        if self._waiting:
            waiter, (timer, size) = self._waiting.popitem(last=False)
            self._budget.give_back(size)
            timer.cancel()
            waiter.lease_came(lease)
        else:
            lease.listener = self._watch
            self._idle[lease.id] = lease

    def take(self) -> Stream | None:
        """The lease that has been idle longest, or None."""
        if not self._idle:
            return None
        return self._idle.popitem(last=False)[1]

    def wait(self, waiter: LeaseWaiter, seconds: float, size: int) -> None:
        """Queues a request whose head takes `size` bytes.

        Raises `LeaseTimeoutError` when there is no room in the queue, or no time.
        """
        if seconds <= 0:
            raise self._error(f"Guest {self._guest_id} has no idle lease", seconds)
        if len(self._waiting) >= self._max_waiting or not self._budget.take(size):
            self._budget.refused += 1
            raise self._error(f"Too many requests wait for a lease of {self._guest_id} already", seconds)
        timer = call_within(asyncio.get_running_loop(), seconds, partial(self._expire, waiter, seconds))
        self._waiting[waiter] = (timer, size)

    def forget(self, waiter: LeaseWaiter) -> None:
        """The request is no longer wanted."""
        entry = self._waiting.pop(waiter, None)
        if entry is not None:
            timer, size = entry
            self._budget.give_back(size)
            timer.cancel()

    def fail(self, make_error: Callable[[], VerserError]) -> None:
        """The Guest is gone: nobody will serve what waits. Each request gets an error of its own."""
        while self._waiting:
            waiter, (timer, size) = self._waiting.popitem(last=False)
            self._budget.give_back(size)
            timer.cancel()
            waiter.lease_failed(make_error())

    def _expire(self, waiter: LeaseWaiter, seconds: float) -> None:
        self.forget(waiter)
        waiter.lease_failed(self._error(f"No lease of {self._guest_id} came within {seconds:g} s", seconds))

    def _error(self, message: str, seconds: float) -> LeaseTimeoutError:
        return LeaseTimeoutError(
            message, context={"targetId": self._guest_id, "timeoutMs": round(seconds * 1000)}
        )

    def _on_idle_event(self, lease: Stream) -> None:
        """Something came on an idle lease: it failed, the Guest gave it up, or it speaks unasked."""
        if lease.error is None and not lease.ended and not lease.unread:
            return
        self._idle.pop(lease.id, None)
        lease.listener = None
        if lease.error is not None:
            return
        if lease.unread:
            lease.reset(ErrorCode.PROTOCOL_ERROR)
            return
        try:
            lease.write_now(b"", end=True)  # the Guest drains
        except Http2Error:
            return

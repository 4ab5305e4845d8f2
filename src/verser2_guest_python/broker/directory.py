"""The directory of routes: the table, who listens to its changes, and who waits for one.

Apart from the Broker because it outlives sessions, and apart from the table because here time
comes in: waiting for a route to appear, or for a degraded one to be restored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakSet

from verser2_guest_python.broker.changes import RouteChanges
from verser2_guest_python.broker.control import ControlMessage
from verser2_guest_python.broker.listeners import RouteListeners
from verser2_guest_python.broker.pulse import Pulse
from verser2_guest_python.broker.queue import Queue
from verser2_guest_python.broker.routes import RouteEntry, RouteTable
from verser2_guest_python.errors import MissingGuestError, RequestTimeoutError
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.wire.routes import Lifecycle, Registered

DEGRADED_WAIT_SECONDS = 5.0
"""How long a request waits for a route to be restored when all of its domain are degraded."""

_NAMED_DOMAINS = 20  # in an error message

CheckSession = Callable[[], object]


class Directory:
    """The routes of one Broker. `check` in its methods raises when there is no session to wait on.

    Attributes:
        queue: The requests and WebSockets that wait, for a route or for anything else.
    """

    def __init__(self) -> None:
        self.table = RouteTable()
        self.listeners = RouteListeners()
        self.queue = Queue()
        self._iterators: WeakSet[RouteChanges] = WeakSet()  # one that nobody holds any more needs no changes
        self._changed = Pulse()
        self._missed: frozenset[str] = frozenset()
        self._missed_until = 0.0

    def begin(self, registered: Registered, *, gap: bool, returns: bool) -> None:
        """The first line of a session.

        `gap`: nothing was heard for a while. `returns`: there was a session before, so that Guests which
        had a route then may be on their way back as well.
        """
        before = self.table.domains()
        if gap:
            self.table.restore()
        self.on_message(registered)
        if returns:
            self._missed = frozenset(domain for domain in before if not self.table.has(domain))
            self._missed_until = asyncio.get_running_loop().time() + DEGRADED_WAIT_SECONDS
        self._changed.fire()

    def may_return(self, domain: str) -> bool:
        """Whether a domain that has no usable route just now may have one again in a moment."""
        if self.table.has(domain):
            return self.table.choose(domain) is None
        return domain in self._missed and asyncio.get_running_loop().time() < self._missed_until

    def on_message(self, message: ControlMessage) -> None:
        """A line from the Host: the table changes first, then listeners hear of it (protocol.md §10)."""
        if isinstance(message, Lifecycle):
            changes = self.table.apply(message.events)
        else:
            changes = self.table.replace(message.routes)
        if changes:
            self._changed.fire()
            for iterator in tuple(self._iterators):
                for change in changes:
                    iterator._put(change)
            self.listeners.publish(changes)

    def changes(self) -> RouteChanges:
        """All changes from now on."""
        iterator = RouteChanges()
        self._iterators.add(iterator)
        return iterator

    def wake(self) -> None:
        """The session began or ended: whoever waits looks whether there is still a reason to."""
        self._changed.fire()

    async def wait_for(self, domain: str, timeout: float | None, check: CheckSession) -> RouteEntry:
        """The route of `domain`, once there is one."""
        try:
            async with within(timeout):
                while (entry := self.table.choose(domain)) is None:
                    check()
                    await self._changed.wait()
        except TimeoutError:
            raise RequestTimeoutError(
                f"No route for {domain} appeared within {timeout:g} s. {self._known_domains()}",
                context={"domain": domain},
            ) from None
        return entry

    async def route_for(self, domain: str, check: CheckSession) -> RouteEntry:
        """The route for a request. When all of a domain are degraded, one may be back in a moment."""
        entry = self.table.choose(domain)
        if entry is not None:
            return entry
        try:
            async with within(DEGRADED_WAIT_SECONDS):
                while self.may_return(domain):
                    with self.queue:
                        await self._changed.wait()
                    check()
                    if (entry := self.table.choose(domain)) is not None:
                        return entry
        except TimeoutError:
            raise MissingGuestError(
                f"The Guest of {domain} is away, and was not back within {DEGRADED_WAIT_SECONDS:g} s.",
                context={"domain": domain},
            ) from None
        raise MissingGuestError(
            f"No Guest serves {domain}. {self._known_domains()}", context={"domain": domain}
        )

    def _known_domains(self) -> str:
        domains = sorted(self.table.domains())
        if not domains:
            return "The Host has no routes at all: is the Guest running?"
        named = ", ".join(domains[:_NAMED_DOMAINS])
        more = len(domains) - _NAMED_DOMAINS
        return f"The Host has routes for {named}{f' and {more} more' if more > 0 else ''}."

    async def close(self) -> None:
        """Ends what listeners still do, and forgets the routes."""
        for iterator in tuple(self._iterators):
            iterator._end()
        self._iterators.clear()
        try:
            await self.listeners.close()
        finally:
            self.table.clear()

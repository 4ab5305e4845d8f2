"""The end of a Broker's sessions: what is awaited may be done first, within a time that can be shortened.

Apart from the keeper because several callers may wait for one end, and each of them may give up; the end
itself comes all the same.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from contextlib import suppress

from verser2_guest_python.broker.link import Link
from verser2_guest_python.peer.tasks import end_tasks, wait_over


class Ending:
    """One end, which begins when this is made.

    Args:
        links: The sessions.
        duties: Tasks of the keeper that are over with them; they are cancelled.
        reason: What requests that are cut off say.
        timeout: Seconds for what is awaited.
    """

    def __init__(
        self, links: Collection[Link], duties: Collection[asyncio.Task[None]], reason: str, timeout: float
    ) -> None:
        self._links = links
        self._duties = duties
        self._reason = reason
        self._callers: set[asyncio.Task[object]] = set()
        self._limit: asyncio.Timeout | None = None
        self._deadline = _deadline(timeout)
        self._task = asyncio.create_task(self._end(), name="verser2-broker-closing")

    @property
    def over(self) -> bool:
        """Whether it has come."""
        return self._task.done()

    async def wait(self) -> None:
        """Until it has come, in its own time."""
        await asyncio.wait([self._task])

    async def join(self, timeout: float) -> None:
        """Until all is over, and what is awaited has no more than `timeout` seconds from now.

        Cancelled, it is over at once unless somebody else waits for it as well; cancelled again, without
        the courtesies. In both cases it is over when this returns.
        """
        caller = asyncio.current_task()
        if caller is None:
            raise AssertionError("this is awaited in a task")
        self._callers.add(caller)
        # Its own upload, for one, cannot end while it waits here.
        self._shorten(0.0 if any(link.owns(caller) for link in self._links) else timeout)
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            if self._callers == {caller}:
                self._shorten(0.0)
                await wait_over([self._task], self._abort)
            raise
        finally:
            self._callers.discard(caller)
        self._task.result()

    def _abort(self) -> None:
        for link in self._links:
            link.session.abort(self._reason)

    def _shorten(self, timeout: float) -> None:
        self._deadline = min(self._deadline, _deadline(timeout))
        if self._limit is not None and not self._limit.expired() and self._deadline != math.inf:
            self._limit.reschedule(self._deadline)

    async def _end(self) -> None:
        try:
            await end_tasks(self._duties)
            await asyncio.gather(*(link.close_sockets() for link in self._links))
            for link in self._links:
                link.refuse()
            await self._drain()
            await asyncio.gather(*(link.close(self._reason, self._callers) for link in self._links))
        except BaseException:  # as when the loop itself ends
            self._abort()
            raise

    async def _drain(self) -> None:
        """Until nobody awaits anything, or the time is up: what is left then fails with its session.

        Whoever has got a head a moment ago may be on the way to its body, in another thread for one.
        """
        limit = asyncio.timeout_at(None if self._deadline == math.inf else self._deadline)
        try:
            async with limit:
                self._limit = limit
                try:
                    while True:
                        if awaited := [link for link in self._links if link.awaited]:
                            await awaited[0].room.wait_change()
                        elif late := [link for link in self._links if link.patience > 0]:
                            with suppress(TimeoutError):
                                async with asyncio.timeout(late[0].patience):
                                    await late[0].room.wait_change()
                        else:
                            return
                finally:
                    self._limit = None
        except TimeoutError:
            return


def _deadline(timeout: float) -> float:
    return asyncio.get_running_loop().time() + timeout

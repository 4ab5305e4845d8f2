"""All keepers of a Guest: one for any of its Hosts, or one for each (`all_hosts`).

Apart from the keeper, which knows one session at a time and the next, and from the Guest, to which its
Hosts are one: it is connected when it is registered at any of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from verser2_guest_python.errors import RevocationFailedError, VerserConnectionError, VerserError
from verser2_guest_python.peer.hosts import all_failed
from verser2_guest_python.peer.tasks import end_tasks, wait_over

from .keeper import Keeper
from .session import GuestSession


class Keepers:
    """Keepers that start, renew and stop together."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self.all = tuple(keepers)

    @property
    def sessions(self) -> tuple[GuestSession, ...]:
        """The sessions that requests come on now, one for each keeper that has one."""
        return tuple(session for keeper in self.all if (session := keeper.session) is not None)

    async def connect(self) -> None:
        """One attempt of each; raises VerserError when none of them is registered then.

        Those that are not go on trying in `run`.
        """
        errors: list[VerserError] = []
        connecting = (keeper.connect() for keeper in self.all)
        for result in await asyncio.gather(*connecting, return_exceptions=True):
            if isinstance(result, VerserError):
                errors.append(result)
            elif isinstance(result, BaseException):
                raise result
        if len(errors) == len(self.all):
            raise all_failed(errors)

    async def run(self) -> None:
        """Keeps all of them registered until cancelled.

        Raises:
            VerserError: what can never work, or was refused for good before the first registration.
        """
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(keeper.run(), name="verser-guest-keeper") for keeper in self.all]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await end_tasks(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def renew(self, reason: str) -> None:
        """See `Keeper.renew`."""
        for keeper in self.all:
            keeper.renew(reason)

    async def revoke(self, domains: tuple[str, ...]) -> dict[str, str]:
        """Revokes at every Host; what could not be revoked somewhere, and why.

        Raises:
            VerserConnectionError: not registered anywhere.
            VerserError: no Host has revoked anything.
        """
        asked: list[GuestSession] = []
        failed: dict[str, str] = {}
        errors: list[VerserError] = []
        # Again for a session that has registered meanwhile. One that registers later reads what is left
        while sessions := [one for one in self.sessions if one not in asked]:
            asked += sessions
            answers = await asyncio.gather(*(one.revoke(domains) for one in sessions), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, VerserError):
                    errors.append(answer)
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    failed.update(answer.failed)
        if not asked:
            raise VerserConnectionError("The Guest is not connected: there are no routes to revoke.")
        if len(errors) == len(asked):
            raise errors[0]
        for error in errors:
            if isinstance(error, RevocationFailedError):  # one that was lost registers without them
                failed.update(dict.fromkeys(domains, error.message))
        return failed

    def hurry(self) -> None:
        """Cuts off what still drains."""
        for keeper in self.all:
            keeper.hurry()

    async def stop(self, reason: str, timeout: float) -> None:
        """Drains and closes all sessions, within `timeout` seconds; cancelled, at once."""
        loop = asyncio.get_running_loop()
        stopping = [loop.create_task(keeper.stop(reason, timeout)) for keeper in self.all]
        await wait_over(stopping, self.hurry)
        for task in stopping:
            task.result()

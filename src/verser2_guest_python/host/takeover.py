"""A peer comes back while its last session still looks alive: is that one dead, and may be replaced?

Apart from the registration because it is the one thing there that takes time. A session whose other end
has vanished without a FIN stays registered until TCP gives up, which takes minutes; its peer dials anew
within seconds. So the old session is asked, once for all who wait for its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from verser2_guest_python.errors import InvalidRegistrationError
from verser2_guest_python.host.authorization import Grant
from verser2_guest_python.host.peers import Peer
from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.http2 import ConnectionLost

TAKEN = "Peer is already registered"  # deployed peers know this text (protocol.md §2)

_REPLACED = "it did not answer, and its peer came back"


class Takeover:
    """Finds out whether a peer id can be had; `peer` gives who has it now."""

    def __init__(self, peer: Callable[[str], Peer | None], tasks: Tasks, answer_seconds: float) -> None:
        self._peer = peer
        self._tasks = tasks
        self._answer_seconds = answer_seconds
        self._asked: dict[Peer, asyncio.Future[bool]] = {}

    async def make_way(self, peer_id: str, role: str, grant: Grant, is_wanted: Callable[[], bool]) -> None:
        """Returns once nobody is registered as `peer_id`, without a turn of the loop in between.

        The session that is there is ended if it is the same peer's, and does not answer a PING in time.
        `is_wanted` tells whether the newcomer still waits: for one that has left nothing is ended.

        Raises:
            InvalidRegistrationError: the id is taken.
        """
        old = self._peer(peer_id)
        if old is None:
            return
        error = InvalidRegistrationError(TAKEN, context={"peerId": peer_id})
        if old.role != role or not old.grant.identity.is_same(grant.identity):
            raise error
        if await self._answers(old):
            raise error
        while self._peer(peer_id) is old:
            if not is_wanted():
                return
            old.session.abort(_REPLACED)
            await asyncio.sleep(0)  # its end is told to all concerned in the loop's next turn
        if self._peer(peer_id) is not None:  # another newcomer was quicker
            raise error

    async def _answers(self, old: Peer) -> bool:
        """Whether the peer answers in time; all who want to know at the same time share one PING."""
        answer = self._asked.get(old)
        if answer is None:
            answer = self._asked[old] = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._ask(old, answer), "verser host: takeover")
        return await asyncio.shield(answer)

    async def _ask(self, old: Peer, answer: asyncio.Future[bool]) -> None:
        try:
            await old.session.ping(self._answer_seconds)
            answer.set_result(True)
        except (TimeoutError, ConnectionLost):
            answer.set_result(False)
        finally:
            del self._asked[old]
            answer.cancel()  # the Host closes, and so do those who wait; done already, this does nothing

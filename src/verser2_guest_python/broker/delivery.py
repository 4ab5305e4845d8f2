"""From a request to its answer: which session, which Guest, and what to do when that one fails.

Apart from `dispatch`, one attempt, because here is decided whether there may be another one: a
request that an app may have seen is never sent twice unless its method and its caller allow it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from verser2_guest_python.broker.directory import Directory
from verser2_guest_python.broker.dispatch import NotSent, dispatch, never_reached_an_app, refused_unseen
from verser2_guest_python.broker.keeper import Keeper
from verser2_guest_python.broker.link import Link
from verser2_guest_python.broker.options import check_seconds
from verser2_guest_python.broker.redirects import redirected
from verser2_guest_python.broker.request import Request
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.broker.routes import RouteEntry
from verser2_guest_python.errors import (
    DisconnectedTargetError,
    LeaseTimeoutError,
    MissingGuestError,
    RequestTimeoutError,
    StreamFailureError,
    UpstreamUnavailableError,
    VerserError,
)
from verser2_guest_python.http2.deadline import within

RETRIED_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""To do it twice is to do it once (RFC 9110 §9.2.2)."""

_PASSING = (
    DisconnectedTargetError,
    LeaseTimeoutError,
    MissingGuestError,
    StreamFailureError,
    UpstreamUnavailableError,
)
_NO_LIMIT = (None, math.inf)
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


Dispatch: TypeAlias = Callable[
    [Link, Request, RouteEntry, str, float | None, float | None], Coroutine[Any, Any, VerserBrokerResponse]
]
"""One try of a request, as `dispatch` makes it."""


class Deliver(Protocol):
    """What sends a request: a `Delivery`, or what was put in front of it."""

    def fetch(
        self,
        request: Request,
        retries: int,
        max_redirects: int,
        timeout: float | None,
        total_timeout: float | None,
        send: Dispatch = dispatch,
    ) -> Coroutine[Any, Any, VerserBrokerResponse]:
        """See `Delivery.fetch`."""


class Delivery:
    """Sends the requests of one Broker."""

    def __init__(self, broker_id: str, keeper: Keeper, directory: Directory) -> None:
        self._broker_id = broker_id
        self._keeper = keeper
        self._directory = directory
        self._random = random.Random()  # noqa: S311 - jitter needs no secrecy
        self._count = 0

    def fetch(
        self,
        request: Request,
        retries: int,
        max_redirects: int,
        timeout: float | None,
        total_timeout: float | None,
        send: Dispatch = dispatch,
    ) -> Coroutine[Any, Any, VerserBrokerResponse]:
        """The answer to a request, or to what it was redirected to, as `VerserBroker.request` says.

        Each try of it goes through `send`.
        """
        if timeout in _NO_LIMIT and total_timeout in _NO_LIMIT:
            return self._follow(request, retries, max_redirects, None, None, send)
        return self._limited(request, retries, max_redirects, timeout, total_timeout, send)

    async def _limited(
        self,
        request: Request,
        retries: int,
        max_redirects: int,
        timeout: float | None,
        total_timeout: float | None,
        send: Dispatch,
    ) -> VerserBrokerResponse:
        """The same within limits of time."""
        check_seconds("timeout", timeout)
        check_seconds("total_timeout", total_timeout)
        timeout = None if timeout == math.inf else timeout
        deadline = None
        if total_timeout is not None and total_timeout != math.inf:
            deadline = asyncio.get_running_loop().time() + total_timeout
        seconds = min(timeout or math.inf, total_timeout or math.inf)
        if seconds == math.inf:
            return await self._follow(request, retries, max_redirects, timeout, deadline, send)
        limit = within(seconds)
        try:
            async with limit:
                return await self._follow(request, retries, max_redirects, timeout, deadline, send)
        except TimeoutError:
            if not limit.expired():
                raise  # from the caller's own body
            target = request.target
            raise RequestTimeoutError(
                f"No answer to {request.method} {target.authority}{target.path} came within {seconds:g} s.",
                context={"domain": target.domain},
            ) from None

    async def _follow(
        self,
        request: Request,
        retries: int,
        max_redirects: int,
        timeout: float | None,
        deadline: float | None,
        send: Dispatch,
    ) -> VerserBrokerResponse:
        """The same without a limit for the head.

        `timeout` is what holds between two pieces of its body; `deadline`, a time of the loop, for all of it.
        """
        while True:
            response = await self._deliver(request, retries, timeout, deadline, send)
            if response.status not in (307, 308) or max_redirects <= 0:
                return response
            following = redirected(request, response.headers.get("location"), self._directory.table.has)
            if following is None:
                return response
            await response.aclose()
            request = following
            max_redirects -= 1

    async def _deliver(
        self,
        request: Request,
        retries: int,
        timeout: float | None,
        deadline: float | None,
        send: Dispatch,
    ) -> VerserBrokerResponse:
        """The answer to a request: it moves on, or is sent again, as long as that is allowed."""
        keeper = self._keeper
        avoid: set[str] = set()
        attempts = 0
        waited = False  # for a Guest to return
        link = keeper.link or await keeper.next_link()
        while True:
            entry = self._choose(request, avoid)
            if entry is None:
                entry = await self._directory.route_for(request.target.domain, keeper.check)
                link = keeper.link or await keeper.next_link()
            self._count += 1
            request_id = f"{self._broker_id}-{self._count}"
            try:
                return await send(link, request, entry, request_id, timeout, deadline)
            except NotSent as failure:
                link = await keeper.next_link(link, failure.error)
            except VerserError as error:
                if not request.replayable:
                    raise
                unseen = never_reached_an_app(error, link)
                if unseen and refused_unseen(error) and link.session.closing:
                    link = await keeper.next_link(link, error)  # the Guest has nothing to do with it
                    continue
                avoid.add(entry.guest.target_id)
                if unseen and self._directory.may_return(request.target.domain) and not waited:
                    waited = True
                    avoid.clear()
                elif not (unseen and self._choose(request, avoid) is not None):
                    if attempts >= retries or not _may_pass(request, error, unseen=unseen):
                        raise
                    await self._pause(attempts)
                    attempts += 1
                    if self._choose(request, avoid) is None:
                        avoid.clear()  # nobody else is there: the same again
                link = keeper.link or await keeper.next_link()

    def _choose(self, request: Request, avoid: set[str]) -> RouteEntry | None:
        return self._directory.table.choose(request.target.domain, avoid)

    async def _pause(self, attempts: int) -> None:
        """Before another attempt: longer each time, and not in step with everyone else."""
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempts)
        with self._directory.queue:
            await asyncio.sleep(self._random.uniform(0.0, longest))


def _may_pass(request: Request, error: VerserError, *, unseen: bool) -> bool:
    """Whether the same request may fare better in a moment, and does no harm if an app has seen it."""
    return isinstance(error, _PASSING) and (unseen or request.method in RETRIED_METHODS)

"""From a call to the answer that is shown: tries again what `--retry` allows, follows what `-L` allows.

Apart from the library's own retries because a person waits here: pauses are long enough to help, each one
is told, and statuses count as well. A request that an app may have seen is sent again only if doing it
twice is doing it once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from verser2_guest_python.errors import (
    ConnectFailure,
    DisconnectedTargetError,
    LeaseTimeoutError,
    LocalHandlerFailureError,
    MissingGuestError,
    RequestTimeoutError,
    StreamFailureError,
    UpstreamUnavailableError,
    VerserConnectionError,
    VerserError,
)
from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.calls.redirect import REDIRECTS, following
from verser2_guest_python.service.calls.request import Call
from verser2_guest_python.service.calls.trace import Trace
from verser2_guest_python.service.output.masking import masked_url
from verser2_guest_python.service.output.progress import Progress

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker
    from verser2_guest_python.broker.response import VerserBrokerResponse

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 §9.2.2
_RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
_UNSEEN_STATUSES: Final = frozenset({429, 503})  # refused, not begun: RFC 6585 §4, RFC 9110 §15.6.4
_UNSEEN: Final = (MissingGuestError, LeaseTimeoutError)
_PASSING: Final = (
    *_UNSEEN,
    DisconnectedTargetError,
    StreamFailureError,
    LocalHandlerFailureError,
    UpstreamUnavailableError,
)
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_LONGEST_RETRY_AFTER_SECONDS: Final = 600.0

OnHop = Callable[["VerserBrokerResponse"], Awaitable[None]]


class Patience:
    """How many more tries there are, and how long to wait for the next."""

    def __init__(self, tries: int, notes: Notes) -> None:
        self._tries = tries
        self._used = 0
        self._pause = _FIRST_PAUSE_SECONDS
        self._notes = notes

    @property
    def over(self) -> bool:
        return self._used >= self._tries

    async def wait(self, because: str, asked: float | None = None) -> None:
        """Waits before the next try; `asked` is how long the app wants us to."""
        pause = self._pause if asked is None else min(asked, _LONGEST_RETRY_AFTER_SECONDS)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        self._used += 1
        self._notes.warn(f"{because} Trying again in {pause:g} s ({self._used} of {self._tries}).")
        await asyncio.sleep(pause)


async def connect_patiently(broker: VerserBroker, patience: Patience) -> None:
    """Connects; a Host that cannot be reached is tried again."""
    while True:
        try:
            return await broker.connect()
        except (VerserConnectionError, RequestTimeoutError) as error:
            final = isinstance(error, VerserConnectionError) and error.reason not in (
                ConnectFailure.UNREACHABLE,
                ConnectFailure.TIMEOUT,
            )
            if final or patience.over:
                raise
            await patience.wait(error.message)


class Sender:
    """Sends one call. `sent_at` is when the last request of it was begun (`perf_counter`)."""

    def __init__(
        self, broker: VerserBroker, notes: Notes, patience: Patience, *, show_progress: bool
    ) -> None:
        self._broker = broker
        self._notes = notes
        self._patience = patience
        self._trace = Trace(notes)
        self._show_progress = show_progress
        self.sent_at = 0.0

    async def send(self, call: Call, on_hop: OnHop) -> VerserBrokerResponse:
        """The answer that is meant; `on_hop` is called with each one that only leads to another place."""
        hops = 0
        while True:
            response = await self._try(call)
            next_call = (
                self._next(call, response) if call.redirects and response.status in REDIRECTS else None
            )
            if next_call is None:
                return response
            await on_hop(response)
            await response.aclose()
            hops += 1
            if hops > call.redirects:
                raise VerserError(
                    f"There are more than {call.redirects} redirects, the last to {next_call.url}."
                )
            call = next_call

    def _next(self, call: Call, response: VerserBrokerResponse) -> Call | None:
        location = response.headers.get("location")
        if location is None:
            return None
        domains = {route.domain for route in self._broker.get_routes()}
        next_call = following(call, response.status, location, domains)
        if next_call is None:
            self._notes.warn(
                f"The redirect to {masked_url(location)} is not followed: no Guest serves that domain."
            )
        elif next_call.body is not None and not next_call.body.replayable:
            self._notes.warn(
                f"The redirect to {masked_url(location)} is not followed: the body cannot be read again."
            )
            return None
        return next_call

    async def _try(self, call: Call) -> VerserBrokerResponse:
        """One answer, after as many tries as it may take."""
        once = call.body is not None and not call.body.replayable
        while True:
            try:
                response = await self._attempt(call)
            except VerserError as error:
                if once or self._patience.over or not _may_pass(error, call.method):
                    raise
                await self._patience.wait(error.message)
                continue
            if once or self._patience.over or not _may_change(response.status, call.method):
                return response
            asked = _retry_after(response.headers.get("retry-after"))
            because = f"{response.target_id} answered {response.status} {response.reason}".rstrip()
            await response.aclose()
            await self._patience.wait(f"{because}.", asked)

    async def _attempt(self, call: Call) -> VerserBrokerResponse:
        body, headers = call.body, call.headers
        with Progress("upload", on=self._show_progress) as progress:
            content = None if body is None else body.open(progress.add)
            if body is None or isinstance(content, bytes):
                progress.stop()  # it is over before anybody could look
            elif (length := body.length) is not None:
                progress.total = length
                kept = [pair for pair in headers if pair[0].lower() != "content-length"]
                headers = (*kept, ("content-length", str(length)))
            self._tell(call, headers, content)
            self.sent_at = perf_counter()
            response = await self._broker.request(
                call.method,
                call.url,
                headers=headers,
                body=content,
                route_domain=call.route_domain,
                lease_timeout=call.lease_timeout,
                retries=0,
                max_redirects=0,
            )
        self._trace.response(response, perf_counter() - self.sent_at)
        return response

    def _tell(self, call: Call, headers: tuple[tuple[str, str], ...], content: object) -> None:
        if not self._notes.verbose:
            return
        from verser2_guest_python.broker.target import parse_target

        target = parse_target(call.url, call.route_domain)
        length = len(content) if isinstance(content, bytes) else None
        self._trace.request(call.method, target.authority, target.path, headers, length, route=target.domain)


def _may_pass(error: VerserError, method: str) -> bool:
    """Whether the same request may fare better later, and does no harm if an app has seen it."""
    return isinstance(error, _UNSEEN if method not in _REPEATABLE else _PASSING)


def _may_change(status: int, method: str) -> bool:
    return status in (_RETRIED_STATUSES if method in _REPEATABLE else _UNSEEN_STATUSES)


def _retry_after(value: str | None) -> float | None:
    """The seconds that a `retry-after` field asks for (RFC 9110 §10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (then - datetime.now(UTC)).total_seconds()) if then.tzinfo else None

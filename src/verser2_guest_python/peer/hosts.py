"""Several Hosts, of which a peer joins one: the first that answers, and the next one when it is lost.

    order of an attempt:  the one that comes next, then all others as they were given
    head start:           each Host has a second to answer before the one behind it is dialled too
    joined:               the next attempt begins with the same Host again (a renewal)
    lost:                 the next attempt begins with the one behind it

Apart from those who dial because a Guest and a Broker choose alike, and because the rule has to be
tested without either. Only sessions are raced, never registrations: nobody is registered twice.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    CertificateVerificationError,
    ConnectFailure,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserUsageError,
)
from verser2_guest_python.http2 import Session
from verser2_guest_python.peer.address import HostAddress, parse_host_url
from verser2_guest_python.peer.proxy import Proxy, find_proxy

HEAD_START_SECONDS = 1.0
"""For a Host to answer in, before the next one is dialled as well."""
_SLOWER = "another Host was faster"

T = TypeVar("T")
Dial = Callable[[HostAddress, Proxy | None], Awaitable[Session]]
Register = Callable[[HostAddress, Session], Awaitable[T]]


def parse_host_urls(urls: str | Iterable[str]) -> tuple[HostAddress, ...]:
    """The addresses in one URL or several, each once; raises `VerserUsageError` for a mistake."""
    addresses = tuple(
        dict.fromkeys(parse_host_url(url) for url in ([urls] if isinstance(urls, str) else urls))
    )
    if not addresses:
        raise VerserUsageError("There is no Host URL: write one, such as https://host.example:8443.")
    return addresses


class Hosts:
    """The Hosts that a peer may join, and with which one its next attempt begins.

    Proxies are found once, here: see `find_proxy` for `proxy`, and for what it raises.
    """

    def __init__(
        self,
        addresses: Sequence[HostAddress],
        proxy: str | None = None,
        *,
        head_start: float = HEAD_START_SECONDS,
    ) -> None:
        self.addresses = tuple(addresses)
        self._proxies = {address: find_proxy(address, proxy) for address in self.addresses}
        self._head_start = head_start
        self._first = 0

    def __str__(self) -> str:
        return ", ".join(str(address) for address in self.addresses)

    def order(self) -> tuple[HostAddress, ...]:
        """The Hosts in the order in which the next attempt dials them."""
        return (*self.addresses[self._first :], *self.addresses[: self._first])

    def lost(self, address: HostAddress) -> None:
        """The session with this Host is over, or will soon be: the next one's turn."""
        self._first = (self.addresses.index(address) + 1) % len(self.addresses)

    async def join(self, dial: Dial, register: Register[T]) -> T:
        """Joins the first Host that answers and registers; what `register` returned for it.

        `dial` raises `VerserError` where there is no session, and `register` where the Host refuses;
        it has closed the session then. Further sessions that were dialled meanwhile are closed.

        Raises:
            VerserError: none of the Hosts could be joined. One that may pass by itself goes first; with
                several Hosts the message tells of each.
        """
        waiting = deque(self.order())
        dialling: dict[asyncio.Future[Session], HostAddress] = {}
        errors: list[VerserError] = []
        try:
            while waiting or dialling:
                if waiting:
                    address = waiting.popleft()
                    dialling[asyncio.ensure_future(dial(address, self._proxies[address]))] = address
                done, _ = await asyncio.wait(
                    dialling,
                    timeout=self._head_start if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in [task for task in dialling if task in done]:
                    address = dialling.pop(task)
                    try:
                        joined = await register(address, task.result())
                    except VerserError as error:
                        errors.append(error)
                    else:
                        self._first = self.addresses.index(address)
                        return joined
            raise all_failed(errors)
        finally:
            await _give_up(dialling)


async def _give_up(dialling: Iterable[asyncio.Future[Session]]) -> None:
    """Another Host was faster: ends what was dialled for nothing, in good order unless this is cancelled."""
    tasks = list(dialling)
    for task in tasks:
        task.cancel()
    try:
        results = await asyncio.gather(*tasks, return_exceptions=True)
        sessions = [result for result in results if isinstance(result, Session)]
        await asyncio.gather(*(session.close(reason=_SLOWER) for session in sessions))
    except asyncio.CancelledError:
        for task in tasks:
            task.add_done_callback(_abort)
        raise


def _abort(dialled: asyncio.Future[Session]) -> None:
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().abort(_SLOWER)


def is_final(error: VerserError) -> bool:
    """Whether trying again cannot help before anything has changed: trust, policy, configuration."""
    if isinstance(error, VerserConnectionError):
        return error.reason in (ConnectFailure.TRUST, ConnectFailure.CERTIFICATE_REFUSED, ConnectFailure.ALPN)
    return isinstance(
        error, (AuthorizationDeniedError, CertificateVerificationError, VerserConfigurationError)
    )


def all_failed(errors: Sequence[VerserError]) -> VerserError:
    """One error for those of all Hosts: the first that may pass by itself, else the first."""
    telling = next((error for error in errors if not is_final(error)), errors[0])
    messages = list(dict.fromkeys(error.message for error in errors))
    if len(messages) == 1:
        return telling
    whole = copy.copy(telling)
    whole.message = f"None of the {len(errors)} Hosts can be joined. {' '.join(messages)}"
    whole.args = (whole.message,)
    whole.__cause__ = telling
    return whole

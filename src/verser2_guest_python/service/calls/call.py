"""One request through a Broker from the command line: connect, send, write the answer as it comes.

Apart from the command because it is the part that runs in an event loop, and apart from the daemon
because it must start fast: no settings model, no log.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from verser2_guest_python.errors import MissingGuestError, RequestTimeoutError, VerserUsageError
from verser2_guest_python.service.calls.answer import Presenter, Shown
from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.calls.peer import Peer, tell_before, tell_connected
from verser2_guest_python.service.calls.request import Call
from verser2_guest_python.service.calls.run import run_until_signal
from verser2_guest_python.service.calls.send import Patience, Sender, connect_patiently
from verser2_guest_python.service.calls.spans import run_traced
from verser2_guest_python.service.calls.trace import Trace

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker


def run_call(peer: Peer, call: Call, shown: Shown, notes: Notes) -> int:
    """Makes the call and writes the answer, in a trace if the peer wants it; returns the exit code.

    Raises `VerserError`, and `OutputError` where the answer cannot be written.
    """
    check_call(call)
    return run_traced(
        peer, "request", notes, lambda peer: run_until_signal(lambda: _call(peer, call, shown, notes))
    )


async def _call(peer: Peer, call: Call, shown: Shown, notes: Notes) -> int:
    presenter = Presenter(shown, notes)
    broker = peer.broker(reconnect=call.retries > 0)
    with notes.of_library(warnings=False):  # what it says while it is closed is no news either
        try:
            async with asyncio.timeout(call.timeout):
                code = await _converse(broker, peer, call, presenter, notes)
            presenter.close()
        except TimeoutError:
            raise RequestTimeoutError(f"The answer was not complete within {call.timeout:g} s.") from None
        finally:
            await broker.close(timeout=0.0)
    return code


async def _converse(broker: VerserBroker, peer: Peer, call: Call, presenter: Presenter, notes: Notes) -> int:
    started = perf_counter()
    patience = Patience(call.retries, notes)
    tell_before(notes, peer)
    await connect_patiently(broker, patience)
    tell_connected(notes, broker)
    await wait_for_route(broker, peer, call)
    sender = Sender(broker, notes, patience, show_progress=not notes.silent)
    response = await sender.send(call, presenter.head)
    code = await presenter.answer(response)
    Trace(notes).end(presenter.received, presenter.body_seconds, perf_counter() - started)
    return code


def check_call(call: Call) -> None:
    """Raises `VerserUsageError` for a URL or a method that is none, before anything is connected."""
    from verser2_guest_python.broker.target import parse_target
    from verser2_guest_python.wire.headers import is_token

    if not is_token(call.method):
        raise VerserUsageError(f"{call.method!r} is not an HTTP method.")
    parse_target(call.url, call.route_domain)


async def wait_for_route(broker: VerserBroker, peer: Peer, call: Call) -> None:
    """`--wait`: until a Guest serves the domain. Raises `MissingGuestError` when none does in time."""
    seconds = peer.route_wait if call.wait is None else call.wait
    if seconds is None:
        return
    from verser2_guest_python.broker.target import WEBSOCKET_SCHEMES, parse_target

    domain = parse_target(call.url, call.route_domain, WEBSOCKET_SCHEMES).domain
    try:
        await broker.wait_for_route(domain, timeout=seconds)
    except RequestTimeoutError as error:
        raise MissingGuestError(error.message, context=error.context) from None

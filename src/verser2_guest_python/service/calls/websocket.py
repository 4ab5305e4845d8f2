"""A WebSocket on the command line: lines of standard input go out, messages come in.

Apart because it goes both ways at once, and because it has to decide when it is over: the other end closes, a
signal comes, or the input has ended and nothing has come for a moment.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    MissingGuestError,
    RequestTimeoutError,
    VerserError,
    VerserUsageError,
    VerserWebSocketError,
)
from verser2_guest_python.service.calls.call import wait_for_route
from verser2_guest_python.service.calls.input import read_pieces
from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.calls.peer import Peer, connected
from verser2_guest_python.service.calls.request import Call
from verser2_guest_python.service.calls.run import run_until_signal
from verser2_guest_python.service.calls.spans import run_traced
from verser2_guest_python.service.output.body_output import Output
from verser2_guest_python.service.output.colour import Palette, wants_colour
from verser2_guest_python.service.output.text import duration, safe
from verser2_guest_python.service.process.exit_codes import ExitCode

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker
    from verser2_guest_python.broker.websocket import VerserBrokerWebSocket

DEFAULT_LINGER_SECONDS: Final = 1.0
DEFAULT_PING_SECONDS: Final = 15.0
_MAX_LINE_BYTES: Final = 1 << 20  # protocol.md §11
_BINARY_PIECE_BYTES: Final = 65_536
_PREVIEW_BYTES: Final = 32
_INPUT: Final = 0
_GOOD_ENDS: Final = frozenset({1000, 1001})


@dataclass(frozen=True, slots=True)
class Talk:
    """How a WebSocket is used; times are in seconds, `ping` None sends none."""

    protocols: tuple[str, ...] = ()
    binary: bool = False
    ping: float | None = None
    linger: float = DEFAULT_LINGER_SECONDS


def run_websocket(peer: Peer, call: Call, talk: Talk, notes: Notes) -> int:
    """Opens the WebSocket of `call` and talks until it is over; returns the exit code."""
    from verser2_guest_python.broker.target import WEBSOCKET_SCHEMES, parse_target

    parse_target(call.url, call.route_domain, WEBSOCKET_SCHEMES)
    return run_traced(peer, "ws", notes, lambda peer: run_until_signal(lambda: _run(peer, call, talk, notes)))


async def _run(peer: Peer, call: Call, talk: Talk, notes: Notes) -> int:
    output = Output()
    with notes.of_library(warnings=True):
        async with connected(peer, notes) as broker:
            await wait_for_route(broker, peer, call)
            async with await _open(broker, call, talk) as socket:
                return await _Conversation(socket, talk, output, notes).run()


async def _open(broker: VerserBroker, call: Call, talk: Talk) -> VerserBrokerWebSocket:
    try:
        return await broker.websocket(
            call.url,
            subprotocols=talk.protocols or None,
            headers=call.headers or None,
            route_domain=call.route_domain,
            timeout=call.timeout,
            lease_timeout=call.lease_timeout,
        )
    except VerserWebSocketError as error:
        raise _plain(error, broker) from None


def _plain(error: VerserWebSocketError, broker: VerserBroker) -> VerserError:
    """The error that a request would have ended with, where that says more (and has an exit code)."""
    context = error.context
    domain = context.get("domain")
    served = any(route.domain == domain for route in broker.get_routes())
    if error.code == MissingGuestError.default_code and not served:
        return MissingGuestError(error.message, context=context)
    if error.code == RequestTimeoutError.default_code:
        return RequestTimeoutError(error.message, context=context)
    if error.code == AuthorizationDeniedError.default_code:
        return AuthorizationDeniedError(error.message, context=context)
    status = f" (status {error.status})" if error.status is not None else ""
    return VerserWebSocketError(
        f"The WebSocket was not accepted{status}: {error.message}", code=error.code, context=context
    )


class _Conversation:
    """One WebSocket that is open, standard input and standard output."""

    def __init__(self, socket: VerserBrokerWebSocket, talk: Talk, output: Output, notes: Notes) -> None:
        self._socket = socket
        self._talk = talk
        self._output = output
        self._notes = notes
        self._reads_terminal = sys.stdin is not None and os.isatty(_INPUT)
        self._on_terminal = output.is_terminal
        self._palette = Palette(on=wants_colour(output.descriptor, os.environ))
        self._heard = asyncio.Event()  # anything, since somebody began to listen for it
        self._answered = asyncio.Event()  # the same, for pings
        self._pinged_at = 0.0
        self._left = False  # we have closed it, having nothing more to say

    async def run(self) -> int:
        """Until it is closed; returns the exit code."""
        protocol = f", subprotocol {self._socket.protocol}" if self._socket.protocol else ""
        self._notes.detail("*", f"Open with {self._socket.target_id}{protocol}")
        if self._reads_terminal and self._on_terminal:
            self._notes.warn(f"Connected to {self._socket.target_id}{protocol}. Ctrl-D closes.")
        receiving = asyncio.create_task(self._receive(), name="verser2-ws-receive")
        tasks: set[asyncio.Task[None]] = {
            receiving,
            asyncio.create_task(self._send(), name="verser2-ws-send"),
        }
        if self._talk.ping is not None:
            tasks.add(asyncio.create_task(self._ping(self._talk.ping), name="verser2-ws-ping"))
        try:
            while not receiving.done():
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                tasks -= done
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        return self._end()

    def _end(self) -> int:
        code, reason = self._socket.close_code or 1006, self._socket.close_reason
        said = f" ({safe(reason)})" if reason else ""
        self._notes.detail("*", f"Closed with {code}{said}")
        if self._left or code in _GOOD_ENDS:
            return ExitCode.DONE
        meaning = ": it ended without a closing handshake" if code == 1006 and not said else said
        self._notes.warn(f"The WebSocket was closed with {code}{meaning}.")
        return ExitCode.FAILED

    # --- In -----------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while (message := await self._socket.receive())["type"] != "close":
            self._heard.set()
            self._answered.set()
            if message["type"] == "pong":
                seconds = perf_counter() - self._pinged_at
                self._notes.detail("*", f"Pong after {duration(seconds * 1000)}")
            else:
                await self._output.write(self._shown(message["data"]))

    def _shown(self, data: str | bytes) -> bytes:
        if self._talk.binary:
            return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
        if not self._on_terminal:
            return (data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")) + b"\n"
        if isinstance(data, bytes):
            more = " …" if len(data) > _PREVIEW_BYTES else ""
            text = self._palette.dim(f"{len(data)} bytes: {data[:_PREVIEW_BYTES].hex(' ')}{more}")
        else:
            text = "\n".join(safe(line) for line in data.split("\n"))
        return f"\r\x1b[K{self._palette.number('<')} {text}\n".encode("utf-8", "backslashreplace")

    # --- Out ----------------------------------------------------------------------------------

    async def _send(self) -> None:
        async with aclosing(self._binary_input() if self._talk.binary else self._lines()) as messages:
            async for message in messages:
                if isinstance(message, str):
                    await self._socket.send_text(message)
                else:
                    await self._socket.send_bytes(message)
        if not self._reads_terminal:
            await self._wait_for_quiet()
        self._left = True
        await self._socket.close()

    async def _wait_for_quiet(self) -> None:
        """The input has ended, but answers to it may be on their way: until none has come for a while."""
        linger = None if self._talk.linger == math.inf else self._talk.linger
        while True:
            self._heard.clear()
            try:
                async with asyncio.timeout(linger):
                    await self._heard.wait()
            except TimeoutError:
                return

    async def _binary_input(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(_standard_input()) as pieces:
            async for piece in pieces:
                yield piece

    async def _lines(self) -> AsyncGenerator[str, None]:
        rest = b""
        async with aclosing(_standard_input()) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield _text(line)
                if len(rest) > _MAX_LINE_BYTES:
                    raise VerserUsageError("A line of the input is longer than a message may be (1 MiB).")
        if rest:
            yield _text(rest)

    async def _ping(self, interval: float) -> None:
        while True:
            self._answered.clear()
            self._pinged_at = perf_counter()
            await self._socket.ping("verser2")
            await asyncio.sleep(interval)
            if not self._answered.is_set():
                raise RequestTimeoutError(
                    f"The WebSocket gave no sign of life within {interval:g} s of a ping."
                )


async def _standard_input() -> AsyncGenerator[bytes, None]:
    if sys.stdin is None:  # closed: the descriptor may be anything by now
        return
    try:
        async with aclosing(read_pieces(_INPUT, _BINARY_PIECE_BYTES)) as pieces:
            async for piece in pieces:
                yield piece
    except OSError as error:
        raise VerserUsageError(f"Standard input cannot be read ({error.strerror}).") from None


def _text(line: bytes) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise VerserUsageError(
            "A line of the input is not UTF-8: --binary sends bytes as they are."
        ) from None

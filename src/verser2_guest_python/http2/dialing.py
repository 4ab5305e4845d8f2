"""TCP to a name that has several addresses: happy eyeballs (RFC 8305), for asyncio and uvloop.

Apart because uvloop's `create_connection` tries addresses one after the other, each until the kernel
gives up: one address that swallows packets would cost minutes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TypeAlias

ATTEMPT_DELAY_SECONDS = 0.25
"""Between the starts of two attempts (RFC 8305 §5)."""

_Address: TypeAlias = tuple[int, tuple[object, ...]]


async def open_tcp(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket; whichever address answers first wins.

    Raises:
        OSError: no address, or none that answered; the first failure is told.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = interleave([(family, address) for family, _, _, _, address in found])
    if len(addresses) == 1:
        return await _attempt(*addresses[0])
    return await _race(addresses)


def interleave(addresses: Sequence[_Address]) -> list[_Address]:
    """Addresses of the two families in turn, beginning with the resolver's first choice (§4)."""
    families = list(dict.fromkeys(family for family, _ in addresses))
    groups = [[one for one in addresses if one[0] == family] for family in families]
    return list(dict.fromkeys(one for one in chain.from_iterable(zip_longest(*groups)) if one is not None))


async def _attempt(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _race(addresses: list[_Address]) -> socket.socket:
    """Starts an attempt every 250 ms, or as soon as one has failed; closes what loses."""
    attempts: list[asyncio.Task[socket.socket]] = []
    running: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    winner: socket.socket | None = None
    loop = asyncio.get_running_loop()
    try:
        while True:
            if waiting:
                task = loop.create_task(_attempt(*waiting.pop(0)))
                attempts.append(task)
                running.add(task)
            delay = ATTEMPT_DELAY_SECONDS if waiting else None
            done, running = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in attempts:
                if task in done and task.exception() is None:
                    attempts.remove(task)
                    winner = task.result()
                    return winner
            if not running and not waiting:
                raise _first_failure(attempts)
    finally:
        try:
            await _clear(attempts)
        except BaseException:  # cancelled, when it had won already
            if winner is not None:
                winner.close()
            raise


def _first_failure(attempts: list[asyncio.Task[socket.socket]]) -> BaseException:
    for task in attempts:
        error = task.exception()
        if error is not None:
            return error
    return OSError("there is no address to connect to")


async def _clear(attempts: list[asyncio.Task[socket.socket]]) -> None:
    for task in attempts:
        task.add_done_callback(_close_socket)  # also when nobody waits for that any more
        task.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)


def _close_socket(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()

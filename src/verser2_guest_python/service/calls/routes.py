"""The routes of a Host: as a table, as JSON, or as what changes.

Apart because nothing is sent here: a Broker registers, and hears from the Host (protocol.md §10). How long a
route has been what it is, it knows from its own registration on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from typing import TYPE_CHECKING, Final

from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.calls.peer import Peer, connected, tell_before, tell_connected
from verser2_guest_python.service.calls.run import run_until_signal
from verser2_guest_python.service.output.body_output import Output
from verser2_guest_python.service.output.colour import Palette, can_redraw, wants_colour
from verser2_guest_python.service.output.progress import clock
from verser2_guest_python.service.output.text import safe
from verser2_guest_python.service.process.exit_codes import ExitCode

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker
    from verser2_guest_python.broker.changes import RouteChanges
    from verser2_guest_python.broker.listeners import RouteChange
    from verser2_guest_python.broker.routes import BrokerRoute

_HEAD: Final = ("DOMAIN", "GUEST", "STATE", "SINCE")
_GAP: Final = "  "
_REDRAWN_EVERY_SECONDS: Final = 1.0
_CLEAR_BELOW: Final = "\r\x1b[J"
_NO_ROUTES: Final = "The Host has no routes: no Guest is registered."


@dataclass(frozen=True, slots=True)
class _Size:
    columns: int
    lines: int


def run_routes(peer: Peer, notes: Notes, *, watch: bool, as_json: bool) -> int:
    """Shows the routes, once or for as long as they change; returns the exit code."""
    return run_until_signal(lambda: (_watch if watch else _show)(peer, notes, as_json=as_json))


def state_of(route: BrokerRoute) -> str:
    """The state of a route in a word."""
    return "degraded" if route.degraded else "active"


# --- Once -----------------------------------------------------------------------------------------


async def _show(peer: Peer, notes: Notes, *, as_json: bool) -> int:
    output = Output()
    with notes.of_library(warnings=False):
        async with connected(peer, notes) as broker:
            routes = _sorted(broker.get_routes())
    palette = Palette(on=wants_colour(output.descriptor, os.environ))
    if as_json:
        await output.write(_json(routes, palette, indented=output.is_terminal))
        return ExitCode.DONE
    if not routes:
        notes.warn(_NO_ROUTES)
    lines = table(routes, palette)
    await output.write("".join(f"{line}\n" for line in lines).encode())
    return ExitCode.DONE


def table(
    routes: Sequence[BrokerRoute], palette: Palette, now: datetime | None = None, columns: int | None = None
) -> list[str]:
    """The lines of the table; with `columns` none is longer.

    `now` tells since when each is as it is: as this Broker saw it, so only where it has watched for a while.
    """
    rows = [
        (safe(route.domain), safe(route.target_id), state_of(route), *([_since(route, now)] if now else []))
        for route in routes
    ]
    head = _HEAD if now else _HEAD[:-1]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    lines = [palette.dim(_cut(_row(head, widths), columns))]
    for row in rows:
        line = _cut(_row(row, widths), columns)
        lines.append(palette.warning(line) if row[2] == "degraded" else line)
    return lines


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return _GAP.join([*cells, row[-1]])


def _cut(line: str, columns: int | None) -> str:
    return line if columns is None or len(line) < columns else line[: max(columns - 1, 0)]


def _since(route: BrokerRoute, now: datetime) -> str:
    """When, and how long ago: `14:03:20 (5 s)`."""
    seconds = (now - route.since).total_seconds()
    local = route.since.astimezone()
    when = local.strftime("%H:%M:%S" if seconds < 86_400 else "%Y-%m-%d %H:%M")
    return f"{when} ({clock(seconds)})"


def _sorted(routes: Sequence[BrokerRoute]) -> list[BrokerRoute]:
    return sorted(routes, key=lambda route: (route.domain, route.target_id))


def _json(routes: Sequence[BrokerRoute], palette: Palette, *, indented: bool) -> bytes:
    rows = [
        {
            "domain": route.domain,
            "guest": route.target_id,
            "state": state_of(route),
            "since": _stamp(route.since),
        }
        for route in routes
    ]
    text = dumps(rows, ensure_ascii=False).encode("utf-8", "backslashreplace")
    if indented:
        from verser2_guest_python.service.output.json_text import pretty_json

        pretty = pretty_json(text, palette)
        if pretty is not None:
            return pretty.encode()
    return text + b"\n"


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- As they change -------------------------------------------------------------------------------


async def _watch(peer: Peer, notes: Notes, *, as_json: bool) -> int:
    output = Output()
    live = not as_json and can_redraw(output.descriptor, os.environ)
    broker = peer.broker(reconnect=True)
    changes = broker.routes()  # from before the first line of the Host on: its routes are changes too
    try:
        with notes.of_library(warnings=not live):
            tell_before(notes, peer)
            await broker.connect()
            tell_connected(notes, broker)
            if live:
                await _Screen(output, broker, peer).follow(changes)
            else:
                async for change in changes:
                    await output.write(_line(change, as_json=as_json))
    finally:
        await broker.close(timeout=0.0)
    return ExitCode.DONE


def _line(change: RouteChange, *, as_json: bool) -> bytes:
    """One change as a line: with tabs between its fields, or as JSON."""
    now = _stamp(datetime.now(UTC))
    if as_json:
        said = {"time": now, "type": change.type, "domain": change.domain, "guest": change.target_id}
        if change.reason is not None:
            said["reason"] = change.reason
        return dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    fields = (now, change.type, change.domain, change.target_id, change.reason or "-")
    return ("\t".join(safe(field) for field in fields) + "\n").encode()


class _Screen:
    """The table on a terminal, drawn over itself when a route changes, and every second for the times."""

    def __init__(self, output: Output, broker: VerserBroker, peer: Peer) -> None:
        self._output = output
        self._broker = broker
        self._peer = peer
        self._palette = Palette(on=wants_colour(output.descriptor, os.environ))
        self._drawn = 0

    async def follow(self, changes: RouteChanges) -> None:
        while not changes.ended:
            await self._draw()
            try:
                async with asyncio.timeout(_REDRAWN_EVERY_SECONDS):
                    await anext(changes, None)
            except TimeoutError:
                continue

    async def _draw(self) -> None:
        size = _terminal_size(self._output.descriptor)
        now = datetime.now(UTC)
        lines = table(_sorted(self._broker.get_routes()), self._palette, now, size.columns)
        room = max(size.lines - 2, 1)  # one for the state of things, one for the cursor
        if len(lines) > room:
            hidden = len(lines) - room + 1
            lines = [*lines[: room - 1], self._palette.dim(_cut(f"… and {hidden} more", size.columns))]
        lines.append(self._state(size.columns))
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._drawn = len(lines)
        text = "\n".join([*lines, ""])
        await self._output.write(f"{up}{_CLEAR_BELOW}{text}".encode())

    def _state(self, columns: int) -> str:
        if not self._broker.connected:
            return self._palette.bad(_cut("The session with the Host was lost: trying again.", columns))
        if not self._broker.get_routes():
            return self._palette.dim(_cut(_NO_ROUTES, columns))
        return self._palette.dim(_cut(f"{' '.join(self._peer.host_urls)} - Ctrl-C ends", columns))


def _terminal_size(descriptor: int) -> _Size:
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return _Size(80, 24)
    return _Size(size.columns or 80, size.lines or 24)

"""`broker ws URL`: a WebSocket with an app, lines out and messages in."""

from __future__ import annotations

from typing import Any

import click

from verser2_guest_python.cli.broker_options import (
    ANSWER,
    HEADER,
    OPENING_LIMITS,
    REQUEST,
    ROUTE_DOMAIN,
    USER,
    VERBOSE,
    credentials,
    failures,
    not_negative,
    option,
    peer_of,
    seconds,
    sources_of,
    switch,
    with_options,
)
from verser2_guest_python.cli.parameters import GroupedCommand

_PING = "--ping"
_DEFAULT_PING = "15"


class _Command(GroupedCommand):
    """Knows that the time behind `--ping` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        complete: list[str] = []
        for position, argument in enumerate(args):
            complete.append(argument)
            if argument == _PING and not _is_number(args[position + 1 : position + 2]):
                complete.append(_DEFAULT_PING)
        return super().parse_args(ctx, complete)


def _is_number(words: list[str]) -> bool:
    return bool(words) and words[0].replace(".", "", 1).isdigit()


@click.command(cls=_Command)
@click.argument("url", metavar="URL")
@with_options(
    option(
        "--protocol",
        "protocols",
        group=REQUEST,
        multiple=True,
        metavar="NAME",
        help="A subprotocol to offer; repeat it for more, the best first.",
    ),
    HEADER,
    USER,
    ROUTE_DOMAIN,
    OPENING_LIMITS,
    switch(
        "--binary",
        "binary",
        group=ANSWER,
        help="Send what is read as binary messages, and write what comes without line ends.",
    ),
    seconds(
        _PING,
        "ping",
        group=ANSWER,
        help="Ping so often (15 if it is not said), and end with 28 when nothing comes back.  [default: off]",
    ),
    option(
        "--linger",
        "linger",
        group=ANSWER,
        type=float,
        default=1.0,
        callback=not_negative,
        metavar="SECONDS",
        help="How long it must be quiet, once the input has ended, before it is closed.  [default: 1]",
    ),
    VERBOSE,
)
def ws(url: str, **values: Any) -> int:
    """Open a WebSocket with the app at URL (ws://, wss://, http://, https:// or domain/path).

    Each line of standard input is sent as a text message; each message that comes is written as a line.
    Ends with 0 when it is closed with 1000 or 1001, or by the end of the input.
    """
    with failures():
        from verser2_guest_python.service.calls.limits import call_limits
        from verser2_guest_python.service.calls.notes import Notes
        from verser2_guest_python.service.calls.request import Call, websocket_headers
        from verser2_guest_python.service.calls.websocket import Talk, run_websocket

        sources = sources_of(values)
        limits = call_limits(sources)
        url, user = credentials(values["user"], url)
        call = Call(
            method="GET",
            url=url,
            headers=websocket_headers(values["headers"], user),
            route_domain=values["route_domain"],
            timeout=limits.timeout,
            wait=limits.wait,
            lease_timeout=limits.lease_timeout,
        )
        talk = Talk(values["protocols"], values["binary"], values["ping"], values["linger"])
        return run_websocket(
            peer_of(sources, url, values["route_domain"]), call, talk, Notes(verbose=values["verbose"])
        )

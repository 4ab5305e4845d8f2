"""`broker routes`: which Guest serves which domain, once or as it changes."""

from __future__ import annotations

from typing import Any

import click

from verser2_guest_python.cli.broker_options import (
    ANSWER,
    VERBOSE,
    failures,
    peer_of,
    sources_of,
    switch,
    with_options,
)
from verser2_guest_python.cli.parameters import GroupedCommand


@click.command(cls=GroupedCommand)
@with_options(
    switch(
        "--watch",
        "watch",
        group=ANSWER,
        help="Go on, in place on a terminal, else with one line for each change.",
    ),
    switch("--json", "as_json", group=ANSWER, help="As JSON; with --watch one object a line."),
    VERBOSE,
)
def routes(*, watch: bool, as_json: bool, verbose: bool, **values: Any) -> int:
    """Show which Guest serves which domain, in which state, since when.

    A route is degraded for a few seconds after its Guest was lost. Times begin with our own registration:
    a Host does not tell what was before.
    """
    with failures():
        from verser2_guest_python.service.calls.notes import Notes
        from verser2_guest_python.service.calls.routes import run_routes

        return run_routes(peer_of(sources_of(values)), Notes(verbose=verbose), watch=watch, as_json=as_json)

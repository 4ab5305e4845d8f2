"""`verser2-guest APP` and `verser2-guest serve APP`: run a Guest until it is told to stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from verser2_guest_python.cli.parameters import GroupedCommand, given_settings, setting_options
from verser2_guest_python.service.settings.options import SERVE_KEYS


@click.command(cls=GroupedCommand)
@click.argument("app", required=False, metavar="[APP]")
@setting_options(SERVE_KEYS)
@click.pass_obj
def serve(arguments: Sequence[str], /, app: str | None, **values: Any) -> int:
    """Serve the ASGI app APP (module:attribute) through a Host.

    The first SIGINT or SIGTERM lets requests under way finish, the second ends at once. SIGHUP moves to
    a new session, with certificates read anew; with --workers it replaces them one by one, and SIGTTIN
    and SIGTTOU add one and take one away.
    """
    from verser2_guest_python.service.daemons.run import run
    from verser2_guest_python.service.settings.model import load_settings

    given = given_settings(values)
    if app is not None:
        given["app"] = app
    return run(load_settings(given), arguments)

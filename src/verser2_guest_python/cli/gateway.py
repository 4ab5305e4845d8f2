"""`verser2-guest gateway`: HTTP and WebSockets in, a Host out, until it is told to stop."""

from __future__ import annotations

from typing import Any

import click

from verser2_guest_python.cli.parameters import GroupedCommand, given_settings, setting_options
from verser2_guest_python.service.settings.options import GATEWAY_KEYS


@click.command(cls=GroupedCommand)
@setting_options(GATEWAY_KEYS)
def gateway(**values: Any) -> int:
    """Listen for HTTP and WebSockets, and pass them on to the apps behind Guests.

    The host that a client asks for picks the app. Needs the extra gateway. The first SIGINT or SIGTERM
    lets requests under way finish, the second ends at once.
    """
    from verser2_guest_python.service.daemons.gateway import run_gateway
    from verser2_guest_python.service.settings.model import load_settings

    return run_gateway(load_settings(given_settings(values)))

"""`verser2-guest host`: a Host as a process, until it is told to stop."""

from __future__ import annotations

from typing import Any, Final

import click

from verser2_guest_python.cli.parameters import GroupedCommand, given_settings, setting_options
from verser2_guest_python.service.settings.options import HOST_KEYS

SENTENCES: Final = {
    "tls.cert_file": "PEM file with the Host's certificate, and with the chain behind it.",
    "tls.key_file": "PEM file with its key.",
    "tls.pfx_file": "PKCS#12 file with both, instead of the two PEM files.",
}


@click.command(cls=GroupedCommand)
@setting_options(HOST_KEYS, sentences=SENTENCES)
def host(**values: Any) -> int:
    """Run a Host: Guests and Brokers dial it, and it carries requests between them.

    With --client-ca-file a peer is called as its certificate says. [[host.policy]] in the file of --config
    says more precisely who may serve and call what. With neither, only peers on this machine may register.

    SIGHUP reads the certificates and the policy anew. The first SIGINT or SIGTERM lets requests under way
    finish, the second ends at once.
    """
    from verser2_guest_python.service.daemons.host import run_host

    return run_host(given_settings(values))

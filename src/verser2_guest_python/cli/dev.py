"""`verser2-guest dev APP`: an app with a Host of its own on this machine, and the line that calls it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from verser2_guest_python.cli.parameters import GroupedCommand, given_settings, setting_options
from verser2_guest_python.service.options import DEV_KEYS

if TYPE_CHECKING:
    from verser2_guest_python.service.dev_stack import DevStack

_PROGRAM: Final = "verser2-guest"


@click.command(cls=GroupedCommand)
@click.argument("app", required=False, metavar="[APP]")
@setting_options(DEV_KEYS, optional=frozenset({"routed_domains"}))
def dev(app: str | None, **values: Any) -> int:
    """Serve the ASGI app APP (module:attribute) with a Host of its own on this machine.

    The domain is the name of the module with .localhost unless --domain says otherwise. Certificates
    are made by themselves. Ends on SIGINT and SIGTERM.
    """
    from verser2_guest_python.errors import VerserUsageError
    from verser2_guest_python.service.run_dev import run_dev
    from verser2_guest_python.service.settings import load_settings

    given = given_settings(values)
    if app is not None:
        given["app"] = app
    settings = load_settings(given)
    if not settings.app:
        raise VerserUsageError("APP is missing: name the app as module:attribute, such as myapp:app.")
    return run_dev(settings, lambda stack: _show(settings.app, stack))


def _show(app: str, stack: DevStack) -> None:
    from verser2_guest_python.peer import find_proxy, parse_host_url

    run = stack.run()
    get = [own_command(), "broker", "get", f"http://{run.domains[0]}/"]
    spelled_out = [
        *get,
        *("--host-url", run.host_url),
        *("--tls-ca-file", run.ca_file),
        *("--tls-cert-file", run.cert_file),
        *("--tls-key-file", run.key_file),
        *(("--proxy", "") if find_proxy(parse_host_url(run.host_url), None) else ()),
    ]
    click.echo(
        f"\n  {_bold(app)} serves {_bold(', '.join(run.domains))}. Ask it from another terminal:\n\n"
        f"    {_bold(shlex.join(get))}\n\n"
        f"  The same, naming this very Host (without a name the `dev` that was started last is asked):\n\n"
        f"    {shlex.join(spelled_out)}\n\n"
        f"  {_dim('Host')}          {run.host_url}\n"
        f"  {_dim('Certificates')}  {stack.certificates.directory}\n"
        f"  {_dim('Stop')}          Ctrl-C\n"
    )


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def own_command() -> str:
    """How this program is called from another terminal: by its name, if that leads here."""
    here = Path(sys.argv[0])
    found = shutil.which(_PROGRAM)
    if found is not None and here.exists() and Path(found).resolve() == here.resolve():
        return _PROGRAM
    script = Path(sys.executable).with_name(_PROGRAM)
    return str(script if script.exists() else here)

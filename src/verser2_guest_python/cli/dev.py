"""`verser2-guest dev APP`: an app with a Host and a gateway of its own on this machine, on one screen."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from verser2_guest_python.cli.parameters import GroupedCommand, GroupedOption, given_settings, setting_options
from verser2_guest_python.service.settings.options import DEV_KEYS

if TYPE_CHECKING:
    from verser2_guest_python.service.dev.run import DevView

_PROGRAM: Final = "verser2-guest"
_GROUP: Final = "Working on it"
_NAME_WIDTH: Final = 14


@click.command(cls=GroupedCommand)
@click.argument("app", required=False, metavar="[APP]")
@click.option(
    "--port",
    cls=GroupedOption,
    group=_GROUP,
    type=click.IntRange(0, 65_535),
    metavar="N",
    help="Port on loopback where browsers find it; 0 for any.  [default: 8080, or the next that is free]",
)
@click.option(
    "--no-reload",
    "reload",
    cls=GroupedOption,
    group=_GROUP,
    is_flag=True,
    flag_value=False,
    default=True,
    help="Leave the app as it is when its source changes, and run it in this process.",
)
@click.option(
    "--open",
    "open_browser",
    cls=GroupedOption,
    group=_GROUP,
    is_flag=True,
    help="Open the app in a browser once it serves.",
)
@setting_options(DEV_KEYS, optional=frozenset({"routed_domains"}))
@click.pass_obj
def dev(
    arguments: Sequence[str],
    /,
    app: str | None,
    port: int | None,
    reload: bool,
    open_browser: bool,
    **values: Any,
) -> int:
    """Serve the ASGI app APP (module:attribute) on this machine, and reload it when its source changes.

    It goes through a Host of its own, as it will elsewhere, and browsers find it at
    http://MODULE.localhost:8080/; --domain says another name. Certificates are made by themselves. Ends on
    SIGINT and SIGTERM.
    """
    from verser2_guest_python.errors import VerserUsageError
    from verser2_guest_python.service.dev.run import DevOptions, run_dev
    from verser2_guest_python.service.settings.model import load_settings

    given = given_settings(values)
    if app is not None:
        given["app"] = app
    settings = load_settings(given)
    if not settings.app:
        raise VerserUsageError("APP is missing: name the app as module:attribute, such as myapp:app.")

    options = DevOptions(port=port, reload=reload, open_browser=open_browser)
    return run_dev(settings, options, arguments, lambda view: click.echo(screen(view)))


def screen(view: DevView) -> str:
    """All that there is to know, on one screen."""
    domain = view.stack.domains[0]
    get = shlex.join([own_command(), "broker", "get", f"http://{domain}/"])
    socket = shlex.join([own_command(), "broker", "ws", f"ws://{domain}/"])
    lines = ["", f"  {_bold(view.app)} serves {_bold(', '.join(view.stack.domains))}.", ""]
    if view.url:
        lines += [f"    {click.style(view.url, fg='cyan', bold=True, underline=True)}", ""]
        if view.port_taken is not None:
            lines += [f"  Port {view.port_taken} is in use, so this is another one; --port names one.", ""]
    lines += [_line("Ask it", get), _line("WebSocket", socket)]
    if view.inspector_url:
        lines.append(_line("Look inside", view.inspector_url))
    lines += [
        _line("Host", view.stack.host.url),
        _line("Certificates", str(view.stack.certificates.directory)),
    ]
    if view.watched:
        lines.append(
            _line("Reload", f"when a *.py changes in {', '.join(_shown(one) for one in view.watched)}")
        )
    if view.missing:
        lines.append(_line("Missing", _missing(view.missing)))
    return "\n".join([*lines, _line("Stop", "Ctrl-C"), ""])


def _missing(extras: Sequence[str]) -> str:
    what = {"gateway": "no URL for a browser (gateway)", "reload": "no reload"}
    return (
        f"{' and '.join(what[extra] for extra in extras)}: pip install 'verser2-guest-python[dev]' adds that"
    )


def _shown(directory: Path) -> str:
    home = Path.home()
    return str("~" / directory.relative_to(home)) if directory.is_relative_to(home) else str(directory)


def _line(name: str, text: str) -> str:
    return f"  {click.style(name.ljust(_NAME_WIDTH), dim=True)}{text}"


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def own_command() -> str:
    """How this program is called from another terminal: by its name, if that leads here."""
    here = Path(sys.argv[0])
    found = shutil.which(_PROGRAM)
    if found is not None and here.exists() and Path(found).resolve() == here.resolve():
        return _PROGRAM
    script = Path(sys.executable).with_name(_PROGRAM)
    return str(script if script.exists() else here)

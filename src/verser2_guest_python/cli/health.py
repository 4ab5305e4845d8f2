"""`verser2-guest health`: asks a running Guest how it is, for containers and scripts."""

from __future__ import annotations

from typing import Any

import click

from verser2_guest_python.cli.parameters import (
    GroupedCommand,
    GroupedOption,
    above_zero,
    given_settings,
    setting_options,
)
from verser2_guest_python.service.settings.options import ASK_HEALTH_KEYS


@click.command(cls=GroupedCommand)
@click.argument("url", required=False, metavar="[URL]")
@click.option(
    "--live",
    cls=GroupedOption,
    is_flag=True,
    help="Ask whether its event loop turns, and not whether requests can come.",
)
@click.option(
    "--timeout",
    cls=GroupedOption,
    type=float,
    default=5.0,
    metavar="SECONDS",
    callback=above_zero,
    help="How long to wait for the answer.  [default: 5]",
)
@setting_options(ASK_HEALTH_KEYS)
def health(url: str | None, live: bool, timeout: float, **values: Any) -> int:
    """Ask a running Guest, Host or gateway whether requests can come.

    The exit code is 0 for yes, 1 for no or no answer. It is asked where the health settings say that it
    answers, or at URL (http://HOST:PORT). One line says why.
    """
    from verser2_guest_python.service.health.ask import ask_health
    from verser2_guest_python.service.process.exit_codes import ExitCode
    from verser2_guest_python.service.settings.sources import Sources

    sources = Sources.of_process(given_settings(values))
    ok, sentence = ask_health(sources, url, path="/livez" if live else "/readyz", timeout=timeout)
    click.echo(sentence)
    return ExitCode.DONE if ok else ExitCode.FAILED

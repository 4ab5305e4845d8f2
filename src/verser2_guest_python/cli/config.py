"""`verser2-guest config`: what the settings are, whether they are right, and what there is to set."""

from __future__ import annotations

import json
from typing import Any

import click

from verser2_guest_python.cli.parameters import (
    HELP_WIDTH,
    GroupedCommand,
    GroupedOption,
    given_settings,
    setting_options,
)
from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.settings.options import SERVE_KEYS, SOURCE_KEYS

# The options of `serve` are known to these commands as well, so that any command line can be looked at
_HIDDEN = frozenset(SERVE_KEYS) - frozenset(SOURCE_KEYS)


@click.group(invoke_without_command=True, context_settings={"max_content_width": HELP_WIDTH})
@click.pass_context
def config(context: click.Context) -> None:
    """Show and check settings, wherever they come from."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@config.command(cls=GroupedCommand)
@click.argument("app", required=False, metavar="[APP]")
@click.option("--json", "as_json", is_flag=True, cls=GroupedOption, help="As JSON, for programs.")
@setting_options(SERVE_KEYS, hidden=_HIDDEN)
def show(app: str | None, as_json: bool, **values: Any) -> int:
    """Show the settings in force, and where each was said.

    What is shown is TOML itself, with passwords masked. APP and the options of `verser2-guest serve`
    may be given as well.
    """
    from verser2_guest_python.service.config import show as config_show
    from verser2_guest_python.service.settings.sources import Sources

    sources = Sources.of_process(_given(app, values))
    shown, problems = config_show.effective_settings(sources)
    if as_json:
        click.echo(config_show.as_json(shown))
    else:
        for line in config_show.as_toml(shown, sources):
            click.echo(line)
    for problem in problems:
        click.echo(f"verser2-guest: {problem.message}", err=True)
    return ExitCode.CONFIGURATION if problems else ExitCode.DONE


@config.command(cls=GroupedCommand)
@click.argument("app", required=False, metavar="[APP]")
@click.option(
    "--import-app/--no-import-app",
    default=True,
    cls=GroupedOption,
    help="Import the app as well.  [default: on]",
)
@setting_options(SERVE_KEYS, hidden=_HIDDEN)
def check(app: str | None, import_app: bool, **values: Any) -> int:
    """Find what is wrong with the settings, without connecting.

    Looks at values, URLs, files, keys, the dates and names of certificates, and imports the app. Every
    problem is a line on stderr, and makes the command end with 78. APP and the options of
    `verser2-guest serve` may be given as well.
    """
    from verser2_guest_python.service.config.check import check as check_settings
    from verser2_guest_python.service.config.report import Report
    from verser2_guest_python.service.settings.sources import Sources

    try:
        report = check_settings(Sources.of_process(_given(app, values)), with_app=import_app)
    except VerserConfigurationError as error:  # of the places where settings come from
        report = Report(problems=error.message.splitlines())
    for fact in report.facts:
        click.echo(f"ok: {fact}")
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    for problem in report.problems:
        click.echo(f"verser2-guest: {' '.join(problem.split())}", err=True)
    return ExitCode.CONFIGURATION if report.problems else ExitCode.DONE


@config.command(cls=GroupedCommand)
def schema() -> None:
    """Show the JSON Schema of a file of settings."""
    from verser2_guest_python.service.settings.model import settings_schema

    click.echo(json.dumps(settings_schema(), indent=2, ensure_ascii=False))


def _given(app: str | None, values: dict[str, Any]) -> dict[str, Any]:
    given = given_settings(values)
    return given if app is None else {**given, "app": app}

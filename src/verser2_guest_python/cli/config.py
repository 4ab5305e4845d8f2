"""`verser2-guest config`: what the settings are, whether they are right, and what there is to set."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import click

from verser2_guest_python.cli.host import SENTENCES
from verser2_guest_python.cli.parameters import (
    HELP_WIDTH,
    GroupedCommand,
    GroupedOption,
    given_settings,
    setting_options,
)
from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.output.errors import sentences_of
from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.settings.options import ROLE_KEYS, SOURCE_KEYS

_WORDS: Final = frozenset({*ROLE_KEYS, "serve"})
"""What may stand for a role: `serve` is how the command of a Guest is called."""
_NAMES: Final = MappingProxyType(
    {"guest": "a Guest", "host": "a Host", "gateway": "a gateway", "broker": "a Broker"}
)
_ABOUT_ROLES: Final = (
    "ROLE is guest, host, gateway or broker: only that role is looked at, and the options of its command may "
    "be given. Without it the settings tell whose they are, and APP and the options of `verser2-guest serve` "
    "may be given."
)

_SHOWN: Final = "Show the settings{} in force, and where each was said."
_CHECKED: Final = "Find what is wrong with the settings{}, without connecting."
_IMPORT_APP: Final = click.option(
    "--import-app/--no-import-app",
    default=True,
    cls=GroupedOption,
    help="Import the app as well.  [default: on]",
)


class _Config(click.Group):
    """Takes the role behind `show` and `check` for a part of the command's name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_OF_ROLE, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _OF_ROLE[cmd_name]() if cmd_name in _OF_ROLE else super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if len(args) > 1 and args[0] in _OF_ROLE and args[1] in _WORDS:
            command, word, *rest = args
            return f"{command} {word}", _OF_ROLE[command]("guest" if word == "serve" else word), rest
        return super().resolve_command(ctx, args)


@click.group(cls=_Config, invoke_without_command=True, context_settings={"max_content_width": HELP_WIDTH})
@click.pass_context
def config(context: click.Context) -> None:
    """Show and check settings, wherever they come from."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _show_command(role: str | None = None) -> click.Command:
    about = "What is shown is TOML itself, with passwords masked."

    @click.command("show", cls=GroupedCommand, help=_help(_SHOWN, about, role))
    @click.option("--json", "as_json", is_flag=True, cls=GroupedOption, help="As JSON, for programs.")
    @_options_of(role)
    def show(as_json: bool, app: str | None = None, **values: Any) -> int:
        from verser2_guest_python.service.config import show as config_show
        from verser2_guest_python.service.settings.sources import Sources

        sources = Sources.of_process(_given(app, values))
        shown, problems = config_show.effective_settings(sources, role)
        if as_json:
            click.echo(config_show.as_json(shown))
        else:
            for line in config_show.as_toml(shown, sources):
                click.echo(line)
        for problem in problems:
            click.echo(f"verser2-guest: {problem.message}", err=True)
        return ExitCode.CONFIGURATION if problems else ExitCode.DONE

    return show


def _check_command(role: str | None = None) -> click.Command:
    has_app = role in (None, "guest")
    about = (
        f"Looks at values, URLs, files, keys{', ' if has_app else ' and '}the dates and names of certificates"
        f"{', and imports the app' if has_app else ''}. "
        "Every problem is a line on stderr, and makes the command end with 78."
    )

    @click.command("check", cls=GroupedCommand, help=_help(_CHECKED, about, role))
    @_options_of(role)
    def check(import_app: bool = False, app: str | None = None, **values: Any) -> int:
        from verser2_guest_python.service.config.check import check as check_settings
        from verser2_guest_python.service.config.report import Report
        from verser2_guest_python.service.settings.sources import Sources

        try:
            report = check_settings(Sources.of_process(_given(app, values)), role=role, with_app=import_app)
        except VerserConfigurationError as error:  # of the places where settings come from
            report = Report(problems=list(sentences_of(error)))
        for fact in report.facts:
            click.echo(f"ok: {fact}")
        for warning in report.warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in report.problems:
            click.echo(f"verser2-guest: {' '.join(problem.split())}", err=True)
        return ExitCode.CONFIGURATION if report.problems else ExitCode.DONE

    return _IMPORT_APP(check) if has_app else check


_OF_ROLE: Final = MappingProxyType({"show": _show_command, "check": _check_command})


@config.command(cls=GroupedCommand)
def schema() -> None:
    """Show the JSON Schema of a file of settings."""
    from verser2_guest_python.service.settings.model import settings_schema

    click.echo(json.dumps(settings_schema(), indent=2, ensure_ascii=False))


def _help(first: str, about: str, role: str | None) -> str:
    if role is None:
        return f"{first.format('')}\n\n{about}\n\n{_ABOUT_ROLES}"
    return f"{first.format(f' of {_NAMES[role]}')}\n\n{about}"


def _options_of(role: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The settings of a role, as they were written; without one, those of a Guest, most of them not shown."""
    keys = ROLE_KEYS[role or "guest"]
    hidden = frozenset(keys) - frozenset(SOURCE_KEYS) if role is None else frozenset[str]()
    sentences = SENTENCES if role == "host" else {}
    add = setting_options(keys, hidden=hidden, sentences=sentences, as_written=True)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = add(function)
        if role not in (None, "guest"):
            return function
        metavar = "[ROLE] [APP]" if role is None else "[APP]"
        argument = click.argument(
            "app", required=False, metavar=metavar, callback=_check_app, shell_complete=_complete_role
        )
        return argument(function)

    return decorate


def _check_app(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value in _WORDS:
        raise click.UsageError(
            f"The word {value} comes first: {context.command_path} {value} [OPTIONS].", ctx=context
        )
    return value


def _complete_role(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [role for role in ROLE_KEYS if role.startswith(incomplete)]


def _given(app: str | None, values: dict[str, Any]) -> dict[str, Any]:
    given = given_settings(values)
    return given if app is None else {**given, "app": app}

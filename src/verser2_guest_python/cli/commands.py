"""The list of commands, each loaded when it is asked for; `APP` alone means `serve APP`.

Apart from `main.py` because the rule which word is a command and which is an app is worth its own
place: an app is `module:attribute`, so a word without a colon is a mistyped command more likely.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

DEFAULT_COMMAND: Final = "serve"

# Name: module and attribute, and the sentence in the list of commands
COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "serve": ("serve", "serve", "Serve an app: `verser2-guest APP` for short."),
        "dev": ("dev", "dev", "Serve an app with a Host of its own on this machine."),
        "host": ("host", "host", "Run a Host: Guests and Brokers dial it."),
        "broker": ("broker", "broker", "Send a request to an app through a Host."),
        "gateway": ("gateway", "gateway", "Let browsers and every HTTP client in, through a Host."),
        "health": ("health", "health", "Ask a running Guest, Host or gateway how it is."),
        "config": ("config", "config", "Show and check settings."),
        "completion": ("completion", "completion", "Have the shell complete commands and options."),
    }
)


class Program(click.Group):
    """A group whose commands are loaded late and which takes an unknown first word for an app."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, sentence = COMMANDS[cmd_name]
        command = getattr(import_module(f"verser2_guest_python.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above names commands only
        command.short_help = sentence.rstrip(".")  # which shells show beside a completion
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, _, sentence) in COMMANDS.items()])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["COMMAND | APP", "[OPTIONS]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if ctx.resilient_parsing:  # for the completion of a line that is not whole yet
            if args and args[0] not in COMMANDS and args[0] not in own:
                args = [DEFAULT_COMMAND, *args]
        elif args and args[0] not in COMMANDS and args[0] not in own:
            self._refuse_mistyped_command(ctx, args[0])
            args = [DEFAULT_COMMAND, *args]
        elif not args and _names_an_app():
            args = [DEFAULT_COMMAND]
        return super().parse_args(ctx, args)

    def _refuse_mistyped_command(self, ctx: click.Context, word: str) -> None:
        if word.startswith("-") or ":" in word:
            return
        near = get_close_matches(word, COMMANDS, n=1)
        hint = (
            f"did you mean '{near[0]}'?" if near else "an app is written module:attribute, such as myapp:app."
        )
        raise click.UsageError(f"There is no command {word!r}: {hint}", ctx=ctx)


def _names_an_app() -> bool:
    """Whether environment or a file in this directory say what to serve, so that nothing else has to."""
    from verser2_guest_python.service.settings.sources import Sources

    return Sources({}, os.environ, Path()).find("app") is not None

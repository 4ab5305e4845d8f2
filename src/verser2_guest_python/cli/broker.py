"""`verser2-guest broker`: the list of its commands, each loaded when it is asked for.

Apart from them because `broker --help` needs only their names, and because people write methods in
capitals, or forget them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from verser2_guest_python.cli.broker_methods import METHODS, named_request
from verser2_guest_python.cli.parameters import HELP_WIDTH

_OTHERS: Final = {
    "request": "Send a request of any other method.",
    "routes": "Show which Guest serves which domain.",
    "ws": "Talk through a WebSocket line by line.",
}


class _Commands(click.Group):
    """Loads commands late, and shows them in the order in which people look for them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*METHODS, *_OTHERS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.lower()
        if name in METHODS:
            from verser2_guest_python.cli.broker_request import method_command

            return method_command(name)
        if name not in _OTHERS:
            return None
        command = getattr(import_module(f"verser2_guest_python.cli.broker_{name}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above names commands only
        command.short_help = _OTHERS[name].rstrip(".")  # which shells show beside a completion
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(method, f"{named_request(method)}.") for method in METHODS]
        with formatter.section("Commands"):
            formatter.write_dl([*rows, *_OTHERS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-") and set("./:") & set(word):
            raise click.UsageError(
                f"What is to be done with {word!r}? Name the method first: broker get {word}", ctx=ctx
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"max_content_width": HELP_WIDTH})
@click.pass_context
def broker(context: click.Context) -> None:
    """Send a request to an app through a Host.

    URL is http://domain/path, https://domain/path or just domain/path.
    Without --host-url a running `verser2-guest dev` is used.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())

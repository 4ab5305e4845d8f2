"""`verser2-guest completion SHELL`: the script that has a shell complete commands, options and files."""

from __future__ import annotations

from typing import Final

import click

from verser2_guest_python.cli.parameters import GroupedCommand

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(cls=GroupedCommand)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  verser2-guest completion bash > ~/.local/share/bash-completion/completions/verser2-guest
    zsh:   verser2-guest completion zsh > "${fpath[1]}/_verser2-guest"
    fish:  verser2-guest completion fish > ~/.config/fish/completions/verser2-guest.fish

    It works in shells that are started from then on.
    """
    from click.shell_completion import get_completion_class

    root = context.find_root()
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - one of those above
    name = root.info_name or "verser2-guest"
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    click.echo(found(root.command, {}, name, variable).source())

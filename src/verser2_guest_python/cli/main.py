"""Start of the command line: the commands, and how a mistake becomes a sentence and an exit code.

Apart because it is imported for every call, `--help` included: it loads click, and a command's own
module only when that command is run.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Final

import click

from verser2_guest_python.cli.commands import Program
from verser2_guest_python.errors import VerserError
from verser2_guest_python.service.output.errors import sentences_of
from verser2_guest_python.service.process.exit_codes import ExitCode, exit_code, exit_code_of_signal

PROGRAM_NAME: Final = "verser2-guest"
_ARGUMENT: Final = re.compile(r"\btls_(?:ca|cert|key|pfx)_file\b")
_SEVERAL: Final = re.compile(r"\(Did you mean one of: (.*)\?\)")  # click's way to put it
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_EPILOG: Final = """\
\b
Examples:
  verser2-guest dev myapp:app
  verser2-guest myapp:app --host-url https://host.example \\
    --guest-id guest-a --domain a.example
  verser2-guest broker get a.example/ --host-url https://host.example

`verser2-guest APP` is short for `verser2-guest serve APP`, whose options are in `verser2-guest serve --help`.
"""


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from verser2_guest_python import __version__

    click.echo(f"{PROGRAM_NAME} {__version__}")
    context.exit()


@click.group(cls=Program, epilog=_EPILOG, invoke_without_command=True)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version.",
)
@click.pass_context
def program(context: click.Context) -> None:
    """Serve an ASGI app through a Host that it dials out to, and call apps through a Broker."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: runs one command and ends the process with its exit code."""
    if os.getpid() == 1:
        # The kernel keeps from the first process of a container what it has no handler for; until a command
        # has one of its own, an app that takes long to import must not hold up the end
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(exit_code_of_signal(number)))
    code = run(arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        # Whoever read our output has left, or it cannot be written; do not let the interpreter find out again
        sys.stdout = None
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; a mistake is told on stderr in a sentence."""
    arguments = tuple(sys.argv[1:] if arguments is None else arguments)
    try:
        # The arguments as they were given, for the command that starts further processes with them
        result = program.main(
            args=list(arguments), prog_name=PROGRAM_NAME, standalone_mode=False, obj=arguments
        )
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        sentence = _SEVERAL.sub(r"Did you mean one of \1?", error.format_message())
        return _fail(f"{_ended(sentence)}{_where_help_is(error)}", code=ExitCode.USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), code=error.exit_code)
    except VerserError as error:
        return _fail(*map(_with_flags, sentences_of(error)), code=exit_code(error))
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return _fail(f"The output cannot be written: {error.strerror}.", code=ExitCode.OUTPUT)
    return result if isinstance(result, int) else ExitCode.DONE


def _fail(*sentences: str, code: int) -> int:
    for sentence in sentences:
        click.echo(f"{_prefix()} {' '.join(sentence.split())}", err=True)
    return code


def _prefix() -> str:
    colour = sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return click.style(f"{PROGRAM_NAME}:", fg="red", bold=True) if colour else f"{PROGRAM_NAME}:"


def _with_flags(sentence: str) -> str:
    """Hints of the library name its arguments; here they are options."""
    return _ARGUMENT.sub(lambda found: f"--{found[0].replace('_', '-')}", sentence)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _where_help_is(error: click.UsageError) -> str:
    return f" See '{error.ctx.command_path} --help'." if error.ctx else ""

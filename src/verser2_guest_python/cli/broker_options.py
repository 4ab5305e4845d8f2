"""The options of `broker` commands that are no settings: what is sent, what is shown, how hard it is tried.

Apart from the commands because a request by its method's name and one of any method have the same, and
because the words of curl that mean something else here are refused in one place.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from verser2_guest_python.cli.parameters import (
    GroupedOption,
    above_zero,
    given_settings,
    setting_options,
)
from verser2_guest_python.errors import VerserError, VerserUsageError
from verser2_guest_python.service.output.errors import OutputError
from verser2_guest_python.service.process.exit_codes import ExitCode, exit_code
from verser2_guest_python.service.settings.options import BROKER_KEYS, CALL_KEYS, OPENING_KEYS

if TYPE_CHECKING:
    from verser2_guest_python.service.calls.peer import Peer
    from verser2_guest_python.service.settings.sources import Sources

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

REQUEST: Final = "The request"
ANSWER: Final = "The answer"
LOAD: Final = "A load run"


class _OutputFailed(click.ClickException):
    exit_code = ExitCode.OUTPUT


class _Silenced(click.exceptions.Exit):
    """Ends with a code and without a word, as `-s` wants it."""


def _refuse_insecure(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            "A Host whose certificate cannot be trusted is not talked to: name the CA that signed it with "
            "--tls-ca-file FILE.",
            ctx=context,
        )


def _refuse_method(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            f"The method is the word before the URL: broker request {value} URL.", ctx=context
        )


def _count(lowest: int, highest: int = 1_000_000_000) -> Callable[..., int | None]:
    """A callback for options that hold a number of times."""

    def check(_context: click.Context, _parameter: click.Parameter, value: int | None) -> int | None:
        if value is not None and not lowest <= value <= highest:
            raise click.BadParameter(f"{value} is not a number from {lowest} to {highest:,}.")
        return value

    return check


def option(*names: str, group: str, **attributes: Any) -> Decorator:
    """An option under a heading of `--help`."""
    return click.option(*names, cls=GroupedOption, group=group, **attributes)


def switch(*names: str, group: str, help: str) -> Decorator:  # noqa: A002 - as click calls it
    """An option that is off unless it is given."""
    return option(*names, group=group, is_flag=True, help=f"{help}  [default: off]")


def seconds(*names: str, group: str, help: str, **attributes: Any) -> Decorator:  # noqa: A002
    """An option that holds a time."""
    return option(
        *names, group=group, type=float, callback=above_zero, metavar="SECONDS", help=help, **attributes
    )


HEADER: Final = option(
    "-H",
    "--header",
    "headers",
    group=REQUEST,
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header to send; repeat it for more.",
)
USER: Final = option(
    "-u",
    "--user",
    "user",
    group=REQUEST,
    metavar="USER:PASSWORD",
    help="Basic authentication; without a password it is asked for.",
)
ROUTE_DOMAIN: Final = option(
    "--route-domain",
    "route_domain",
    group=REQUEST,
    metavar="DOMAIN",
    help="Take the route of this domain, whatever the URL says.",
)
OPENING_LIMITS: Final = setting_options(
    OPENING_KEYS, sentences={"broker.timeout": "Time for the WebSocket to open; no limit without it."}
)
VERBOSE: Final = switch(
    "-v",
    "--verbose",
    "verbose",
    group=ANSWER,
    help="Tell on stderr what is sent and what comes, and how long it takes; secrets are masked.",
)

REQUEST_OPTIONS: Final[tuple[Decorator, ...]] = (
    option(
        "-d",
        "--data",
        "data",
        group=REQUEST,
        multiple=True,
        metavar="DATA",
        help="The body: text, @FILE, or @- for standard input; several are joined with &. "
        "Its type is application/x-www-form-urlencoded unless -H says otherwise.",
    ),
    option(
        "--json",
        "json_value",
        group=REQUEST,
        metavar="VALUE",
        help="The body as JSON: text, @FILE or @-. JSON is asked for as well.",
    ),
    option(
        "-F",
        "--form",
        "form",
        group=REQUEST,
        multiple=True,
        metavar="NAME=VALUE",
        help="A field of a multipart form: text, @FILE to upload, <FILE for its text; ;type= and "
        ";filename= may follow. Repeat it for more.",
    ),
    HEADER,
    USER,
    switch("--compressed", "compressed", group=REQUEST, help="Ask for a compressed answer."),
    switch(
        "-L",
        "--location",
        "location",
        group=REQUEST,
        help="Follow redirects to domains that a Guest serves.",
    ),
    ROUTE_DOMAIN,
    setting_options(CALL_KEYS),
    switch("-i", "--include", "include", group=ANSWER, help="Show status and headers before the body."),
    switch("-I", "--head", "head_only", group=ANSWER, help="Ask for status and headers alone (HEAD)."),
    option(
        "-o",
        "--output",
        "output",
        group=ANSWER,
        metavar="FILE",
        help="Write to FILE; - is standard output, whatever the body is.",
    ),
    switch("--raw", "raw", group=ANSWER, help="Write the body as it came, not decoded, not indented."),
    switch(
        "-f",
        "--fail",
        "fail",
        group=ANSWER,
        help="End with 22 if the status is 400 or more, without the body.",
    ),
    switch("--fail-with-body", "fail_body", group=ANSWER, help="The same, with the body."),
    switch("-s", "--silent", "silent", group=ANSWER, help="No progress, no warnings, no error."),
    switch("-S", "--show-error", "show_error", group=ANSWER, help="With -s: an error nevertheless."),
    VERBOSE,
    option(
        "--repeat",
        "repeat",
        group=LOAD,
        type=int,
        callback=_count(1),
        metavar="N",
        help="Send the request N times, and show latencies instead of answers.",
    ),
    option(
        "--concurrency",
        "concurrency",
        group=LOAD,
        type=int,
        callback=_count(1, 10_000),
        metavar="C",
        help="So many of them at a time.  [default: 1]",
    ),
    click.option("-X", "--request", hidden=True, expose_value=False, callback=_refuse_method),
)


def with_options(*decorators: Decorator) -> Decorator:
    """Gives a command these options, in this order, and those of every `broker` command."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        last: tuple[Decorator, ...] = (
            setting_options(BROKER_KEYS, optional=frozenset({"host_url"})),
            click.option(
                "-k", "--insecure", is_flag=True, hidden=True, expose_value=False, callback=_refuse_insecure
            ),
        )
        for decorator in reversed((*decorators, *last)):
            function = decorator(function)
        return function

    return decorate


def sources_of(values: Mapping[str, Any]) -> Sources:
    """What is said about settings: by those among `values`, and everywhere else."""
    from verser2_guest_python.service.settings.sources import Sources

    return Sources.of_process(given_settings(values))


def peer_of(sources: Sources, url: str = "", route_domain: str | None = None) -> Peer:
    """Where the settings lead, for a request to `url`."""
    from verser2_guest_python.service.calls.peer import resolve_peer

    return resolve_peer(sources, _domain_of(url, route_domain))


def _domain_of(url: str, route_domain: str | None) -> str | None:
    from verser2_guest_python.broker.target import WEBSOCKET_SCHEMES, parse_target
    from verser2_guest_python.service.calls.request import without_user

    with suppress(VerserUsageError):  # it is told where the request is made
        return parse_target(without_user(url)[0], route_domain, WEBSOCKET_SCHEMES).domain
    return None


def credentials(user: str | None, url: str) -> tuple[str, str | None]:
    """The URL without its user, and `user:password` of `-u` or the URL; `-u user` asks for the password."""
    from verser2_guest_python.service.calls.request import without_user

    url, of_url = without_user(url)
    if user is None:
        return url, of_url if of_url is None or ":" in of_url else f"{of_url}:"
    if ":" in user:
        return url, user
    if sys.stdin is None or not sys.stdin.isatty():
        raise VerserUsageError(f"The password of {user} is missing: -u is written user:password.")
    password = click.prompt(f"Password of {user}", hide_input=True, err=True, default="", show_default=False)
    return url, f"{user}:{password}"


@contextmanager
def failures(*, silent: bool = False) -> Iterator[None]:
    """What goes wrong inside becomes one sentence and an exit code; just the code if `silent`."""
    try:
        yield
    except OutputError as error:
        if silent:
            raise _Silenced(ExitCode.OUTPUT) from None
        raise _OutputFailed(str(error)) from None
    except VerserUsageError:
        raise
    except VerserError as error:
        if silent:
            raise _Silenced(exit_code(error)) from None
        raise


def not_negative(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """A callback for options that hold a time which may be none, or without end."""
    if math.isnan(value) or value < 0:
        raise click.BadParameter(f"{value:g} is not a number of seconds.")
    return value

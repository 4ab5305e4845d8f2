"""`verser2-guest broker get URL` and its sisters: one request through a Host, the answer to stdout."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import click

from verser2_guest_python.cli.parameters import (
    HELP_WIDTH,
    GroupedCommand,
    GroupedOption,
    above_zero,
    given_settings,
    setting_options,
)
from verser2_guest_python.service.exit_codes import ExitCode
from verser2_guest_python.service.options import BROKER_KEYS

_REQUEST: Final = "The request"
_ANSWER: Final = "The answer"
_FORM: Final = "application/x-www-form-urlencoded"
_WITH_BODY: Final = frozenset({"post", "put", "patch", "delete"})
_METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")


class _OutputFailed(click.ClickException):
    exit_code = ExitCode.OUTPUT


def _refuse_insecure(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            "A Host whose certificate cannot be trusted is not talked to: name the CA that signed it with "
            "--tls-ca-file FILE.",
            ctx=context,
        )


class _Methods(click.Group):
    """Shows the methods in the order in which people look for them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_METHODS)


@click.group(cls=_Methods, invoke_without_command=True, context_settings={"max_content_width": HELP_WIDTH})
@click.pass_context
def broker(context: click.Context) -> None:
    """Send a request to an app through a Host.

    URL is http://domain/path, https://domain/path or just domain/path.
    Without --host-url a running `verser2-guest dev` is used.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _request_options(*, with_body: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        decorators: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
            click.argument("url", metavar="URL"),
            click.option(
                "-H",
                "--header",
                "headers",
                cls=GroupedOption,
                group=_REQUEST,
                multiple=True,
                metavar="'NAME: VALUE'",
                help="A header to send; repeat it for more.",
            ),
            click.option(
                "--timeout",
                cls=GroupedOption,
                group=_REQUEST,
                type=float,
                callback=above_zero,
                metavar="SECONDS",
                help="Time for all of it, connecting included.  [default: no limit]",
            ),
            click.option(
                "-i",
                "--include",
                "include",
                cls=GroupedOption,
                group=_ANSWER,
                is_flag=True,
                help="Show status and headers before the body.  [default: off]",
            ),
            setting_options(BROKER_KEYS, optional=frozenset({"host_url"})),
            click.option(
                "-k", "--insecure", is_flag=True, hidden=True, expose_value=False, callback=_refuse_insecure
            ),
        ]
        if with_body:
            decorators.insert(
                1,
                click.option(
                    "-d",
                    "--data",
                    "data",
                    cls=GroupedOption,
                    group=_REQUEST,
                    metavar="DATA",
                    help="The body: text, @FILE, or @- for standard input. "
                    f"Its type is {_FORM} unless -H says otherwise.",
                ),
            )
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _add_method(method: str) -> None:
    article = "an" if method == "options" else "a"
    sentence = f"Send {article} {method.upper()} request and write the answer's body to standard output."

    @broker.command(
        method, cls=GroupedCommand, short_help=f"Send {article} {method.upper()} request.", help=sentence
    )
    @_request_options(with_body=method in _WITH_BODY)
    def command(
        url: str,
        headers: tuple[str, ...],
        timeout: float | None,
        include: bool,
        data: str | None = None,
        **values: Any,
    ) -> int:
        from verser2_guest_python.service.call_broker import Call, read_body, resolve_peer, run_call
        from verser2_guest_python.service.output import OutputError

        fields = [_header(text) for text in headers]
        if data is not None and not any(name.lower() == "content-type" for name, _ in fields):
            fields.append(("content-type", _FORM))
        call = Call(
            method=method.upper(),
            url=url,
            headers=tuple(fields),
            body=None if data is None else read_body(data),
            timeout=timeout,
            show_head=include or method == "head",
        )
        try:
            return run_call(resolve_peer(given_settings(values), os.environ), call)
        except OutputError as error:
            raise _OutputFailed(str(error)) from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is not of the form 'Name: value'.", param_hint="'-H'")
    return name.strip(), value.strip()


for _method in _METHODS:
    _add_method(_method)

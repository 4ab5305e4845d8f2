"""Writes the pages of `docs/reference/` that are made from the program; a test holds them together.

After a change of a setting, a metric, or of what is public in the library::

    python -m tests.docs.reference
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import click

from tests.docs import api
from tests.docs.markdown import ROOT
from verser2_guest_python.cli.main import program
from verser2_guest_python.service.metrics.metric_table import (
    GATEWAY_METRICS,
    GATEWAY_PREFIX,
    HOST_METRICS,
    HOST_PREFIX,
    METRICS,
    PREFIX,
    Metric,
)
from verser2_guest_python.service.settings.environment import variables
from verser2_guest_python.service.settings.model import Settings, setting_keys
from verser2_guest_python.service.settings.option import Kind, Option
from verser2_guest_python.service.settings.options import OPTIONS, SOURCE_KEYS

METRICS_PAGE = ROOT / "docs" / "reference" / "metrics.md"
CLI_PAGE = ROOT / "docs" / "reference" / "cli.md"
ENVIRONMENT_PAGE = ROOT / "docs" / "reference" / "environment.md"
_BEGIN, _END = "<!-- begin: settings -->\n", "<!-- end: settings -->\n"
_NOTE = re.compile(r"\s*\[((?:env|default|required)[^\]]*)\]\s*$")

HEAD = """\
# Command line

Made from the program itself (`python -m tests.docs.reference`), and the same as `--help`. The third
column is what a setting is called in the [environment](environment.md). How commands end is in
[exit codes](exit-codes.md).

`verser2-guest --version` shows the version, `--help` works everywhere.

A mistake is told on stderr in one sentence that begins with `verser2-guest:`. Colours are left out where
`NO_COLOR` is set or the output is no terminal.
"""


def command_line() -> str:
    """The page of the commands."""
    parts = [HEAD]
    shown: list[tuple[list[str], str]] = []  # options of a command, and which it was
    for path, command in commands():
        rows = [row for parameter in command.params if (row := _row(parameter)) is not None]
        parts.append(f"## verser2-guest {path}\n")
        parts.append(f"<!-- made -->\n```text\nverser2-guest {path} {_arguments(command)}\n```\n")
        parts.append(f"{_paragraphs(command.help or '')}\n")
        same = next((other for known, other in shown if known == rows), None)
        if same is not None:
            parts.append(f"The options are those of [{same}](#verser2-guest-{same.replace(' ', '-')}).\n")
            continue
        shown.append((rows, path))
        if rows:
            parts.append(
                "| option | default | environment | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
            )
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its path: `serve`, `broker get`, …"""
    yield from _below(program, "", click.Context(program, info_name="verser2-guest"))


def _below(group: click.Group, path: str, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        full = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from _below(command, full, click.Context(command, info_name=name, parent=context))
        elif not command.hidden:
            yield full, command


def _arguments(command: click.Command) -> str:
    named = [
        (parameter.metavar or parameter.name or "").upper()
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    return " ".join([*named, "[OPTIONS]"])


def _row(parameter: click.Parameter) -> str | None:
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return None
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if not parameter.is_flag:
        names += f" {_escape(parameter.metavar or parameter.type.name.upper())}"
    text = " ".join((parameter.help or "").split())
    facts: dict[str, str] = {}
    if found := _NOTE.search(text):
        text = text[: found.start()]
        for fact in found[1].split(";"):
            name, _, value = fact.strip().partition(": ")
            facts[name] = value
    default = "required" if "required" in facts else facts.get("default", "")
    variable = f"`{facts['env']}`" if "env" in facts else ""
    return f"| {names} | {_escape(default)} | {variable} | {_escape(text.strip())} |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def environment() -> str:
    """The page of the variables: the table in it is made here, the words around it are not."""
    before, _, rest = ENVIRONMENT_PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    rows = ["| variable | option | default |", "|---|---|---|"]
    for key in (*setting_keys(Settings), *SOURCE_KEYS):
        if key == "host.policy":
            continue  # tables of a file only
        option = OPTIONS.get(key)
        named = f"`{option.flag}`" if option else "`APP`" if key == "app" else "never an option"
        rows.append(f"| `{variables(key)[0]}` | {named} | {_default(option)} |")
    return before + _BEGIN + "\n" + "\n".join(rows) + "\n\n" + _END + after


def _default(option: Option | None) -> str:
    if option is None or not option.shown_default:
        return ""
    text = option.shown_default
    return f"`{text}`" if option.kind is not Kind.SWITCH else "`true`" if option.default else "`false`"


METRICS_HEAD = """\
# Metrics

Made from the program itself (`python -m tests.docs.reference`). How to get them is in
[monitoring](../monitoring.md).

## Of a Guest

Every metric also has the label `worker`: the number of the worker, from 1; 1 for a Guest alone. The process
that keeps several workers is `supervisor`, and has the `process_…` metrics only. `host` is the URL of a Host.
Methods that are not HTTP's own are `other`.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


HOST_METRICS_HEAD = """
## Of a Host

| metric | kind | labels | meaning |
|---|---|---|---|
"""


GATEWAY_METRICS_HEAD = """
## Of a gateway

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def metrics() -> str:
    """The page of the metrics."""
    return (
        METRICS_HEAD
        + _metric_rows(PREFIX, METRICS)
        + HOST_METRICS_HEAD
        + _metric_rows(HOST_PREFIX, HOST_METRICS)
        + GATEWAY_METRICS_HEAD
        + _metric_rows(GATEWAY_PREFIX, GATEWAY_METRICS)
    )


def _metric_rows(prefix: str, table: Mapping[str, Metric]) -> str:
    rows = []
    for metric in table.values():
        labels = ", ".join(f"`{name}`" for name in metric.labels)
        bounds = f" Buckets to {metric.buckets[-1]:g} s." if metric.buckets else ""
        name = f"`{metric.full_name(prefix)}`"
        rows.append(f"| {name} | {metric.kind.value} | {labels} | {metric.sentence}{bounds} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    api.PAGE.write_text(api.page())
    METRICS_PAGE.write_text(metrics())
    CLI_PAGE.write_text(command_line())
    ENVIRONMENT_PAGE.write_text(environment())

"""Settings as click options: made from the one table in `service/settings/options.py`, shown in groups.

Apart because every command is built from it, so that one setting has one flag, one sentence and one
variable everywhere. Values are passed on as they were written: the settings check them, whichever
way they came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import click

from verser2_guest_python.service.settings.environment import shown_variable
from verser2_guest_python.service.settings.option import GROUP_TLS, Kind, Option
from verser2_guest_python.service.settings.options import OPTIONS, options

HELP_WIDTH: Final = 100
OTHER_OPTIONS: Final = "Options"
_FLAG_COLUMN_WIDTH: Final = 36

_COMPLETED_AS: Final[Mapping[Kind, str]] = MappingProxyType({Kind.FILE: "file", Kind.DIRECTORY: "dir"})
# What is said under a group's heading, before its options
_NOTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        GROUP_TLS: (
            "Passwords are never given as options: VERSER_TLS_KEY_PASSWORD and VERSER_TLS_PFX_PASSWORD hold "
            "them, or, with _FILE appended, name a file that does."
        )
    }
)

_AS_IN_THE_TABLE: Final[Mapping[str, str]] = MappingProxyType({})


def above_zero(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """A callback for options that hold a time: it has to be one."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0.")
    return value


class GroupedOption(click.Option):
    """An option that knows under which heading `--help` shows it."""

    def __init__(self, *names: Any, group: str = OTHER_OPTIONS, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose `--help` shows its options under headings."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        attributes.setdefault("context_settings", {}).setdefault("max_content_width", HELP_WIDTH)
        super().__init__(*arguments, **attributes)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", OTHER_OPTIONS), []).append(record)
        for heading, records in sorted(groups.items(), key=lambda group: group[0] == OTHER_OPTIONS):
            with formatter.section(heading):
                if heading in _NOTES and any("--tls-key-file" in names for names, _ in records):
                    formatter.write_text(_NOTES[heading])
                formatter.write_dl(records, col_max=_FLAG_COLUMN_WIDTH)


def setting_options(
    keys: Iterable[str],
    *,
    optional: frozenset[str] = frozenset(),
    hidden: frozenset[str] = frozenset(),
    sentences: Mapping[str, str] = _AS_IN_THE_TABLE,
    as_written: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options with these keys.

    Those in `optional` are not shown as required, those in `hidden` are not shown at all. `sentences`
    replace those of the table, by key, where a setting means something else to this command. With
    `as_written` any value is taken, for a command that tells of all that do not fit.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for listed in reversed(options(keys)):
            option = replace(listed, sentence=sentences.get(listed.key, listed.sentence))
            function = _decorator(
                option,
                is_required=option.required and option.key not in optional,
                hidden=option.key in hidden,
                as_written=as_written,
            )(function)
        return function

    return decorate


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What click collected, by key of the setting; what was not said is left out."""
    by_parameter = {option.parameter: option.key for option in OPTIONS.values()}
    return {
        by_parameter[name]: value
        for name, value in values.items()
        if name in by_parameter and value not in (None, ())
    }


def _decorator(
    option: Option, *, is_required: bool, hidden: bool, as_written: bool
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = f"{option.flag}/{option.off_flag}" if option.off_flag else option.flag
    attributes: dict[str, Any] = {
        "cls": GroupedOption,
        "group": option.group,
        "help": f"{option.sentence}  {_note(option, is_required=is_required)}",
        "default": None,
        "show_default": False,
        "hidden": hidden,
    }
    if option.kind is Kind.SWITCH:
        attributes["is_flag"] = True
    else:
        is_checked = option.choices and not as_written
        attributes["type"] = click.Choice(option.choices, case_sensitive=False) if is_checked else str
        attributes["metavar"] = option.metavar or ("|".join(option.choices) or option.kind.value)
        attributes["multiple"] = option.repeatable
        if option.kind in _COMPLETED_AS:
            attributes["shell_complete"] = _complete_path(_COMPLETED_AS[option.kind])
    return click.option(flag, option.parameter, **attributes)


def _complete_path(kind: str) -> Callable[..., Any]:
    """Has the shell complete names of files or directories, which it does best itself."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=kind)]

    return complete


def _note(option: Option, *, is_required: bool) -> str:
    """What stands in brackets behind the sentence: where else the value comes from, and its default."""
    facts = [f"env: {shown_variable(option.key)}{'_FILE' if option.from_file else ''}"]
    if is_required:
        facts.append("required")
    elif option.shown_default:
        facts.append(f"default: {option.shown_default}")
    return f"[{'; '.join(facts)}]"

"""`config show`: the settings in force, and where each of them was said; secrets are masked.

Apart from `settings/model.py` because it shows settings also where they do not fit, which is when people
look. What it writes is TOML itself: a file that says the same can be made of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from verser2_guest_python.errors import VerserError
from verser2_guest_python.service.output.masking import MASK
from verser2_guest_python.service.settings.environment import Found
from verser2_guest_python.service.settings.model import Settings, fitting_settings, setting_keys
from verser2_guest_python.service.settings.options import ROLE_KEYS
from verser2_guest_python.service.settings.sources import Sources

DEFAULT: Final = "default"
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/@]*@")
_SECRET_NAME: Final = re.compile(r"password|secret|token|credential", re.IGNORECASE)
_LAST_PLAIN_WIDTH: Final = 48


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting in force: its value as TOML has it (None: not set), and where it was said."""

    key: str
    value: Any
    source: str


def effective_settings(
    sources: Sources, role: str | None = None
) -> tuple[list[Effective], list[VerserError]]:
    """The settings of a role ("guest", "host", "gateway", "broker"; None: of all), and what does not fit.

    What does not fit is shown as it was said, or, where two places contradict each other, as not set.
    """
    settings, misfits = fitting_settings(sources)
    shown = []
    for key in setting_keys(Settings):
        if role is not None and key not in _keys_of(role):
            continue
        try:
            found = sources.find(key)
        except VerserError:  # it is among the misfits
            shown.append(Effective(key, None, DEFAULT))
            continue
        value = found.value if found and key in misfits else _value(settings, key)
        shown.append(Effective(key, _plain(key, value), _source(found) if found else DEFAULT))
    return shown, [error for errors in misfits.values() for error in errors]


def _keys_of(role: str) -> set[str]:
    """Those of its command line, and those that no command line has."""
    own = {"guest": {"app"}, "host": {"host.policy"}, "gateway": {"gateway.ssl_keyfile_password"}}
    return {*ROLE_KEYS[role], *own.get(role, ()), "tls.key_password", "tls.pfx_password"}


def as_toml(shown: list[Effective], sources: Sources) -> Iterator[str]:
    """The lines of a TOML file that says the same; what is not set is a comment."""
    yield f"# The settings in force, and where each was said. File: {_file_name(sources)}."
    group = ""
    for one in shown:
        there, _, name = one.key.rpartition(".")
        if there != group:
            group = there
            yield f"\n[{group}]"
        if one.value is None:
            yield f"# {name} is not set"
            continue
        text = f"{name} = {_toml(one.value)}"
        yield f"{text.ljust(_LAST_PLAIN_WIDTH)} # {_one_line(one.source)}"


def as_json(shown: list[Effective]) -> str:
    """The same for programs: an object with `value` and `source` for each key."""
    values = {one.key: {"value": one.value, "source": one.source} for one in shown}
    return json.dumps(values, indent=2, ensure_ascii=False, default=str)


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _plain(key: str, value: Any) -> Any:
    """A value as TOML has it, without secrets."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, dict):
        return {name: _plain(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(key, inner) for inner in value]
    if value is not None and _SECRET_NAME.search(key):
        return MASK
    if isinstance(value, str):
        return _USER_OF_URL.sub(f"{MASK}@", value)
    return str(value) if isinstance(value, Path) else value


def _source(found: Found) -> str:
    return found.file if found.file and found.file.partition(":")[0].endswith(".toml") else found.place


def _file_name(sources: Sources) -> str:
    return _one_line(str(sources.config_file.path)) if sources.config_file else "none"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            pairs = (f"{_toml_key(str(name))} = {_toml(inner)}" for name, inner in value.items())
            return f"{{ {', '.join(pairs)} }}"
        case _:
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _one_line(text: str) -> str:
    from verser2_guest_python.service.output.text import safe

    return safe(text)

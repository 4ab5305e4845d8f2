"""All that was said about the settings of this process: where, and what wins.

Apart from `model.py` because a one-shot `broker get` asks for a handful of settings and must not wait
for a validation library. Both find values here, so both know the same places, the strongest first:
command line, environment, `--env-file`, TOML, directory of secrets, and `WEB_CONCURRENCY` last.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.settings.config_file import ConfigFile, found_file, named_file
from verser2_guest_python.service.settings.environment import (
    PREFIX,
    Found,
    look_up,
    look_up_fallback,
    read_value,
    variables,
)
from verser2_guest_python.service.settings.options import OPTIONS, SETTING_KEYS, SOURCE_KEYS

_LOOKS_LIKE: Final = 0.85
"""How much a variable has to be like one of ours: others may begin with VERSER_ too."""


class Sources:
    """What is said about settings; `given` is what the command line says, by key (`tls.ca_file`).

    `None` and empty tuples in `given` count as not said. Raises `VerserConfigurationError` for a file
    that cannot be read or holds what no setting is.

    Attributes:
        environ: the environment.
        config_file: the TOML file, if there is one.
        env_file: the variables of `--env-file`.
    """

    def __init__(self, given: Mapping[str, Any], environ: Mapping[str, str], directory: Path) -> None:
        self._given = {key: value for key, value in given.items() if value is not None and value != ()}
        self.environ = environ
        self.env_file: Mapping[str, str] = {}
        self._env_file_name = ""
        if path := self._named("env_file"):
            self._env_file_name = path.value
            self.env_file = _read_env_file(directory / path.value, path.place)
        self.config_file: ConfigFile | None
        if path := self._named("config"):
            self.config_file = named_file(directory / path.value, named_by=path.place)
        else:
            self.config_file = found_file(directory)
        self._secrets = self._secret_files(directory)

    @classmethod
    def of_process(cls, given: Mapping[str, Any]) -> Sources:
        """What is said to this process.

        Variables of `--env-file` that are no settings join its environment, for the app and for libraries.
        """
        sources = cls(given, dict(os.environ), Path())
        sources._export(os.environ)
        return sources

    def find(self, key: str) -> Found | None:
        """What is said about a setting, and where.

        Raises `VerserConfigurationError` for variables that contradict each other, whatever wins over them.
        """
        in_environment = look_up(key, self.environ)
        in_env_file = look_up(key, self.env_file, file=self._env_file_name)
        if key in self._given:
            option = OPTIONS.get(key)
            value, name = self._given[key], option.flag if option else key.upper()
            return Found(read_value(name, Path(value)) if option and option.from_file else value, name)
        if found := in_environment or in_env_file:
            return found
        if self.config_file is not None and (found := self.config_file.find(key)):
            return found
        for variable in variables(key):
            if path := self._secrets.get(variable.lower()):
                return Found(read_value(str(path), path), variable, str(path))
        return look_up_fallback(key, self.environ) or look_up_fallback(key, self.env_file)

    def _named(self, key: str) -> Found | None:
        if key in self._given:
            return Found(self._given[key], OPTIONS[key].flag)
        variable = variables(key)[0]
        return Found(value, variable) if (value := self.environ.get(variable)) else None

    def _secret_files(self, directory: Path) -> dict[str, Path]:
        """The files in the directory of secrets, by their names in lower case."""
        named = self._named("secrets_dir")
        path = directory / (named.value if named else OPTIONS["secrets_dir"].default)
        try:
            with os.scandir(path) as entries:
                return {entry.name.lower(): path / entry.name for entry in entries if entry.is_file()}
        except OSError as error:
            if named is None:
                return {}
            raise VerserConfigurationError(
                f"{named.place} names a directory that cannot be read: {path} ({error.strerror})."
            ) from None

    def _export(self, environ: MutableMapping[str, str]) -> None:
        ours = set(_setting_variables())
        for name, value in self.env_file.items():
            if name not in ours:
                environ.setdefault(name, value)


def misspelt_variables(names: Iterable[str]) -> list[str]:
    """A sentence for each variable that looks like one of ours and is none: `VERSER_LOG_LEVEL`."""
    from difflib import get_close_matches

    known = {*_setting_variables(), *(variables(key)[0] for key in SOURCE_KEYS)}
    return [
        f"{name} is the variable of no setting: did you mean {near[0]}?"
        for name in sorted(set(names) - known)
        if name.startswith(PREFIX) and (near := get_close_matches(name, known, n=1, cutoff=_LOOKS_LIKE))
    ]


def _setting_variables() -> Iterator[str]:
    for key in SETTING_KEYS:
        for variable in variables(key):
            yield from (variable, f"{variable}_FILE")


def _read_env_file(path: Path, named_by: str) -> dict[str, str]:
    from dotenv.parser import parse_stream  # of pydantic-settings; its parser alone expands no ${VAR}

    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for binding in parse_stream(file):
                if binding.error:
                    raise VerserConfigurationError(
                        f"{path}:{binding.original.line}: this is no line like NAME=VALUE."
                    )
                if binding.key is not None and binding.value is not None:
                    values[binding.key] = binding.value
    except OSError as error:
        raise VerserConfigurationError(
            f"{named_by} names a file that cannot be read: {path} ({error.strerror})."
        ) from None
    except UnicodeDecodeError:
        raise VerserConfigurationError(f"{named_by} names a file that is not UTF-8 text: {path}.") from None
    return values

"""A TOML file of settings: found, read, and refused where it holds what no setting is.

Apart from `sources.py`, which ranks it among the other places. A relative path in a file is meant from
the directory of that file, wherever the program is started; `${VAR}` is not expanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.settings.environment import Found
from verser2_guest_python.service.settings.option import Kind
from verser2_guest_python.service.settings.options import OPTIONS, SETTING_KEYS, SOURCE_KEYS

FILE_NAME: Final = "verser2-guest.toml"
PROJECT_FILE_NAME: Final = "pyproject.toml"
_PROJECT_TABLE: Final = ("tool", "verser2-guest")
MAX_FILE_BYTES: Final = 1 << 20
_GROUPS: Final = frozenset(key.partition(".")[0] for key in SETTING_KEYS if "." in key)
_PATH_KINDS: Final = frozenset({Kind.FILE, Kind.DIRECTORY})


class ConfigFile:
    """One file that was read. `table` is where in it the settings are: () for the whole file.

    Raises `VerserConfigurationError` for what no setting is, with the name that may have been meant; the
    error's notes are sentences on the second and further ones.
    """

    def __init__(self, path: Path, text: str, values: Mapping[str, Any], table: tuple[str, ...] = ()) -> None:
        self.path = path
        self._text = text
        self._table = table
        self._values = dict(_flat(values))
        if unknown := [key for key in self._values if key not in SETTING_KEYS]:
            sentences = [f"{self.place(key)}: {_unknown(key)}" for key in unknown]
            error = VerserConfigurationError(sentences[0])
            for other in sentences[1:]:
                error.add_note(other)
            raise error

    def find(self, key: str) -> Found | None:
        """What the file says about `key`."""
        if key not in self._values:
            return None
        value = self._values[key]
        option = OPTIONS.get(key)
        if option is not None and option.kind in _PATH_KINDS and not option.from_file:
            value = self._from_here(value)
        return Found(value, key, self.place(key))

    def place(self, key: str, *below: str | int) -> str:
        """File and line of a setting, or of what is inside it: `place("host.policy", 2, "domains")`."""
        from verser2_guest_python.service.settings.toml_lines import line_of

        line = line_of(self._text, (*self._table, *key.split("."), *below))
        return str(self.path) if line is None else f"{self.path}:{line}"

    def _from_here(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._from_here(entry) for entry in value]
        return str(self.path.parent / value) if isinstance(value, str) and value else value


def named_file(path: Path, *, named_by: str) -> ConfigFile:
    """The file at `path`, which `named_by` (a flag, a variable) names; raises `VerserConfigurationError`."""
    try:
        file = _file(path)
    except OSError as error:
        raise VerserConfigurationError(
            f"{named_by} names a file that cannot be read: {path} ({error.strerror})."
        ) from None
    if file is None:
        table = ".".join(_PROJECT_TABLE)
        raise VerserConfigurationError(
            f"{named_by} names a {path.name} without settings: there is no [{table}] in it."
        )
    return file


def found_file(directory: Path) -> ConfigFile | None:
    """The file that lies in `directory`: `verser2-guest.toml`, or else a table in `pyproject.toml`.

    Raises `VerserConfigurationError` when there is one that cannot be read.
    """
    for name in (FILE_NAME, PROJECT_FILE_NAME):
        path = directory / name
        try:
            file = _file(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if name == PROJECT_FILE_NAME:
                continue  # nothing says that it is meant for us
            raise VerserConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
        if file is not None:
            return file
    return None


def _file(path: Path) -> ConfigFile | None:
    """A `ConfigFile`, or None for a `pyproject.toml` that has no table of ours; raises `OSError`."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    is_project = path.name == PROJECT_FILE_NAME
    if is_project and _PROJECT_TABLE[-1].encode() not in content:
        return None  # whatever else may be wrong with it
    if len(content) > MAX_FILE_BYTES:
        raise VerserConfigurationError(f"{path} is too large for a file of settings: {len(content):,} bytes.")
    import tomllib  # only where there is a file: most calls of `broker` meet none

    try:
        text = content.decode("utf-8-sig")
        values: Any = tomllib.loads(text)
    except UnicodeDecodeError:
        raise VerserConfigurationError(f"{path} is not UTF-8 text, as TOML has to be.") from None
    except tomllib.TOMLDecodeError as error:
        raise VerserConfigurationError(f"{path} is not valid TOML: {error}.") from None
    if not is_project:
        return ConfigFile(path, text, values)
    for name in _PROJECT_TABLE:
        values = values.get(name) if isinstance(values, dict) else None
    return ConfigFile(path, text, values, _PROJECT_TABLE) if isinstance(values, dict) else None


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by their path; what is in a table that is no group of settings stays whole."""
    for name, value in values.items():
        if name in _GROUPS and isinstance(value, dict):
            yield from ((f"{name}.{inner}", entry) for inner, entry in value.items())
        else:
            yield name, value


def _unknown(key: str) -> str:
    if key in SOURCE_KEYS:
        return f"a file of settings cannot say {key}: it is an option and a variable only."
    if key in _GROUPS:
        return f"{key} is a group of settings, and is written as a table: [{key}]."
    group, _, name = key.rpartition(".")
    what = f"setting {name!r} in [{group}]" if group else f"setting or group {name!r}"
    return f"there is no {what}{_hint(group, name)}"


def _hint(group: str, name: str) -> str:
    from difflib import get_close_matches

    name = name.replace("-", "_")
    beside = {key.rpartition(".")[2]: key for key in SETTING_KEYS if key.rpartition(".")[0] == group}
    elsewhere = {key.rpartition(".")[2]: key for key in SETTING_KEYS}
    groups = {} if group else {one: one for one in _GROUPS}
    for known, cutoff in ((beside | groups, 0.75), (elsewhere, 0.8)):
        if near := get_close_matches(name, known, n=1, cutoff=cutoff):
            there, _, meant = known[near[0]].rpartition(".")
            if there == group:
                return f": did you mean {meant!r}?"
            groups_of_it = [
                f"[{key.rpartition('.')[0]}]" for key in SETTING_KEYS if key.endswith(f".{meant}")
            ]
            where = (
                f"in {' or '.join(groups_of_it)}"
                if there
                else "at the top of the file, before the first [table]"
            )
            return f": did you mean {meant!r} {where}?"
    return "; `verser2-guest config show` lists all that there are."

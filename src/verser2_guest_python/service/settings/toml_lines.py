"""Where in a TOML file something stands: `tomllib` tells values, and no lines.

Apart from `config_file.py` because it reads the text a second time, in its own simple way, and only once
there is something to say about a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED: Final = rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*"
_ARRAY: Final = re.compile(rf"\s*\[\[{_DOTTED}\]\]")
_TABLE: Final = re.compile(rf"\s*\[{_DOTTED}\]\s*(?:#.*)?$")
_KEY: Final = re.compile(rf"{_DOTTED}=")

Path = tuple[str | int, ...]


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line, from 1, of the value at `path` (names, and numbers for entries of arrays of tables).

    Where the value has no line of its own, as in an inline table, it is the line of what it is in.
    """
    wanted: Path = tuple(path)
    counts: dict[Path, int] = {}  # entries of each array of tables so far
    table: Path = ()
    best: tuple[int, int] | None = None  # how much of the path it covers, line
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _ARRAY.match(line):
            array = _located(found[1], counts)
            counts[array] = counts.get(array, -1) + 1
            here = table = (*array, counts[array])
        elif found := _TABLE.match(line):
            here = table = _located(found[1], counts)
        elif found := _KEY.match(line):
            here = (*table, *_names(found[1]))
        else:
            continue
        if wanted[: len(here)] == here and (best is None or len(here) > best[0]):
            best = (len(here), number)
        elif here[: len(wanted)] == wanted and best is None:
            best = (0, number)  # `[tls.x]` opens `tls` as well
    return best[1] if best else None


def _located(dotted: str, counts: dict[Path, int]) -> Path:
    """The path of a table: below an array of tables it belongs to the last entry."""
    path: Path = ()
    names = _names(dotted)
    for place, name in enumerate(names):
        path = (*path, name)
        if place < len(names) - 1 and path in counts:
            path = (*path, counts[path])
    return path


def _names(dotted: str) -> Path:
    return tuple(name.strip("\"'") for name in re.findall(_NAME, dotted))

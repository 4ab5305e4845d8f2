"""Where in the app something failed: file and line, as short as whoever reads it can find them.

Apart because an app fails while it is imported and while it starts, and is told in the same way: of a
traceback the last line of the app's own code, not one deep in a library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_FRAME: Final = re.compile(r'^[ |+-]*File "(.+)", line (\d+)', re.MULTILINE)


def place_of(frames: Sequence[tuple[str, int | None]], directory: Path | None) -> str:
    """`app/models.py, line 12`: the last frame within `directory`, or else the last; empty without any."""
    if not frames:
        return ""
    own = [frame for frame in frames if _is_own(frame[0], directory)]
    filename, line = (own or frames)[-1]
    return f"{_short(filename)}, line {line}"


def place_in(text: str) -> str:
    """The same of a traceback that is text, which is what frameworks send; empty where there is none."""
    return place_of([(name, int(line)) for name, line in _FRAME.findall(text)], Path.cwd())


def _is_own(filename: str, directory: Path | None) -> bool:
    if directory is None:
        return False
    path = Path(filename)
    return path.is_relative_to(directory) and not _INSTALLED.intersection(path.parts)


def _short(filename: str) -> str:
    path = Path(filename)
    cwd = Path.cwd()
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else filename

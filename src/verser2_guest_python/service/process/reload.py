"""`--reload`: what counts as a change of the source, told by watchfiles (extra `reload`).

The rules are those that people know from uvicorn: patterns for names, or directories.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from verser2_guest_python.errors import VerserConfigurationError

DEFAULT_INCLUDES: Final = ("*.py",)
DEFAULT_EXCLUDES: Final = (".*", ".py[cod]", ".sw.*", "~*", "__pycache__")


class SourceFilter:
    """Whether a changed file matters.

    A pattern is matched against the name of the file, and of every directory between it and the
    watched one; a pattern that names a directory covers all that is in it.
    """

    def __init__(self, directories: Sequence[Path], includes: Sequence[str], excludes: Sequence[str]) -> None:
        resolved = dict.fromkeys(directory.resolve() for directory in directories)
        self.directories = tuple(
            one for one in resolved if not any(other in one.parents for other in resolved)
        )
        self._includes = (*DEFAULT_INCLUDES, *includes)
        self._excludes = tuple(pattern for pattern in DEFAULT_EXCLUDES if pattern not in includes) + tuple(
            excludes
        )

    def matters(self, path: Path) -> bool:
        """Whether a change of `path` restarts the app."""
        inside = next((one for one in self.directories if path.is_relative_to(one)), None)
        parts = path.relative_to(inside).parts if inside is not None else path.parts
        if any(self._matches(pattern, path, parts) for pattern in self._excludes):
            return False
        return any(self._matches(pattern, path, parts[-1:]) for pattern in self._includes)

    def _matches(self, pattern: str, path: Path, names: Sequence[str]) -> bool:
        if any(fnmatch(name, pattern) for name in names):
            return True
        directory = Path(pattern)
        return directory.is_dir() and path.is_relative_to(directory.resolve())


def require_watchfiles() -> None:
    """Raises `VerserConfigurationError` when watchfiles is not installed."""
    if find_spec("watchfiles") is None:
        raise VerserConfigurationError(
            "--reload needs watchfiles: install it with pip install 'verser2-guest-python[reload]'."
        )


async def changes(source: SourceFilter, *, quiet_milliseconds: int = 50) -> AsyncIterator[list[Path]]:
    """The files of each change that matters, one list for changes that come together.

    They do when no more than `quiet_milliseconds` lie between them.
    """
    from watchfiles import awatch

    async for found in awatch(
        *source.directories, watch_filter=None, step=quiet_milliseconds, ignore_permission_denied=True
    ):
        paths = sorted({Path(path) for _, path in found if source.matters(Path(path))})
        if paths:
            yield paths

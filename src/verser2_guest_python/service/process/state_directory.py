"""The directory where this user's state lies, and files in it that are whole or not there.

Apart because certificates and the list of running `dev` Hosts share it, and because both are
security: a directory that others may write to could hold a CA that we then trust.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from verser2_guest_python.errors import VerserConfigurationError

_NAME: Final = "verser2-guest"
_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600


def state_directory(name: str) -> Path:
    """The directory `name` in this user's state directory, ours alone; made if it is missing.

    Raises `VerserConfigurationError` when it cannot be made or belongs to somebody else.
    """
    import platformdirs

    root = Path(platformdirs.user_state_dir(_NAME, appauthor=False))
    try:
        for directory in (root, root / name):
            directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            _keep_private(directory)
    except OSError as error:
        raise VerserConfigurationError(
            f"The state directory {root} cannot be used ({error.strerror}): "
            "set XDG_STATE_HOME to a directory that can."
        ) from None
    return root / name


def existing_state_directory(name: str) -> Path | None:
    """The same, if it is there already; nothing is made."""
    import platformdirs

    directory = Path(platformdirs.user_state_dir(_NAME, appauthor=False)) / name
    return directory if directory.is_dir() and _is_ours(directory.stat()) else None


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read; nobody ever sees half of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _keep_private(directory: Path) -> None:
    status = directory.stat()
    if not _is_ours(status):
        raise VerserConfigurationError(
            f"The state directory {directory} belongs to another user: set XDG_STATE_HOME to one of your own."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        directory.chmod(_PRIVATE_DIRECTORY)


def _is_ours(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()

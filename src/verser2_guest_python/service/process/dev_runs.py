"""Which `dev` Hosts run just now: one small file each, so that `broker` finds the newest by itself.

Apart because the writer (`dev`) and the reader (`broker`) are different processes, and the reader
must be quick. A process that crashed leaves its file behind: a reader believes a file only if that
process lives and its port answers, and removes it otherwise.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from verser2_guest_python.service.process.state_directory import (
    existing_state_directory,
    state_directory,
    write_private,
)

_DIRECTORY: Final = "running"
_SUFFIX: Final = ".json"
_PROBE_TIMEOUT_SECONDS: Final = 0.5
_MAX_FILE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class DevRun:
    """One running `dev`: how its Host is reached, with which certificates, and what it serves."""

    pid: int
    started_at: float
    port: int
    host_url: str
    ca_file: str
    cert_file: str
    key_file: str
    domains: tuple[str, ...]


def announce(run: DevRun) -> Path:
    """Makes `run` known to other processes of this user; give the result to `withdraw`."""
    path = state_directory(_DIRECTORY) / f"{run.pid}-{run.port}{_SUFFIX}"
    write_private(path, json.dumps(asdict(run)).encode())
    return path


def withdraw(path: Path) -> None:
    """Takes back what `announce` said."""
    path.unlink(missing_ok=True)


def newest_run(domain: str | None = None) -> DevRun | None:
    """The `dev` that was started last and still runs, of those that serve `domain` if there are any."""
    directory = existing_state_directory(_DIRECTORY)
    if directory is None:
        return None
    runs = [(run, path) for path in directory.glob(f"*{_SUFFIX}") if (run := _read(path)) is not None]
    for run, path in sorted(
        runs, key=lambda pair: (domain in pair[0].domains, pair[0].started_at), reverse=True
    ):
        if _lives(run.pid) and _answers(run.port):
            return run
        with suppress(OSError):
            withdraw(path)
    return None


def _read(path: Path) -> DevRun | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_FILE_BYTES))
        return DevRun(
            pid=int(values["pid"]),
            started_at=float(values["started_at"]),
            port=int(values["port"]),
            host_url=str(values["host_url"]),
            ca_file=str(values["ca_file"]),
            cert_file=str(values["cert_file"]),
            key_file=str(values["key_file"]),
            domains=tuple(str(domain) for domain in values["domains"]),
        )
    return None


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it there; the port tells enough
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PROBE_TIMEOUT_SECONDS):
            return True
    except (OSError, OverflowError):
        return False

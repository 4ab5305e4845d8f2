"""`--tls-reload-interval`: a certificate that is renewed on disk is used without anybody sending SIGHUP.

Apart from the processes that do it (Guest, supervisor, Host, gateway), which reload as at that signal. By
looking, and not by being told of changes: files that Kubernetes or a network mounts are replaced in ways that
no notification tells of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from verser2_guest_python.service.settings.model import TlsSettings

Stamp = tuple[int, int, int] | None
_GONE: Final = None


class _Log(Protocol):
    """Where the line goes: `Logs.events`."""

    def info(self, event: str, **fields: object) -> object: ...


class CertificateWatch:
    """Whether files have changed since the last time that somebody was told so.

    A change counts once the files have stayed the same from one look to the next, so that a certificate and
    its key, written one after the other, are one change. While a file is missing there is none.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._known = self._seen = self._look()

    def changed(self) -> tuple[Path, ...]:
        """Looks; the files that have changed and come to rest, each change once."""
        before, self._seen = self._seen, self._look()
        if self._seen == self._known or self._seen != before or _GONE in self._seen:
            return ()
        names = tuple(
            file for file, old, new in zip(self._files, self._known, self._seen, strict=True) if old != new
        )
        self._known = self._seen
        return names

    def _look(self) -> tuple[Stamp, ...]:
        return tuple(map(stamp_of, self._files))


def stamp_of(file: Path) -> Stamp:
    """What differs when a file, or what its name points to, is another one; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return _GONE
    return found.st_mtime_ns, found.st_ino, found.st_size


def files_of(tls: TlsSettings, *others: Path | None) -> tuple[Path, ...]:
    """All of these files that are set."""
    files = (tls.ca_file, tls.cert_file, tls.key_file, tls.pfx_file, *others)
    return tuple(file for file in files if file is not None)


@asynccontextmanager
async def watched_certificates(
    tls: TlsSettings, log: _Log, reload: Callable[[], None], watch: CertificateWatch | None = None
) -> AsyncIterator[None]:
    """Calls `reload` when a file has changed, if the settings ask for it.

    Whoever uses it reads the files after this has begun, or after `watch` was made: else a change in between
    would go unnoticed.
    """
    if tls.reload_interval is None:
        yield
        return
    if watch is None:
        watch = CertificateWatch(files_of(tls))
    watching = asyncio.create_task(_watch(watch, tls.reload_interval, log, reload), name="certificates")
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(watch: CertificateWatch, interval: float, log: _Log, reload: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval)
        if names := watch.changed():
            log.info("certificates changed", files=", ".join(file.name for file in names))
            reload()

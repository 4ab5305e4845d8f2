"""Until when our certificates hold, for metrics: the one outage that can be seen weeks before.

Apart from `facts.py`, which reads files for people: this is asked at every scrape, and reads
a file again only when it is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from verser2_guest_python.service.certificates.watch import stamp_of
from verser2_guest_python.service.metrics.measures import Value
from verser2_guest_python.service.settings.model import TlsSettings, plain

Expiries: TypeAlias = Callable[[], list[tuple[list[str], Value]]]
"""By file, when the certificate in it expires, in seconds of Unix time."""

_Known: TypeAlias = tuple[object, float | None]
_NOTHING: Final[_Known] = (object(), None)


class CertificateExpiry:
    """Knows our own certificates in these settings, and in `others`; those of authorities are not looked at.

    A file that is missing, or holds no certificate, is left out.
    """

    def __init__(self, tls: TlsSettings, *others: Path | None) -> None:
        files = (tls.cert_file, tls.pfx_file, *others)
        self._known: dict[Path, _Known] = {file: _NOTHING for file in files if file is not None}
        self._pfx_password = plain(tls.pfx_password)

    def __call__(self) -> list[tuple[list[str], Value]]:
        """As the files are now."""
        found: list[tuple[list[str], Value]] = []
        for file, (stamp, seconds) in self._known.items():
            if (now := stamp_of(file)) != stamp:
                seconds = self._read(file)
                self._known[file] = now, seconds
            if seconds is not None:
                found.append(([str(file)], seconds))
        return found

    def _read(self, file: Path) -> float | None:
        # Its import takes its time: only for those who ask
        from verser2_guest_python.service.certificates.facts import certificate_facts

        facts = certificate_facts(file, pfx_password=self._pfx_password)
        return facts[0].not_after.timestamp() if facts else None

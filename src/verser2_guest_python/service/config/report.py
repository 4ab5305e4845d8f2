"""What `config check` has found, and what it looks at for every role: the way to a Host, certificates.

Apart from the checks of single roles, which are made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verser2_guest_python.errors import VerserError
from verser2_guest_python.http2.credentials import credentials_warnings
from verser2_guest_python.service.certificates.facts import certificate_facts
from verser2_guest_python.service.output.errors import sentences_of
from verser2_guest_python.service.settings.model import Settings, missing, plain


@dataclass(slots=True)
class Report:
    """What was found: problems keep the program from working, warnings do not, facts are well.

    `misfits` are the keys of values that do not fit: whatever else is looked at has the default there.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    misfits: set[str] = field(default_factory=set)

    def add_misfits(self, misfits: Mapping[str, Iterable[VerserError]]) -> None:
        """Values that do not fit are problems, and nothing that is missing."""
        self.misfits |= misfits.keys()
        self.problems += [error.message for errors in misfits.values() for error in errors]

    def miss(self, key: str) -> None:
        """A setting that must be given and is not."""
        if key not in self.misfits:
            self.problems.append(missing(key).message)

    def attempt(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` returns; None when it raises, which is a problem then."""
        try:
            return call(*arguments)
        except VerserError as error:
            self.problems += [one for one in sentences_of(error) if one not in self.problems]
            return None


def check_way(url: str, settings: Settings) -> None:
    """To the Host: its address, and the proxy on the way."""
    from verser2_guest_python.peer import find_proxy, parse_host_url

    find_proxy(parse_host_url(url), plain(settings.session.proxy))


def check_authorities(path: Path, report: Report) -> None:
    """The dates of the certificates in a CA file: one that holds is enough."""
    certificates = certificate_facts(path)
    troubles = [one.date_trouble() for one in certificates]
    if certificates and all(troubles):
        report.problems.append(f"{path}: {troubles[0]}")
        return
    report.warnings += [f"{path}: {trouble}" for trouble in troubles if trouble]
    report.warnings += [f"{path}: {one.warning()}" for one in certificates if one.warning()]
    more = f" and {len(certificates) - 1} more" if len(certificates) > 1 else ""
    report.facts += [f"{path} is trusted: {one.sentence}{more}" for one in certificates[:1]]


def check_identity(
    path: Path, key_file: Path | None, report: Report, *, client: bool, pfx_password: str | None = None
) -> None:
    """A certificate whose key is known to match: its dates, names and use, and who may read the key."""
    key_holder = key_file or path
    report.warnings += credentials_warnings(key_file=key_holder)
    for one in certificate_facts(path, pfx_password=pfx_password)[:1]:  # the others are its chain
        if trouble := one.trouble(client=client):
            report.problems.append(f"{path}: {trouble}")
        else:
            report.facts.append(f"{path} is ours: {one.sentence}; its key matches")
            report.warnings += [f"{path}: {warning}"] if (warning := one.warning()) else []

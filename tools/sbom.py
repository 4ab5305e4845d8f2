"""Writes what the package depends on: a bill of materials (CycloneDX 1.6) and a list of licences.

Versions and hashes are those of requirements/*.txt, licences and dependencies what the installed
packages say of themselves. The same bytes every time::

    python -m tools.sbom dist
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NAME = "verser2-guest-python"
LOCKS = ("runtime", "test", "speed")
# What older packages say in a field of their own, or by a classifier, in the words of SPDX
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
TEXTS = {
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "3-Clause BSD License": "BSD-3-Clause",
}
_PIN = re.compile(
    r"^([a-z0-9.-]+)==(\S+)(?: ; .+?)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


@dataclass(frozen=True)
class Part:
    """A package that is depended on: `needs` are names of others, `hashes` those of all its files."""

    name: str
    version: str
    licence: str
    hashes: tuple[str, ...]
    needs: tuple[str, ...]
    core: bool

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


class NotInstalled(Exception):
    """A package that is to be listed is not here; its licence cannot be read."""


def parts(extras: Iterable[str]) -> list[Part]:
    """All that the package needs with these extras, directly or through others, on this platform.

    Raises:
        NotInstalled: what it needs is not all installed.
    """
    locked = pins()
    core = closure(())
    return [
        Part(
            name,
            version=locked[name][0],
            licence=licence_of(distribution(name)),
            hashes=locked[name][1],
            needs=tuple(sorted(needs)),
            core=name in core,
        )
        for name, needs in sorted(closure(extras).items())
        if name != NAME
    ]


def pins() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Version and hashes of every package that is locked."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for lock in LOCKS:
        for name, version, hashes in _PIN.findall((ROOT / "requirements" / f"{lock}.txt").read_text()):
            found.setdefault(name, (version, tuple(re.findall(r"sha256:(\w+)", hashes))))
    return found


def closure(extras: Iterable[str]) -> dict[str, set[str]]:
    """The package and all that it needs, each with the names of what it needs itself."""
    needs: dict[str, set[str]] = {}
    waiting = [(NAME, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        place = name, wanted = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        try:
            asked = distribution(name).requires or []
        except PackageNotFoundError:
            raise NotInstalled(f"{name} is not installed: run make sbom, which installs it first") from None
        known = needs.setdefault(name, set())
        for requirement in map(Requirement, asked):
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (*wanted, "")
            ):
                needed = canonicalize_name(requirement.name)
                waiting.append((needed, frozenset(requirement.extras)))
                if needed != name:
                    known.add(needed)
    return needs


def licence_of(found: Distribution) -> str:
    """The licence as an SPDX expression where that can be told; else in the words of the package."""
    told = found.metadata
    if "License-Expression" in told:
        return told["License-Expression"]
    classified = [
        CLASSIFIERS.get(line.rpartition(" :: ")[2], line.rpartition(" :: ")[2])
        for line in told.get_all("Classifier", [])
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    text = told["License"].strip() if "License" in told else ""
    if text and "\n" not in text and len(text) < 60:
        return TEXTS.get(text, text)
    return " AND ".join(classified) or "unknown"


def bill(found: list[Part], version: str, moment: datetime) -> dict[str, Any]:
    """The bill of materials as CycloneDX has it."""
    us = f"pkg:pypi/{NAME}@{version}"
    by_name = {part.name: part.purl for part in found}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, us + repr(found))}",
        "version": 1,
        "metadata": {
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "library",
                "bom-ref": us,
                "name": NAME,
                "version": version,
                "purl": us,
                "licenses": [{"license": {"id": "MIT"}}],
            },
            "properties": [{"name": "platform", "value": sys.platform}],
        },
        "components": [
            {
                "type": "library",
                "bom-ref": part.purl,
                "name": part.name,
                "version": part.version,
                "purl": part.purl,
                "scope": "required" if part.core else "optional",
                "licenses": [licence_entry(part.licence)],
                # A package has a file for each platform: which one it is, is known where it is installed
                "properties": [{"name": "lock:sha256", "value": value} for value in part.hashes],
            }
            for part in found
        ],
        "dependencies": [
            {"ref": us, "dependsOn": sorted(by_name[name] for name in closure_of_us(found))},
            *({"ref": part.purl, "dependsOn": [by_name[name] for name in part.needs]} for part in found),
        ],
    }


def closure_of_us(found: list[Part]) -> set[str]:
    """What the package itself asks for, of what was found."""
    names = {part.name for part in found}
    asked = (Requirement(line).name for line in distribution(NAME).requires or [])
    return names & {canonicalize_name(name) for name in asked}


def licence_entry(licence: str) -> dict[str, Any]:
    if re.search(r" (AND|OR|WITH) ", licence):
        return {"expression": licence}
    if re.fullmatch(r"[A-Za-z0-9.+]+(-[A-Za-z0-9.+]+)*", licence) and licence != "unknown":
        return {"license": {"id": licence}}
    return {"license": {"name": licence}}


def licences(found: list[Part]) -> str:
    """The same for people: a package a line, with its licence."""
    width = max(len(f"{part.name} {part.version}") for part in found)
    lines = [f"{f'{part.name} {part.version}':{width}}  {part.licence}" for part in found if part.core]
    extra = [f"{f'{part.name} {part.version}':{width}}  {part.licence}" for part in found if not part.core]
    return "\n".join(["Always:", "", *lines, "", "With extras:", "", *extra, ""])


def main(directory: Path) -> None:
    """Writes both files into `directory`."""
    version = distribution(NAME).version
    moment = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "1767225600")), UTC)
    try:
        found = parts(["all"])
    except NotInstalled as error:
        sys.exit(str(error))
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (f"{NAME}-{version}.cdx.json", json.dumps(bill(found, version, moment), indent=2) + "\n"),
        (f"{NAME}-{version}.licences.txt", licences(found)),
    ):
        (directory / name).write_text(text)
        print(directory / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

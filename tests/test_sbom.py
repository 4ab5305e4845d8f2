"""The bill of materials names all that is depended on, in the versions that are locked, with licences."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from tests.test_project import ROOT, pyproject
from tools.sbom import Part, bill, licence_entry, licences, parts

EXTRAS = sorted(set(pyproject()["project"]["optional-dependencies"]) - {"all", "speed"})
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def found() -> list[Part]:
    return parts(EXTRAS)


def test_every_dependency_is_there_with_its_licence(found: list[Part]) -> None:
    names = {part.name for part in found}
    locked = dict(
        re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements/test.txt").read_text(), re.MULTILINE)
    )
    assert names >= {"h2", "hpack", "cryptography", "uvicorn", "prometheus-client", "pytest"}
    assert {"mypy", "ruff", "django", "hypothesis"}.isdisjoint(names)
    for part in found:
        assert locked[part.name] == part.version
        assert part.hashes
        assert part.licence != "unknown", part.name
    assert {part.name for part in found if part.core} == {part.name for part in parts([])}


def test_the_bill_hangs_together(found: list[Part]) -> None:
    made = bill(found, "1.2.3", MOMENT)
    assert made == bill(parts(EXTRAS), "1.2.3", MOMENT)
    references = [component["bom-ref"] for component in made["components"]]
    us = made["metadata"]["component"]["bom-ref"]
    assert len(set(references)) == len(references)
    assert {entry["ref"] for entry in made["dependencies"]} == {us, *references}
    assert {name for entry in made["dependencies"] for name in entry["dependsOn"]} == set(references)
    assert made["metadata"]["timestamp"] == "2026-01-01T00:00:00Z"


def test_the_list_has_a_line_for_each(found: list[Part]) -> None:
    text = licences(found)
    for part in found:
        assert re.search(rf"^{re.escape(part.name)} {re.escape(part.version)}  +\S", text, re.MULTILINE)


def test_a_licence_is_said_as_what_it_is() -> None:
    assert licence_entry("MIT") == {"license": {"id": "MIT"}}
    assert licence_entry("MIT OR Apache-2.0") == {"expression": "MIT OR Apache-2.0"}
    assert licence_entry("ask the author") == {"license": {"name": "ask the author"}}

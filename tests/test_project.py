"""The project as a whole: metadata in step, locks that name no registry, a package cheap to import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import verser2_guest_python
from verser2_guest_python.service.settings.model import Settings

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
LOCKS_OF_EXTRAS = {"speed": ("speed",), "all": ()}  # all other extras are in those for test and lint


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_json() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((ROOT / "package.json").read_text())
    return data


def test_versions_are_in_step() -> None:
    written = pyproject()["project"]["version"]
    assert package_json()["version"] == written
    assert version("verser2-guest-python") == written
    assert verser2_guest_python.__version__ == written
    assert f"## {written}" in (ROOT / "CHANGELOG.md").read_text()


def test_names_are_in_step() -> None:
    assert package_json()["name"] == verser2_guest_python.VERSER2_GUEST_PYTHON_PACKAGE_NAME
    assert package_json()["license"] == pyproject()["project"]["license"]


def test_npm_scripts_call_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("build", "test", "lint"):
        tool, target = package_json()["scripts"][name].split()
        assert tool == "make"
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_hashes_and_names_no_place(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    pinned = [line for line in lines if re.match(r"[a-z0-9.-]+==", line)]
    assert pinned
    assert all(line.endswith("\\") for line in pinned), "a requirement without a hash follows it"
    for line in lines:
        assert re.search(r"://|--(index|extra-index|find-links|trusted)|(^|\s)/", line) is None, line


def test_every_lock_agrees_on_versions() -> None:
    pins: dict[str, set[str]] = {}
    for lock in LOCKS:
        for line in lock.read_text().splitlines():
            if match := re.match(r"([a-z0-9.-]+)==(\S+)(?: ; (.+?))? \\$", line):
                pins.setdefault(f"{match[1]} ; {match[3] or ''}", set()).add(match[2])
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}


@pytest.mark.parametrize("extra", ["", *pyproject()["project"]["optional-dependencies"]])
def test_what_is_asked_for_is_what_is_locked(extra: str) -> None:
    project = pyproject()["project"]
    asked = project["optional-dependencies"][extra] if extra else project["dependencies"]
    locks = LOCKS_OF_EXTRAS.get(extra, ("test", "lint")) if extra else ("runtime", "test", "lint", "speed")
    for lock in locks:
        pins = dict(
            re.findall(
                r"^([a-z0-9.-]+)==(\S+)", (ROOT / f"requirements/{lock}.txt").read_text(), re.MULTILINE
            )
        )
        for requirement in map(Requirement, asked):
            if requirement.name != project["name"]:
                assert requirement.specifier.contains(pins[requirement.name]), "run: make lock"


def test_extras_are_those_that_are_told() -> None:
    extras = pyproject()["project"]["optional-dependencies"]
    assert set(extras) == {
        *("speed", "proxy", "wsgi", "reload", "gateway", "dev", "httpx", "metrics", "otel", "pytest", "all")
    }
    assert everything("all") == {name for extra in extras for name in everything(extra)}
    readme = (ROOT / "README.md").read_text()
    assert [extra for extra in extras if f"`[{extra}]`" not in readme] == []


def everything(extra: str) -> set[str]:
    """The packages that an extra asks for, through other extras too."""
    names: set[str] = set()
    for requirement in map(Requirement, pyproject()["project"]["optional-dependencies"][extra]):
        if requirement.name == "verser2-guest-python":
            names.update(name for inner in requirement.extras for name in everything(inner))
        else:
            names.add(requirement.name)
    return names


@pytest.mark.parametrize("shown", [False, True], ids=["as it is", "with what is commented out"])
def test_the_example_configuration_is_valid(shown: bool) -> None:
    text = (ROOT / "config" / "verser2-guest.toml").read_text()
    if shown:
        text = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    settings = Settings(**tomllib.loads(text))
    assert settings.guest_id == "guest-a"
    assert settings.leases == Settings().leases
    assert settings.session == Settings().session
    assert settings.log.model_copy(update={"config": None}) == Settings().log
    assert (settings.tls.ca_file is not None) == shown


def test_importing_the_package_loads_nothing_else() -> None:
    program = (
        "import sys, verser2_guest_python; print([m for m in sys.modules if 'verser2' in m or m == 'ssl'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['verser2_guest_python']"


@pytest.mark.parametrize("name", sorted(verser2_guest_python.__all__))
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(verser2_guest_python, name) is getattr(verser2_guest_python, name)
    assert name in dir(verser2_guest_python)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'create_verser_gust'"):
        verser2_guest_python.create_verser_gust  # noqa: B018

"""What is handed out: wheel, source archive and npm package hold what they should, and install anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.test_project import ROOT, package_json, pyproject

VENV = Path(sys.prefix)
UV = str(VENV / "bin" / "uv")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
COPIED = ("src", "tests", "config", "examples", "bench", "docs", "requirements", "tools")
INSPECTOR = ROOT / "src" / "verser2_guest_python" / "service" / "inspector" / "static"
NEEDED = {
    "verser2_guest_python/py.typed",
    *(f"verser2_guest_python/service/inspector/static/{path.name}" for path in INSPECTOR.iterdir()),
}
# A slow machine installs into four environments
INSTALL_SECONDS = 600


def run(
    *words: str | Path, cwd: Path = ROOT, umask: int = -1, **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "VERSER_", "PYTHON"))
    }
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**kept, "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy", **environment},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def make_dist(project: Path, output: Path, umask: int = -1, **environment: str) -> dict[str, Path]:
    """`make dist`, which finds everything installed already: the archives by the end of their names."""
    installed = VENV / ".installed" / "package"
    run(
        "make",
        "-o",
        installed,
        "dist",
        f"DIST={output}",
        f"VENV={VENV}",
        cwd=project,
        umask=umask,
        **environment,
    )
    return {path.suffix: path for path in output.iterdir() if path.suffix in {".whl", ".gz"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_dist(ROOT, tmp_path_factory.mktemp("dist"), SOURCE_DATE_EPOCH="1767225600")


@pytest.mark.slow
def test_another_checkout_gives_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in COPIED:
        shutil.copytree(
            ROOT / name,
            copy / name,
            ignore=shutil.ignore_patterns("__pycache__"),
            copy_function=copied_anew,
        )
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":  # of a worktree it is a file
            shutil.copyfile(path, copy / path.name)
    again = make_dist(copy, tmp_path / "dist", umask=0o077, SOURCE_DATE_EPOCH="1767225600", TZ="Asia/Tokyo")
    assert set(again) == set(built) == {".whl", ".gz"}
    for suffix, path in built.items():
        assert path.name == again[suffix].name
        assert digest(path) == digest(again[suffix])


def copied_anew(source: str, target: str) -> None:
    """As another user has it: with a time of its own, and closed to everybody else."""
    shutil.copyfile(source, target)
    Path(target).chmod(0o700 if os.access(source, os.X_OK) else 0o600)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = set(wheel.namelist())
        [metadata] = [name for name in names if name.endswith("/METADATA")]
        told = message_from_bytes(wheel.read(metadata))
    assert names >= NEEDED
    assert {name.split("/")[0].split("-")[0] for name in names} == {"verser2_guest_python"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert told["License-Expression"] == "MIT"
    assert set(told.get_all("Provides-Extra", [])) == set(pyproject()["project"]["optional-dependencies"])


def test_the_source_archive_can_be_built_and_tested(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {f"src/{name}" for name in NEEDED}
    assert names >= {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        "pyproject.toml",
        "tests/conftest.py",
    }
    assert names >= {f"requirements/{path.name}" for path in (ROOT / "requirements").iterdir()}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


# --- npm ------------------------------------------------------------------------------------------

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@needs_npm
def test_the_npm_package_holds_what_it_should(tmp_path: Path) -> None:
    done = run(
        "npm",
        "pack",
        "--dry-run",
        "--json",
        npm_config_cache=str(tmp_path),
        npm_config_update_notifier="false",
    )
    told = json.loads(done.stdout)
    [packed] = told.values() if isinstance(told, dict) else told
    names = {entry["path"] for entry in packed["files"]}
    assert packed["name"] == package_json()["name"]
    assert names >= {f"src/{name}" for name in NEEDED}
    assert names >= {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "package.json", "pyproject.toml"}
    assert names >= {f"requirements/{path.name}" for path in (ROOT / "requirements").iterdir()}
    assert {name.split("/")[0] for name in names if "/" in name} == {"src", "requirements", "config"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pem", ".tgz"))]


@needs_npm
@pytest.mark.parametrize(
    ("script", "does"), [("build", "uv build"), ("test", "-m pytest"), ("lint", "mypy --strict")]
)
def test_npm_run_does_what_make_does(script: str, does: str, tmp_path: Path) -> None:
    done = run(
        "npm",
        "run",
        script,
        "--",
        "--dry-run",
        npm_config_cache=str(tmp_path),
        npm_config_update_notifier="false",
    )
    assert does in done.stdout


# --- Every Python ---------------------------------------------------------------------------------


def python_of(version: str) -> str | None:
    """Where a Python of this version is: on the PATH, or among those of pyenv."""
    candidates = [shutil.which(f"python{version}"), shutil.which("python3"), sys.executable]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += [str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)]
    program = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if candidate is not None:
            done = subprocess.run([candidate, "-c", program], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip() == version:
                return candidate
    return None


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("archive", [".whl", ".gz"], ids=["wheel", "source"])
def test_it_installs_into_an_empty_environment(
    version: str, archive: str, built: dict[str, Path], tmp_path: Path
) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    home = tmp_path / "venv"
    inside = home / "bin" / "python"
    run(UV, "venv", "--quiet", "--no-config", "--python", python, home)
    install = (UV, "pip", "install", "--quiet", "--no-config", "--python", str(inside))
    constraints = (
        "-c",
        "requirements/runtime.txt",
        "-c",
        "requirements/test.txt",
        "-c",
        "requirements/speed.txt",
    )
    run(*install, *constraints, "--build-constraints", "requirements/build.txt", f"{built[archive]}")
    assert (
        run(home / "bin" / "verser2-guest", "--version", cwd=tmp_path).stdout.split()[-1]
        == (pyproject()["project"]["version"])
    )
    run(inside, "-W", "error", "-c", "from verser2_guest_python import *", cwd=tmp_path)
    run(UV, "pip", "check", "--no-config", "--python", inside)
    if archive == ".whl":  # then with everything
        run(*install, *constraints, f"{built[archive]}[all]")
        run(UV, "pip", "check", "--no-config", "--python", inside)
        run(home / "bin" / "verser2-guest", "gateway", "--help", cwd=tmp_path)


def test_the_versions_of_python_are_those_that_are_claimed() -> None:
    project = pyproject()["project"]
    claimed = [
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project["classifiers"]
    ]
    assert tuple(found[1] for found in claimed if found) == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"

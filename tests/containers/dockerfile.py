"""Reads a Dockerfile: the instructions of each stage, in order, with variables filled in.

Apart from `sandbox.py`, which does what they say. Only what our own files use is known; anything else fails.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_KNOWN: Final = {
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "RUN",
    "USER",
    "WORKDIR",
}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word, and all that stands behind it."""

    word: str
    rest: str

    def pairs(self) -> dict[str, str]:
        """Of ENV and LABEL."""
        return dict(part.split("=", 1) for part in shlex.split(self.rest))  # type: ignore[misc]

    def words(self) -> list[str]:
        """Of ENTRYPOINT and CMD: the exec form, without a shell that would stand between us and signals."""
        words: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return words


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, word: str) -> Instruction:
        return next(one for one in reversed(self.instructions) if one.word == word)

    def all(self, word: str) -> list[Instruction]:
        return [one for one in self.instructions if one.word == word]

    def environment(self) -> dict[str, str]:
        return {name: value for one in self.all("ENV") for name, value in one.pairs().items()}


def read_dockerfile(path: Path) -> list[Stage]:
    """The stages of the file."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        assert word in _KNOWN, f"{path}: {word} is not known here"
        rest = rest.strip()
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], base), name))
        elif word == "ARG" and not stages:
            name, _, default = rest.partition("=")
            arguments[name] = default
        else:
            stages[-1].instructions.append(Instruction(word, rest))
    return stages


def sent_to_the_engine(root: Path) -> set[str]:
    """The files that `.dockerignore` lets through: the last pattern that fits decides."""
    lines = (root / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*", "only what is named goes in"
    found = set()
    for pattern in patterns:
        if pattern.startswith("!"):
            for path in root.glob(pattern[1:]):
                files = path.rglob("*") if path.is_dir() else [path]
                found |= {str(file.relative_to(root)) for file in files if file.is_file()}
        elif pattern != "*":
            inner = pattern.removeprefix("**/")
            found = {
                name for name in found if not any(fnmatch.fnmatch(part, inner) for part in Path(name).parts)
            }
    return found

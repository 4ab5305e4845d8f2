"""`kubectl` without a cluster: reads what it would send to one, by the schemas of Kubernetes.

Where kubectl itself is installed it puts together what is sent, and nothing else is left out but the sending.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tests.containers.test_kubernetes import complaints, resources_of  # noqa: E402


def main(words: list[str]) -> None:
    """Asserts that the command is one that kubectl takes, and that Kubernetes knows what it makes."""
    here = Path(sys.argv[0]).parent
    path = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if Path(part).name != "stand-ins" != here.name
    )
    tool = shutil.which("kubectl", path=path)
    made: list[dict[str, Any]] = []
    if "apply" in words:
        assert words[:2] == ["apply", "-k"], words
        assert len(words) == 3, words
        if tool is None:
            made = list(resources_of(Path(words[2]) / "kustomization.yaml"))
        else:
            made = output_of([tool, "kustomize", words[2]])
    else:
        assert "create" in words, words
        for word in words:
            if word.startswith("--from-file="):
                assert Path(word.partition("=")[2]).is_file(), f"there is no file {word}"
        if tool is not None:
            output_of([tool, *words, "--dry-run=client", "-o", "yaml"])
    assert [complaint for one in made for complaint in complaints(one)] == []


def output_of(command: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


main(sys.argv[1:])

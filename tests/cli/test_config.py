"""Settings from files, as a user meets them: `--config FILE` alone, and files that have mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import APPS, Stage
from tests.cli.processes import fails, run, start

GUEST = """
app = "small:app"
app_dir = "{apps}"
host_url = "{url}"
guest_id = "{guest_id}"
routed_domains = ["{guest_id}.test"]
tls.ca_file = "ca.pem"
log.format = "json"
"""


def write(directory: Path, stage: Stage, guest_id: str) -> Path:
    """A file that names all that a Guest needs, with the CA beside it."""
    (directory / "ca.pem").write_bytes(stage.certs.ca.read_bytes())
    path = directory / "verser2-guest.toml"
    path.write_text(GUEST.format(apps=APPS, url=stage.url, guest_id=guest_id))
    return path


def test_a_file_alone_starts_a_guest(stage: Stage, tmp_path: Path) -> None:
    path = write(tmp_path, stage, "filed")
    with start("--config", path, "--workers", "2") as guest:
        guest.says('"registered"', "filed-1")
        guest.says('"registered"', "filed-2")
        answer = run("broker", "get", "http://filed.test/", *stage.peer)
        assert answer.returncode == 0, answer.stderr
        assert guest.stop() == 0


def test_a_file_that_lies_here_needs_no_word(stage: Stage, tmp_path: Path) -> None:
    write(tmp_path, stage, "here")
    with start(cwd=tmp_path) as guest:
        guest.says('"registered"', "here")
        # The same file tells a Broker where the Host is
        answer = run("broker", "get", "http://here.test/", cwd=tmp_path)
        assert answer.returncode == 0, answer.stderr
        assert guest.stop() == 0


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("leases.limit_concurency = 1", 78, ("guest.toml:1", "did you mean 'limit_concurrency'?")),
        ("leases.limit_concurrency = 0", 78, ("'0' of leases.limit_concurrency in", "guest.toml:1")),
        ("this is no TOML", 78, ("guest.toml is not valid TOML", "line 1")),
        ('app = "small:app"', 2, ("--host-url is missing", "VERSER_HOST_URL", "host_url in verser2-guest")),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, code: int, words: tuple[str, ...]) -> None:
    path = tmp_path / "guest.toml"
    path.write_text(text)
    fails(code, *words, arguments=("--config", path))

"""Settings from files, as a user meets them: `--config FILE` alone, and files that have mistakes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import APPS, Stage
from tests.cli.processes import fails, run, start
from tests.support.certificates import Certificates
from verser2_guest_python.service.certificates.development import development_certificates
from verser2_guest_python.service.settings.model import settings_from
from verser2_guest_python.service.settings.options import OPTIONS
from verser2_guest_python.service.settings.sources import Sources

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
        (
            'app = "small:app"',
            2,
            (
                "--host-url, --guest-id and --domain are missing",
                "VERSER_HOST_URL",
                "host_url, guest_id and routed_domains in verser2-guest.toml",
            ),
        ),
        (
            'app = "small:app"\nguest_id = "g"\nrouted_domains = ["g.test"]',
            2,
            ("--host-url is missing", "VERSER_HOST_URL", "host_url in verser2-guest.toml"),
        ),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, code: int, words: tuple[str, ...]) -> None:
    path = tmp_path / "guest.toml"
    path.write_text(text)
    fails(code, *words, arguments=("--config", path))


# --- config show, check, schema -------------------------------------------------------------------


def test_what_is_shown_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "verser2-guest.toml").write_text(
        'app = "small:app"\nsession.proxy = "http://me:hunter2@proxy.test"\n[[host.policy]]\n'
        'id = "a\\"b"\ntoken = "hunter2"\n'
    )
    env = {"VERSER_TLS_KEY_PASSWORD_FILE": "password", "VERSER_GUEST_DOMAIN": "a.test,b.test"}
    result = run("config", "show", "--workers", "3", cwd=tmp_path, env=env)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode()
    assert "hunter2" not in text
    for name, value, source in (
        ("app", '"small:app"', "verser2-guest.toml:1"),
        ("routed_domains", '["a.test", "b.test"]', "VERSER_GUEST_DOMAIN"),
        ("workers", "3", "--workers"),
        ("key_password", '"***"', "VERSER_TLS_KEY_PASSWORD_FILE"),
        ("proxy", '"http://***@proxy.test"', "verser2-guest.toml:2"),
        ("limit_concurrency", "1000", "default"),
    ):
        assert re.search(rf"^{name} = {re.escape(value)} +# {source}$", text, re.MULTILINE), name
    assert "# pfx_file is not set" in text
    values = tomllib.loads(text)
    assert values["host"]["policy"] == [{"id": 'a"b', "token": "***"}]
    (tmp_path / "shown.toml").write_text(text)
    again = settings_from(Sources({"config": str(tmp_path / "shown.toml")}, {}, Path()))
    assert (again.app, again.workers.workers) == ("small:app", 3)
    as_json = json.loads(run("config", "show", "--json", cwd=tmp_path, env=env).stdout)
    assert as_json["app"] == {"value": "small:app", "source": "verser2-guest.toml:1"}
    assert as_json["tls.key_password"]["value"] == "***"


def test_values_that_do_not_fit_are_shown_as_well(tmp_path: Path) -> None:
    (tmp_path / "verser2-guest.toml").write_text("leases.limit_concurrency = 'many'\n")
    result = run("config", "show", cwd=tmp_path)
    assert result.returncode == 78
    assert b"'many' of leases.limit_concurrency in verser2-guest.toml:1 does not fit" in result.stderr
    assert b'limit_concurrency = "many"' in result.stdout


def test_a_configuration_that_is_right_is_told_so(stage: Stage, tmp_path: Path) -> None:
    path = write(tmp_path, stage, "guest-a-checked")
    names = ("--tls-cert-file", stage.certs.guest, "--tls-key-file", stage.certs.guest_key)
    result = run("config", "check", "--config", path, *names)
    assert (result.returncode, result.stderr) == (0, b"")
    for words in (
        "ca.pem is trusted",
        "its key matches",
        "small:app is imported: asgi3",
        "guest-a-checked.test",
    ):
        assert words in result.stdout.decode()


def test_every_problem_of_a_configuration_is_a_line(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "guest.toml"
    path.write_text(
        f'app = "nowhere:app"\nhost_url = ["http://a.test", "https://b.test/c"]\nguest_id = "ä"\n'
        f'routed_domains = ["*.a.test", "b.test"]\n[tls]\ncert_file = "{stage.certs.guest}"\n'
        f'key_file = "{stage.certs.host_key}"\n[workers]\nreload = false\n'
    )
    result = run("config", "check", "--config", path, env={"VERSER_LOG_LEVEL": "debug"})
    assert result.returncode == 78
    lines = result.stderr.decode().splitlines()
    for words in (
        "begins with http://",
        "goes on after the port",
        "is not printable ASCII",
        "'*.a.test'",
        "there is no module 'nowhere'",
        "does not match the certificate",
    ):
        assert sum(words in line for line in lines) == 1, words
    assert (
        lines[0] == "warning: VERSER_LOG_LEVEL is the variable of no setting: did you mean VERSER_LOG__LEVEL?"
    )
    assert len(lines) == 7
    (tmp_path / "empty.toml").touch()
    result = run("config", "check", "--config", tmp_path / "empty.toml")
    assert result.returncode == 78
    assert result.stderr.count(b" is missing: ") == 4
    path.write_text("host_urll = ''\n[leases]\nlimit_concurency = 1\n[lease]\nx = 1\n")
    result = run("config", "check", "--config", path)
    assert result.returncode == 78
    lines = result.stderr.decode().splitlines()
    for line, name in ((1, "'host_url'"), (3, "'limit_concurrency'"), (4, "'leases'")):
        assert sum(f"guest.toml:{line}: there is no " in one and name in one for one in lines) == 1
    assert len(lines) == 3
    path.write_text("[leases]\nlimit_concurrency = 0\nmin_waiting_streams = 'x'\n")
    assert run("config", "check", "--config", path).stderr.count(b"does not fit") == 2


def test_the_app_is_left_alone_where_nobody_wants_it_imported(stage: Stage, tmp_path: Path) -> None:
    path = write(tmp_path, stage, "checked")
    result = run("config", "check", "nowhere:app", "--no-import-app", "--config", path)
    assert result.returncode == 0, result.stderr


def test_a_certificate_that_nobody_accepts_is_a_problem(certs: Certificates, tmp_path: Path) -> None:
    host = development_certificates(tmp_path).host
    for cert, key, words in (
        (certs.expired, certs.expired_key, "expired on"),
        (host.cert_file, host.key_file, "is not for clients"),
    ):
        result = run("config", "check", "--tls-cert-file", cert, "--tls-key-file", key, cwd=tmp_path)
        assert result.returncode == 78
        assert words in result.stderr.decode()


def test_the_schema_says_what_there_is_to_set() -> None:
    schema = json.loads(run("config", "schema").stdout)
    assert schema["properties"]["guest_id"]["description"] == OPTIONS["guest_id"].sentence
    assert schema["additionalProperties"] is False
    leases = schema["$defs"]["LeaseSettings"]["properties"]["limit_concurrency"]
    assert (leases["type"], leases["default"], leases["minimum"]) == ("integer", 1000, 1)

"""Where settings come from: what wins, what is refused, and in which words."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.settings.model import Settings, load_settings, settings_from
from verser2_guest_python.service.settings.options import OPTIONS
from verser2_guest_python.service.settings.sources import Sources
from verser2_guest_python.service.settings.toml_lines import line_of


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERSER_SECRETS_DIR", str(tmp_path))


def sources(text: str = "", *, given: dict[str, object] | None = None, **environ: str) -> Sources:
    """Sources with this text as `verser2-guest.toml`."""
    Path("verser2-guest.toml").write_text(text)
    return Sources(given or {}, environ, Path())


def test_each_place_wins_over_those_behind_it(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (tmp_path / "env").write_text("VERSER_GUEST_ID=env-file\n")
    (secrets / "verser_guest_id").write_text("secrets\n")
    places: list[tuple[str, dict[str, object], dict[str, str], str]] = [
        ("flag", {"guest_id": "flag"}, {}, "--guest-id"),
        ("environment", {}, {"VERSER_GUEST_ID": "environment"}, "VERSER_GUEST_ID"),
        ("env-file", {}, {"VERSER_ENV_FILE": "env"}, "VERSER_GUEST_ID in env"),
        ("toml", {}, {}, "guest_id in verser2-guest.toml:1"),
        ("secrets", {}, {"VERSER_SECRETS_DIR": "secrets"}, "VERSER_GUEST_ID in secrets/verser_guest_id"),
    ]
    for first, (value, _, _, place) in enumerate(places):
        given: dict[str, object] = {}
        environ: dict[str, str] = {}
        for _, more, variables, _ in places[first:]:
            given |= more
            environ |= variables
        said = sources('guest_id = "toml"\n' if first < 4 else "", given=given, **environ).find("guest_id")
        assert said is not None
        assert (said.value, said.place) == (value, place)
    assert sources().find("guest_id") is None


def test_what_any_program_may_be_told_counts_last() -> None:
    assert settings_from(sources(WEB_CONCURRENCY="3")).workers.workers == 3
    assert settings_from(sources("[workers]\nworkers = 2", WEB_CONCURRENCY="3")).workers.workers == 2


def test_a_file_is_read_in_full() -> None:
    settings = settings_from(
        sources(
            """
            app = "shop:app"
            host_url = "https://a.test"
            routed_domains = ["a.test", "b.test"]
            leases.limit_concurrency = 7
            [tls]
            ca_file = "ca.pem"
            key_password = "hunter2"
            [workers]
            reload_dir = ["src", "/lib"]
            [log]
            access_log = false
            [[host.policy]]
            fingerprint = "aa"
            [[host.policy]]
            fingerprint = "bb"
            """
        )
    )
    assert (settings.app, settings.host_url) == ("shop:app", ("https://a.test",))
    assert settings.routed_domains == ("a.test", "b.test")
    assert settings.leases.limit_concurrency == 7
    assert settings.tls.ca_file == Path("ca.pem")
    assert settings.workers.reload_dir == (Path("src"), Path("/lib"))
    assert settings.log.access_log is False
    assert settings.host.policy == ({"fingerprint": "aa"}, {"fingerprint": "bb"})
    assert "hunter2" not in repr(settings)


def test_paths_in_a_file_begin_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "guest.toml").write_text('app_dir = "apps"\ntls.ca_file = "../ca.pem"\n')
    settings = settings_from(Sources({"config": "etc/guest.toml"}, {"VERSER_TLS_KEY_FILE": "key"}, Path()))
    assert settings.app_dir == Path("etc/apps")
    assert settings.tls.ca_file == Path("etc/../ca.pem")
    assert settings.tls.key_file == Path("key")


def test_which_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.verser2-guest]\nguest_id = "project"\n')
    assert settings_from(Sources({}, {}, Path())).guest_id == "project"
    assert settings_from(sources('guest_id = "here"')).guest_id == "here"
    (tmp_path / "other.toml").write_text('guest_id = "other"\n')
    assert settings_from(Sources({}, {"VERSER_CONFIG": "other.toml"}, Path())).guest_id == "other"
    assert settings_from(Sources({"config": "pyproject.toml"}, {}, Path())).guest_id == "project"


def test_a_project_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("this is [no toml\n")
    assert settings_from(Sources({}, {}, Path())) == Settings()
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    assert Sources({}, {}, Path()).config_file is None
    with pytest.raises(VerserConfigurationError, match=r"--config names a pyproject\.toml without settings"):
        Sources({"config": "pyproject.toml"}, {}, Path())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[log]\n\nacces_log = true",
            r"toml:3: there is no setting 'acces_log' in \[log\]: did you mean 'access_log'\?",
        ),
        ("guest-id = 'a'", "toml:1: .*did you mean 'guest_id'?"),
        (
            "limit_concurrency = 5",
            r"toml:1: .*did you mean 'limit_concurrency' in \[leases\] or \[gateway\]\?",
        ),
        ("[tls]\nguest_id = 'a'", "toml:2: .*did you mean 'guest_id' at the top of the file"),
        ("[lease]\nlimit_concurrency = 5", r"toml:1: there is no setting or group 'lease': .*'leases'\?"),
        ("\n[zzz]", "toml:2: .*'zzz'; `verser2-guest config show` lists"),
        ("tls = 5", r"toml:1: tls is a group of settings, and is written as a table: \[tls\]"),
        ("config = 'other.toml'", "toml:1: a file of settings cannot say config"),
        ("a = 1 2", r"verser2-guest.toml is not valid TOML: .*line 1"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(VerserConfigurationError, match=words):
        sources(text)


def test_a_value_that_does_not_fit_is_told_with_its_line() -> None:
    said = sources('[leases]\nlimit_concurrency = "many"')
    with pytest.raises(VerserConfigurationError, match=r"'many' of leases\.limit_concurrency in .*toml:2"):
        settings_from(said)


def test_files_that_are_named_have_to_be_there(tmp_path: Path) -> None:
    for key, what in (("config", "file"), ("env_file", "file"), ("secrets_dir", "directory")):
        with pytest.raises(
            VerserConfigurationError,
            match=rf"{OPTIONS[key].flag} names a {what} that cannot be read: missing",
        ):
            Sources({key: "missing"}, {}, Path())


def test_variables_in_a_file_are_not_expanded_and_reach_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME_OF_SHOP", "environment")
    monkeypatch.delenv("SHOP_DATABASE", raising=False)
    (tmp_path / "env").write_text(
        "# all of them\nexport SHOP_DATABASE='a ${HOME_OF_SHOP}'\nHOME_OF_SHOP=file\n"
        'VERSER_GUEST_ID="${HOME_OF_SHOP}"  # literally\nVERSER_GUEST_DOMAIN=a.test,b.test\n'
    )
    settings = load_settings({"env_file": "env"})
    assert settings.guest_id == "${HOME_OF_SHOP}"
    assert settings.routed_domains == ("a.test", "b.test")
    assert os.environ.pop("SHOP_DATABASE") == "a ${HOME_OF_SHOP}"
    assert os.environ["HOME_OF_SHOP"] == "environment"
    assert "VERSER_GUEST_ID" not in os.environ


def test_a_line_of_no_variable_is_told(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=1\nthis is = 'not\n")
    with pytest.raises(VerserConfigurationError, match=re.escape("env:2: this is no line like NAME=VALUE")):
        Sources({"env_file": "env"}, {}, Path())


def test_names_contradict_each_other_in_one_place_only(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("VERSER_TLS_CA_FILE=file.pem\n")
    said = Sources({"env_file": "env"}, {"VERSER_TLS__CA_FILE": "environment.pem"}, Path())
    found = said.find("tls.ca_file")
    assert found is not None
    assert found.value == "environment.pem"
    (tmp_path / "env").write_text("VERSER_TLS_CA_FILE=a\nVERSER_TLS__CA_FILE=b\n")
    with pytest.raises(VerserConfigurationError, match="in env mean the same setting"):
        Sources({"env_file": "env"}, {}, Path()).find("tls.ca_file")


def test_secrets_lie_in_files_of_their_own(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "VERSER_TLS_KEY_PASSWORD").write_text("hunter2\n")
    (secrets / "verser_session__proxy").write_text("http://user:hunter3@proxy.test")
    (secrets / "unrelated").write_bytes(b"\xff")
    settings = settings_from(Sources({"secrets_dir": "secrets"}, {}, Path()))
    assert settings.tls.key_password is not None
    assert settings.tls.key_password.get_secret_value() == "hunter2"
    assert settings.session.proxy is not None
    assert settings.session.proxy.get_secret_value() == "http://user:hunter3@proxy.test"


def test_lines_are_found() -> None:
    text = """
a = 1
b.c = 2
[group]
"name" = 3
inline = { x = 1 }

[[host.policy]]
id = 1
[[host.policy]]
id = 2
[host.policy.deep]
x = 3
"""
    for path, line in (
        (("a",), 2),
        (("b", "c"), 3),
        (("b",), 3),
        (("group", "name"), 5),
        (("group", "inline", "x"), 6),
        (("host", "policy"), 8),
        (("host", "policy", 0, "id"), 9),
        (("host", "policy", 1), 10),
        (("host", "policy", 1, "deep", "x"), 13),
        (("host", "policy", 1, "missing"), 10),
        (("missing",), None),
    ):
        assert line_of(text, path) == line, path

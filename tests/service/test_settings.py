"""The settings model: command line over environment over defaults, mistakes told in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.service.settings.model import Settings, load_settings, setting_keys
from verser2_guest_python.service.settings.options import OPTIONS, SETTING_KEYS, SOURCE_KEYS


def test_every_option_is_a_setting_with_the_same_default() -> None:
    settings = load_settings({})
    assert set(setting_keys(Settings)) == set(SETTING_KEYS)
    for key, option in OPTIONS.items():
        if option.default is None or key in SOURCE_KEYS:
            continue
        value: object = settings
        for name in key.split("."):
            value = getattr(value, name)
        assert (str(value) if isinstance(value, Path) else value) == option.default, key


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSER_HOST_URL", "https://env.test")
    monkeypatch.setenv("VERSER_GUEST_ID", "from-env")
    monkeypatch.setenv("VERSER_TLS_CA_FILE", "env.pem")
    monkeypatch.setenv("VERSER_TLS_KEY_FILE", "env-key.pem")
    settings = load_settings({"host_url": ("https://flag.test",), "tls.ca_file": "flag.pem"})
    assert settings.host_url == ("https://flag.test",)
    assert settings.guest_id == "from-env"
    assert settings.tls.ca_file == Path("flag.pem")
    assert settings.tls.key_file == Path("env-key.pem")


def test_domains_come_one_by_one_and_in_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"routed_domains": ("a.test", "b.test,c.test")}).routed_domains == (
        "a.test",
        "b.test",
        "c.test",
    )
    monkeypatch.setenv("VERSER_GUEST_DOMAIN", "d.test, e.test")
    assert load_settings({}).routed_domains == ("d.test", "e.test")


def test_groups_come_from_nested_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSER_LEASES__LIMIT_CONCURRENCY", "64")
    monkeypatch.setenv("VERSER_LOG__ACCESS_LOG", "off")
    monkeypatch.setenv("VERSER_LOG__LEVEL", "DEBUG")
    settings = load_settings({"leases.min_waiting_streams": "4"})
    assert (settings.leases.limit_concurrency, settings.leases.min_waiting_streams) == (64, 4)
    assert settings.log.access_log is False
    assert settings.log.level == "debug"


def test_a_bad_value_is_told_with_the_flag_that_gave_it() -> None:
    with pytest.raises(VerserUsageError, match="'many' of --limit-concurrency does not fit: it should be"):
        load_settings({"leases.limit_concurrency": "many"})


def test_a_bad_value_is_told_with_the_variable_that_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSER_SESSION__CONNECT_TIMEOUT", "-1")
    with pytest.raises(VerserUsageError, match="'-1' of VERSER_SESSION__CONNECT_TIMEOUT does not fit"):
        load_settings({})


def test_sizes_are_written_as_people_write_them() -> None:
    for text, size in (("64MiB", 67_108_864), ("1 GB", 1_000_000_000), ("100000", 100_000)):
        assert load_settings({"session.max_unread_bytes": text}).session.max_unread_bytes == size
    for text, words in (("many", "such as 64MiB"), ("10", "greater than or equal to 65536")):
        with pytest.raises(VerserUsageError, match=f"'{text}' of --max-unread-bytes does not fit: .*{words}"):
            load_settings({"session.max_unread_bytes": text})


def test_lists_are_lists_in_groups_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSER_WORKERS__RELOAD_DIR", "src, lib")
    monkeypatch.setenv("VERSER_HOST_URL", "https://a.test,https://b.test")
    settings = load_settings({"workers.reload_include": ("*.html", "*.css,*.js")})
    assert settings.workers.reload_dir == (Path("src"), Path("lib"))
    assert settings.workers.reload_include == ("*.html", "*.css", "*.js")
    assert settings.host_url == ("https://a.test", "https://b.test")


def test_the_number_of_workers_comes_from_web_concurrency_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert load_settings({}).workers.workers == 3
    monkeypatch.setenv("VERSER_WORKERS__WORKERS", "2")  # ours wins: the other is set for any program
    assert load_settings({}).workers.workers == 2
    assert load_settings({"workers.workers": "4"}).workers.workers == 4
    monkeypatch.delenv("VERSER_WORKERS__WORKERS")
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(VerserUsageError, match="'many' of WEB_CONCURRENCY does not fit"):
        load_settings({})


def test_credentials_of_a_proxy_do_not_show() -> None:
    settings = load_settings({"session.proxy": "http://user:hunter2@proxy.test:8080"})
    assert settings.session.proxy is not None
    assert settings.session.proxy.get_secret_value() == "http://user:hunter2@proxy.test:8080"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_aliases_that_contradict_each_other_are_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VERSER_ROUTED_DOMAINS", "a.test")
    monkeypatch.setenv("VERSER_GUEST_DOMAIN", "b.test")
    with pytest.raises(VerserConfigurationError, match="VERSER_ROUTED_DOMAINS and VERSER_GUEST_DOMAIN"):
        load_settings({})


def test_passwords_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSER_TLS_KEY_PASSWORD", "hunter2")
    settings = load_settings({})
    assert settings.tls.key_password is not None
    assert settings.tls.key_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()

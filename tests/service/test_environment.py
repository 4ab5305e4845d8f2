"""Settings from the environment: names, aliases, secrets in files, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.settings.environment import look_up, split_list, variables
from verser2_guest_python.service.settings.options import SETTING_KEYS


def test_a_key_has_the_variable_of_its_path() -> None:
    assert variables("host_url") == ("VERSER_HOST_URL",)
    assert variables("leases.limit_concurrency") == ("VERSER_LEASES__LIMIT_CONCURRENCY",)
    assert variables("tls.ca_file") == ("VERSER_TLS__CA_FILE", "VERSER_TLS_CA_FILE")


@pytest.mark.parametrize("variable", ["VERSER_ROUTED_DOMAINS", "VERSER_GUEST_DOMAIN"])
def test_either_name_of_a_setting_will_do(variable: str) -> None:
    found = look_up("routed_domains", {variable: "a.test"})
    assert found is not None
    assert (found.value, found.name) == ("a.test", variable)


def test_an_empty_variable_says_nothing() -> None:
    assert look_up("host_url", {"VERSER_HOST_URL": ""}) is None
    found = look_up("tls.ca_file", {"VERSER_TLS__CA_FILE": "", "VERSER_TLS_CA_FILE": "ca.pem"})
    assert found is not None
    assert found.value == "ca.pem"


def test_two_names_with_one_meaning_agree() -> None:
    both = {"VERSER_ROUTED_DOMAINS": "a.test, b.test", "VERSER_GUEST_DOMAIN": "a.test,b.test,"}
    assert look_up("routed_domains", both) is not None


def test_two_names_with_different_meanings_are_an_error_that_names_both() -> None:
    with pytest.raises(VerserConfigurationError, match="VERSER_TLS__CA_FILE and VERSER_TLS_CA_FILE"):
        look_up("tls.ca_file", {"VERSER_TLS__CA_FILE": "a.pem", "VERSER_TLS_CA_FILE": "b.pem"})


def test_a_password_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim mit Ä\n", encoding="utf-8")
    found = look_up("tls.key_password", {"VERSER_TLS_KEY_PASSWORD_FILE": str(tmp_path / "password")})
    assert found is not None
    assert found.value == "geheim mit Ä"


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        VerserConfigurationError, match=r"VERSER_TLS_PFX_PASSWORD_FILE .*missing.*No such file"
    ):
        look_up("tls.pfx_password", {"VERSER_TLS_PFX_PASSWORD_FILE": str(tmp_path / "missing")})


def test_any_value_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("guest-a\n")
    found = look_up("guest_id", {"VERSER_GUEST_ID_FILE": str(tmp_path / "id")})
    assert found is not None
    assert (found.value, found.name) == ("guest-a", "VERSER_GUEST_ID_FILE")


def test_the_name_of_no_setting_stands_for_the_file_of_another() -> None:
    names = [name for key in SETTING_KEYS for name in variables(key)]
    assert not set(names) & {f"{name}_FILE" for name in names}


def test_a_contradiction_of_passwords_does_not_show_them() -> None:
    environ = {"VERSER_TLS__KEY_PASSWORD": "hunter2", "VERSER_TLS_KEY_PASSWORD": "hunter3"}
    with pytest.raises(VerserConfigurationError) as caught:
        look_up("tls.key_password", environ)
    assert "hunter" not in str(caught.value)


def test_lists_are_split_at_commas() -> None:
    assert split_list(" a.test , ,b.test,") == ("a.test", "b.test")
    assert split_list("") == ()

"""How domains are compared and what a path may be (protocol.md §2, §7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import domains, properties, value_or_error
from verser2_guest_python.errors import VerserError, VerserProtocolError
from verser2_guest_python.wire.domains import is_domain, normalize_domain
from verser2_guest_python.wire.paths import check_path


@pytest.mark.parametrize(
    ("authority", "domain"),
    [
        ("a.local.test", "a.local.test"),
        ("A.Local.Test", "a.local.test"),
        ("a.local.test.", "a.local.test"),
        ("a.local.test:8443", "a.local.test"),
        ("A.local.test.:8443", "a.local.test"),
        (" a.local.test ", "a.local.test"),
        ("localhost", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[FE80::1]:443", "[fe80::1]"),
        ("::1", "::1"),
        ("[::1", "[::1"),
        ("", ""),
        (":80", ""),
        ("a..", "a."),
    ],
)
def test_7_domains_are_compared_without_case_port_and_trailing_dot(authority: str, domain: str) -> None:
    assert normalize_domain(authority) == domain


@properties
@given(domains, st.one_of(st.just(""), st.integers(0, 65_535).map(lambda port: f":{port}")), st.booleans())
def test_7_one_domain_in_any_dress(domain: str, port: str, dot: bool) -> None:
    assert normalize_domain(domain.upper() + ("." if dot else "") + port) == domain
    assert is_domain(domain)


@properties
@given(st.text(max_size=30))
def test_any_text_is_normalised_to_something(text: str) -> None:
    once = normalize_domain(text)
    if is_domain(once):
        assert normalize_domain(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "*",
        "*.a.test",
        "a b",
        "a/b",
        "a..b",
        ".a",
        "a.",
        "a:80",
        "é.test",
        "-a.test",
        "a-.test",
        "a" * 64 + ".test",
        ".".join(["abcdefgh"] * 30),
        "A.test",
        "[::1",
        "[x]",
        "a\n",
        "a@b",
    ],
)
def test_2_a_routed_domain_is_an_exact_hostname(text: str) -> None:
    assert not is_domain(text)


@pytest.mark.parametrize(
    "text", ["a", "a.test", "xn--bcher-kva.test", "my_app.test", "1.2.3.4", "[::1]", "a" * 63]
)
def test_2_hostnames_and_addresses_can_be_routed(text: str) -> None:
    assert is_domain(text)


@properties
@given(st.text(max_size=30))
def test_7_a_path_is_visible_ascii_from_a_slash_or_a_star(text: str) -> None:
    right = text == "*" or (text.startswith("/") and all("\x21" <= char <= "\x7e" for char in text))
    assert isinstance(value_or_error(lambda: check_path(text, "It")), VerserError) is not right


def test_7_a_path_with_a_line_break_at_its_end_is_refused() -> None:
    with pytest.raises(VerserProtocolError, match=r"U\+000A at character 3"):
        check_path("/a\n", "It")
    with pytest.raises(VerserProtocolError, match=r"U\+000A at character 2"):
        check_path("*\n", "It")

"""Cookies that a Host joined with a comma come apart again where they were joined (protocol.md §6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import properties
from verser2_guest_python.wire.headers import split_cookies

# As servers send them
REAL = [
    "sessionid=abc123; expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly; Max-Age=1209600; Path=/",
    "csrftoken=xyz; expires=Thu, 31-Dec-2037 23:55:55 GMT; Max-Age=31449600; Path=/; SameSite=Lax",
    "id=a3fWa; Expires=Sunday, 06-Nov-94 08:49:37 GMT; Secure",
    "__Host-id=1; Path=/; Secure",
    "NID=511=AbC-d_e; expires=Fri, 01-Jan-2027 00:00:00 GMT; path=/; domain=.example.test; HttpOnly",
    "empty=; Max-Age=0; Path=/",
    "connect.sid=s%3Aab.cd%2Fef; Path=/; HttpOnly",
    'quoted="a, b=c; d"; Path=/',
    'json="{\\"a\\":1,\\"b\\":2}"; Path=/',
    "AWSALB=a+b/c==; Expires=Tue, 05 Jan 2027 10:00:00 GMT; Path=/",
    "plain=1",
    "list=1,2,3; Path=/",
    'measure=5" wide; Path=/',
    "spaced = value; Path=/",
    "zone=a; Expires=Wed, 21 Oct 2026 07:28:00 +0000",
    "asc=a; Expires=Wed Oct 21 07:28:00 2026",
]


@pytest.mark.parametrize("cookie", REAL)
def test_6_one_cookie_stays_one(cookie: str) -> None:
    assert split_cookies(cookie) == [cookie]


def test_6_all_cookies_of_servers_come_apart() -> None:
    assert split_cookies(",".join(REAL)) == REAL
    assert split_cookies(", ".join(reversed(REAL))) == list(reversed(REAL))


@pytest.mark.parametrize("first", REAL)
@pytest.mark.parametrize("second", REAL)
def test_6_any_two_cookies_come_apart(first: str, second: str) -> None:
    assert split_cookies(f"{first},{second}") == [first, second]


def test_6_nothing_gives_nothing() -> None:
    assert split_cookies("") == []
    assert split_cookies(" \t") == []


cookie_names = st.text(st.sampled_from("abcXYZ019!#$%&'*+-.^_`|~"), min_size=1, max_size=8)
cookie_values = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='",;\\'), max_size=12
)
attributes = st.sampled_from(
    [
        "Path=/",
        "HttpOnly",
        "Secure",
        "SameSite=None",
        "Max-Age=5",
        "Domain=a.test",
        "Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        "expires=Mon, 01-Jan-2029 00:00:00 GMT",
    ]
)
cookies = st.builds(
    lambda name, value, extra: "; ".join([f"{name}={value}", *extra]),
    cookie_names,
    cookie_values,
    st.lists(attributes, max_size=3),
)


@properties
@given(st.lists(cookies, min_size=1, max_size=5), st.sampled_from([",", ", "]))
def test_6_cookies_as_rfc_6265_allows_them_come_apart(given_cookies: list[str], comma: str) -> None:
    assert split_cookies(comma.join(given_cookies)) == given_cookies


@properties
@given(st.text(st.sampled_from(',;=" \taé1/'), max_size=60))
def test_any_text_comes_apart_without_loss(text: str) -> None:
    parts = split_cookies(text)
    kept = "".join(parts)
    assert [char for char in kept if char not in ", \t"] == [char for char in text if char not in ", \t"]


def test_no_text_takes_long() -> None:
    """1 MiB of what makes careless patterns slow: milliseconds each, or hours."""
    size = 1 << 20
    for unit in (",a", '="', '="a', ", ", ",aaaaaaa", '="",', ',a="', ", \t"):
        split_cookies(unit * (size // len(unit)))
    split_cookies("," + "a" * size)
    split_cookies("," + " " * size)
    split_cookies('="' + " " * size)
    split_cookies('=""' + " " * size)

"""Header rules in every direction (protocol.md §6, §7, §13, §14)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import header_names, header_values, properties, tokens, value_or_error
from verser2_guest_python.errors import VerserError, VerserProtocolError
from verser2_guest_python.wire.headers import (
    HOP_BY_HOP,
    header_block_bytes,
    is_field_value,
    is_token,
    join_request_headers,
    request_fields,
    response_fields,
    response_headers,
)

BAD_NAMES = ["", " ", "a b", "a:b", ":status", "a\r\nb", "é", "a\x00", "a(b)", 'a"', "a/b", "a" * 70 + " "]
BAD_CONTROLS = ["\r", "\n", "\x00", "\x01", "\x0b", "\x1f", "\x7f"]


# ---- §6: an app's response becomes metadata


def test_6_names_turn_lower_case_and_values_lose_their_outer_whitespace() -> None:
    assert response_headers([(b"Content-Type", b" text/plain\t"), (b"X-A", b"")]) == {
        "content-type": "text/plain",
        "x-a": "",
    }


def test_6_an_array_exactly_where_a_name_occurs_more_than_once() -> None:
    fields = [(b"a", b"1"), (b"set-cookie", b"x=1"), (b"Set-Cookie", b"y=2"), (b"SET-COOKIE", b"z=3")]
    assert response_headers(fields) == {"a": "1", "set-cookie": ["x=1", "y=2", "z=3"]}


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_6_hop_by_hop_headers_are_stripped_in_every_direction(name: str) -> None:
    upper = name.title()
    assert response_headers([(upper.encode(), b"x"), (b"a", b"1")]) == {"a": "1"}
    assert response_fields({upper: "x", "a": "1"}) == [(b"a", b"1")]
    assert request_fields({upper: "x", "a": "1"}) == [(b"a", b"1")]
    assert join_request_headers([(upper, "x"), ("a", "1")]) == {"a": "1"}


def test_6_the_hop_by_hop_headers_are_those_of_the_contract() -> None:
    assert {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    } == HOP_BY_HOP


def test_6_what_a_connection_header_lists_is_stripped_wherever_it_stands() -> None:
    value = "close,  X-One ,,x-two\t, not a token"
    left = {"x-three": "3"}
    headers = {"X-One": "1", "connection": value, "x-two": "2", "x-three": "3"}
    fields = [(name.encode(), text.encode()) for name, text in headers.items()]
    assert response_headers(fields) == left
    assert response_headers([(b"Connection", b"x-one"), (b"connection", b"x-two"), *fields]) == left
    assert response_fields(headers) == [(b"x-three", b"3")]
    assert response_fields({**headers, "Connection": ["x-three", "a"]}) == []
    assert request_fields(headers) == [(b"x-three", b"3")]
    assert join_request_headers(headers.items()) == left
    assert join_request_headers([*headers.items(), ("Connection", "x-three")]) == {}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_6_a_name_is_a_token(name: str) -> None:
    assert not is_token(name)
    with pytest.raises(VerserProtocolError, match="is not a token"):
        response_headers([(name.encode("latin-1"), b"x")])
    for function in (request_fields, response_fields):
        with pytest.raises(VerserProtocolError, match="is not a token"):
            function({name: "x"})
    with pytest.raises(VerserProtocolError, match="is not a token"):
        join_request_headers([(name, "x")])


@pytest.mark.parametrize("char", BAD_CONTROLS)
def test_6_no_control_character_in_a_value(char: str) -> None:
    value = f"hunter2{char}x"
    assert not is_field_value(value)
    number = f"U\\+{ord(char):04X}"
    calls: list[Callable[[], object]] = [
        lambda: response_headers([(b"X-Secret", value.encode("latin-1"))]),
        lambda: request_fields({"X-Secret": value}),
        lambda: response_fields({"X-Secret": ["ok", value]}),
        lambda: join_request_headers([("X-Secret", value)]),
    ]
    for call in calls:
        with pytest.raises(
            VerserProtocolError, match=f"(?i)'x-secret' holds the control character {number}"
        ) as caught:
            call()
        assert "hunter2" not in caught.value.message


def test_6_a_tab_and_every_byte_of_latin_1_beyond_ascii_may_stand_in_a_value() -> None:
    value = "a\tb" + "".join(chr(code) for code in range(0x80, 0x100))
    assert is_field_value(value)
    assert response_headers([(b"a", value.encode("latin-1"))]) == {"a": value}
    assert request_fields({"a": value}) == [(b"a", value.encode("latin-1"))]


def test_6_bytes_and_text_map_by_latin_1() -> None:
    assert response_headers([(b"a", b"caf\xe9")]) == {"a": "caf\u00e9"}
    assert request_fields({"a": "caf\u00e9"}) == [(b"a", b"caf\xe9")]
    assert response_fields({"a": "caf\u00e9"}) == [(b"a", b"caf\xe9")]


def test_6_what_is_beyond_latin_1_cannot_be_said() -> None:
    for call in (
        lambda: request_fields({"a": "5 \u20ac"}),
        lambda: response_fields({"a": "5 \u20ac"}),
        lambda: join_request_headers([("a", "5 \u20ac")]),
        lambda: join_request_headers([("a", "\ud800")]),
    ):
        with pytest.raises(VerserProtocolError, match="beyond Latin-1"):
            call()


@pytest.mark.parametrize(
    "field", [("a", b"x"), (b"a", "x"), (b"a",), b"a", 5, None, (b"a", 5), (5, b"x"), (bytearray(b"a"), b"x")]
)
def test_6_what_is_no_pair_of_bytes_is_refused_in_words(field: object) -> None:
    with pytest.raises(VerserProtocolError, match="not a pair of byte strings"):
        response_headers([(b"ok", b"1"), field])  # type: ignore[list-item]


@pytest.mark.parametrize("value", [1, True, None, ["a"], {"a": 1}, 1.5, 10**100])
def test_6_a_request_header_is_one_text(value: object) -> None:
    with pytest.raises(VerserProtocolError, match=r"header 'a' is .+, not a text"):
        request_fields({"a": value})


def test_a_name_that_is_no_text_is_refused_in_words() -> None:
    for name in (5, None, b"a", ("a",)):
        with pytest.raises(VerserProtocolError, match=r"A header name is .+, where a text is due"):
            request_fields({name: "x"})  # type: ignore[dict-item]
        with pytest.raises(VerserProtocolError, match=r"A header name is .+, where a text is due"):
            join_request_headers([(name, "x")])  # type: ignore[list-item]


# ---- §6, §7: a Broker's pairs become one flat map


def test_6_several_values_are_joined_with_a_comma_and_cookies_with_a_semicolon() -> None:
    pairs = [("Accept", "a"), ("accept", "b"), ("Cookie", "x=1"), ("COOKIE", "y=2"), ("host", "a.local.test")]
    assert join_request_headers(pairs) == {"accept": "a,b", "cookie": "x=1; y=2", "host": "a.local.test"}


# ---- §14: what a Host sends on


def test_14_a_host_keeps_arrays_apart_unless_it_is_told_to_join_them() -> None:
    headers = {"a": "1", "set-cookie": ["x=1", "y=2"], "empty": []}
    assert response_fields(headers) == [(b"a", b"1"), (b"set-cookie", b"x=1"), (b"set-cookie", b"y=2")]
    assert response_fields(headers, join=True) == [(b"a", b"1"), (b"set-cookie", b"x=1,y=2")]


def test_14_an_app_cannot_forge_the_marks_of_a_host() -> None:
    assert response_fields({"X-Verser-Error": "timeout", "x-verser-": "", "x-versed": "1"}) == [
        (b"x-versed", b"1")
    ]


def test_a_header_block_counts_32_bytes_more_for_each_field() -> None:
    assert header_block_bytes([(b"a", b"12"), (b"bc", b"")]) == 3 + 32 + 2 + 32


# ---- Properties

fields_of_apps = st.lists(
    st.tuples(header_names.map(str.encode), header_values.map(lambda value: value.encode("latin-1"))),
    max_size=8,
)


@properties
@given(fields_of_apps)
def test_response_fields_survive_the_way_through_metadata(fields: list[tuple[bytes, bytes]]) -> None:
    headers = response_headers(fields)
    lower = [(name.lower(), value) for name, value in fields]
    wanted = [(name, value) for name, value in lower if not name.startswith(b"x-verser-")]
    assert sorted(response_fields(headers)) == sorted(wanted)
    for name, value in headers.items():
        times = [given for given, _ in lower].count(name.encode())
        assert isinstance(value, list) == (times > 1)
        # Values of one name stay in order
        assert (value if isinstance(value, list) else [value]) == [
            text.decode("latin-1") for given, text in lower if given == name.encode()
        ]


@properties
@given(st.dictionaries(header_names.map(str.lower), header_values, max_size=8))
def test_request_headers_survive_the_way_to_an_app(headers: dict[str, str]) -> None:
    assert join_request_headers(headers.items()) == headers
    assert {name.decode(): value.decode("latin-1") for name, value in request_fields(headers)} == headers


anything = st.one_of(
    st.text(max_size=12), st.integers(), st.none(), st.lists(st.text(max_size=3), max_size=2)
)


@properties
@given(
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4),
    st.dictionaries(st.one_of(tokens, st.text(max_size=8)), anything, max_size=4),
)
def test_any_headers_give_clean_ones_or_an_error(
    fields: list[tuple[bytes, bytes]], headers: dict[str, object]
) -> None:
    made = value_or_error(lambda: response_headers(fields))
    if not isinstance(made, VerserError):
        for name, value in made.items():
            assert is_token(name)
            assert name == name.lower()
            assert name not in HOP_BY_HOP
            assert all(is_field_value(item) for item in (value if isinstance(value, list) else [value]))
    for result in (
        value_or_error(lambda: request_fields(headers)),
        value_or_error(lambda: response_fields(headers)),
    ):
        if not isinstance(result, VerserError):
            for raw_name, raw_value in result:
                assert is_token(raw_name.decode("ascii"))
                assert raw_name.decode().lower() not in HOP_BY_HOP
                assert is_field_value(raw_value.decode("latin-1"))
    value_or_error(lambda: join_request_headers((name, value) for name, value in headers.items()))  # type: ignore[misc]

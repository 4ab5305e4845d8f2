"""Strict JSON: what is taken, what is refused, and that nothing else can happen (protocol.md §6)."""

from __future__ import annotations

import json
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import json_values, nearly, properties, texts, value_or_error
from verser2_guest_python.errors import VerserError, VerserProtocolError
from verser2_guest_python.wire.json_text import dump, dump_ascii, dump_text, parse_object
from verser2_guest_python.wire.limits import MAX_JSON_DEPTH


def nested(levels: int, opening: str = '{"a":', closing: str = "}", middle: str = "1") -> bytes:
    return (opening * levels + middle + closing * levels).encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' \t\r\n{"a" : [1, 2.5, -3e2, true, false, null]} \n', {"a": [1, 2.5, -300.0, True, False, None]}),
        ('{"a":"h\\u00e9 \\ud83d\\ude00 é😀"}', {"a": "hé 😀 é😀"}),
        ('{"a":"\\ufffe\\u0000"}', {"a": "\ufffe\x00"}),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": "[" * 42}),
        ('{"a":"\\\\\\"{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{"}', {"a": '\\"' + "{" * 36}),
        ('{"a":' + "1" * 64 + "}", {"a": int("1" * 64)}),
    ],
)
def test_what_json_allows_is_taken(text: str, value: object) -> None:
    assert parse_object(text.encode(), "It") == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Expecting value"),
        (b"   ", "Expecting value"),
        (b"[]", "not a JSON object but an array"),
        (b'"text"', "not a JSON object but 'text'"),
        (b"7", "not a JSON object but 7"),
        (b"true", "not a JSON object but true"),
        (b"null", "not a JSON object but null"),
        (b"{", "at character 1"),
        (b'{"a":1}{"a":2}', "text follows after its end at character 7"),
        (b'{"a":1,}', "at character"),
        (b"{'a':1}", "at character 1"),
        (b'{"a":01}', "at character"),
        (b'{"a":+1}', "at character"),
        (b'{"a":.5}', "at character"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":"\\x41"}', "escape"),
        (b'{"a":"\\u12"}', "escape"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),  # a surrogate, said in bytes
        (b'{"a":"\xc0\xaf"}', "not UTF-8"),  # longer than it need be
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":[-Infinity]}', "Infinity"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":-1e999}', "too large"),
        (b'{"a":' + b"9" * 65 + b"}", "number of 65 characters"),
        (b'{"a":' + b"9" * 60_000 + b"}", "number of 60,000 characters"),
        (b'{"a":0.' + b"1" * 60_000 + b"}", "number of 60,002 characters"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\\uDC00x"}', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'{"a":[{"b":["\\ud83d"]}]}', "surrogate"),
        (b'{"a":"\\ude00\\ud83d"}', "surrogate"),
    ],
)
def test_what_json_does_not_allow_is_refused_in_words(data: bytes, reason: str) -> None:
    with pytest.raises(VerserProtocolError) as caught:
        parse_object(data, "The line")
    assert caught.value.code == "protocol-error"
    assert caught.value.message.startswith("The line is not ")
    assert reason in caught.value.message


def test_nesting_has_an_end_and_it_does_not_depend_on_the_stack() -> None:
    assert parse_object(nested(MAX_JSON_DEPTH), "It")
    for data in (
        nested(MAX_JSON_DEPTH + 1),
        nested(100_000, "[", "]"),
        b'{"a":' + nested(100_000, "[", "]") + b"}",
        b"[" * 4_000_000,
        b'{"a":' * 800_000,
        b'{"\\"":"\\\\","a":' + nested(50, "[", "]") + b"}",
        # Nothing that looks like a string hides the depth
        b'{"{":"\\\\","}":' + nested(33, "[", "]") + b"}",
    ):
        with pytest.raises(VerserProtocolError, match=r"nests deeper than 32 levels|more than 100,000"):
            parse_object(data, "It")


def test_brackets_that_do_not_match_are_bad_json() -> None:
    for data in (
        b"{}" + b"]" * 100_000 + b"[" * 100,
        b"]" * 50 + b"[" * 50,
        b'{"a":[}' + b"]" * 50 + b"[" * 50,
    ):
        with pytest.raises(VerserProtocolError, match=r"is not valid JSON|nests deeper"):
            parse_object(data, "It")


def test_containers_have_a_limit_since_they_cost_more_than_their_bytes() -> None:
    assert len(parse_object(b'{"a":[' + b"[]," * 99_000 + b"0]}", "It")["a"]) == 99_001
    assert len(parse_object(b'{"a":"' + b"[{" * 99_000 + b'"}', "It")["a"]) == 198_000
    too_many = b'{"a":[' + b"{}," * 1_000_000 + b"0]}"
    tracemalloc.start()
    try:
        with pytest.raises(VerserProtocolError, match="more than 100,000 objects and arrays"):
            parse_object(too_many, "It")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(too_many)


def test_an_error_holds_no_text_that_may_be_secret() -> None:
    with pytest.raises(VerserProtocolError) as caught:
        parse_object(b'{"authorization":"hunter2",}', "The line")
    chain: list[BaseException] = [caught.value]
    for error in chain:
        assert "hunter2" not in repr(error)
        assert "hunter2" not in repr(vars(error))
        chain.extend(e for e in (error.__cause__, error.__context__) if e is not None)


def test_the_limit_of_python_on_digits_may_be_off() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(VerserProtocolError, match="number of"):
            parse_object(b'{"a":' + b"9" * 1_000_000 + b"}", "It")
    finally:
        sys.set_int_max_str_digits(before)


@properties
@given(st.one_of(st.binary(max_size=200), nearly({"a": 1, "b": ["x", {"c": None}]})))
def test_any_bytes_give_an_object_or_an_error(data: bytes) -> None:
    value = value_or_error(lambda: parse_object(data, "It"))
    if not isinstance(value, VerserError):
        assert isinstance(value, dict)
        assert parse_object(dump(value), "It") == value
        assert parse_object(dump_ascii(value).encode("ascii"), "It") == value


@properties
@given(st.text(st.sampled_from('[]{}",:\\u0dD8eE+-19.tfn a'), max_size=120))
def test_any_structure_gives_what_json_gives_or_an_error(text: str) -> None:
    value = value_or_error(lambda: parse_object(text.encode(), "It"))
    if not isinstance(value, VerserError):
        assert value == json.loads(text)


@properties
@given(st.dictionaries(texts, json_values, max_size=4))
def test_dump_says_what_json_can_say(value: dict[str, Any]) -> None:
    for said in (
        value_or_error(lambda: dump(value)),
        value_or_error(lambda: dump_ascii(value).encode("ascii")),
    ):
        if not isinstance(said, VerserError):
            assert json.loads(said) == value
            assert b"NaN" not in said or "NaN" in repr(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object(), {"a": {1, 2}}, "\ud800"])
def test_dump_refuses_what_json_cannot_say(value: object) -> None:
    with pytest.raises(VerserProtocolError, match="cannot be said in JSON"):
        dump({"a": value})


def test_dump_refuses_a_value_without_end() -> None:
    loop: list[object] = []
    loop.append(loop)
    for function in (dump, dump_ascii):
        with pytest.raises(VerserProtocolError, match="cannot be said in JSON"):
            function(loop)


def test_dump_is_compact_and_ascii_where_it_says_so() -> None:
    assert dump({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'.encode()
    assert dump_ascii({"a": [1, "é😀"]}) == '{"a":[1,"\\u00e9\\ud83d\\ude00"]}'


@properties
@given(st.text(max_size=40))
def test_dump_text_says_one_text(text: str) -> None:
    said = value_or_error(lambda: dump_text(text))
    if isinstance(said, VerserError):
        assert text.encode("utf-8", "replace").decode() != text
    else:
        assert json.loads(said) == text


def test_dump_text_says_nothing_else() -> None:
    with pytest.raises(VerserProtocolError, match="5, where a text is due"):
        dump_text(5)  # type: ignore[arg-type]

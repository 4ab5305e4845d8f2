"""JSON on a terminal: indented and coloured, and still the same JSON."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verser2_guest_python.service.output.colour import Palette
from verser2_guest_python.service.output.json_text import is_json, pretty_json

PLAIN = Palette(on=False)
COLOURED = Palette(on=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_it_looks_as_json_is_indented_elsewhere(value: object, ascii_only: bool) -> None:
    written = pretty_json(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"), PLAIN)
    if written is None:  # half a character, which UTF-8 cannot say
        assert "\\ud" in json.dumps(value)
        return
    assert json.loads(written) == value
    assert re.sub(r'"(?:[^"\\]|\\.)*"', "", written) == re.sub(
        r'"(?:[^"\\]|\\.)*"', "", json.dumps(value, indent=2, ensure_ascii=ascii_only) + "\n"
    )


@given(VALUES)
def test_colours_change_nothing_else(value: object) -> None:
    body = json.dumps(value).encode()
    coloured = pretty_json(body, COLOURED)
    assert coloured is not None
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == pretty_json(body, PLAIN)


def test_numbers_and_doubled_keys_stay_as_they_were_written() -> None:
    body = b'{"a": 1.10000000000000000000001, "a": 1E400, "b": -0.0}'
    assert pretty_json(body, PLAIN) == (
        '{\n  "a": 1.10000000000000000000001,\n  "a": 1E400,\n  "b": -0.0\n}\n'
    )


def test_empty_ones_stay_on_their_line() -> None:
    assert pretty_json(b'{"a":[],"b":{ },"c":[[]]}', PLAIN) == (
        '{\n  "a": [],\n  "b": {},\n  "c": [\n    []\n  ]\n}\n'
    )


def test_keys_strings_numbers_and_words_have_colours_of_their_own() -> None:
    written = pretty_json(b'{"k": ["s", 1, null]}', COLOURED)
    assert written == (
        '{\n  \x1b[34;1m"k"\x1b[0m: [\n    \x1b[32m"s"\x1b[0m,\n    \x1b[36m1\x1b[0m,\n'
        "    \x1b[35mnull\x1b[0m\n  ]\n}\n"
    )


def test_nothing_in_a_string_drives_the_terminal() -> None:
    body = '{"a": "\x9b31m \u202e \U000e0001 é"}'.encode()
    assert pretty_json(body, PLAIN) == '{\n  "a": "\\u009b31m \\u202e \\udb40\\udc01 é"\n}\n'


@pytest.mark.parametrize("body", [b"", b"{", b"nothing", b'{"a":1} x', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_left_alone(body: bytes) -> None:
    assert pretty_json(body, PLAIN) is None


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("application/x-ndjson", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_the_content_type_tells(content_type: str, expected: bool) -> None:
    assert is_json(content_type) is expected

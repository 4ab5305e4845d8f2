"""What the property tests of this folder feed: pieces, texts, headers, and JSON that is nearly right."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from verser2_guest_python.errors import VerserError

T = TypeVar("T")

# Runs are repeatable, and a slow machine is no failure.
properties = settings(
    deadline=None,
    derandomize=True,
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Text that UTF-8 can say
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
tokens = st.text(st.sampled_from("abcxyzABC019!#$%&'*+-.^_`|~"), min_size=1, max_size=20)
header_names = tokens.filter(
    lambda name: (
        name.lower()
        not in {
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        }
    )
)
# Latin-1 without controls, and without whitespace at the ends, which is not part of a value
header_values = st.text(
    st.one_of(
        st.characters(min_codepoint=0x20, max_codepoint=0x7E),
        st.characters(min_codepoint=0x80, max_codepoint=0xFF),
        st.just("\t"),
    ),
    max_size=40,
).map(lambda value: value.strip(" \t"))
paths = st.one_of(
    st.just("*"),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40).map(lambda rest: "/" + rest),
)
domains = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)
contexts = st.dictionaries(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
    st.one_of(
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40),
        st.integers(-(2**53), 2**53),
        st.floats(-1e9, 1e9),
        st.booleans(),
    ),
    max_size=5,
)

# JSON values of any kind, the ones that Python says and JSON does not included
json_values: SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from([10**70, 200, 404, 1000, "guest", "registered", "text", "\ud800", "é", "/", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def pieces(draw: DrawFn, data: bytes) -> list[bytes]:
    """`data` cut at any places; empty pieces too."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@st.composite
def nearly(draw: DrawFn, right: dict[str, Any]) -> bytes:
    """A JSON object that is right but for some fields: gone, new, or of any other kind; or cut, or bent."""
    said = dict(right)
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from([*right, "extra"]))
        if draw(st.booleans()):
            said.pop(key, None)
        else:
            said[key] = draw(json_values)
    data = json.dumps(said, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 3)) :]
    return data


def value_or_error(function: Callable[[], T]) -> T | VerserError:
    """What a function gives, or the VerserError that it raises; anything else is a failure."""
    try:
        return function()
    except VerserError as error:
        caught = error
    assert caught.code
    assert caught.message
    assert len(caught.message) < 3_000, "an error sentence must not repeat endless input"
    assert caught.message.isprintable(), "an error sentence must not carry controls from the wire"
    return caught

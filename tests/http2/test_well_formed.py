"""Which fields a message may begin with: what h2 takes, and nothing else."""

from __future__ import annotations

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2.frames import REQUEST, RESPONSE
from verser2_guest_python.http2.well_formed import is_request, is_response

Fields = list[tuple[bytes, bytes]]

NAMES = st.one_of(
    st.sampled_from(
        [
            *(b":method", b":scheme", b":path", b":authority", b":status", b":protocol", b":other", b":"),
            *(b"host", b"te", b"connection", b"upgrade", b"x-a", b"X-A", b"a:b", b"::path", b"", b"caf\xe9"),
        ]
    ),
    st.binary(max_size=3),
)
VALUES = st.one_of(
    st.sampled_from([b"", b"GET", b"CONNECT", b"/", b"a", b"200", b"trailers", b"Trailers", b" a", b"a\t"]),
    st.binary(max_size=3),
)
EXTRA = st.lists(st.tuples(NAMES, VALUES), max_size=3)
CONNECT = [(b":method", b"CONNECT"), (b":authority", b"a")]


def h2_takes(fields: Fields, is_response: bool) -> bool:
    flags = HeaderValidationFlags(
        is_client=is_response, is_trailer=False, is_response_header=is_response, is_push_promise=False
    )
    try:
        list(validate_headers(fields, flags))
    except ProtocolError:
        return False
    return True


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([REQUEST, RESPONSE, CONNECT, []]), EXTRA, EXTRA, st.integers(0, 3))
def test_as_h2_has_it(usual: Fields, before: Fields, behind: Fields, dropped: int) -> None:
    fields = [*before, *usual[: len(usual) - dropped], *behind]
    assert is_request(fields) == h2_takes(fields, False)
    assert is_response(fields) == h2_takes(fields, True)


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        (REQUEST, True),
        ([*REQUEST, (b"host", b"localhost:1")], True),
        ([*REQUEST, (b"host", b"other")], False),
        ([*REQUEST[:2], REQUEST[3], (b"host", b"a")], True),
        ([*REQUEST[:2], REQUEST[3], (b"host", b"a"), (b"host", b"a")], False),
        ([*REQUEST[:2], REQUEST[3]], False),  # nobody is named
        ([*REQUEST, REQUEST[0]], False),
        ([*REQUEST[:3], (b"x", b"1"), REQUEST[3]], False),
        ([*REQUEST, (b":status", b"200")], False),
        ([*REQUEST[:3], (b":path", b"")], False),
        ([*REQUEST, (b"te", b"gzip")], False),
        ([*REQUEST, (b"x", b"a\nb")], False),
        ([*REQUEST, (b"x\ny", b"1")], False),
        (CONNECT, True),
        ([*CONNECT, (b":path", b"/")], False),
        ([*REQUEST[1:], (b":method", b"CONNECT"), (b":protocol", b"websocket")], True),
        ([*REQUEST, (b":protocol", b"websocket")], False),
        ([], False),
    ],
)
def test_requests(fields: Fields, taken: bool) -> None:
    assert is_request(fields) is taken
    assert h2_takes(fields, False) is taken

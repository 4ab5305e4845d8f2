"""What cannot be said in an envelope, and errors, which always can (protocol.md §6, §12.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import properties
from verser2_guest_python.errors import (
    LocalHandlerFailureError,
    RequestHeadTooLargeError,
    VerserProtocolError,
)
from verser2_guest_python.wire.envelopes import (
    EnvelopeParser,
    ErrorHead,
    RequestHead,
    encode_error,
    encode_request,
    encode_response,
)
from verser2_guest_python.wire.limits import MAX_HEAD_BYTES


def parse(data: bytes) -> Any:
    return EnvelopeParser().feed(data)


# ---- §12.1: a head that is too large is refused by who would send it


def test_12_1_response_headers_beyond_16375_bytes_are_a_failure_of_the_app() -> None:
    empty = len(encode_response("r", 200, {"a": ""}))
    fits = encode_response("r", 200, {"a": "x" * (MAX_HEAD_BYTES - empty)})
    assert len(fits) == MAX_HEAD_BYTES
    assert parse(fits) is not None
    with pytest.raises(LocalHandlerFailureError, match=r"take 16,376 bytes.+room for 16,375") as caught:
        encode_response("r", 200, {"a": "x" * (MAX_HEAD_BYTES - empty + 1)})
    assert caught.value.code == "local-handler-failure"
    assert caught.value.context == {"headBytes": 16_376, "limitBytes": 16_375}


def test_12_1_request_headers_beyond_16375_bytes_are_a_protocol_error() -> None:
    def head(size: int) -> RequestHead:
        return RequestHead("r", "b", "g", "GET", "/", {"a": "x" * size})

    empty = len(encode_request(head(0)))
    assert len(encode_request(head(MAX_HEAD_BYTES - empty))) == MAX_HEAD_BYTES
    with pytest.raises(RequestHeadTooLargeError, match=r"take 16,376 bytes.+room for 16,375") as caught:
        encode_request(head(MAX_HEAD_BYTES - empty + 1))
    assert caught.value.code == "protocol-error"


@pytest.mark.parametrize("status", [100, 101, 199, 600, 0, -1, True, "200", None, 200.0, 10**400])
def test_6_a_status_that_cannot_be_said_is_refused(status: Any) -> None:
    with pytest.raises(VerserProtocolError, match="integer from 200 to 599"):
        encode_response("r", status, {})


@pytest.mark.parametrize(
    "headers", [{"a": 1}, {"a": None}, {"a": [1]}, {5: "x"}, {"a": "\ud800"}, {"a": b"x"}]
)
def test_what_json_cannot_say_is_refused(headers: Any) -> None:
    with pytest.raises(VerserProtocolError, match="cannot be said in JSON"):
        encode_response("r", 200, headers)


@properties
@given(
    st.text(max_size=4_000),
    st.text(max_size=4_000),
    st.text(max_size=4_000),
    st.dictionaries(st.text(max_size=3_000), st.one_of(st.text(max_size=3_000), st.floats(), st.integers())),
)
def test_an_error_can_always_be_said(request_id: str, code: str, message: str, context: Any) -> None:
    head = encode_error(request_id or "r", code or "c", message, context)
    assert len(head) <= MAX_HEAD_BYTES
    assert isinstance(parse(head), ErrorHead)


def test_an_error_can_be_said_at_its_very_worst() -> None:
    worst = "\x00" * 100_000
    context: dict[str, Any] = {worst + str(number): worst for number in range(100)}
    context |= {"huge": 10**5_000, "nan": float("nan"), "none": None}
    head = encode_error(worst, worst, worst, context)
    assert len(head) <= MAX_HEAD_BYTES
    assert parse(head).request_id == "\x00" * 2_048


def test_an_error_keeps_what_is_of_use() -> None:
    context: Any = {"path": "/x", "n": 1, "f": 1.5, "b": True, "big": 10**30, "inf": float("inf")}
    head = parse(encode_error("r", "local-handler-failure", "half \ud800", context))
    assert head.message == "half ?"
    assert head.context == {"path": "/x", "n": 1, "f": 1.5, "b": True, "big": str(10**30), "inf": "inf"}

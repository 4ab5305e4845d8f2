"""Error objects, and telling them from what an app answers (protocol.md §8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import contexts, nearly, properties
from verser2_guest_python.errors import (
    WIRE_CODES,
    MissingGuestError,
    VerserConfigurationError,
    VerserError,
    VerserWebSocketError,
    error_for,
)
from verser2_guest_python.wire.errors_wire import encode_error_object, parse_error_object

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


def test_8_an_error_object_as_the_contract_shows_it() -> None:
    error = MissingGuestError("No Guest.", context={"targetId": "guest-a"})
    said = b'{"error":{"code":"missing-guest","message":"No Guest.","context":{"targetId":"guest-a"}}}'
    assert encode_error_object(error) == said
    parsed = parse_error_object(said)
    assert isinstance(parsed, MissingGuestError)
    assert (parsed.code, parsed.message, parsed.context) == (error.code, error.message, error.context)


@pytest.mark.parametrize("code", sorted(WIRE_CODES))
def test_8_every_code_of_the_table_comes_back_as_its_class(code: str) -> None:
    parsed = parse_error_object(encode_error_object(error_for(code, "It failed.")))
    assert type(parsed) is type(error_for(code, ""))
    assert parsed is not None
    assert parsed.code == code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Bad gateway",
        b"<html></html>",
        b"[]",
        b"{}",
        b'{"error":"missing-guest"}',
        b'{"error":{}}',
        b'{"error":{"code":5}}',
        b'{"error":{"code":"my-own"}}',
        b'{"error":{"code":["timeout"]}}',
        b'{"error":{"code":"error"}}',
        b'{"error":{"code":"configuration-error"}}',
        b'{"error":[{"code":"timeout"}]}',
        b'{"error":{"code":"timeout"}',
        b'\xff{"error":{"code":"timeout"}}',
        b'{"error":{"code":"timeout","message":"' + b"x" * 70_000 + b'"}}',
        b"[" * 60_000,
    ],
)
def test_8_anything_else_is_the_apps_own_answer(body: bytes) -> None:
    assert parse_error_object(body) is None


@pytest.mark.parametrize("said", [{}, {"message": ""}, {"message": 5}, {"message": None, "context": [1]}])
def test_8_only_the_code_counts(said: dict[str, Any]) -> None:
    parsed = parse_error_object(json.dumps({"error": {"code": "timeout", **said}}).encode())
    assert parsed is not None
    assert (parsed.code, parsed.message, parsed.context) == ("timeout", "The Host answered timeout.", {})


def test_8_a_code_that_is_not_of_the_wire_is_said_as_protocol_error() -> None:
    for error in (VerserConfigurationError("x"), VerserError("x"), VerserError("x", code="my-own")):
        assert json.loads(encode_error_object(error))["error"]["code"] == "protocol-error"


def test_14_the_status_of_a_refused_websocket_is_kept() -> None:
    error = VerserWebSocketError("refused", context={"status": 404})
    parsed = parse_error_object(encode_error_object(error))
    assert isinstance(parsed, VerserWebSocketError)
    assert parsed.status == 404


def test_an_error_from_the_host_is_safe_to_show() -> None:
    said = {"code": "timeout", "message": "a\r\n\x1b]0;x\x07\u202eb", "context": {"k\n": "v\x9b1m", "n": 1}}
    parsed = parse_error_object(json.dumps({"error": said}).encode())
    assert parsed is not None
    assert parsed.message == "a\\r\\n\\x1b]0;x\\x07\\u202eb"
    assert parsed.context == {"k\\n": "v\\x9b1m", "n": 1}


def test_an_error_object_is_bounded_whatever_the_error_holds() -> None:
    context: Any = {f"key-{number}" * 1_000: "\x00" * 100_000 for number in range(100)}
    body = encode_error_object(error_for("timeout", "\x00" * 1_000_000, context))
    assert len(body) < 1 << 20
    odd: Any = {"none": None, "list": [1], "nan": float("nan"), "half": "\ud800", "huge": 10**5_000}
    assert json.loads(encode_error_object(error_for("timeout", "\ud800", odd)))["error"]["message"] == "?"


@properties
@given(st.sampled_from(sorted(WIRE_CODES)), printable, contexts)
def test_an_error_comes_back(code: str, message: str, context: Any) -> None:
    parsed = parse_error_object(encode_error_object(error_for(code, message, context)))
    assert parsed is not None
    assert (parsed.code, parsed.message, parsed.context) == (code, message, context)


@properties
@given(
    st.one_of(
        st.binary(max_size=80),
        nearly({"code": "timeout", "message": "m", "context": {"a": 1}}).map(
            lambda data: b'{"error":' + data + b"}"
        ),
    )
)
def test_any_answer_is_an_error_or_none(body: bytes) -> None:
    parsed = parse_error_object(body)
    assert parsed is None or parsed.code in WIRE_CODES

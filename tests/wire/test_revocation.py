"""Route revocation and its answers (protocol.md §9)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import domains, nearly, properties, value_or_error
from verser2_guest_python.errors import (
    DisconnectedTargetError,
    RevocationFailedError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.wire.revocation import (
    RevocationAnswer,
    encode_revocation,
    encode_revocation_answer,
    parse_revocation,
    parse_revocation_answer,
)

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


def test_9_the_body_is_that_of_the_contract() -> None:
    assert encode_revocation(["a.local.test"]) == b'{"domains":["a.local.test"]}'
    assert parse_revocation(b'{"domains":["a.local.test"," B.test ","a.local.test"]}') == (
        "a.local.test",
        "B.test",
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"domains":[]}',
        b'{"domains":"a"}',
        b'{"domains":[""]}',
        b'{"domains":["a",5]}',
        b'{"domains":[null]}',
        b'{"domains":[" "]}',
    ],
)
def test_9_a_malformed_or_empty_list_is_refused(body: bytes) -> None:
    with pytest.raises(RevocationFailedError) as caught:
        parse_revocation(body)
    assert caught.value.code == "revocation-failed"


def test_9_bad_json_is_refused() -> None:
    with pytest.raises(VerserProtocolError):
        parse_revocation(b"domains")


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"status":"ack"}', RevocationAnswer("ack")),
        (
            200,
            b'{"status":"partial","message":"m","failedDomains":[{"domain":"x","error":"e"}]}',
            RevocationAnswer("partial", "m", {"x": "e"}),
        ),
        (
            404,
            b'{"status":"error","message":"m","failedDomains":[{"domain":"x","error":"e"}]}',
            RevocationAnswer("error", "m", {"x": "e"}),
        ),
        (400, b'{"status":"error","message":"m"}', RevocationAnswer("error", "m")),
        (403, b'{"status":"error","message":"m"}', RevocationAnswer("error", "m")),
    ],
)
def test_9_the_answers_are_those_of_the_contract(status: int, body: bytes, answer: RevocationAnswer) -> None:
    assert parse_revocation_answer(status, body) == answer
    assert encode_revocation_answer(answer) == body


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"status":"done"}'),
        (200, b'{"status":["ack"]}'),
        (404, b'{"status":"ack"}'),
        (500, b'{"status":"partial"}'),
        (200, b'{"status":"partial","failedDomains":["x"]}'),
        (200, b'{"status":"partial","failedDomains":[{"error":"e"}]}'),
        (502, b"<html>"),
    ],
)
def test_8_a_malformed_answer_is_revocation_failed(status: int, body: bytes) -> None:
    with pytest.raises(RevocationFailedError) as caught:
        parse_revocation_answer(status, body)
    assert caught.value.code == "revocation-failed"


def test_8_an_error_object_is_raised_as_what_it_is() -> None:
    with pytest.raises(DisconnectedTargetError, match="gone"):
        parse_revocation_answer(502, b'{"error":{"code":"disconnected-target","message":"gone"}}')


def test_9_message_and_reasons_may_be_missing() -> None:
    body = json.dumps({"status": "partial", "message": 5, "failedDomains": [{"domain": "x"}]}).encode()
    assert parse_revocation_answer(200, body) == RevocationAnswer("partial", "", {"x": ""})
    assert parse_revocation_answer(200, b'{"status":"ack","failedDomains":null}') == RevocationAnswer("ack")


@properties
@given(st.lists(domains, min_size=1, max_size=5, unique=True))
def test_domains_come_back(given_domains: list[str]) -> None:
    assert parse_revocation(encode_revocation(given_domains)) == tuple(given_domains)


@properties
@given(
    st.builds(
        RevocationAnswer,
        st.sampled_from(["ack", "partial", "error"]),
        printable,
        st.dictionaries(domains, printable, max_size=3),
    )
)
def test_an_answer_comes_back(answer: RevocationAnswer) -> None:
    assert parse_revocation_answer(200, encode_revocation_answer(answer)) == answer


@properties
@given(
    st.sampled_from([200, 400, 403, 404, 502]),
    st.one_of(
        st.binary(max_size=60),
        nearly({"status": "partial", "message": "m", "failedDomains": [{"domain": "x", "error": "e"}]}),
        nearly({"domains": ["a.test"]}),
    ),
)
def test_any_body_gives_a_value_or_an_error(status: int, body: bytes) -> None:
    domains_or_error = value_or_error(lambda: parse_revocation(body))
    assert isinstance(domains_or_error, tuple | VerserError)
    answer = value_or_error(lambda: parse_revocation_answer(status, body))
    assert isinstance(answer, RevocationAnswer | VerserError)

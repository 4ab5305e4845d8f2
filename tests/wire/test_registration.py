"""Registration and its answer (protocol.md §2, §14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import domains, ids, json_values, nearly, properties, texts, value_or_error
from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    InvalidRegistrationError,
    LeaseTimeoutError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.wire.registration import (
    BROKER,
    GUEST,
    Registration,
    encode_refusal,
    encode_registered,
    encode_registration,
    parse_registration,
    parse_registration_answer,
)
from verser2_guest_python.wire.routes import Registered, Route


def body(**values: Any) -> bytes:
    return json.dumps(values).encode()


def test_2_the_bodies_are_those_of_the_contract() -> None:
    guest = b'{"peerId":"guest-a","role":"guest","routedDomains":["a.local.test"]}'
    broker = b'{"peerId":"broker-a","role":"broker"}'
    assert encode_registration(Registration("guest-a", GUEST, ("a.local.test",))) == guest
    assert encode_registration(Registration("broker-a", BROKER)) == broker
    assert parse_registration(guest) == Registration("guest-a", GUEST, ("a.local.test",))
    assert parse_registration(broker) == Registration("broker-a", BROKER)


def test_2_a_guest_may_have_no_domains() -> None:
    assert (
        encode_registration(Registration("g", GUEST)) == b'{"peerId":"g","role":"guest","routedDomains":[]}'
    )
    assert parse_registration(body(peerId="g", role="guest", routedDomains=[])).routed_domains == ()
    assert parse_registration(body(peerId="g", role="guest")).routed_domains == ()


def test_2_domains_are_for_guests_only() -> None:
    assert parse_registration(body(peerId="b", role="broker", routedDomains=["a.test"])).routed_domains == ()
    assert b"routedDomains" not in encode_registration(Registration("b", BROKER, ("a.test",)))


def test_2_the_peer_id_is_trimmed_and_domains_are_normalised_once_each() -> None:
    registration = parse_registration(
        body(peerId="  guest-a\t", role="guest", routedDomains=["A.Test.", "b.test:80", "a.test"])
    )
    assert registration == Registration("guest-a", GUEST, ("a.test", "b.test"))


def test_14_a_token_goes_along_and_is_never_shown() -> None:
    registration = Registration("g", GUEST, (), "hunter2")
    assert json.loads(encode_registration(registration))["registrationToken"] == "hunter2"
    assert parse_registration(encode_registration(registration)) == registration
    assert "hunter2" not in repr(registration)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"role": "guest"}, "peer id is missing or empty"),
        ({"peerId": "", "role": "guest"}, "peer id is missing or empty"),
        ({"peerId": " \t", "role": "guest"}, "peer id is missing or empty"),
        ({"peerId": None, "role": "guest"}, "peer id is missing or empty"),
        ({"peerId": 5, "role": "guest"}, "peer id is 5"),
        ({"peerId": True, "role": "guest"}, "peer id is true"),
        ({"peerId": "a\nb", "role": "guest"}, r"'a\\nb' is not printable ASCII"),
        ({"peerId": "gäst", "role": "guest"}, "not printable ASCII"),
        ({"peerId": "x" * 256, "role": "guest"}, "256 characters"),
        ({"peerId": "g"}, "role is null"),
        ({"peerId": "g", "role": "host"}, "role is 'host'"),
        ({"peerId": "g", "role": ["guest"]}, "role is an array"),
        ({"peerId": "g", "role": "guest", "routedDomains": "a.test"}, "'a.test', where an array is due"),
        ({"peerId": "g", "role": "guest", "routedDomains": {}}, "an object, where an array is due"),
        ({"peerId": "g", "role": "guest", "routedDomains": [1]}, "routed domain is 1"),
        ({"peerId": "g", "role": "guest", "routedDomains": [""]}, "not an exact hostname"),
        ({"peerId": "g", "role": "guest", "routedDomains": ["*.a.test"]}, "not an exact hostname"),
        ({"peerId": "g", "role": "guest", "registrationToken": 5}, "registrationToken is not a text"),
        ({"peerId": "g", "role": "guest", "registrationToken": ""}, "registrationToken is not a text"),
    ],
)
def test_2_what_cannot_be_registered_is_refused_in_words(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRegistrationError, match=reason) as caught:
        parse_registration(body(**values))
    assert caught.value.code == "invalid-registration"


def test_2_bad_json_is_a_protocol_error() -> None:
    for data in (b"", b"[]", b"{", b"\xff"):
        with pytest.raises(VerserProtocolError):
            parse_registration(data)


def test_2_a_peer_does_not_send_what_a_host_must_refuse() -> None:
    for registration in (
        Registration("", GUEST),
        Registration("g\u00e4st", GUEST),
        Registration("g", "host"),
        Registration("g", GUEST, ("*.a.test",)),
    ):
        with pytest.raises(InvalidRegistrationError):
            encode_registration(registration)


# ---- The answer


def test_2_the_answer_is_that_of_the_contract() -> None:
    answer = b'{"status":"registered","routes":[{"targetId":"guest-a","domain":"a.local.test"}]}'
    assert encode_registered([Route("guest-a", "a.local.test")]) == answer
    assert parse_registration_answer(200, answer) == Registered(
        (Route("guest-a", "a.local.test"),), frozenset()
    )


def test_14_extensions_are_announced_in_the_answer() -> None:
    answer = encode_registered([], ("error-header", "stage"))
    assert json.loads(answer)["extensions"] == ["error-header", "stage"]
    assert parse_registration_answer(200, answer).extensions == {"error-header", "stage"}
    odd = b'{"status":"registered","routes":[],"extensions":["stage",5,null]}'
    assert parse_registration_answer(200, odd).extensions == {"stage"}
    odd = b'{"status":"registered","routes":[],"extensions":"stage"}'
    assert parse_registration_answer(200, odd).extensions == frozenset()


def test_2_a_taken_peer_id_can_be_told() -> None:
    answer = (
        b'{"error":{"code":"invalid-registration","message":"Peer is already registered","context":{"a":1}}}'
    )
    with pytest.raises(InvalidRegistrationError, match="already registered") as caught:
        parse_registration_answer(502, answer)
    assert caught.value.taken
    assert caught.value.context == {"a": 1}
    assert not InvalidRegistrationError("The peer id is missing or empty.").taken


def test_2_a_refusal_by_policy_can_be_told_with_and_without_error_object() -> None:
    with pytest.raises(AuthorizationDeniedError, match="refused the registration: not on the list"):
        parse_registration_answer(403, b'{"status":"closed","reason":"not on the list."}')
    with pytest.raises(AuthorizationDeniedError, match=r"policy refused the registration\."):
        parse_registration_answer(403, b"{}")
    refusal = encode_refusal(AuthorizationDeniedError("guest-a may not register a.test."))
    assert json.loads(refusal) == {
        "status": "closed",
        "reason": "guest-a may not register a.test.",
        "error": {"code": "authorization-denied", "message": "guest-a may not register a.test."},
    }
    with pytest.raises(AuthorizationDeniedError, match=r"^guest-a may not register a\.test\.$"):
        parse_registration_answer(403, refusal)


def test_2_any_other_status_is_a_refusal() -> None:
    with pytest.raises(InvalidRegistrationError, match="with status 'later': come back"):
        parse_registration_answer(200, b'{"status":"later","reason":"come back"}')
    with pytest.raises(LeaseTimeoutError):
        parse_registration_answer(502, b'{"error":{"code":"timeout","message":"busy"}}')


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"{}"),
        (200, b"<html>"),
        (500, b"oops"),
        (404, b"{}"),
        (502, b'{"status":"registered","routes":[]}'),
        (502, b'{"error":{"code":"unheard-of"}}'),
        (200, b'{"status":"registered"}'),
        (200, b'{"status":"registered","routes":{}}'),
        (200, b'{"status":"registered","routes":[5]}'),
        (200, b'{"status":"registered","routes":[{"targetId":"a"}]}'),
        (200, b'{"status":"registered","routes":[{"targetId":5,"domain":"a"}]}'),
        (200, b'{"status":"registered","routes":[{"targetId":"","domain":"a"}]}'),
    ],
)
def test_2_an_answer_without_sense_is_a_protocol_error(status: int, answer: bytes) -> None:
    with pytest.raises(VerserProtocolError):
        parse_registration_answer(status, answer)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (404, b"<html>"),
        (405, b""),
        (403, b"Forbidden"),
        (200, b"<!doctype html>"),
        (404, b'{"detail":"Not Found"}'),
    ],
)
def test_what_another_site_answers_is_told_as_such(status: int, answer: bytes) -> None:
    with pytest.raises(VerserProtocolError, match=f"not a Verser Host.*HTTP {status}"):
        parse_registration_answer(status, answer)


def test_a_reason_from_the_host_is_safe_to_show() -> None:
    answer = json.dumps({"status": "closed", "reason": "no\r\n\x1b[31mred" + "x" * 5_000}).encode()
    with pytest.raises(AuthorizationDeniedError) as caught:
        parse_registration_answer(403, answer)
    assert "no\\r\\n\\x1b[31mred" in caught.value.message
    assert len(caught.value.message) < 2_100


# ---- Properties


@properties
@given(
    st.builds(
        Registration,
        ids,
        st.just(GUEST),
        st.lists(domains, max_size=4, unique=True).map(tuple),
        st.one_of(st.none(), texts.filter(bool)),
    )
)
def test_a_registration_comes_back(registration: Registration) -> None:
    assert parse_registration(encode_registration(registration)) == registration


@properties
@given(st.lists(st.builds(Route, ids, domains), max_size=5, unique=True), st.lists(ids, max_size=3))
def test_an_answer_comes_back(routes: list[Route], extensions: list[str]) -> None:
    answer = parse_registration_answer(200, encode_registered(routes, extensions))
    assert answer == Registered(tuple(routes), frozenset(extensions))


@properties
@given(
    st.one_of(
        st.binary(max_size=60),
        nearly({"peerId": "g", "role": "guest", "routedDomains": ["a.test"], "registrationToken": "t"}),
        json_values.map(lambda value: body(peerId="g", role="guest", routedDomains=[repr(value)])),
    )
)
def test_any_body_gives_a_registration_or_an_error(data: bytes) -> None:
    result = value_or_error(lambda: parse_registration(data))
    if not isinstance(result, VerserError):
        assert parse_registration(encode_registration(result)) == result


@properties
@given(
    st.sampled_from([200, 403, 502, 500, 0]),
    st.one_of(
        st.binary(max_size=60),
        nearly(
            {"status": "registered", "routes": [{"targetId": "g", "domain": "a.test"}], "extensions": ["x"]}
        ),
        nearly(
            {"status": "closed", "reason": "no", "error": {"code": "authorization-denied", "message": "x"}}
        ),
    ),
)
def test_any_answer_gives_a_table_or_an_error(status: int, data: bytes) -> None:
    result = value_or_error(lambda: parse_registration_answer(status, data))
    assert isinstance(result, VerserError | Registered)

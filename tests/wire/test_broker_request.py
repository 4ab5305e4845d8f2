"""The header fields of `/verser/request` and `/verser/websocket` (protocol.md §7, §11, §13, §14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import (
    domains,
    header_names,
    header_values,
    ids,
    paths,
    properties,
    tokens,
    value_or_error,
)
from verser2_guest_python.errors import RequestHeadTooLargeError, VerserError, VerserProtocolError
from verser2_guest_python.wire.broker_request import (
    BrokerRequest,
    encode_broker_request,
    parse_broker_request,
)
from verser2_guest_python.wire.websocket_request import (
    WebSocketRequest,
    encode_websocket_request,
    parse_websocket_request,
)

REQUEST = BrokerRequest(
    "broker-a-17", "broker-a", "guest-a", "a.local.test", "POST", "/items?q=1", {"a": "caf\u00e9"}, 5_000
)
FIELDS = [
    (b"x-verser-request-id", b"broker-a-17"),
    (b"x-verser-source-id", b"broker-a"),
    (b"x-verser-target-id", b"guest-a"),
    (b"x-verser-route-domain", b"a.local.test"),
    (b"x-verser-method", b"POST"),
    (b"x-verser-path", b"/items?q=1"),
    (b"x-verser-headers", b'{"a":"caf\\u00e9"}'),
    (b"x-verser-lease-acquire-timeout-ms", b"5000"),
]
PSEUDO = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"h:1"),
    (b":path", b"/verser/request"),
]


def changed(name: str, value: bytes | None) -> list[tuple[bytes, bytes]]:
    fields = [(key, text) for key, text in FIELDS if key != name.encode()]
    return fields if value is None else [*fields, (name.encode(), value)]


def test_7_the_fields_are_those_of_the_contract() -> None:
    assert encode_broker_request(REQUEST) == FIELDS
    assert parse_broker_request([*PSEUDO, *FIELDS, (b"user-agent", b"x\xff")]) == REQUEST


def test_7_route_domain_and_timeout_are_optional() -> None:
    request = BrokerRequest("r", "b", "g", None, "GET", "*", {})
    fields = encode_broker_request(request)
    assert {b"x-verser-route-domain", b"x-verser-lease-acquire-timeout-ms"}.isdisjoint(dict(fields))
    assert parse_broker_request(fields) == request


def test_13_a_request_without_ids_of_its_own_is_taken_for_the_host_to_fill() -> None:
    fields = [(b"x-verser-target-id", b"g"), (b"x-verser-method", b"GET"), (b"x-verser-path", b"/")]
    request = parse_broker_request(fields)
    assert (request.request_id, request.source_id, request.headers) == ("", "", {})


def test_7_headers_are_ascii_only() -> None:
    request = BrokerRequest("r", "b", "g", None, "GET", "/", {"a": "\u00e9\u00ff"})
    value = dict(encode_broker_request(request))[b"x-verser-headers"]
    assert value == b'{"a":"\\u00e9\\u00ff"}'
    assert all(text.isascii() for pair in encode_broker_request(request) for text in pair)


@pytest.mark.parametrize("name", ["connection", "Upgrade", "Keep-Alive"])
def test_7_headers_for_which_a_host_refuses_a_request(name: str) -> None:
    fields = changed("x-verser-headers", json.dumps({name: "x"}).encode())
    with pytest.raises(VerserProtocolError, match=f"hop-by-hop header '{name}'"):
        parse_broker_request(fields)


def test_13_other_hop_by_hop_headers_are_dropped() -> None:
    headers = {"TE": "trailers", "transfer-encoding": "chunked", "proxy-connection": "x", "Accept": " */* "}
    assert parse_broker_request(changed("x-verser-headers", json.dumps(headers).encode())).headers == {
        "accept": "*/*"
    }


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("x-verser-target-id", None, "no x-verser-target-id"),
        ("x-verser-target-id", b" ", "no x-verser-target-id"),
        ("x-verser-method", None, "no x-verser-method"),
        ("x-verser-method", b"G ET", "not a token"),
        ("x-verser-path", None, "no x-verser-path"),
        ("x-verser-path", b"items", "does not start with '/'"),
        ("x-verser-path", b"/a b", "percent-encode it"),
        ("x-verser-path", b"/\xc3\xa9", "'x-verser-path' that is not printable ASCII"),
        ("x-verser-source-id", b"a\x00", "'x-verser-source-id' that is not printable ASCII"),
        ("x-verser-request-id", b"r" * 2_049, "id of more than 2,048"),
        ("x-verser-headers", b'{"a":"\xe9"}', "'x-verser-headers' that is not printable ASCII"),
        ("x-verser-headers", b"{", "x-verser-headers is not valid JSON"),
        ("x-verser-headers", b"[]", "x-verser-headers is not a JSON object"),
        ("x-verser-headers", b"", "x-verser-headers is not valid JSON"),
        ("x-verser-headers", b'{"a":1}', "header 'a' is a number, not a text"),
        ("x-verser-headers", b'{"a":["x"]}', "header 'a' is an array, not a text"),
        ("x-verser-headers", b'{"a b":"x"}', "not a token"),
        ("x-verser-headers", b'{"a":"x\\ny"}', r"control character U\+000A"),
        ("x-verser-headers", b'{"a":"\\u20ac"}', "beyond Latin-1"),
        ("x-verser-headers", b'{"a":"1","A":"2"}', "header 'a' twice"),
        ("x-verser-lease-acquire-timeout-ms", b"soon", "'soon' as lease timeout"),
        ("x-verser-lease-acquire-timeout-ms", b"-1", "'-1' as lease timeout"),
        ("x-verser-lease-acquire-timeout-ms", b"1.5", "'1.5' as lease timeout"),
        ("x-verser-lease-acquire-timeout-ms", b"9" * 5_000, "as lease timeout"),
        ("x-verser-lease-acquire-timeout-ms", b"2147483648", "as lease timeout"),
    ],
)
def test_7_a_wrong_field_is_named(name: str, value: bytes | None, reason: str) -> None:
    with pytest.raises(VerserProtocolError, match=reason):
        parse_broker_request(changed(name, value))


def test_7_a_field_twice_is_ambiguous() -> None:
    with pytest.raises(VerserProtocolError, match="'x-verser-target-id' twice"):
        parse_broker_request([*FIELDS, (b"x-verser-target-id", b"guest-b")])


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_id": ""},
        {"source_id": "b\n"},
        {"target_id": "g\u00e4st"},
        {"route_domain": ""},
        {"method": "G ET"},
        {"path": "/\u00e9"},
        {"path": ""},
        {"lease_timeout_ms": -1},
        {"lease_timeout_ms": 2**31},
        {"lease_timeout_ms": 1.5},
        {"lease_timeout_ms": True},
    ],
)
def test_7_a_broker_does_not_send_what_a_host_must_refuse(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "request_id": "r",
        "source_id": "b",
        "target_id": "g",
        "route_domain": None,
        "method": "GET",
        "path": "/",
        "headers": {},
    }
    with pytest.raises(VerserProtocolError):
        encode_broker_request(BrokerRequest(**{**right, **wrong}))


def test_13_sizes_are_checked_before_sending() -> None:
    request = BrokerRequest("r", "b", "g", None, "GET", "/", {"a": "x" * 64_500})
    with pytest.raises(RequestHeadTooLargeError, match="bytes of header fields"):
        encode_broker_request(request)
    websocket = WebSocketRequest("b", "g", "a.test", "/" + "x" * 65_536)
    with pytest.raises(RequestHeadTooLargeError, match="bytes of header fields"):
        encode_websocket_request(websocket)


def test_headers_are_not_in_the_text_of_a_request() -> None:
    assert "hunter2" not in repr(BrokerRequest("r", "b", "g", None, "GET", "/", {"cookie": "hunter2"}))
    assert "hunter2" not in repr(WebSocketRequest("b", "g", "d", headers={"cookie": "hunter2"}))


# ---- §11: WebSockets


def test_11_the_fields_are_those_of_the_contract() -> None:
    request = WebSocketRequest("broker-a", "guest-a", "a.local.test", "/room?x=1", "chat.v1")
    fields = [
        (b"x-verser-source-id", b"broker-a"),
        (b"x-verser-target-id", b"guest-a"),
        (b"x-verser-domain", b"a.local.test"),
        (b"x-verser-ws-path", b"/room?x=1"),
        (b"x-verser-ws-protocol", b"chat.v1"),
    ]
    assert encode_websocket_request(request) == fields
    assert parse_websocket_request(fields) == request


def test_11_path_and_protocol_have_defaults() -> None:
    fields = [(b"x-verser-target-id", b"g"), (b"x-verser-domain", b"a.test")]
    assert parse_websocket_request(fields) == WebSocketRequest("", "g", "a.test", "/", "")
    assert b"x-verser-ws-protocol" not in dict(encode_websocket_request(WebSocketRequest("b", "g", "a.test")))


def test_14_headers_go_along_where_they_are_given() -> None:
    request = WebSocketRequest("b", "g", "a.test", headers={"cookie": "\u00e9"})
    fields = encode_websocket_request(request)
    assert dict(fields)[b"x-verser-headers"] == b'{"cookie":"\\u00e9"}'
    assert parse_websocket_request(fields) == request


@pytest.mark.parametrize(
    "field",
    [
        (b"x-verser-ws-path", b"room"),
        (b"x-verser-domain", b""),
        (b"x-verser-headers", b"[]"),
        (b"x-verser-ws-protocol", b"\xff"),
    ],
)
def test_11_a_wrong_field_is_refused(field: tuple[bytes, bytes]) -> None:
    fields = [(b"x-verser-target-id", b"g"), (b"x-verser-domain", b"a.test")]
    fields = [pair for pair in fields if pair[0] != field[0]]
    with pytest.raises(VerserProtocolError):
        parse_websocket_request([*fields, field])


# ---- Properties

headers = st.dictionaries(header_names.map(str.lower), header_values, max_size=5)
requests = st.builds(
    BrokerRequest,
    ids,
    ids,
    ids,
    st.one_of(st.none(), domains),
    tokens,
    paths,
    headers,
    st.one_of(st.none(), st.integers(0, 2**31 - 1)),
)
websockets = st.builds(
    WebSocketRequest, ids, ids, domains, paths, st.one_of(st.just(""), ids), st.one_of(st.none(), headers)
)


@properties
@given(requests)
def test_a_request_comes_back(request: BrokerRequest) -> None:
    assert parse_broker_request(encode_broker_request(request)) == request


@properties
@given(websockets)
def test_a_websocket_request_comes_back(request: WebSocketRequest) -> None:
    assert parse_websocket_request(encode_websocket_request(request)) == request


field_names = st.sampled_from(
    [name for name, _ in FIELDS] + [b"x-verser-domain", b"x-verser-ws-path", b"x-verser-x"]
)


@properties
@given(
    st.lists(
        st.tuples(field_names, st.one_of(st.binary(max_size=12), st.just(b"{}"), st.just(b"/"))), max_size=10
    )
)
def test_any_fields_give_a_request_or_an_error(fields: list[tuple[bytes, bytes]]) -> None:
    request = value_or_error(lambda: parse_broker_request(fields))
    assert isinstance(request, BrokerRequest | VerserError)
    websocket = value_or_error(lambda: parse_websocket_request(fields))
    assert isinstance(websocket, WebSocketRequest | VerserError)

"""Envelopes: heads in and out, whole or in pieces, right or wrong (protocol.md §6, §12.1)."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import (
    contexts,
    header_names,
    header_values,
    ids,
    nearly,
    paths,
    pieces,
    properties,
    texts,
    tokens,
    value_or_error,
)
from verser2_guest_python.errors import (
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.wire.envelopes import (
    EnvelopeParser,
    ErrorHead,
    RequestHead,
    ResponseHead,
    encode_error,
    encode_request,
    encode_response,
)
from verser2_guest_python.wire.limits import MAX_METADATA_BYTES

REQUEST = {
    "requestId": "broker-a-1",
    "sourceId": "broker-a",
    "targetId": "guest-a",
    "method": "POST",
    "path": "/items?q=1",
    "headers": {"host": "a.local.test", "content-type": "text/plain"},
}
RESPONSE = {"requestId": "broker-a-1", "statusCode": 200, "headers": {"content-type": "text/plain"}}
ERROR = {
    "requestId": "broker-a-1",
    "code": "local-handler-failure",
    "message": "boom",
    "context": {"guestId": "guest-a", "requestId": "broker-a-1", "path": "/items?q=1"},
}


def envelope(kind: int, metadata: object, *, version: int = 1, length: int | None = None) -> bytes:
    data = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    return bytes([version, kind]) + (len(data) if length is None else length).to_bytes(4, "big") + data


def parse(data: bytes) -> Any:
    return EnvelopeParser().feed(data)


# ---- §6: the examples of the contract


def test_6_a_request_as_the_contract_shows_it() -> None:
    head = parse(envelope(1, REQUEST))
    assert head == RequestHead(
        "broker-a-1",
        "broker-a",
        "guest-a",
        "POST",
        "/items?q=1",
        {"host": "a.local.test", "content-type": "text/plain"},
    )
    assert head.route_domain is None
    assert head.timeout_ms is None


def test_6_a_response_as_the_contract_shows_it() -> None:
    assert parse(envelope(2, RESPONSE)) == ResponseHead("broker-a-1", 200, {"content-type": "text/plain"})
    assert encode_response("broker-a-1", 200, {"content-type": "text/plain"}) == envelope(
        2, json.dumps(RESPONSE, separators=(",", ":")).encode()
    )


def test_6_an_error_as_the_contract_shows_it() -> None:
    head = parse(envelope(3, ERROR))
    context: Any = {"guestId": "guest-a", "requestId": "broker-a-1", "path": "/items?q=1"}
    assert head == ErrorHead("broker-a-1", "local-handler-failure", "boom", context)
    assert parse(encode_error(head.request_id, head.code, head.message, head.context)) == head


def test_6_route_domain_and_timeout_may_be_present_and_unknown_keys_are_ignored() -> None:
    head = parse(
        envelope(1, {**REQUEST, "routeDomain": "a.local.test", "timeoutMs": 5000, "new": {"deep": [1]}})
    )
    assert (head.route_domain, head.timeout_ms) == ("a.local.test", 5000)
    head = parse(envelope(1, {**REQUEST, "routeDomain": None, "timeoutMs": None}))
    assert (head.route_domain, head.timeout_ms) == (None, None)


def test_6_a_request_without_source_or_headers_is_still_a_request() -> None:
    said = {key: value for key, value in REQUEST.items() if key not in ("sourceId", "targetId", "headers")}
    head = parse(envelope(1, said))
    assert (head.source_id, head.target_id, head.headers) == ("", "", {})


def test_6_repeated_headers_are_arrays_both_ways() -> None:
    headers: dict[str, str | list[str]] = {"a": "1", "set-cookie": ["x=1", "y=2"]}
    assert parse(encode_response("r", 404, headers)).headers == headers


def test_6_body_bytes_behind_the_head_are_not_lost() -> None:
    parser = EnvelopeParser()
    assert not parser.started
    assert parser.feed(envelope(1, REQUEST) + b"body") is not None
    assert (parser.rest, parser.complete, parser.started) == (b"body", True, True)
    assert parser.feed(b"more") is None
    assert parser.rest == b"more"


@pytest.mark.parametrize(("data", "started"), [(b"", False), (b"\x01", True)])
def test_an_idle_lease_has_not_started(data: bytes, started: bool) -> None:
    parser = EnvelopeParser()
    assert parser.feed(data) is None
    assert parser.started is started
    assert not parser.complete


# ---- §6: what is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x02", "of version 2"),
        (envelope(1, REQUEST, version=0), "of version 0"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "of version 72"),
        (b"\x01\x00", "of type 0"),
        (b"\x01\x04", "of type 4"),
        (b"\x01\xff" + b"\x00" * 10, "of type 255"),
        (b"\x01\x01\x00\x01\x00\x01", "announces 65,537 bytes"),
        (b"\x01\x02\xff\xff\xff\xff", "announces 4,294,967,295 bytes"),
        (b"\x01\x01\x00\x00\x00\x00", "not valid JSON"),
        (envelope(1, []), "not a JSON object"),
        (envelope(1, b"{"), "not valid JSON"),
        (envelope(1, b'{"requestId":"\xff"}'), "not UTF-8"),
    ],
)
def test_6_a_malformed_envelope_is_a_protocol_error_and_stays_one(data: bytes, reason: str) -> None:
    parser = EnvelopeParser()
    for more in (data, b"", envelope(1, REQUEST)):
        with pytest.raises(VerserProtocolError, match=reason) as caught:
            parser.feed(more)
        assert caught.value.code == "protocol-error"
    assert not parser.complete


@pytest.mark.parametrize(
    ("kind", "right", "key", "value", "reason"),
    [
        (1, REQUEST, "requestId", ..., "no requestId"),
        (1, REQUEST, "requestId", "", "no requestId"),
        (1, REQUEST, "requestId", 7, "7 as requestId"),
        (1, REQUEST, "requestId", "x" * 2_049, "requestId of 2,049 characters"),
        (1, REQUEST, "sourceId", 7, "7 as sourceId"),
        (1, REQUEST, "targetId", ["a"], "an array as targetId"),
        (1, REQUEST, "method", ..., "no method"),
        (1, REQUEST, "method", "", "no method"),
        (1, REQUEST, "method", "GET /", "not a token"),
        (1, REQUEST, "method", "G\r\nET", "not a token"),
        (1, REQUEST, "method", True, "true as method"),
        (1, REQUEST, "path", ..., "no path"),
        (1, REQUEST, "path", "items", "does not start with '/'"),
        (1, REQUEST, "path", "http://a/", "does not start with '/'"),
        (1, REQUEST, "path", "**", "does not start with '/'"),
        (1, REQUEST, "path", "/a b", r"U\+0020 at character 3"),
        (1, REQUEST, "path", "/\r\nx", r"U\+000D at character 2"),
        (1, REQUEST, "path", "/\u00e9", r"U\+00E9 at character 2"),
        (1, REQUEST, "headers", [], "an array as headers"),
        (1, REQUEST, "headers", "x", "'x' as headers"),
        (1, REQUEST, "headers", {"a": 1}, "a number as header 'a'"),
        (1, REQUEST, "headers", {"a": True}, "a number as header 'a'"),
        (1, REQUEST, "headers", {"a": ["x"]}, "an array as header 'a'"),
        (1, REQUEST, "headers", {"a": None}, "null as header 'a'"),
        (1, REQUEST, "routeDomain", 1, "1 as routeDomain"),
        (1, REQUEST, "timeoutMs", True, "true as timeoutMs"),
        (1, REQUEST, "timeoutMs", "5", "'5' as timeoutMs"),
        (1, REQUEST, "timeoutMs", -1, "-1 as timeoutMs"),
        (1, REQUEST, "timeoutMs", 1.5, "1.5 as timeoutMs"),
        (1, REQUEST, "timeoutMs", 2**31, "as timeoutMs"),
        (2, RESPONSE, "requestId", ..., "no requestId"),
        (2, RESPONSE, "statusCode", ..., "no statusCode"),
        (2, RESPONSE, "statusCode", True, "true as statusCode"),
        (2, RESPONSE, "statusCode", "200", "'200' as statusCode"),
        (2, RESPONSE, "statusCode", 100, "100 as statusCode"),
        (2, RESPONSE, "statusCode", 199, "199 as statusCode"),
        (2, RESPONSE, "statusCode", 600, "600 as statusCode"),
        (2, RESPONSE, "statusCode", 10**60, "a huge number as statusCode|as statusCode"),
        (2, RESPONSE, "statusCode", 200.5, "200.5 as statusCode"),
        (2, RESPONSE, "headers", [], "an array as headers"),
        (2, RESPONSE, "headers", {"a": 1}, "value of header 'a'"),
        (2, RESPONSE, "headers", {"a": ["x", 1]}, "value of header 'a'"),
        (2, RESPONSE, "headers", {"a": [["x"]]}, "value of header 'a'"),
        (2, RESPONSE, "headers", {"a": {"b": "c"}}, "value of header 'a'"),
        (3, ERROR, "requestId", None, "no requestId"),
        (3, ERROR, "code", ..., "no code"),
        (3, ERROR, "code", 5, "5 as code"),
    ],
)
def test_6_a_wrong_field_is_named(
    kind: int, right: dict[str, Any], key: str, value: Any, reason: str
) -> None:
    said = {name: item for name, item in {**right, key: value}.items() if item is not ...}
    with pytest.raises(VerserProtocolError, match=reason):
        parse(envelope(kind, said))


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 599, 200.0])
def test_6_a_status_is_an_integer_from_200_to_599(status: float) -> None:
    assert parse(envelope(2, {**RESPONSE, "statusCode": status})).status_code == status


def test_6_a_response_without_headers_is_still_a_response() -> None:
    for said in (
        {"requestId": "r", "statusCode": 204},
        {"requestId": "r", "statusCode": 204, "headers": None},
    ):
        assert parse(envelope(2, said)) == ResponseHead("r", 204, {})


@pytest.mark.parametrize("path", ["/", "*", "/a%20b?x=y&z=%C3%A9", "//", "/a?b?c", "/[x]#y|^"])
def test_7_a_path_is_visible_ascii(path: str) -> None:
    assert parse(envelope(1, {**REQUEST, "path": path})).path == path


def test_6_an_error_explains_itself_badly_and_is_still_an_error() -> None:
    said = {**ERROR, "message": None, "context": {"a": None, "b": [1], "c": {"d": 1}, "e": True, "f": 1.5}}
    assert parse(envelope(3, said)) == ErrorHead(
        "broker-a-1", "local-handler-failure", "", {"e": True, "f": 1.5}
    )
    assert parse(envelope(3, {**ERROR, "context": [1]})).context == {}


def test_a_bad_path_is_shown_without_its_query() -> None:
    with pytest.raises(VerserProtocolError) as caught:
        parse(envelope(1, {**REQUEST, "path": "/login?token=hunter2 x"}))
    assert "'/login?'" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_value_of_a_header_is_never_shown() -> None:
    for kind, right, value in (
        (1, REQUEST, ["hunter2"]),
        (1, REQUEST, 424242),
        (2, RESPONSE, ["hunter2", 1]),
    ):
        with pytest.raises(VerserProtocolError) as caught:
            parse(envelope(kind, {**right, "headers": {"authorization": value}}))
        assert "authorization" in caught.value.message
        assert "hunter2" not in caught.value.message
        assert "424242" not in caught.value.message


# ---- Properties

request_heads = st.builds(
    RequestHead,
    ids,
    texts,
    texts,
    tokens,
    paths,
    st.dictionaries(header_names, header_values, max_size=5),
    st.one_of(st.none(), texts),
    st.one_of(st.none(), st.integers(0, 2**31 - 1)),
)
response_heads = st.builds(
    ResponseHead,
    texts.filter(bool),
    st.integers(200, 599),
    st.dictionaries(header_names, st.one_of(header_values, st.lists(header_values, max_size=3)), max_size=5),
)
error_heads = st.builds(ErrorHead, ids, ids, texts, contexts)


def encode(head: RequestHead | ResponseHead | ErrorHead) -> bytes:
    if isinstance(head, RequestHead):
        return encode_request(head)
    if isinstance(head, ResponseHead):
        return encode_response(head.request_id, head.status_code, head.headers)
    return encode_error(head.request_id, head.code, head.message, head.context)


@properties
@given(st.data(), st.one_of(request_heads, response_heads, error_heads), st.binary(max_size=20))
def test_a_head_comes_back_however_it_is_cut(
    data: st.DataObject, head: RequestHead | ResponseHead | ErrorHead, body: bytes
) -> None:
    wire = encode(head) + body
    assert parse(encode(head)) == head
    parser = EnvelopeParser()
    heads = []
    rest = b""
    for piece in data.draw(pieces(wire)):
        heads.append(parser.feed(piece))
        rest += parser.rest
        if parser.complete:
            parser.rest = b""
    assert [found for found in heads if found is not None] == [head]
    assert rest == body


def outcome(parts: list[bytes]) -> tuple[Any, ...]:
    """Heads, body bytes and error that pieces lead to."""
    parser = EnvelopeParser()
    heads: list[Any] = []
    body = b""
    for part in parts:
        result = value_or_error(lambda part=part: parser.feed(part))  # type: ignore[misc]
        if isinstance(result, VerserError):
            return (heads, body, result.code, result.message)
        heads += [result] if result is not None else []
        if parser.complete:
            body += parser.rest
    return (heads, body, None, None)


garbage = st.one_of(
    st.binary(max_size=80),
    st.builds(
        envelope,
        st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4]),
        st.one_of(nearly(REQUEST), nearly(RESPONSE), nearly(ERROR), st.binary(max_size=20)),
        version=st.sampled_from([1, 1, 1, 1, 0, 2]),
        length=st.one_of(
            st.none(), st.none(), st.none(), st.integers(0, 300), st.integers(65_530, 2**32 - 1)
        ),
    ),
)


@properties
@given(st.data(), garbage, st.binary(max_size=5))
def test_any_bytes_give_a_head_or_an_error_however_they_are_cut(
    data: st.DataObject, first: bytes, more: bytes
) -> None:
    wire = first + more
    whole = outcome([wire])
    assert outcome(data.draw(pieces(wire))) == whole
    assert outcome([wire[at : at + 1] for at in range(len(wire))]) == whole


@pytest.mark.parametrize("step", [1, 7, 16_375, 200_000])
def test_the_largest_head_is_read_and_no_more_is_kept(step: int) -> None:
    padding = "x" * (MAX_METADATA_BYTES - len(json.dumps({**REQUEST, "pad": ""})))
    wire = envelope(1, {**REQUEST, "pad": padding})
    assert len(wire) == 6 + MAX_METADATA_BYTES
    wire += b"b" * 100_000
    parser = EnvelopeParser()
    found = None
    body = 0
    tracemalloc.start()
    try:
        for at in range(0, len(wire), step):
            found = parser.feed(wire[at : at + step]) or found
            body += len(parser.rest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert body == 100_000
    assert peak < 1 << 20

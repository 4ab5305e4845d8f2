"""A Broker's control stream: tables and lifecycle events (protocol.md §3, §10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import domains, ids, json_values, nearly, pieces, properties, texts, value_or_error
from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    InvalidRegistrationError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.wire.lines import LineParser
from verser2_guest_python.wire.routes import (
    EVENT_TYPES,
    Generation,
    Lifecycle,
    LifecycleEvent,
    Registered,
    Route,
    RoutesTable,
    encode_lifecycle,
    encode_routes,
    parse_control_line,
)

EVENT = {
    "type": "degraded",
    "targetId": "guest-a",
    "domain": "a.local.test",
    "reason": "disconnected",
    "generation": {"generationId": "gen-3", "sessionId": "guest-a"},
}


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_3_the_first_line_is_the_answer_to_the_registration() -> None:
    first = {
        "status": "registered",
        "routes": [{"targetId": "g", "domain": "a.test"}],
        "extensions": ["stage"],
    }
    assert parse_control_line(line(first)) == Registered((Route("g", "a.test"),), frozenset({"stage"}))


def test_3_a_routes_line_is_the_full_table() -> None:
    said = b'{"type":"routes","routes":[{"targetId":"guest-a","domain":"a.local.test"}]}\n'
    assert encode_routes([Route("guest-a", "a.local.test")]) == said
    assert parse_control_line(said[:-1]) == RoutesTable((Route("guest-a", "a.local.test"),))
    assert parse_control_line(b'{"type":"routes","routes":[]}') == RoutesTable(())


def test_3_one_pair_appears_once_and_one_domain_may_have_several_guests() -> None:
    routes = [("b", "a.test"), ("a", "a.test"), ("b", "A.test."), ("a", "b.test")]
    said = line({"type": "routes", "routes": [{"targetId": t, "domain": d, "new": 1} for t, d in routes]})
    assert parse_control_line(said) == RoutesTable(
        (Route("b", "a.test"), Route("a", "a.test"), Route("a", "b.test"))
    )


def test_10_a_lifecycle_line_as_the_contract_shows_it() -> None:
    said = line({"type": "route-lifecycle", "events": [EVENT]})
    event = LifecycleEvent(
        "degraded", "guest-a", "a.local.test", "disconnected", Generation("gen-3", "guest-a")
    )
    assert parse_control_line(said) == Lifecycle((event,))
    assert json.loads(encode_lifecycle([event])) == json.loads(said)
    assert encode_lifecycle([event]).endswith(b"}\n")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"reason": None},
        {"reason": 5},
        {"generation": None},
        {"generation": "g"},
        {"generation": {"generationId": 3, "sessionId": "x"}},
    ],
)
def test_10_reason_and_generation_are_optional(extra: dict[str, Any]) -> None:
    event = {"type": "added", "targetId": "g", "domain": "a.test", **extra}
    said = line({"type": "route-lifecycle", "events": [event]})
    assert parse_control_line(said) == Lifecycle((LifecycleEvent("added", "g", "a.test"),))


def test_10_an_event_of_an_unknown_type_is_skipped() -> None:
    events = [{**EVENT, "type": "moved"}, EVENT]
    parsed = parse_control_line(line({"type": "route-lifecycle", "events": events}))
    assert isinstance(parsed, Lifecycle)
    assert [event.type for event in parsed.events] == ["degraded"]


@pytest.mark.parametrize(
    "value", [{"type": "news"}, {"type": 5}, {"type": None}, {}, {"routes": []}, {"type": "x", "status": 5}]
)
def test_3_unknown_types_are_skipped(value: Any) -> None:
    assert parse_control_line(line(value)) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"{", "not valid JSON"),
        (b'{"type":"routes"}', "no routes"),
        (b'{"type":"routes","routes":5}', "5 as routes"),
        (b'{"type":"routes","routes":["a"]}', "'a' among its routes"),
        (b'{"type":"routes","routes":[{"targetId":"g"}]}', "no domain"),
        (b'{"type":"routes","routes":[{"domain":"a"}]}', "no targetId"),
        (b'{"type":"routes","routes":[{"targetId":true,"domain":"a"}]}', "true as targetId"),
        (b'{"type":"route-lifecycle"}', "no events"),
        (b'{"type":"route-lifecycle","events":[5]}', "is 5, where an object is due"),
        (b'{"type":"route-lifecycle","events":[{"targetId":"g","domain":"a"}]}', "no type"),
        (b'{"type":"route-lifecycle","events":[{"type":"added","domain":"a"}]}', "no targetId"),
        (b'{"type":"route-lifecycle","events":[{"type":"added","targetId":"g","domain":7}]}', "7 as domain"),
    ],
)
def test_3_a_malformed_line_is_a_protocol_error(data: bytes, reason: str) -> None:
    with pytest.raises(VerserProtocolError, match=reason):
        parse_control_line(data)


def test_2_a_refusal_instead_of_the_first_line_is_raised() -> None:
    with pytest.raises(AuthorizationDeniedError, match="not you"):
        parse_control_line(b'{"status":"closed","reason":"not you"}')
    with pytest.raises(InvalidRegistrationError, match="already registered"):
        parse_control_line(
            b'{"error":{"code":"invalid-registration","message":"Peer is already registered"}}'
        )


def test_3_a_table_of_twenty_thousand_routes_is_read() -> None:
    table = [Route(f"guest-{number}", f"app-{number}.local.test") for number in range(20_000)]
    assert parse_control_line(encode_routes(table).rstrip()) == RoutesTable(tuple(table))


routes = st.lists(st.builds(Route, ids, domains), max_size=5, unique=True)
events = st.lists(
    st.builds(
        LifecycleEvent,
        st.sampled_from(sorted(EVENT_TYPES)),
        ids,
        domains,
        st.one_of(st.none(), texts),
        st.one_of(st.none(), st.builds(Generation, texts, texts)),
    ),
    max_size=4,
)


@properties
@given(st.data(), st.lists(st.one_of(routes, events), max_size=4))
def test_tables_and_events_come_back_however_they_are_cut(data: st.DataObject, said: list[Any]) -> None:
    wire = b""
    wanted: list[Any] = []
    for group in said:
        if group and isinstance(group[0], LifecycleEvent):
            wire += encode_lifecycle(group)
            wanted.append(Lifecycle(tuple(group)))
        else:
            wire += encode_routes(group)
            wanted.append(RoutesTable(tuple(group)))
    parser = LineParser(10_000)
    lines = [found for piece in data.draw(pieces(wire)) for found in parser.feed(piece)]
    assert [parse_control_line(found) for found in lines] == wanted


@properties
@given(
    st.one_of(
        st.binary(max_size=60),
        nearly({"type": "routes", "routes": [{"targetId": "g", "domain": "a.test"}]}),
        nearly({"type": "route-lifecycle", "events": [EVENT]}),
        nearly({"status": "registered", "routes": []}),
        nearly(EVENT).map(lambda event: b'{"type":"route-lifecycle","events":[' + event + b"]}"),
        json_values.map(
            lambda value: line({"type": "route-lifecycle", "events": [{**EVENT, "generation": value}]})
        ),
    )
)
def test_any_line_gives_a_value_or_an_error(data: bytes) -> None:
    result = value_or_error(lambda: parse_control_line(data))
    if isinstance(result, Lifecycle) and result.events:
        assert parse_control_line(encode_lifecycle(result.events)) == result
    elif isinstance(result, RoutesTable):
        assert parse_control_line(encode_routes(result.routes)) == result
    else:
        assert result is None or isinstance(result, VerserError | Registered | Lifecycle)

"""Proxy headers: what they fill in, whose are believed, and what malformed ones do (nothing)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verser2_guest_python.asgi.forwarded import ProxyHeaders, fill, parse_node
from verser2_guest_python.asgi.scopes import http_scope, websocket_scope
from verser2_guest_python.asgi.types import Scope

FOR, PROTO, HOST, FORWARDED = "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"


def scope_of(headers: dict[str, str], kind: str = "http") -> Scope:
    fields = [(b"host", b"a.local.test"), (b"accept", b"*/*")]
    fields += [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    if kind == "http":
        return http_scope(method="GET", target="/", headers=fields)
    return websocket_scope(target="/", headers=fields, subprotocols=[])


def filled(headers: dict[str, str], kind: str = "http") -> tuple[str, Any, str]:
    """Scheme, client and host afterwards; the other headers stay."""
    scope = scope_of(headers, kind)
    before = [field for field in scope["headers"] if field[0] != b"host"]
    fill(scope)
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    assert len(hosts) == 1
    assert [field for field in scope["headers"] if field[0] != b"host"] == before
    return scope["scheme"], scope["client"], hosts[0].decode()


def test_without_proxy_headers_nothing_changes() -> None:
    scope = scope_of({"x-other": "1"})
    headers = scope["headers"]
    fill(scope)
    assert scope["headers"] is headers
    assert (scope["scheme"], scope["client"]) == ("http", None)


def test_all_three() -> None:
    said = {FOR: "192.0.2.1", PROTO: "https", HOST: "www.example:8443"}
    assert filled(said) == ("https", ("192.0.2.1", 0), "www.example:8443")
    assert filled(said, "websocket") == ("wss", ("192.0.2.1", 0), "www.example:8443")
    assert filled({FORWARDED: 'for="192.0.2.1:80";proto=https;host="www.example:8443"'}) == (
        "https",
        ("192.0.2.1", 80),
        "www.example:8443",
    )


def test_each_alone() -> None:
    assert filled({FOR: "192.0.2.1:4711"}) == ("http", ("192.0.2.1", 4711), "a.local.test")
    assert filled({PROTO: "https"}) == ("https", None, "a.local.test")
    assert filled({HOST: "www.example"}) == ("http", None, "www.example")


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("proto", "secure"), [("http", False), ("https", True), ("ws", False), ("wss", True), ("HTTPS", True)]
)
def test_schemes(kind: str, proto: str, secure: bool) -> None:
    plain = {"http": "http", "websocket": "ws"}[kind]
    assert filled({PROTO: proto}, kind)[0] == plain + ("s" if secure else "")


def test_of_a_list_the_last_entry_counts() -> None:
    """It is what the nearest proxy wrote; all before it may be the client's invention."""
    said = {FOR: "6.6.6.6, 192.0.2.1", PROTO: "http,https", HOST: "evil.example , www.example"}
    assert filled(said) == ("https", ("192.0.2.1", 0), "www.example")
    assert filled({FORWARDED: "for=6.6.6.6;proto=https, for=192.0.2.1"}) == (
        "http",
        ("192.0.2.1", 0),
        "a.local.test",
    )


def test_forwarded_counts_only_where_the_other_family_is_silent() -> None:
    """A proxy that writes one family passes the other on as the client sent it."""
    standard = "for=6.6.6.6;proto=https;host=evil.example"
    assert filled({FORWARDED: standard, FOR: "192.0.2.1"}) == ("http", ("192.0.2.1", 0), "a.local.test")
    assert filled({FORWARDED: standard, PROTO: "http"}) == ("http", None, "a.local.test")
    # … but x-forwarded-host is the Host's own (protocol.md §6)
    assert filled({FORWARDED: "for=192.0.2.1;proto=https", HOST: "www.example"}) == (
        "https",
        ("192.0.2.1", 0),
        "www.example",
    )


@pytest.mark.parametrize(
    ("text", "client"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        (" 192.0.2.1 ", ("192.0.2.1", 0)),
        ("192.0.2.1:65535", ("192.0.2.1", 65_535)),
        ("192.0.2.1:65536", ("192.0.2.1", 0)),
        ("192.0.2.1:_hidden", ("192.0.2.1", 0)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("2001:DB8:0::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("192.0.2", None),
        ("192.0.2.1.5", None),
        ("example.com", None),
        ("[2001:db8::1", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:port", None),
        ("192.0.2.1\t1", None),
    ],
)
def test_clients(text: str, client: tuple[str, int] | None) -> None:
    assert parse_node(text) == client


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "user@host", "a\x7f", "host:port", "a:123456", "[::1", "h\xf6st", "a,"]
)
def test_hosts_that_are_none(host: str) -> None:
    assert filled({HOST: host})[2] == "a.local.test"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ('for="[2001:db8::1]:4711"', ("2001:db8::1", 4711)),
        ("For=192.0.2.1", ("192.0.2.1", 0)),
        ("by=10.0.0.1; for=192.0.2.1 ;proto=http", ("192.0.2.1", 0)),
        (r'for="192.0.2\.1"', ("192.0.2.1", 0)),
        ('for=6.6.6.6;by="a, b;c", for=192.0.2.1', ("192.0.2.1", 0)),
        ('for="6.6.6.6, for=192.0.2.1', ("192.0.2.1", 0)),
        ('for=6.6.6.6;a=", for="[2001:db8::1]"', None),
        ("for=192.0.2.1;", ("192.0.2.1", 0)),
        ("for=192.0.2.1;;proto=https", None),
        ("for", None),
        ("for=192.0.2.1 proto=https", None),
        ("", None),
        (",", None),
        ("for=192.0.2.1" + " " * 5_000, None),
    ],
)
def test_forwarded(value: str, client: tuple[str, int] | None) -> None:
    assert filled({FORWARDED: value})[1] == client


@given(
    st.dictionaries(st.sampled_from([FOR, PROTO, HOST, FORWARDED]), st.text(st.characters(max_codepoint=255)))
)
def test_whatever_comes_the_scope_stays_sound(headers: dict[str, str]) -> None:
    scheme, client, host = filled(headers)
    assert scheme in ("http", "https")
    assert client is None or (isinstance(client[0], str) and 0 <= client[1] <= 65_535)
    assert host.isascii()
    assert "," not in host


def test_an_escaped_quote_takes_no_time() -> None:
    """4,096 characters that a backtracking reader would chew on for long."""
    for value in ('"\\' * 2_000, '"' * 4_000, "for=" * 1_000, ";" * 4_000, 'a="' * 1_300):
        assert filled({FORWARDED: value})[1] is None


def test_whose_are_believed() -> None:
    said = {PROTO: "https"}
    for allowed, source, believed in (
        ((), "broker-a", True),
        ((), None, True),
        (("*",), None, True),
        (("broker-a", "broker-b"), "broker-a", True),
        (("broker-a", "broker-b"), "broker-c", False),
        (("broker-a",), None, False),
        (("broker-a",), "", False),
    ):
        scope = scope_of(said)
        ProxyHeaders(allowed).apply(scope, source)
        assert (scope["scheme"] == "https") is believed

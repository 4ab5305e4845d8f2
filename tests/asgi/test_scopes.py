"""What an app reads about a request (ASGI HTTP 2.5; issue of the Guest: root path as uvicorn has it)."""

from __future__ import annotations

from typing import Any

import pytest

from verser2_guest_python.asgi.scopes import http_scope, websocket_scope


def scope(target: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    return dict(http_scope(method=method, target=target, headers=[(b"host", b"a.local.test")], **more))


def test_every_key_of_the_specification() -> None:
    assert scope("/items?q=1", verser={"request_id": "broker-a-1"}, state={"pool": 1}) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/items",
        "raw_path": b"/items",
        "query_string": b"q=1",
        "root_path": "",
        "headers": [(b"host", b"a.local.test")],
        "client": None,
        "server": None,
        "extensions": {"verser": {"request_id": "broker-a-1"}},
        "state": {"pool": 1},
    }


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/", "/", b"/", b""),
        ("*", "*", b"*", b""),
        ("/a%20b", "/a b", b"/a%20b", b""),
        ("/%C3%BC", "/ü", b"/%C3%BC", b""),
        ("/%e4", "/�", b"/%e4", b""),
        ("/a%2Fb", "/a/b", b"/a%2Fb", b""),
        ("/a%3Fb?c", "/a?b", b"/a%3Fb", b"c"),
        ("/a+b", "/a+b", b"/a+b", b""),
        ("/%", "/%", b"/%", b""),
        ("/%zz", "/%zz", b"/%zz", b""),
        ("/?", "/", b"/", b""),
        ("/?a=%C3%BC&b=1+2", "/", b"/", b"a=%C3%BC&b=1+2"),
        ("/a?b?c", "/a", b"/a", b"b?c"),
        ("/a;v=1", "/a;v=1", b"/a;v=1", b""),
        ("//double//", "//double//", b"//double//", b""),
    ],
)
def test_path_and_query(target: str, path: str, raw_path: bytes, query: bytes) -> None:
    made = scope(target)
    assert (made["path"], made["raw_path"], made["query_string"]) == (path, raw_path, query)


def test_the_root_path_goes_before_the_path() -> None:
    made = scope("/items%20?q", root_path="/api")
    assert (made["root_path"], made["path"], made["raw_path"]) == ("/api", "/api/items ", b"/api/items%20")


def test_a_root_path_beyond_ascii_is_encoded_in_the_raw_path() -> None:
    made = scope("/x", root_path="/prüfung€")
    assert made["path"] == "/prüfung€/x"
    assert made["raw_path"] == b"/pr%C3%BCfung%E2%82%AC/x"


def test_the_method_is_in_upper_case() -> None:
    assert scope(method="get")["method"] == "GET"
    assert scope(method="PROPFIND")["method"] == "PROPFIND"


def test_each_request_has_a_state_of_its_own() -> None:
    state = {"count": 0}
    one, other = scope(state=state), scope(state=state)
    one["state"]["count"] = 1
    assert (other["state"], state) == ({"count": 0}, {"count": 0})
    assert "state" not in scope()


def test_nothing_in_a_scope_is_shared_with_the_next() -> None:
    one, other = scope(), scope()
    one["asgi"]["version"] = "spoiled"
    one["extensions"]["verser"]["mine"] = "1"
    assert other["asgi"]["version"] == "3.0"
    assert other["extensions"] == {"verser": {}}


def test_other_extensions_stand_beside_verser() -> None:
    made = scope(extensions={"x": {"y": 1}}, verser={"guest_id": "guest-a"})
    assert made["extensions"] == {"x": {"y": 1}, "verser": {"guest_id": "guest-a"}}


def test_the_scope_of_a_websocket() -> None:
    assert websocket_scope(
        target="/room%20a?x=1",
        headers=[(b"host", b"a.local.test")],
        subprotocols=["chat.v1"],
        root_path="/api",
        state={"pool": 1},
        verser={"guest_id": "guest-a"},
    ) == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/api/room a",
        "raw_path": b"/api/room%20a",
        "query_string": b"x=1",
        "root_path": "/api",
        "headers": [(b"host", b"a.local.test")],
        "client": None,
        "server": None,
        "subprotocols": ["chat.v1"],
        "extensions": {"websocket.http.response": {}, "verser": {"guest_id": "guest-a"}},
        "state": {"pool": 1},
    }

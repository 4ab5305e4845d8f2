"""ASGI scopes of what comes through a Host.

The values are plain ones, so that this floor knows neither envelopes nor streams. A Guest has no
socket that an app could ask about: `client` and `server` are None unless proxy headers say more.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from .types import Headers, Scope

ASGI_VERSION = "3.0"
HTTP_SPEC_VERSION = "2.5"
WEBSOCKET_SPEC_VERSION = "2.5"

_HTTP = {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION}
_WEBSOCKET = {"version": ASGI_VERSION, "spec_version": WEBSOCKET_SPEC_VERSION}


def http_scope(
    *,
    method: str,
    target: str,
    headers: Headers,
    root_path: str = "",
    state: dict[str, Any] | None = None,
    verser: dict[str, str | None] | None = None,
    extensions: dict[str, dict[str, Any]] | None = None,
) -> Scope:
    """The scope of one request (ASGI HTTP 2.5).

    `target` is path and query as they came, percent-encoded. `root_path` goes before `path` and
    `raw_path`, as uvicorn does it. `verser` becomes `extensions["verser"]`, beside `extensions`.
    """
    path, _, query = target.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": _HTTP.copy(),
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "path": root_path + (unquote(path) if "%" in path else path),
        "raw_path": _raw(root_path) + path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": root_path,
        "headers": headers,
        "client": None,
        "server": None,
        "extensions": {**(extensions or {}), "verser": verser or {}},
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


def websocket_scope(
    *,
    target: str,
    headers: Headers,
    subprotocols: list[str],
    root_path: str = "",
    state: dict[str, Any] | None = None,
    verser: dict[str, str | None] | None = None,
) -> Scope:
    """The scope of a WebSocket (ASGI WebSocket 2.5), with the parameters of `http_scope`.

    Its headers are what a Host can say: at least `host` (protocol.md §11).
    """
    path, _, query = target.partition("?")
    scope: Scope = {
        "type": "websocket",
        "asgi": _WEBSOCKET.copy(),
        "http_version": "1.1",
        "scheme": "ws",
        "path": root_path + (unquote(path) if "%" in path else path),
        "raw_path": _raw(root_path) + path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": root_path,
        "headers": headers,
        "client": None,
        "server": None,
        "subprotocols": subprotocols,
        "extensions": {"websocket.http.response": {}, "verser": verser or {}},
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


def _raw(root_path: str) -> bytes:
    """A root path as it would stand in a URL."""
    return (root_path if root_path.isascii() else quote(root_path)).encode()

"""What is a secret by its name, and what is not."""

from __future__ import annotations

import pytest

from verser2_guest_python.service.inspector.hidden import (
    Part,
    field_parts,
    is_secret_field,
    is_secret_parameter,
    path_parts,
)

SECRET_FIELDS = [
    "Authorization",
    "cookie",
    "Set-Cookie",
    "proxy-authorization",
    "X-API-Key",
    "x-auth-token",
    "x-csrf-token",
    "x-session-id",
    "x-amz-security-token",
    "x-webhook-signature",
    "x-goog-api-key",
    "x-client-secret",
]
SHOWN_FIELDS = [
    "accept",
    "content-type",
    "host",
    "x-request-id",
    "keyboard",
    "x-author",
    "sec-websocket-protocol",
    "etag",
]
SECRET_PARAMETERS = [
    "token",
    "key",
    "password",
    "signature",
    "access_token",
    "apiKey",
    "api_key",
    "X-Amz-Signature",
    "sig",
    "client_secret",
    "code",
    "id_token",
    "TOKEN",
    "passwd",
    "refreshToken",
    "%74oken",
    "sessionid",
    "pwd",
]
SHOWN_PARAMETERS = [
    "q",
    "page",
    "monkey",
    "tokens_used",
    "keyword",
    "author",
    "sort",
    "design",
]


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_secret_fields(name: str) -> None:
    assert is_secret_field(name)


@pytest.mark.parametrize("name", SHOWN_FIELDS)
def test_fields_that_are_shown(name: str) -> None:
    assert not is_secret_field(name)


@pytest.mark.parametrize("name", SECRET_PARAMETERS)
def test_secret_parameters(name: str) -> None:
    assert is_secret_parameter(name)


@pytest.mark.parametrize("name", SHOWN_PARAMETERS)
def test_parameters_that_are_shown(name: str) -> None:
    assert not is_secret_parameter(name)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/items?page=2", [("/items?page=2", False)]),
        ("/a?x=1&token=abc&y=2", [("/a?x=1&token=", False), ("abc", True), ("&y=2", False)]),
        ("/a?token=", [("/a?token=", False)]),
        ("/a?token", [("/a?token", False)]),
        ("/a?token=a=b", [("/a?token=", False), ("a=b", True)]),
        ("/#access_token=abc", [("/#access_token=", False), ("abc", True)]),
        ("/a?key=1;sig=2", [("/a?key=", False), ("1", True), (";sig=", False), ("2", True)]),
        ("https://me:pw@a.test/x", [("https://", False), ("me:pw", True), ("@a.test/x", False)]),
        ("*", [("*", False)]),
        ("", []),
    ],
)
def test_paths_in_pieces(path: str, parts: list[Part]) -> None:
    assert path_parts(path) == parts


def test_fields_in_pieces() -> None:
    assert field_parts("cookie", "a=b") == [("a=b", True)]
    assert field_parts("accept", "text/html") == [("text/html", False)]
    assert field_parts("Location", "/x?code=1") == [("/x?code=", False), ("1", True)]
    assert field_parts("referer", "http://a.test/?token=t") == [("http://a.test/?token=", False), ("t", True)]

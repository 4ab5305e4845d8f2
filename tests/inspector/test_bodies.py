"""Bodies as they are served: text, JSON that is indented, images, and bytes that nobody interprets."""

from __future__ import annotations

import gzip

import pytest

from verser2_guest_python.service.inspector.bodies import (
    BYTES_TYPE,
    MAX_DECODED_BYTES,
    TEXT_TYPE,
    body_view,
    shown,
)
from verser2_guest_python.service.inspector.record import Body


def body(data: bytes) -> Body:
    made = Body()
    made.add(data)
    return made


@pytest.mark.parametrize(
    ("content_type", "data", "kind", "served"),
    [
        ("text/plain", b"hello", "text", TEXT_TYPE),
        ("text/html; charset=utf-8", b"<script>1</script>", "text", TEXT_TYPE),
        ("application/xhtml+xml", b"<html/>", "text", TEXT_TYPE),
        ("application/javascript", b"alert(1)", "text", TEXT_TYPE),
        ("application/x-www-form-urlencoded", b"a=b", "text", TEXT_TYPE),
        ("application/problem+json", b"{}", "json", TEXT_TYPE),
        ("image/png", b"\x89PNG", "image", "image/png"),
        ("image/svg+xml", b"<svg/>", "image", "image/svg+xml"),
        ("image/unheard-of", b"?", "binary", BYTES_TYPE),
        ("application/pdf", b"%PDF", "binary", BYTES_TYPE),
        ("application/x-shockwave-flash", b"CWS", "binary", BYTES_TYPE),
        ("", b"words", "text", TEXT_TYPE),
        ("", b"\x00\x01", "binary", BYTES_TYPE),
        ("", b"\xff\xfe\xfa", "binary", BYTES_TYPE),
    ],
)
def test_what_a_body_is(content_type: str, data: bytes, kind: str, served: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert body_view(body(data), headers)["kind"] == kind
    assert (shown(body(data), headers).kind, shown(body(data), headers).content_type) == (kind, served)


def test_json_is_indented_and_otherwise_as_it_was() -> None:
    made = shown(
        body(b'{"b":1.50,"a":[12345678901234567890,"\\u00e9"]}'), {"content-type": "application/json"}
    )
    assert (
        made.data.decode() == '{\n  "b": 1.50,\n  "a": [\n    12345678901234567890,\n    "\\u00e9"\n  ]\n}\n'
    )


def test_json_that_is_cut_or_none_is_text() -> None:
    made = shown(body(b'{"a": [1, 2'), {"content-type": "application/json"})
    assert made.data == b'{"a": [1, 2'


@pytest.mark.parametrize(
    ("charset", "data"),
    [
        ("iso-8859-1", b"\xe9"),
        ("windows-1252", b"\xe9"),
        ("utf-8", "é".encode()),
        ("utf-16", "é".encode("utf-16")),
    ],
)
def test_text_is_served_as_utf_8(charset: str, data: bytes) -> None:
    assert shown(body(data), {"content-type": f"text/plain; charset={charset}"}).data == "é".encode()


@pytest.mark.parametrize("charset", ["base64", "idna", "no-such", "rot13", "undefined", "unicode_escape"])
def test_a_charset_that_is_none_is_read_as_utf_8(charset: str) -> None:
    assert shown(body(b"a\xff"), {"content-type": f"text/plain; charset={charset}"}).data == "a�".encode()


def test_a_compressed_body_is_read() -> None:
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    assert shown(body(gzip.compress(b"hello")), headers).data == b"hello"
    long = "".join(map(str, range(20_000)))
    cut = shown(body(gzip.compress(long.encode())[:20_000]), headers).data.decode()
    assert len(cut) > 20_000
    assert long.startswith(cut)


def test_a_body_that_expands_without_end_is_cut() -> None:
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 65_536
    assert len(shown(body(bomb), headers).data) == MAX_DECODED_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "no-such"])
def test_what_cannot_be_decoded_is_bytes(encoding: str) -> None:
    made = shown(body(b"not that"), {"content-type": "image/png", "content-encoding": encoding})
    assert (made.kind, made.content_type, made.data) == ("binary", BYTES_TYPE, b"not that")

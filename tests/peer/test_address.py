"""Host URLs: what they may look like, and what is said about those that are none."""

from __future__ import annotations

import pytest

from verser2_guest_python import VerserUsageError
from verser2_guest_python.peer import parse_host_url


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://localhost:8443", "localhost", 8443, b"localhost:8443"),
        ("https://Host.Example/", "host.example", 443, b"host.example:443"),
        ("  HTTPS://host.example:443  ", "host.example", 443, b"host.example:443"),
        ("https://127.0.0.1:1", "127.0.0.1", 1, b"127.0.0.1:1"),
        ("https://[::1]:8443", "::1", 8443, b"[::1]:8443"),
        ("https://bücher.example", "xn--bcher-kva.example", 443, b"xn--bcher-kva.example:443"),
    ],
)
def test_addresses(url: str, host: str, port: int, authority: bytes) -> None:
    address = parse_host_url(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
    assert address.url == f"https://{authority.decode()}"
    assert str(address) == authority.decode()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "empty"),
        ("localhost:8443", "no scheme"),
        ("http://localhost", "http://"),
        ("wss://localhost", "wss://"),
        ("https://", "names no host"),
        ("https://:8443", "names no host"),
        ("https://localhost:port", "not a URL"),
        ("https://localhost:99999", "not a URL"),
        ("https://localhost:0", "port 0"),
        ("https://[::1", "not a URL"),
        ("https://user:secret@localhost", "leave them out"),
        ("https://localhost/path", "goes on"),
        ("https://localhost?x", "goes on"),
        ("https://a b", "blank"),
        ("https://a..ü", "DNS cannot say"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    with pytest.raises(VerserUsageError, match=said) as caught:
        parse_host_url(url)
    assert "secret" not in caught.value.message

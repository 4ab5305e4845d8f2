"""Which proxy is on the way to a Host, and what comes of dialling through it."""

from __future__ import annotations

import asyncio
import builtins
import socket
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.proxies import LittleProxy, http_proxy, socks5_proxy
from tests.support.scripted_host import scripted_host
from verser2_guest_python.errors import (
    ConnectFailure,
    VerserConfigurationError,
    VerserConnectionError,
    VerserUsageError,
)
from verser2_guest_python.peer import TlsFiles, dial, find_proxy, parse_host_url
from verser2_guest_python.peer.proxy import Proxy, is_excepted

HOST = parse_host_url("https://host.example:8443")
SECRET = "geheim"
ProxyMaker = Callable[..., AbstractAsyncContextManager[LittleProxy]]


# --- Which one ------------------------------------------------------------------------------------


def chosen(environ: dict[str, str], host: str = "https://host.example:8443") -> str | None:
    proxy = find_proxy(parse_host_url(host), environ=environ)
    return None if proxy is None else str(proxy)


def test_without_an_option_the_environment_counts_as_for_curl() -> None:
    assert chosen({}) is None
    assert chosen({"HTTPS_PROXY": "http://a:1"}) == "http://a:1"
    assert chosen({"ALL_PROXY": "socks5://a:1"}) == "socks5://a:1"
    assert chosen({"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "http://b:1"}) == "http://a:1"
    assert chosen({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}) == "http://b:1"
    assert chosen({"HTTPS_PROXY": "http://a:1", "all_proxy": "http://b:1"}) == "http://a:1"
    assert chosen({"HTTPS_PROXY": "", "https_proxy": " ", "ALL_PROXY": "http://b:1"}) == "http://b:1"
    assert chosen({"HTTP_PROXY": "http://a:1", "http_proxy": "http://a:1"}) is None
    assert chosen({"https_proxy": "proxy.example"}) == "http://proxy.example:1080"
    assert chosen({"https_proxy": "http://[::1]:3128"}) == "http://[::1]:3128"


def test_an_option_comes_before_the_environment_and_an_empty_one_switches_proxies_off() -> None:
    environ = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}
    assert str(find_proxy(HOST, "http://b:2", environ)) == "http://b:2"
    assert find_proxy(HOST, "", {"HTTPS_PROXY": "http://a:1"}) is None


def test_the_environment_of_the_process_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "all_proxy", "no_proxy", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://a:1")
    assert str(find_proxy(HOST)) == "http://a:1"
    monkeypatch.setenv("NO_PROXY", "example")
    assert find_proxy(HOST) is None


@pytest.mark.parametrize(
    ("host", "no_proxy", "excepted"),
    [
        ("host.example", "", False),
        ("host.example", "*", True),
        ("host.example", "host.example", True),
        ("host.example", "other,HOST.Example.", True),
        ("host.example", "other example", True),
        ("host.example", ".example", True),
        ("host.example", "xample", False),
        ("host.example", "st.example", False),
        ("host.example", "deep.host.example", False),
        ("host.example", "10.0.0.0/8", False),
        ("localhost", "localhost,127.0.0.1", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.30", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.4/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "2.3", False),
        ("10.1.2.3", "example", False),
        ("::1", "::1", True),
        ("::1", "[::1]", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "10.0.0.0/8", False),
    ],
)
def test_no_proxy(host: str, no_proxy: str, excepted: bool) -> None:
    assert is_excepted(host, no_proxy) is excepted


def test_no_proxy_in_lower_case_goes_first() -> None:
    environ = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "example"}
    assert chosen(environ) is None
    assert chosen({**environ, "no_proxy": "other"}) == "http://a:1"
    assert chosen({**environ, "no_proxy": ""}) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://name:geheim@proxy:21",
        "https://name:geheim@proxy:443",
        "http://name:geheim@proxy:port",
        "http://name:geheim@proxy:0",
        "http://name:geheim@proxy:99999",
        "http://name:ge/heim@proxy:3128",
        "http://name:geheim#@proxy:3128",
        "http://name:geheim?@proxy:3128",
        "http://name:geheim@:3128",
        "http://name:geheim@pro xy:3128",
        "http://name:geheim@[::1:3128",
        "http://na%3Ame:geheim@proxy:3128",
        "http://name:geheim%0d%0a@proxy:3128",
        "socks5://name:geheim%C3%A9@proxy:3128",
        "socks5://name:@proxy:3128",
        "socks5://name:" + "geheim" * 50 + "@proxy:3128",
        "http://" + "ü" * 70 + ":3128",
    ],
)
def test_urls_that_cannot_be_used_are_told_without_what_is_secret(url: str) -> None:
    for options, error, source in (
        ({"proxy": url}, VerserUsageError, "The proxy URL "),
        ({"environ": {"ALL_PROXY": url}}, VerserConfigurationError, "ALL_PROXY"),
    ):
        with pytest.raises(error) as caught:
            find_proxy(HOST, **options)
        text = (
            "".join(traceback.format_exception(caught.value)) if source != "ALL_PROXY" else str(caught.value)
        )
        told = str(caught.value) + text.replace(url, "").partition("Traceback")[0]
        assert source in told
        assert "heim" not in told
        assert "name:" not in told
        assert caught.value.__cause__ is None


def test_credentials_show_nowhere() -> None:
    proxy = find_proxy(HOST, f"http://name:{SECRET}%40@proxy:3128")
    assert proxy is not None
    assert (proxy.username, proxy.password) == ("name", f"{SECRET}@")
    assert str(proxy) == "http://proxy:3128"
    for text in (repr(proxy), f"{proxy}", repr([proxy])):
        assert SECRET not in text
        assert "name" not in text.replace("username", "")


# --- Through it -----------------------------------------------------------------------------------


async def reach(host: Any, certs: Certificates, proxy: Proxy | None, timeout: float = 10.0) -> None:
    """A session through the proxy, on which a PING comes back."""
    session = await dial(parse_host_url(host.url), TlsFiles(ca_file=certs.ca), proxy=proxy, timeout=timeout)
    await session.ping()
    await session.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [http_proxy, socks5_proxy])
@pytest.mark.parametrize("pieces", [False, True])
async def test_through_a_proxy(certs: Certificates, make: ProxyMaker, pieces: bool) -> None:
    async with make(pieces=pieces) as proxy, scripted_host(certs) as host:
        await reach(host, certs, find_proxy(HOST, proxy.url))
        assert proxy.targets == [f"localhost:{host.port}"]
        assert proxy.credentials_seen in ([], [None])


@pytest.mark.parametrize("make", [http_proxy, socks5_proxy])
async def test_through_a_proxy_with_a_password(certs: Certificates, make: ProxyMaker) -> None:
    word = "ge:h/e@i m%"
    async with make(credentials=("name", word)) as proxy, scripted_host(certs) as host:
        await reach(host, certs, find_proxy(HOST, proxy.url_with("name", word)))
        assert proxy.credentials_seen == [("name", word)]


async def test_a_password_beyond_ascii_is_utf8(certs: Certificates) -> None:
    async with http_proxy(credentials=("näme", "€")) as proxy, scripted_host(certs) as host:
        await reach(host, certs, find_proxy(HOST, proxy.url_with("näme", "€")))


async def test_who_looks_up_the_name(certs: Certificates) -> None:
    """As for curl: with socks5 this machine, with socks5h the proxy."""
    async with socks5_proxy() as proxy, scripted_host(certs) as host:
        await reach(host, certs, find_proxy(HOST, proxy.url.replace("socks5h", "socks5")))
        assert proxy.targets == [f"127.0.0.1:{host.port}"]


async def test_a_proxy_with_a_name_of_several_addresses(certs: Certificates) -> None:
    async with socks5_proxy() as socks, http_proxy() as http, scripted_host(certs) as host:
        for proxy in (socks, http):
            await reach(host, certs, find_proxy(HOST, proxy.url.replace("127.0.0.1", "localhost")))


async def failure(host: Any, certs: Certificates, url: str, **environ: str) -> VerserConnectionError:
    proxy = find_proxy(HOST, None, environ) if environ else find_proxy(HOST, url)
    with pytest.raises(VerserConnectionError) as caught:
        await reach(host, certs, proxy)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown
    assert caught.value.reason is ConnectFailure.UNREACHABLE
    assert caught.value.code == "disconnected-target"
    assert caught.value.context == {"host": host.url, "proxy": str(proxy)}
    assert f"localhost:{host.port}" in caught.value.message
    assert str(proxy) in caught.value.message
    return caught.value


async def test_a_proxy_that_wants_a_password(certs: Certificates) -> None:
    async with http_proxy(credentials=("name", SECRET)) as proxy, scripted_host(certs) as host:
        error = await failure(host, certs, proxy.url)
        assert "wants a user name and a password (407)" in error.message
        error = await failure(host, certs, proxy.url_with("name", SECRET + "?"))
        assert "does not accept the user name and the password (407)" in error.message
        error = await failure(host, certs, "", HTTPS_PROXY=proxy.url)
        assert error.message.endswith("It comes from HTTPS_PROXY in the environment.")


async def test_a_socks_proxy_that_wants_a_password(certs: Certificates) -> None:
    async with socks5_proxy(credentials=("name", SECRET)) as proxy, scripted_host(certs) as host:
        for url in (proxy.url, proxy.url_with("name", SECRET + "?")):
            assert "the user name and the password" in (await failure(host, certs, url)).message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("HTTP/1.1 403 Forbidden", "did not connect: it answered 403 Forbidden."),
        ("HTTP/1.0 502 \x1b[31mred", r"it answered 502 \x1b[31mred."),
        ("HTTP/1.1 503", "it answered 503."),
        ("SSH-2.0-OpenSSH", "did not answer as HTTP proxies do"),
        ("HTTP/1.1 2000 OK", "did not answer as HTTP proxies do"),
        ("HTTP/1.1 200 " + "x" * 70_000, "did not answer as HTTP proxies do"),
    ],
)
async def test_a_proxy_that_refuses(certs: Certificates, line: str, told: str) -> None:
    async with http_proxy(refusal=line) as proxy, scripted_host(certs) as host:
        assert told in (await failure(host, certs, proxy.url)).message


@pytest.mark.parametrize(("code", "told"), [(2, "not allowed"), (4, "host unreachable"), (5, "refused")])
async def test_a_socks_proxy_that_refuses(certs: Certificates, code: int, told: str) -> None:
    async with socks5_proxy(refusal=code) as proxy, scripted_host(certs) as host:
        assert told in (await failure(host, certs, proxy.url)).message


def no_such_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is the edge of the machine: it knows nothing of .invalid, and says so at once."""
    loop = asyncio.get_running_loop()
    plain = loop.getaddrinfo

    async def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await plain(host, *args, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_a_proxy_that_is_not_there(
    certs: Certificates, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_such_names(monkeypatch)
    async with http_proxy() as proxy:
        port = proxy.port
    async with scripted_host(certs) as host:
        error = await failure(host, certs, f"{scheme}://name:{SECRET}@127.0.0.1:{port}")
        assert "cannot be reached: connect" in error.message.lower()
        assert "Is the proxy running" in error.message
        error = await failure(host, certs, f"{scheme}://name:{SECRET}@no-such-host.invalid:{port}")
        assert "cannot be reached: " in error.message


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_something_else_than_a_proxy(certs: Certificates, scheme: str) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server, scripted_host(certs) as host:
        port = server.sockets[0].getsockname()[1]
        error = await failure(host, certs, f"{scheme}://name:{SECRET}@127.0.0.1:{port}")
        assert "the Host running" not in error.message


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [http_proxy, socks5_proxy])
async def test_a_proxy_that_hangs(certs: Certificates, make: ProxyMaker) -> None:
    async with make(hang=True) as proxy, scripted_host(certs) as host:
        with pytest.raises(VerserConnectionError) as caught:
            await reach(host, certs, find_proxy(HOST, proxy.url), timeout=0.2)
        assert caught.value.reason is ConnectFailure.TIMEOUT
        assert f"does the proxy {proxy.url} lead to it" in caught.value.message


async def test_a_name_that_only_the_proxy_knows(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    no_such_names(monkeypatch)
    async with socks5_proxy() as proxy:
        found = find_proxy(HOST, proxy.url.replace("socks5h", "socks5"))
        with pytest.raises(VerserConnectionError, match="Write socks5h:// to have the proxy look it up"):
            await dial(
                parse_host_url("https://no-such-host.invalid:8443"), TlsFiles(ca_file=certs.ca), proxy=found
            )


async def test_the_host_behind_a_proxy_is_still_who_must_be_trusted(certs: Certificates) -> None:
    async with http_proxy() as proxy, scripted_host(certs) as host:
        with pytest.raises(VerserConnectionError) as caught:
            await dial(
                parse_host_url(host.url),
                TlsFiles(ca_file=certs.untrusted_ca),
                proxy=find_proxy(HOST, proxy.url),
            )
        assert caught.value.reason is ConnectFailure.TRUST


async def test_socks_without_python_socks(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("python_socks"):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VerserConfigurationError, match=r"verser2-guest-python\[proxy\]"):
        await dial(HOST, TlsFiles(ca_file=certs.ca), proxy=find_proxy(HOST, "socks5h://proxy:1080"))

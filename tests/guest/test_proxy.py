"""A Guest that reaches its Host through a proxy."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.guest.guests import DOMAIN, Events, guest_at_scripted_host, hello, make_guest
from tests.host.peers import running_host
from tests.support.brokers import broker_at
from tests.support.certificates import Certificates
from tests.support.proxies import http_proxy, socks5_proxy
from verser2_guest_python import VerserConfigurationError, VerserConnectionError, VerserUsageError
from verser2_guest_python.errors import ConnectFailure

WORD = "geheim"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [http_proxy, socks5_proxy])
async def test_requests_through_a_proxy(
    certs: Certificates, make: type, caplog: pytest.LogCaptureFixture
) -> None:
    """The option; and again after a loss, as every session is dialled alike."""
    caplog.set_level(logging.DEBUG)
    async with make(credentials=("name", WORD)) as proxy, running_host(certs) as host:
        guest = make_guest(host, certs, hello, proxy=proxy.url_with("name", WORD))
        events = Events(guest)
        async with guest, broker_at(host, certs) as broker:
            await broker.wait_for_route(DOMAIN)
            assert await (await broker.get(f"http://{DOMAIN}/one")).read() == b"/one"
            guest.renew()
            await events.wait("registered", 2)
            assert await (await broker.get(f"http://{DOMAIN}/two")).read() == b"/two"
        assert proxy.targets == [f"127.0.0.1:{host.port}"] * 2
    told = caplog.text + str(events.all) + repr(guest._keepers.all[0]._hosts)
    assert WORD not in told


async def test_the_environment(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_proxy() as proxy, running_host(certs) as host:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with make_guest(host, certs, hello) as guest:
            assert guest.connected
        assert len(proxy.targets) == 1
        for name, value, options in (
            ("NO_PROXY", "localhost,127.0.0.1", {}),
            ("OTHER", "", {"proxy": ""}),
        ):
            monkeypatch.setenv(name, value)
            async with make_guest(host, certs, hello, **options) as guest:
                assert guest.connected
            monkeypatch.delenv(name)
        assert len(proxy.targets) == 1


async def test_a_proxy_that_is_not_there_is_an_unreachable_host(certs: Certificates) -> None:
    """Tried on by a daemon, told at once by `connect()`."""
    async with http_proxy() as proxy:
        url = proxy.url_with("name", WORD)
    async with running_host(certs) as host:
        guest = make_guest(host, certs, hello, proxy=url)
        with pytest.raises(VerserConnectionError) as caught:
            await guest.connect()
        assert caught.value.reason is ConnectFailure.UNREACHABLE
        assert f"the proxy {proxy.url} cannot be reached" in caught.value.message
        assert WORD not in str(caught.value) + repr(caught.value)
        await guest.close()


async def test_a_proxy_that_comes_back(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is wrong is no refusal of the Host: whoever runs the proxy may mend it."""
    async with http_proxy(credentials=("name", WORD)) as proxy, running_host(certs) as host:
        guest = make_guest(host, certs, hello, proxy=proxy.url_with("name", "wrong"))
        events = Events(guest)
        serving = asyncio.create_task(guest.serve_forever())
        reconnecting = await events.wait("reconnecting", 2)
        assert "(407)" in str(reconnecting.fields["reason"])
        proxy._credentials = ("name", "wrong")
        await events.wait("registered")
        await guest.close()
        await serving


def test_mistakes_are_told_at_once(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    host = type("Host", (), {"url": "https://localhost:1"})
    with pytest.raises(VerserUsageError, match="proxy URL"):
        make_guest(host, certs, hello, proxy="ftp://proxy")
    monkeypatch.setenv("ALL_PROXY", "ftp://proxy")
    with pytest.raises(VerserConfigurationError, match="ALL_PROXY"):
        make_guest(host, certs, hello)


async def test_without_a_proxy_nothing_is_asked(certs: Certificates) -> None:
    async with http_proxy() as proxy, guest_at_scripted_host(certs) as (_, guest):
        assert guest.connected
        assert proxy.targets == []

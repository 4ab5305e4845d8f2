"""Several Hosts: the first that answers is joined, and the next one when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.certificates import Certificates
from tests.support.proxies import http_proxy
from tests.support.scripted_host import ScriptedHost, scripted_host
from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    ConnectFailure,
    InvalidRegistrationError,
    VerserConnectionError,
    VerserError,
    VerserUsageError,
)
from verser2_guest_python.http2 import Session
from verser2_guest_python.peer import TlsFiles, dial
from verser2_guest_python.peer.address import HostAddress, parse_host_url
from verser2_guest_python.peer.hosts import Hosts, all_failed, is_final, parse_host_urls
from verser2_guest_python.peer.proxy import Proxy

URLS = ("https://one:1", "https://two:2", "https://three:3")
ONE, TWO, THREE = (parse_host_url(url) for url in URLS)
FOREVER = 3_600.0


class Network:
    """Hosts of which some answer. What is dialled and registered is remembered."""

    def __init__(self, answers: dict[HostAddress, Callable[[], Awaitable[Session]]]) -> None:
        self.dialled: list[HostAddress] = []
        self.registered: list[HostAddress] = []
        self.refusals: dict[HostAddress, VerserError] = {}
        self.proxies: list[Proxy | None] = []
        self._answers = answers

    async def dial(self, address: HostAddress, proxy: Proxy | None) -> Session:
        self.dialled.append(address)
        self.proxies.append(proxy)
        return await self._answers[address]()

    async def register(self, address: HostAddress, session: Session) -> tuple[HostAddress, Session]:
        self.registered.append(address)
        if address in self.refusals:
            await session.close()
            raise self.refusals[address]
        return address, session


async def never() -> Session:
    await asyncio.Event().wait()
    raise AssertionError


async def refused() -> Session:
    raise VerserConnectionError("Cannot reach it: connection refused.")


def answering(host: ScriptedHost, certs: Certificates) -> Callable[[], Awaitable[Session]]:
    async def answer() -> Session:
        return await dial(parse_host_url(host.url), TlsFiles(ca_file=certs.ca))

    return answer


async def join(hosts: Hosts, network: Network) -> HostAddress:
    address, session = await hosts.join(network.dial, network.register)
    await session.close()
    return address


def test_one_url_or_several() -> None:
    assert parse_host_urls("https://one:1") == (ONE,)
    assert parse_host_urls(URLS) == (ONE, TWO, THREE)
    assert parse_host_urls([*URLS, "https://one:1", "https://ONE:1/"]) == (ONE, TWO, THREE)
    with pytest.raises(VerserUsageError, match="no Host URL"):
        parse_host_urls([])
    with pytest.raises(VerserUsageError, match="http://two"):
        parse_host_urls(["https://one", "http://two"])


def test_the_order_begins_behind_what_was_lost() -> None:
    hosts = Hosts([ONE, TWO, THREE])
    assert hosts.order() == (ONE, TWO, THREE)
    hosts.lost(ONE)
    assert hosts.order() == (TWO, THREE, ONE)
    hosts.lost(THREE)
    assert hosts.order() == (ONE, TWO, THREE)
    alone = Hosts([ONE])
    alone.lost(ONE)
    assert alone.order() == (ONE,)


@pytest.mark.both_loops
async def test_the_first_that_answers_is_joined(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        network = Network({ONE: refused, TWO: answering(host, certs), THREE: answering(host, certs)})
        hosts = Hosts([ONE, TWO, THREE], head_start=FOREVER)
        assert await join(hosts, network) == TWO
        assert network.dialled == [ONE, TWO]
        assert hosts.order() == (TWO, THREE, ONE)  # a renewal stays where it is
        hosts.lost(TWO)
        assert await join(hosts, network) == THREE


async def test_a_host_that_hangs_holds_up_nobody(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        network = Network({ONE: never, TWO: never, THREE: answering(host, certs)})
        assert await join(Hosts([ONE, TWO, THREE], head_start=0.01), network) == THREE
        assert network.dialled == [ONE, TWO, THREE]


async def test_only_one_is_registered_at_and_the_others_are_closed(certs: Certificates) -> None:
    async with scripted_host(certs) as one, scripted_host(certs) as two:
        network = Network({ONE: answering(one, certs), TWO: answering(two, certs)})
        slow = asyncio.Event()

        async def register(address: HostAddress, session: Session) -> tuple[HostAddress, Session]:
            while not two.sessions or not two.sessions[0].settings_seen:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            slow.set()
            return await network.register(address, session)

        hosts = Hosts([ONE, TWO], head_start=0.0)
        address, session = await hosts.join(network.dial, register)
        assert network.registered == [address]
        other = two if address == ONE else one
        await other.sessions[0].wait_lost()
        await session.close()


async def test_a_host_that_refuses_is_passed_over(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        network = Network({ONE: answering(host, certs), TWO: answering(host, certs)})
        network.refusals[ONE] = InvalidRegistrationError("Peer is already registered")
        assert await join(Hosts([ONE, TWO]), network) == TWO
        assert network.registered == [ONE, TWO]


async def test_when_none_can_be_joined_the_error_tells_of_each(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        network = Network({ONE: answering(host, certs), TWO: refused})
        network.refusals[ONE] = AuthorizationDeniedError("not you")
        with pytest.raises(VerserConnectionError) as caught:
            await join(Hosts([ONE, TWO]), network)
        assert caught.value.reason is ConnectFailure.UNREACHABLE  # what may pass by itself goes first
        assert caught.value.message == str(caught.value)
        assert "None of the 2 Hosts can be joined. not you Cannot reach it" in caught.value.message


async def test_cancelling_leaves_nothing_behind(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        network = Network({ONE: answering(host, certs), TWO: never})

        async def register(_address: HostAddress, session: Session) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await session.close()

        task = asyncio.create_task(Hosts([ONE, TWO], head_start=0.0).join(network.dial, register))
        while not host.sessions:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await host.session.wait_lost()


async def test_each_host_has_its_own_way(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_proxy() as proxy:
        for name in ("https_proxy", "all_proxy", "ALL_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "two")
        network = Network({ONE: refused, TWO: refused})
        with pytest.raises(VerserConnectionError):
            await join(Hosts([ONE, TWO]), network)
        assert [str(one) for one in network.proxies] == [proxy.url, "None"]


def test_one_error_stays_what_it_is() -> None:
    one = AuthorizationDeniedError("not you")
    assert all_failed([one]) is one
    other = AuthorizationDeniedError("nor you", context={"peerId": "a"})
    both = all_failed([one, other])
    assert isinstance(both, AuthorizationDeniedError)
    assert is_final(both)
    assert both.code == "authorization-denied"
    assert both.__cause__ is one

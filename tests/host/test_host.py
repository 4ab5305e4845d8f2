"""A Host as a library object: starting, closing, what is wrong in words, what can be seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

import verser2_guest_python
from tests.host.peers import WAIT_SECONDS, Broker, Guest, Peer, Watcher, failed, running_host
from tests.host.test_streaming import active
from tests.support.certificates import Certificates
from verser2_guest_python import (
    VerserConfigurationError,
    VerserConnectionError,
    VerserUsageError,
    create_verser_broker,
    create_verser_host,
)
from verser2_guest_python.host import Applicant, Authorization, HostEvent, RequestRecord
from verser2_guest_python.http2 import ErrorCode


@pytest.mark.both_loops
async def test_a_host_starts_on_a_free_port_and_closes(certs: Certificates) -> None:
    host = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)
    with pytest.raises(VerserUsageError, match="not been started"):
        assert host.port
    assert host.get_routes() == []
    assert host.get_stats().sessions == 0
    await host.close()  # nothing to do
    async with host:
        assert host.port > 0
        assert host.url == f"https://127.0.0.1:{host.port}"
        watcher = Watcher(host)
        async with Guest(host, certs):
            assert host.get_stats().guests == 1
        await watcher.wait("disconnected", peer="guest-a")
        with pytest.raises(VerserUsageError, match="started before"):
            await host.start()
    await host.close()  # again
    with pytest.raises(VerserUsageError, match="started before"):
        await host.start()


async def test_a_pkcs12_identity(certs: Certificates) -> None:
    host = create_verser_host(tls_pfx_file=certs.host_pfx, tls_pfx_password=certs.password)
    assert repr(host) == "<VerserHost, not started>"
    async with host, Guest(host, certs):
        assert repr(host) == f"<VerserHost at {host.url}, listening>"
    assert repr(host).endswith("closed>")
    assert certs.password not in repr(host._files)


async def test_the_public_name_is_this_host() -> None:
    assert verser2_guest_python.create_verser_host is create_verser_host
    assert verser2_guest_python.VerserHost.__module__ == "verser2_guest_python.host.host"


async def test_all_addresses(certs: Certificates) -> None:
    async with running_host(certs, address="0.0.0.0") as host, Guest(host, certs):  # noqa: S104
        assert host.url == f"https://localhost:{host.port}"


async def test_what_is_wrong_with_files_is_said_at_the_start(certs: Certificates, tmp_path: Path) -> None:
    missing = create_verser_host(tls_cert_file=tmp_path / "none.pem", tls_key_file=certs.host_key)
    with pytest.raises(VerserConfigurationError, match=r"none\.pem"):
        await missing.start()
    with pytest.raises(VerserConfigurationError, match="needs a certificate"):
        await create_verser_host().start()
    mismatch = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.guest_key)
    with pytest.raises(VerserConfigurationError):
        await mismatch.start()


async def test_a_port_that_is_taken(certs: Certificates) -> None:
    async with running_host(certs) as host:
        second = create_verser_host(port=host.port, tls_cert_file=certs.host, tls_key_file=certs.host_key)
        with pytest.raises(VerserConfigurationError, match=f"port {host.port}: .* in use"):
            await second.start()
        await second.close()


@pytest.mark.parametrize(
    "options", [{"port": -1}, {"port": 65_536}, {"lease_timeout": -1}, {"degraded_timeout": float("nan")}]
)
def test_values_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(VerserUsageError):
        create_verser_host(**options)  # type: ignore[arg-type]


@pytest.mark.both_loops
async def test_close_lets_requests_finish(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        head = await lease.request()
        closing = asyncio.create_task(host.close())
        async with asyncio.timeout(WAIT_SECONDS):
            while not broker.session.closing:  # noqa: ASYNC110 - until GOAWAY is there
                await asyncio.sleep(0.005)
        assert not closing.done()
        await lease.answer(head, 200, {}, b"finished")
        assert (await broker.answer(stream)).body == b"finished"
        async with asyncio.timeout(WAIT_SECONDS):
            await closing
            await guest.session.wait_lost()
        assert host.get_stats().sessions == 0


async def test_close_cuts_off_what_takes_too_long(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        broker.request()
        await lease.request()
        watcher = Watcher(host)
        async with asyncio.timeout(WAIT_SECONDS):
            await host.close(timeout=0.05)
            await broker.session.wait_lost()
        assert watcher.find("cut-off", requests=1) is not None
        assert watcher.find("closed") is not None


async def test_serve_forever_ends_with_the_host(certs: Certificates) -> None:
    host = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)
    watcher = Watcher(host)
    serving = asyncio.create_task(host.serve_forever())
    await watcher.wait("listening")
    await host.close()
    async with asyncio.timeout(WAIT_SECONDS):
        await serving


async def test_serve_forever_cancelled_closes_the_host(certs: Certificates) -> None:
    host = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key)
    watcher = Watcher(host)
    serving = asyncio.create_task(host.serve_forever())
    await watcher.wait("listening")
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert watcher.find("closed") is not None


async def test_a_handshake_that_fails_is_told(certs: Certificates) -> None:
    async with running_host(certs) as host:
        watcher = Watcher(host)
        for words, reason in (
            (b"GET / HTTP/1.1\r\n\r\n", "the client does not speak TLS"),
            (b"", "the client is gone: it closed the connection during the TLS handshake"),
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", host.port)
            writer.write(words)
            writer.close()
            await writer.wait_closed()
            event = await watcher.wait("handshake-failed", reason=reason)
            assert str(event.fields["address"]).startswith("127.0.0.1:")


async def test_who_does_not_trust_the_host_is_told(certs: Certificates) -> None:
    async with running_host(certs) as host:
        watcher = Watcher(host)
        with pytest.raises(VerserConnectionError):
            await create_verser_broker(host_url=host.url, tls_ca_file=certs.untrusted_ca).connect()
        reason = "the client does not trust the certificate here: unknown ca"
        await watcher.wait("handshake-failed", reason=reason)


async def test_who_offers_no_http2_is_told(certs: Certificates) -> None:
    async with running_host(certs) as host:
        watcher = Watcher(host)
        browser = ssl.create_default_context(cafile=certs.ca)
        browser.set_alpn_protocols(["http/1.1"])
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            _, writer = await asyncio.open_connection("localhost", host.port, ssl=browser)
            writer.close()
            await writer.wait_closed()
        await watcher.wait("handshake-failed", reason="the client does not offer HTTP/2 (h2 in TLS ALPN)")


async def test_a_listener_that_fails_harms_nobody(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_host(certs) as host:
        seen: list[HostEvent] = []

        def broken(event: HostEvent | RequestRecord) -> None:
            raise ZeroDivisionError

        host.on_lifecycle(broken)
        host.on_lifecycle(seen.append)
        host.on_request(broken)
        async with Guest(host, certs) as guest, Broker(host, certs) as broker:
            lease = await guest.lease()
            stream = broker.request()
            await lease.answer(await lease.request())
            assert (await broker.answer(stream)).status == 200
            await active(host, 0)
        assert "registered" in [event.name for event in seen]
        assert "A listener of the Host failed" in caplog.text


class Broken(Authorization):
    """A policy with a fault."""

    def refuse_registration(self, applicant: Applicant) -> str | None:
        return None if applicant.peer_id != "unlucky" else str(1 / 0)

    def refuse_request(self, broker_id: str, target_id: str, domain: str, method: str) -> str | None:
        return None if method != "PATCH" else str(1 / 0)


async def test_a_policy_with_a_fault_lets_nobody_in_and_leaves_nobody_waiting(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[object] = []
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    async with (
        running_host(certs, authorization=Broken()) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
        Peer(host, certs) as peer,
    ):
        watcher = Watcher(host)
        stream = peer.open("/verser/register")
        await stream.write(b'{"peerId":"unlucky","role":"broker"}', end=True)
        assert await failed(stream) == ErrorCode.INTERNAL_ERROR
        await watcher.wait("internal-error", reason="division by zero")
        assert "division by zero" in caplog.text
        assert await failed(broker.request("PATCH")) == ErrorCode.INTERNAL_ERROR
        assert [type(report) for report in reports] == [ZeroDivisionError]
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request())
        assert (await broker.answer(stream)).status == 200
    loop.set_exception_handler(usual)


async def test_garbage_on_a_session_harms_that_session_alone(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Peer(host, certs) as hostile:
        for number in range(50):
            stream = hostile.open("/verser/register", {"x-number": str(number)})
            await stream.write(b"\x00\xff" * number, end=number % 2 == 0)
        await hostile.session.ping()
        await guest.session.ping()
        assert guest.session.lost is None

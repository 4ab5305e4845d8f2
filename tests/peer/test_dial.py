"""Dialling a Host and one JSON exchange, and what is said when they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.scripted_host import answer, raw_reset, read_all, scripted_host, send_head
from verser2_guest_python import (
    DisconnectedTargetError,
    RequestTimeoutError,
    StreamFailureError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserProtocolError,
)
from verser2_guest_python.errors import ConnectFailure
from verser2_guest_python.http2 import ErrorCode, StreamReset
from verser2_guest_python.peer import TlsFiles, dial, exchange, parse_host_url, peer_block

PATH = b"/verser/guest/revoke"


async def dialled(host: Any, certs: Certificates) -> tuple[Any, Any]:
    address = parse_host_url(host.url)
    return await dial(address, TlsFiles(ca_file=certs.ca)), peer_block(address, PATH)


@pytest.mark.both_loops
async def test_one_exchange(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        session, block = await dialled(host, certs)
        asking = asyncio.create_task(exchange(session, block, ((b"x-one", b"1"),), b"{}"))
        stream = await host.accept(PATH.decode())
        fields = dict(stream.fields)
        assert (fields[b":method"], fields[b":scheme"]) == (b"POST", b"https")
        assert fields[b":authority"] == f"localhost:{host.port}".encode()
        assert fields[b"x-one"] == b"1"
        assert await read_all(stream) == b"{}"
        await answer(stream, 404, {"content-type": "application/json"}, b'{"a":1}')
        assert await asking == (404, b'{"a":1}')
        assert session.open_streams == 0
        await session.close()


async def test_an_answer_that_is_cut_off(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        session, block = await dialled(host, certs)
        asking = asyncio.create_task(exchange(session, block, (), b"{}"))
        stream = await host.accept(PATH.decode())
        send_head(stream, 200)
        await stream.write(b"{")
        stream.reset(ErrorCode.INTERNAL_ERROR)
        with pytest.raises(StreamFailureError, match="INTERNAL_ERROR") as caught:
            await asking
        assert caught.value.context["http2Code"] == ErrorCode.INTERNAL_ERROR
        await session.close()


async def test_an_early_answer_counts_though_the_sending_was_stopped(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        session, block = await dialled(host, certs)
        asking = asyncio.create_task(exchange(session, block, (), b"x" * 4_000_000))
        stream = await host.accept(PATH.decode())
        await answer(stream, 400, (), b"too much")
        raw_reset(stream, ErrorCode.NO_ERROR)
        assert await asking == (400, b"too much")
        await session.close()


@pytest.mark.parametrize("way", ["timeout", "cancel"])
async def test_an_exchange_given_up_leaves_no_stream(certs: Certificates, way: str) -> None:
    async with scripted_host(certs) as host:
        session, block = await dialled(host, certs)
        asking = asyncio.create_task(
            exchange(session, block, (), b"{}", timeout=0.05 if way == "timeout" else 30)
        )
        stream = await host.accept(PATH.decode())
        if way == "cancel":
            asking.cancel()
        with pytest.raises(RequestTimeoutError if way == "timeout" else asyncio.CancelledError):
            await asking
        assert isinstance(await stream.wait_error(), StreamReset)
        assert session.open_streams == 0
        await session.close()


async def test_an_answer_without_end(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        session, block = await dialled(host, certs)
        asking = asyncio.create_task(exchange(session, block, (), b"{}"))
        stream = await host.accept(PATH.decode())
        send_head(stream, 200)
        writing = asyncio.create_task(stream.write(b"x" * 1_100_000))
        with pytest.raises(VerserProtocolError, match="larger"):
            await asking
        await asyncio.wait([writing])
        writing.exception()
        await session.close()


async def test_a_session_that_is_lost_or_closing(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        session, block = await dialled(host, certs)
        asking = asyncio.create_task(exchange(session, block, (), b"{}"))
        await host.accept(PATH.decode())
        host.session.abort("the test says so")
        with pytest.raises(DisconnectedTargetError, match="was lost"):
            await asking
        with pytest.raises(DisconnectedTargetError, match="was lost"):
            await exchange(session, block, (), b"{}")
        session, block = await dialled(host, certs)
        host.session.goaway()
        await host.session.ping()
        with pytest.raises(DisconnectedTargetError, match="closing"):
            await exchange(session, block, (), b"{}")
        await session.close()


async def test_why_there_was_no_session(certs: Certificates) -> None:
    async with scripted_host(certs) as host:
        address = parse_host_url(host.url)
        with pytest.raises(VerserConnectionError, match=r"Name the CA that signed .*tls_ca_file") as caught:
            await dial(address, TlsFiles(ca_file=certs.untrusted_ca))
        assert caught.value.reason is ConnectFailure.TRUST
        assert caught.value.context["host"] == host.url
    with pytest.raises(VerserConnectionError, match="Is the Host running") as caught:
        await dial(address, TlsFiles(ca_file=certs.ca))
    assert caught.value.reason is ConnectFailure.UNREACHABLE


@pytest.mark.parametrize(
    ("identity", "words"), [("other_name", "Call the Host by a name"), ("expired", "Renew the Host's")]
)
async def test_a_certificate_that_does_not_hold_is_told_with_its_remedy(
    certs: Certificates, identity: str, words: str
) -> None:
    async with scripted_host(certs, identity=identity) as host:
        with pytest.raises(VerserConnectionError, match=words) as caught:
            await dial(parse_host_url(host.url), TlsFiles(ca_file=certs.ca))
        assert caught.value.reason is ConnectFailure.TRUST


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (None, "Give one "),
        ("untrusted", "Give one of the CA that the Host trusts "),
        ("expired", "Renew it "),
    ],
)
async def test_a_client_certificate_that_is_refused_is_told_with_its_remedy(
    certs: Certificates, identity: str | None, words: str
) -> None:
    async with scripted_host(certs, client_ca=certs.ca) as host:
        files = TlsFiles(ca_file=certs.ca)
        if identity is not None:
            own = {"cert_file": getattr(certs, identity), "key_file": getattr(certs, f"{identity}_key")}
            files = TlsFiles(ca_file=certs.ca, **own)
        with pytest.raises(VerserConnectionError, match=rf"{words}\(tls_cert_file") as caught:
            await dial(parse_host_url(host.url), files)
        assert caught.value.reason is ConnectFailure.CERTIFICATE_REFUSED


async def test_a_port_that_never_answers(certs: Certificates) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(VerserConnectionError) as caught:
            await dial(parse_host_url(f"https://localhost:{port}"), TlsFiles(ca_file=certs.ca), timeout=0.1)
        assert caught.value.reason is ConnectFailure.TIMEOUT
        assert caught.value.code == "disconnected-target"


@pytest.mark.parametrize(
    "files",
    [
        lambda certs: TlsFiles(ca_file=certs.directory / "nowhere.pem"),
        lambda certs: TlsFiles(ca_file=certs.host_key),
        lambda certs: TlsFiles(cert_file=certs.guest, key_file=certs.broker_key),
        lambda certs: TlsFiles(cert_file=certs.guest, key_file=certs.guest_encrypted_key),
        lambda certs: TlsFiles(cert_file=certs.guest, key_file=certs.guest_encrypted_key, key_password="no"),
        lambda certs: TlsFiles(pfx_file=certs.guest_pfx, pfx_password="no"),
        lambda certs: TlsFiles(pfx_file=certs.guest_pfx, cert_file=certs.guest),
        lambda certs: TlsFiles(key_file=certs.guest_key),
    ],
)
def test_tls_files_that_cannot_be_used(certs: Certificates, files: Any) -> None:
    with pytest.raises(VerserConfigurationError):
        files(certs).context()


def test_tls_files_are_read_anew(certs: Certificates, tmp_path: Any) -> None:
    path = tmp_path / "ca.pem"
    files = TlsFiles(ca_file=path)
    with pytest.raises(VerserConfigurationError, match=r"ca\.pem"):
        files.context()
    path.write_bytes(certs.ca.read_bytes())
    assert files.context().get_ca_certs()


def test_passwords_do_not_show() -> None:
    assert "geheim" not in repr(TlsFiles(key_password="geheim", pfx_password="geheim"))

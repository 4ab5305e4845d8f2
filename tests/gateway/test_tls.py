"""https and wss in front: the same as without, and an answer is read although the client still sends."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect

from tests.gateway.gateways import gateway_at
from tests.gateway.raw import Raw
from tests.integrations.apps import BLOCK
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import LOCAL_NAMES, Certificates
from tests.support.waiting import until
from verser2_guest_python import VerserConfigurationError
from verser2_guest_python.service.gateway_server.server import GatewayServer
from verser2_guest_python.service.gateway_server.tls import PublicTls


@pytest.mark.both_loops
async def test_https_and_wss(certs: Certificates) -> None:
    trust = ssl.create_default_context(cafile=certs.ca)
    server = {"tls": PublicTls(certs.host, certs.host_key)}
    async with gateway_at(certs, server=server, maps={"localhost": DOMAIN}) as place:
        assert place.server.url.startswith("https://")
        async with place.client("localhost", verify=trust) as client:
            said = (await client.post("/describe/", content=b"hello")).json()
            assert (said["headers"]["x-forwarded-proto"], said["text"]) == ("https", "hello")
            assert (await client.post("/count", content=BLOCK * 40)).text == str(40 * len(BLOCK))
        url = f"wss://localhost:{place.port}/talk"
        async with connect(url, ssl=trust, proxy=None) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
        reader, writer = await asyncio.open_connection("localhost", place.port, ssl=trust)
        raw = Raw(reader, writer)
        raw.say(b"POST /refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + BLOCK)
        assert (await raw.head())[0] == 413
        raw.say(BLOCK * 10)
        assert await reader.readexactly(8) == b"too much"
        writer.transport.abort()
        reader, writer = await asyncio.open_connection("localhost", place.port, ssl=trust)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: "waiting" in place.diary.events)
        writer.transport.abort()
        await until(lambda: "disconnected" in place.diary.events)
        await until(lambda: place.diary.active == 0 and place.gateway.active == 0)


@pytest.mark.parametrize("wrong", ["certificate", "key", "pair"])
async def test_files_that_cannot_be_used(certs: Certificates, tmp_path: Path, wrong: str) -> None:
    nothing = tmp_path / "nothing.pem"
    files = {
        "certificate": PublicTls(nothing, certs.host_key),
        "key": PublicTls(certs.host, nothing),
        "pair": PublicTls(certs.host, certs.guest_key),
    }
    with pytest.raises(VerserConfigurationError, match=r"https cannot be used: .*\.pem"):
        async with GatewayServer(_nothing, listen="127.0.0.1:0", tls=files[wrong]):
            pass


def rsa_pair() -> tuple[bytes, bytes]:
    """Certificate and key of another kind than those of the other tests."""
    key = rsa.generate_private_key(65_537, 2_048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(LOCAL_NAMES), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), pem


@pytest.mark.both_loops
async def test_a_renewed_certificate_is_for_new_connections(certs: Certificates, tmp_path: Path) -> None:
    """Of another kind of key too; a file that cannot be used changes nothing."""
    cert, key = tmp_path / "public.pem", tmp_path / "public-key.pem"
    old, old_key = rsa_pair()
    cert.write_bytes(old)
    key.write_bytes(old_key)
    both = ssl.create_default_context(cadata=old.decode())
    both.load_verify_locations(certs.ca)
    server = {"tls": PublicTls(cert, key)}

    async def shown() -> str:
        _, writer = await asyncio.open_connection("localhost", place.port, ssl=both)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return ssl.DER_cert_to_PEM_cert(found)

    async with (
        gateway_at(certs, server=server, maps={"localhost": DOMAIN}) as place,
        place.client("localhost", verify=both) as client,
        connect(f"wss://localhost:{place.port}/talk", ssl=both, proxy=None) as socket,
    ):
        assert (await client.get("/")).status_code == 200
        assert await shown() == old.decode()
        cert.write_bytes(certs.host.read_bytes())  # and not its key yet
        with pytest.raises(VerserConfigurationError, match=r"public-key\.pem: .*does not match"):
            place.server.reload_certificate()
        assert await shown() == old.decode()
        key.write_bytes(certs.host_key.read_bytes())
        place.server.reload_certificate()
        assert await shown() == certs.host.read_text()
        await socket.send("hello")
        assert await socket.recv() == "hello"
        trust = ssl.create_default_context(cafile=certs.ca)
        async with place.client("localhost", verify=trust) as other:
            assert (await other.get("/")).status_code == 200
        key.unlink()
        with pytest.raises(VerserConfigurationError, match="no such file"):
            place.server.reload_certificate()
        assert await shown() == certs.host.read_text()


async def test_without_https_there_is_nothing_to_renew(certs: Certificates) -> None:
    async with gateway_at(certs) as place:
        place.server.reload_certificate()


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("it is never asked")

"""`--tls-reload-interval`: renewed certificates are used by themselves, also when Kubernetes swaps them."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import pytest

from tests.cli.processes import start
from tests.service.conftest import Place, registered
from tests.support.certificates import LOCAL_NAMES, Certificates, Identity, make_identity
from verser2_guest_python.service.certificates.watch import CertificateWatch

OFTEN = ("--tls-reload-interval", "0.05")


def replace(file: Path, content: bytes) -> None:
    """As a careful program does it."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


def test_a_change_counts_once_it_has_come_to_rest(tmp_path: Path) -> None:
    cert, key = tmp_path / "a.pem", tmp_path / "a-key.pem"
    for file in (cert, key):
        file.write_bytes(b"1")
    watch = CertificateWatch([cert, key])
    assert watch.changed() == ()
    replace(cert, b"22")
    assert watch.changed() == (), "the key may be about to follow"
    replace(key, b"22")
    assert watch.changed() == ()
    assert watch.changed() == (cert, key)
    assert watch.changed() == ()
    cert.unlink()
    assert [watch.changed() for _ in range(3)] == [()] * 3, "a file that is gone is no certificate"
    cert.write_bytes(b"333")
    assert [watch.changed() for _ in range(3)] == [(), (cert,), ()]


def test_a_swap_of_the_directory_behind_a_link_is_a_change(tmp_path: Path) -> None:
    """A Secret's volume: `tls.crt` points into `..data`, which points to a new directory."""
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_bytes(b"same size")
    data, shown = tmp_path / "..data", tmp_path / "tls.crt"
    data.symlink_to("..1")
    shown.symlink_to("..data/tls.crt")
    watch = CertificateWatch([shown])
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").replace(data)
    assert [watch.changed() for _ in range(3)] == [(), (shown,), ()]


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)], ids=["alone", "workers"]
)
async def test_a_guest_moves_to_new_sessions(place: Place, tmp_path: Path, workers: tuple[str, ...]) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(place.ca_file.read_bytes())
    arguments = [str(ca) if one == place.ca_file else one for one in place.arguments("kept")]
    names = ["kept-1", "kept-2"] if workers else ["kept"]
    with start(*arguments, *OFTEN, *workers, env=place.env()) as process:
        await registered(process, *names)
        replace(ca, place.ca_file.read_bytes() + b"\n")
        process.says('"certificates changed"', '"files":"ca.pem"')
        await registered(process, *(f"{name}~2" for name in names))
        assert process.stop() == 0


def test_a_host_shows_its_new_certificate(certs: Certificates, tmp_path: Path) -> None:
    cert, key = tmp_path / "host.pem", tmp_path / "host-key.pem"
    cert.write_bytes(certs.host.read_bytes())
    key.write_bytes(certs.host_key.read_bytes())
    key.chmod(0o600)
    new = make_identity("localhost")
    arguments = ("--port", "0", "--tls-cert-file", cert, "--tls-key-file", key, *OFTEN)
    with start("host", *arguments, "--log-format", "logfmt") as host:
        port = int(host.says("listening").partition("port=")[2].split()[0])
        replace(key, new.key_pem())
        key.chmod(0o600)
        replace(cert, new.certificate_pem)
        host.says("certificates reloaded")
        # Had it looked between the two, it would have said so, and looked again
        assert ssl.get_server_certificate(("127.0.0.1", port)) == new.certificate_pem.decode()
        assert host.stop() == 0


async def test_a_gateway_shows_its_new_certificate(place: Place, certs: Certificates, tmp_path: Path) -> None:
    """At a signal and by looking; the key that is missing is told, and the old pair serves on meanwhile."""
    cert, key = tmp_path / "public.pem", tmp_path / "public-key.pem"

    def put(identity: Identity) -> None:
        replace(key, identity.key_pem())
        key.chmod(0o600)
        replace(cert, identity.certificate_pem)

    first, second, third = (make_identity("localhost", names=LOCAL_NAMES) for _ in range(3))
    put(first)
    trust = ssl.create_default_context(cafile=cert)
    listen = ("gateway", "--listen", "127.0.0.1:0", "--ssl-certfile", cert, "--ssl-keyfile", key)
    with start(*listen, *place.peer, "--map", "localhost=nobody.test") as gateway:
        port = int(gateway.says('"listening"').partition("https://127.0.0.1:")[2].partition('"')[0])
        gateway.says('"registered"')
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
        replace(cert, second.certificate_pem)
        gateway.send(signal.SIGHUP)
        gateway.says('"certificates not reloaded"', '"level":"error"', "public-key.pem", "does not match")
        assert ssl.get_server_certificate(("127.0.0.1", port)) == first.certificate_pem.decode()
        put(second)
        gateway.send(signal.SIGHUP)
        gateway.says('"certificates reloaded"')
        assert ssl.get_server_certificate(("127.0.0.1", port)) == second.certificate_pem.decode()
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        assert gateway.stop() == 0
    with start(*listen, *place.peer, *OFTEN) as gateway:
        port = int(gateway.says('"listening"').partition("https://127.0.0.1:")[2].partition('"')[0])
        put(third)
        gateway.says('"certificates reloaded"')
        # Had it looked between the two, it would have said so, and looked again
        assert ssl.get_server_certificate(("127.0.0.1", port)) == third.certificate_pem.decode()
        assert gateway.stop() == 0

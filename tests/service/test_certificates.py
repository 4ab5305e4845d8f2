"""Certificates for development: trusted by each other, private, renewed in time, safe at the same time."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.certificates.development import CertificateSet, development_certificates
from verser2_guest_python.service.process.state_directory import state_directory


def common_name(path: Path) -> object:
    (attribute,) = x509.load_pem_x509_certificate(path.read_bytes()).subject
    return attribute.value


def test_a_set_is_made_once_and_kept(tmp_path: Path) -> None:
    made = development_certificates(tmp_path)
    assert development_certificates(tmp_path) == made
    assert [common_name(made.host.cert_file), common_name(made.guest.cert_file)] == ["localhost", "guest"]


def test_nobody_else_can_read_it_and_the_authority_s_key_is_not_kept(tmp_path: Path) -> None:
    made = development_certificates(tmp_path)
    files = sorted(made.directory.iterdir())
    assert [file.name for file in files] == [
        "broker-key.pem",
        "broker.pem",
        "ca.pem",
        "guest-key.pem",
        "guest.pem",
        "host-key.pem",
        "host.pem",
    ]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700


def handshake(made: CertificateSet, name: str, server_name: str) -> None:
    """TLS in memory between the Host of a set and one of its peers, each checking the other."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.host.cert_file, made.host.key_file)
    server.load_verify_locations(made.ca_file)
    server.verify_mode = ssl.CERT_REQUIRED
    identity = getattr(made, name)
    client = ssl.create_default_context(cafile=str(made.ca_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(identity.cert_file, identity.key_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=server_name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(end.version() for end in ends)
    assert ends[1].getpeercert()


@pytest.mark.parametrize("name", ["guest", "broker"])
@pytest.mark.parametrize("server_name", ["localhost", "127.0.0.1", "::1"])
def test_host_and_peers_trust_each_other(tmp_path: Path, name: str, server_name: str) -> None:
    handshake(development_certificates(tmp_path), name, server_name)


def test_a_set_is_replaced_a_month_before_its_end_and_removed_after_it(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first = development_certificates(tmp_path, now=now)
    assert development_certificates(tmp_path, now=now + timedelta(days=334)) == first
    second = development_certificates(tmp_path, now=now + timedelta(days=336))
    assert second != first
    assert first.ca_file.exists()  # who runs with it still needs it
    third = development_certificates(tmp_path, now=now + timedelta(days=366))
    assert third == second
    assert not first.directory.exists()


def test_a_set_from_the_future_is_left_alone(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    future = development_certificates(tmp_path, now=now + timedelta(days=100))
    assert development_certificates(tmp_path, now=now) != future


@pytest.mark.parametrize("damage", ["cut", "gone", "swapped"])
def test_a_damaged_set_is_not_used(tmp_path: Path, damage: str) -> None:
    first = development_certificates(tmp_path)
    if damage == "cut":
        first.guest.key_file.write_bytes(first.guest.key_file.read_bytes()[:40])
    elif damage == "gone":
        first.ca_file.unlink()
    else:
        first.host.key_file.write_bytes(first.broker.key_file.read_bytes())
    assert development_certificates(tmp_path) != first


def test_several_may_start_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: development_certificates(tmp_path), range(4)))
    for made in sets:
        handshake(made, "guest", "localhost")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files")
def test_the_state_directory_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directory = state_directory("certificates")
    directory.parent.chmod(0o755)
    assert state_directory("certificates") == directory
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700


def test_a_state_directory_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(VerserConfigurationError, match="XDG_STATE_HOME"):
        state_directory("certificates")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_state_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    os.chown(state_directory("certificates"), 12345, 12345)
    with pytest.raises(VerserConfigurationError, match="another user"):
        state_directory("certificates")

"""The CN of a certificate, read without a library: the same as the library reads, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificates import Certificates, make_identity
from verser2_guest_python.peer.common_name import common_name


@pytest.mark.parametrize("name", ["guest-a", "x", "Jürgen Groß", "日本", "a" * 64])
def test_it_reads_what_the_library_reads(tmp_path: Path, name: str) -> None:
    names = (x509.DNSName("a.test"), x509.UniformResourceIdentifier("urn:" + "x" * 300))
    path = tmp_path / "cert.pem"
    path.write_bytes(b"some words before\n" + make_identity(name, names=names).certificate_pem)
    assert common_name(path) == name


def test_where_there_is_none(tmp_path: Path, certs: Certificates) -> None:
    path = tmp_path / "cert.pem"
    assert common_name(path) is None
    assert common_name(tmp_path) is None
    assert common_name(certs.guest_key) is None
    path.write_bytes(make_identity("").certificate_pem)
    assert common_name(path) is None


def test_a_damaged_certificate_is_no_trouble(tmp_path: Path, certs: Certificates) -> None:
    lines = certs.guest.read_text().splitlines()
    path = tmp_path / "cert.pem"
    for count in range(1, len(lines) - 1):
        path.write_text("\n".join([lines[0], *lines[1:count], lines[-1]]))
        assert common_name(path) in (None, "guest-a")
    path.write_text("\n".join([lines[0], "!" * 64, lines[-1]]))
    assert common_name(path) is None

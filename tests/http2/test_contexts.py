"""TLS contexts: what they insist on, and what they say about files that cannot be used."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Certificates, make_identity
from verser2_guest_python.http2.contexts import client_context, server_context
from verser2_guest_python.http2.credentials import credentials_warnings, memory_file
from verser2_guest_python.http2.errors import CredentialsError

NOBODY = 65534
ENTER = 0o011


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a TLS session in memory, after their handshake; raises what either of them raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    ends[1].write(b"hello")
    assert ends[0].read(5) == b"hello"  # under TLS 1.3 a refused client certificate shows here
    return ends[0], ends[1]


def host_context(certs: Certificates) -> ssl.SSLContext:
    return server_context(certs.host, certs.host_key)


def refusal(make: Callable[[], object]) -> CredentialsError:
    with pytest.raises(CredentialsError) as caught:
        make()
    return caught.value


# ---- What the contexts insist on ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_session_speaks_http2_over_tls_1_3(certs: Certificates, name: str) -> None:
    client, server = handshake(client_context(certs.ca), host_context(certs), name)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "h2"
    assert client.compression() is None


def test_tls_1_2_gets_a_cipher_that_http2_allows(certs: Certificates) -> None:
    client = client_context(certs.ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    session, _ = handshake(client, host_context(certs))
    cipher = session.cipher()
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-")
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_older_tls_is_refused(certs: Certificates) -> None:
    client = client_context(certs.ca)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        handshake(client, host_context(certs))


def test_renegotiation_and_compression_are_off(certs: Certificates) -> None:
    for context in (client_context(certs.ca), host_context(certs)):
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


def test_the_host_must_be_of_the_named_authority(certs: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(certs.untrusted_ca), host_context(certs))


def test_without_a_ca_file_the_system_decides(certs: Certificates) -> None:
    context = client_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, host_context(certs))


def test_with_a_ca_file_the_system_is_not_trusted(certs: Certificates) -> None:
    assert client_context(certs.ca).cert_store_stats()["x509"] == 1


def test_the_certificate_of_the_host_itself_may_be_the_ca_file(certs: Certificates) -> None:
    handshake(client_context(certs.host), host_context(certs))


@pytest.mark.parametrize("which", ["expired", "other_name"])
def test_an_expired_or_foreign_host_certificate_is_refused(certs: Certificates, which: str) -> None:
    server = server_context(getattr(certs, which), getattr(certs, f"{which}_key"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(certs.ca), server)


# ---- Identities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [
        lambda certs: {"cert_file": certs.guest, "key_file": certs.guest_key},
        lambda certs: {"cert_file": str(certs.guest), "key_file": str(certs.guest_key)},
        lambda certs: {
            "cert_file": certs.guest,
            "key_file": certs.guest_encrypted_key,
            "key_password": certs.password,
        },
        # a password that is not needed does no harm
        lambda certs: {"cert_file": certs.guest, "key_file": certs.guest_key, "key_password": "x"},
        lambda certs: {"pfx_file": certs.guest_pfx, "pfx_password": certs.password},
        lambda certs: {"pfx_file": certs.guest_pfx_no_password},
        lambda certs: {"pfx_file": certs.guest_pfx_no_password, "pfx_password": ""},
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_guest_presents_its_identity(
    certs: Certificates,
    identity: Callable[[Certificates], dict[str, str]],
    version: ssl.TLSVersion,
) -> None:
    server = server_context(
        certs.host, certs.host_key, client_ca_file=certs.ca, require_client_certificate=True
    )
    client = client_context(certs.ca, **identity(certs))
    client.maximum_version = version
    _, server_end = handshake(client, server)
    der = server_end.getpeercert(binary_form=True)
    assert der == x509.load_pem_x509_certificate(certs.guest.read_bytes()).public_bytes(Encoding.DER)


def test_certificate_and_key_may_share_a_file(certs: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certs.host_key.read_bytes() + certs.host.read_bytes())
    handshake(client_context(certs.ca), server_context(both))


def test_a_host_may_have_a_pkcs12_identity(certs: Certificates) -> None:
    server = server_context(pfx_file=certs.host_pfx, pfx_password=certs.password)
    handshake(client_context(certs.ca), server)


def test_the_chain_in_a_pkcs12_file_is_sent(certs: Certificates, tmp_path: Path) -> None:
    root = make_identity("root", authority=True)
    middle = make_identity("middle", root, authority=True)
    leaf = make_identity("localhost", middle, names=(x509.DNSName("localhost"),))
    (tmp_path / "root.pem").write_bytes(root.certificate_pem)
    (tmp_path / "host.p12").write_bytes(leaf.pkcs12("secret", middle))
    server = server_context(pfx_file=tmp_path / "host.p12", pfx_password="secret")
    handshake(client_context(tmp_path / "root.pem"), server)


def test_a_required_client_certificate_is_required(certs: Certificates) -> None:
    server = server_context(
        certs.host, certs.host_key, client_ca_file=certs.ca, require_client_certificate=True
    )
    with pytest.raises(ssl.SSLError):
        handshake(client_context(certs.ca), server)
    with pytest.raises(ssl.SSLError):
        handshake(client_context(certs.ca, certs.untrusted, certs.untrusted_key), server)


def test_an_optional_client_certificate_may_be_left_out_but_not_be_foreign(certs: Certificates) -> None:
    server = server_context(certs.host, certs.host_key, client_ca_file=certs.ca)
    _, end = handshake(client_context(certs.ca), server)
    assert end.getpeercert(binary_form=True) is None
    with pytest.raises(ssl.SSLError):
        handshake(client_context(certs.ca, certs.untrusted, certs.untrusted_key), server)


# ---- Files that cannot be used --------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        lambda certs, path: {"ca_file": path},
        lambda certs, path: {"cert_file": path, "key_file": certs.guest_key},
        lambda certs, path: {"cert_file": certs.guest, "key_file": path},
        lambda certs, path: {"pfx_file": path, "pfx_password": "x"},
    ],
    ids=["ca", "certificate", "key", "pfx"],
)
class TestAFileThat:
    Arguments = Callable[[Certificates, Path], dict[str, Path]]

    def test_is_missing(self, certs: Certificates, arguments: Arguments, tmp_path: Path) -> None:
        path = tmp_path / "missing.pem"
        error = refusal(lambda: client_context(**arguments(certs, path)))
        assert error.path == str(path)
        assert str(error) == f"{path}: there is no such file"

    def test_is_missing_where_the_process_runs(
        self, certs: Certificates, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        error = refusal(lambda: client_context(**arguments(certs, Path("missing.pem"))))
        assert str(error) == f"missing.pem: there is no such file in {tmp_path}"

    def test_is_a_directory(self, certs: Certificates, arguments: Arguments, tmp_path: Path) -> None:
        error = refusal(lambda: client_context(**arguments(certs, tmp_path)))
        assert str(error) == f"{tmp_path}: is a directory; name the file in it"

    def test_may_not_be_read(self, certs: Certificates, arguments: Arguments, tmp_path: Path) -> None:
        path = tmp_path / "secret.pem"
        path.write_bytes(b"")
        path.chmod(0)
        files = arguments(certs, path)
        with unprivileged(certs.directory, tmp_path):
            error = refusal(lambda: client_context(**files))
        assert error.path == str(path)
        assert "may not be read by the user that runs this process" in error.reason

    def test_is_empty(self, certs: Certificates, arguments: Arguments, tmp_path: Path) -> None:
        path = tmp_path / "empty.pem"
        path.write_bytes(b"\n")
        error = refusal(lambda: client_context(**arguments(certs, path)))
        assert error.path == str(path)
        assert error.reason.startswith(("is empty; it must hold", "is not a PKCS#12 file"))

    def test_is_something_else(self, certs: Certificates, arguments: Arguments, tmp_path: Path) -> None:
        path = tmp_path / "readme.txt"
        path.write_text("Certificates are in the other directory.\n")
        error = refusal(lambda: client_context(**arguments(certs, path)))
        assert error.path == str(path)
        assert error.reason.startswith(("is not PEM", "is not a PKCS#12 file"))

    def test_has_an_impossible_name(self, certs: Certificates, arguments: Arguments) -> None:
        error = refusal(lambda: client_context(**arguments(certs, Path("a\0b"))))
        assert "is not the name of a file" in error.reason


@contextmanager
def unprivileged(*directories: Path) -> Iterator[None]:
    """As a user for whom permissions count, who may enter these directories and all above them."""
    if os.geteuid() != 0:
        yield
        return
    opened = []
    for path in {above for directory in directories for above in (directory, *directory.parents)}:
        mode = path.stat().st_mode & 0o7777
        if mode & ENTER != ENTER:
            path.chmod(mode | ENTER)
            opened.append((path, mode))
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in opened:
            path.chmod(mode)


def test_a_binary_certificate_is_told_from_garbage(certs: Certificates, tmp_path: Path) -> None:
    der = tmp_path / "ca.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(certs.ca.read_text()))
    assert "openssl x509 -inform der" in refusal(lambda: client_context(der)).reason


def test_a_damaged_certificate_is_named(certs: Certificates, tmp_path: Path) -> None:
    lines = certs.ca.read_text().splitlines(keepends=True)
    damaged = tmp_path / "ca.pem"
    damaged.write_text("".join([lines[0], *lines[3:]]))
    error = refusal(lambda: client_context(damaged))
    assert error.path == str(damaged)
    assert error.reason.startswith("the certificate is damaged")
    error = refusal(lambda: client_context(certs.ca, damaged, certs.guest_key))
    assert error.path == str(damaged)
    assert error.reason.startswith("the certificate is damaged")


def test_a_damaged_key_is_named(certs: Certificates, tmp_path: Path) -> None:
    lines = certs.guest_key.read_text().splitlines(keepends=True)
    damaged = tmp_path / "key.pem"
    damaged.write_text("".join([lines[0], *lines[2:]]))
    error = refusal(lambda: client_context(certs.ca, certs.guest, damaged))
    assert error.path == str(damaged)
    assert error.reason.startswith("the private key is damaged")


def test_swapped_certificate_and_key(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, certs.guest_key, certs.guest))
    assert error.path == str(certs.guest_key)
    assert "swapped" in error.reason


def test_a_certificate_in_place_of_the_key(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, certs.guest, certs.guest))
    assert error.path == str(certs.guest)
    assert "no private key" in error.reason


def test_a_key_of_another_certificate(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, certs.guest, certs.broker_key))
    assert error.path == str(certs.broker_key)
    assert error.reason == f"the private key does not match the certificate in {certs.guest}"


def test_a_key_without_a_certificate(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, key_file=certs.guest_key))
    assert "name the certificate" in error.reason


def test_wrong_password_of_a_key(certs: Certificates) -> None:
    error = refusal(
        lambda: client_context(certs.ca, certs.guest, certs.guest_encrypted_key, certs.wrong_password)
    )
    assert error.path == str(certs.guest_encrypted_key)
    assert error.reason == "the password does not open the private key"
    assert certs.wrong_password not in str(error)


def test_wrong_password_of_a_pkcs12_file(certs: Certificates) -> None:
    error = refusal(
        lambda: client_context(certs.ca, pfx_file=certs.guest_pfx, pfx_password=certs.wrong_password)
    )
    assert error.path == str(certs.guest_pfx)
    assert error.reason.startswith("the password does not open the PKCS#12 file")


def test_missing_password_of_a_pkcs12_file(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, pfx_file=certs.guest_pfx))
    assert error.reason == "the PKCS#12 file is protected by a password, and none was given"


def test_a_pem_file_in_place_of_pkcs12(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, pfx_file=certs.guest))
    assert "is not a PKCS#12 file; it is PEM" in error.reason


def test_two_identities_are_one_too_many(certs: Certificates) -> None:
    error = refusal(lambda: client_context(certs.ca, certs.guest, certs.guest_key, pfx_file=certs.guest_pfx))
    assert "leave one of them out" in str(error)


def test_a_host_without_a_certificate_or_an_authority(certs: Certificates) -> None:
    assert "needs a certificate" in str(refusal(server_context))
    error = refusal(lambda: server_context(certs.host, certs.host_key, require_client_certificate=True))
    assert "name the CA file" in str(error)


# ---- Secrets stay where they are ------------------------------------------------------------------


def test_an_encrypted_key_without_password_does_not_ask_on_the_terminal(certs: Certificates) -> None:
    program = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that /dev/tty, which OpenSSL asks on, is this terminal
from verser2_guest_python.http2.contexts import client_context
from verser2_guest_python.http2.errors import CredentialsError
try:
    client_context(None, *sys.argv[1:])
except CredentialsError as error:
    print(error, file=sys.stderr)
"""
    terminal, end = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, certs.guest, certs.guest_encrypted_key],
            stdin=end,
            stdout=end,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=30,
            check=True,
        )
        os.set_blocking(terminal, False)
        with pytest.raises(BlockingIOError):  # nothing was written to the terminal
            os.read(terminal, 1)
    finally:
        os.close(terminal)
        os.close(end)
    expected = f"{certs.guest_encrypted_key}: the private key is encrypted, and no password was given for it"
    assert done.stderr.decode().strip() == expected


def test_a_pkcs12_key_never_touches_a_disk(certs: Certificates, tmp_path: Path) -> None:
    program = """
import os, sys, tempfile
from verser2_guest_python.http2.contexts import client_context
import verser2_guest_python.http2.inspection
written = []
def watch(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(arguments)
    elif event in {"os.mkdir", "os.mkfifo", "os.link", "os.symlink", "tempfile.mkstemp", "tempfile.mkdtemp"}:
        written.append((event, arguments))
sys.addaudithook(watch)
client_context(pfx_file=sys.argv[1], pfx_password=sys.argv[2])
print(written)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, certs.guest_pfx, certs.password],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.decode().strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_memory_file_is_read_like_a_file_and_gone_after(anonymous: bool) -> None:
    if anonymous and not hasattr(os, "memfd_create"):
        pytest.skip("anonymous memory files are Linux's")
    with memory_file(b"secret", anonymous=anonymous) as name:
        assert Path(name).read_bytes() == b"secret"
        assert str(Path(name).resolve()).startswith(("/memfd:", "/proc/", "/dev/fd/"))
    assert not Path(name).exists()


def test_the_memory_of_other_systems_carries_a_pair_too(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "verser2_guest_python.http2.credentials.memory_file", lambda data: memory_file(data, anonymous=False)
    )
    server = server_context(pfx_file=certs.host_pfx, pfx_password=certs.password)
    handshake(client_context(certs.ca), server)


# ---- Warnings -------------------------------------------------------------------------------------


def test_no_warnings_when_all_is_well(certs: Certificates) -> None:
    assert credentials_warnings() == []
    assert credentials_warnings(ca_file=certs.ca, cert_file=certs.guest, key_file=certs.guest_key) == []
    assert credentials_warnings(pfx_file=certs.guest_pfx, pfx_password=certs.password) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_a_warning(certs: Certificates, tmp_path: Path, mode: int) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(certs.guest_key.read_bytes())
    key.chmod(mode)
    (sentence,) = credentials_warnings(cert_file=certs.guest, key_file=key)
    assert sentence.startswith(f"{key}: the private key can be read by other users of this machine")
    assert f"mode {mode:04o}" in sentence
    assert "chmod 600" in sentence
    client_context(certs.ca, certs.guest, key)  # and works


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to somebody else")
@pytest.mark.parametrize(("mode", "sentences"), [(0o440, 0), (0o444, 1)])
def test_a_key_that_is_lent_to_our_group_is_none(
    certs: Certificates, tmp_path: Path, mode: int, sentences: int
) -> None:
    """As Kubernetes mounts a Secret: it is root's, and the group of the Pod may read it."""
    key = tmp_path / "key.pem"
    key.write_bytes(certs.guest_key.read_bytes())
    os.chown(key, 12345, os.getegid())
    key.chmod(mode)
    assert len(credentials_warnings(cert_file=certs.guest, key_file=key)) == sentences


def test_an_expired_certificate_is_a_warning(certs: Certificates, tmp_path: Path) -> None:
    (sentence,) = credentials_warnings(cert_file=certs.expired, key_file=certs.expired_key)
    assert sentence.startswith(f"{certs.expired}: the certificate expired on ")
    server_context(certs.expired, certs.expired_key)  # and works
    old = tmp_path / "old.p12"
    old.touch(mode=0o600)
    old.write_bytes(make_identity("old", expired=True).pkcs12("secret"))
    (sentence,) = credentials_warnings(pfx_file=old, pfx_password="secret")
    assert sentence.startswith(f"{old}: the certificate expired on ")


def test_files_that_cannot_be_used_are_no_warnings(certs: Certificates, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert credentials_warnings(ca_file=missing, cert_file=missing, key_file=missing) == []
    assert credentials_warnings(pfx_file=certs.guest_pfx, pfx_password=certs.wrong_password) == []

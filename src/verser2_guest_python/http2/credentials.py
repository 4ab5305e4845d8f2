"""Certificates and private keys: from files into an `ssl.SSLContext`, and what is wrong with them in words.

Apart from `contexts.py`, which decides what a TLS session must be like: here is only the question whether
the files hold an identity. OpenSSL's own answers ("PEM lib", without the name of a file) help nobody, so
when it refuses a file, the file is looked at again to find out why.
"""

from __future__ import annotations

import datetime
import os
import secrets
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates, load_pkcs12

from verser2_guest_python.http2.errors import CredentialsError

FilePath = str | os.PathLike[str]

_ONE_TIME_PASSWORD_BYTES = 32
_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
# PFX ::= SEQUENCE { version INTEGER {v3(3)}, … } (RFC 7292 §4)
_PKCS12_VERSION = b"\x02\x01\x03"
_DER_SEQUENCE = b"\x30"
_DER_HEADER_BYTES = 8


def load_authorities(context: ssl.SSLContext, ca_file: FilePath) -> None:
    """Trust the certificates in a PEM file, and no others; raises `CredentialsError`."""
    _check_file(ca_file)
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        data = _read(ca_file)
        if not data.strip():
            reason = "the CA file is empty; it must hold the certificate of the authority, in PEM"
        else:
            reason = _certificate_trouble(data) or f"the CA file cannot be used ({_openssl_reason(error)})"
        raise CredentialsError(os.fspath(ca_file), reason) from error
    if not context.cert_store_stats()["x509"]:
        raise CredentialsError(os.fspath(ca_file), "the CA file holds no certificate")


def load_pem_identity(
    context: ssl.SSLContext, cert_file: FilePath, key_file: FilePath | None, password: str | None
) -> None:
    """Use a PEM certificate chain and its key; without `key_file` the key is in `cert_file` too.

    Raises `CredentialsError`. Never asks on the terminal for the password of an encrypted key.
    """
    _check_file(cert_file)
    if key_file is not None:
        _check_file(key_file)
    try:
        # Without a callable OpenSSL asks on the terminal. With "" it fails, which is what is wanted.
        context.load_cert_chain(cert_file, key_file, password=lambda: password or "")
    except (OSError, ValueError) as error:
        key_file = cert_file if key_file is None else key_file
        raise _pem_error(cert_file, key_file, password, error) from error


def load_pfx_identity(context: ssl.SSLContext, pfx_file: FilePath, password: str | None) -> None:
    """Use the certificate, chain and key of a PKCS#12 file; raises `CredentialsError`.

    `ssl` takes keys from files only. The key gets there through anonymous memory, encrypted with a
    password that is made for this one call: it never touches a disk.
    """
    path = os.fspath(pfx_file)
    identity = _open_pfx(path, _read(pfx_file), password)
    if identity.key is None:
        raise CredentialsError(path, "the PKCS#12 file holds no private key; export it together with its key")
    if identity.cert is None:
        raise CredentialsError(path, "the PKCS#12 file holds no certificate that belongs to its key")
    if _public_bytes(identity.key) != _public_bytes(identity.cert.certificate):
        raise CredentialsError(path, "the key in the PKCS#12 file does not match its certificate")
    one_time_password = secrets.token_urlsafe(_ONE_TIME_PASSWORD_BYTES).encode()
    encryption = BestAvailableEncryption(one_time_password)
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    chain = [identity.cert.certificate, *(other.certificate for other in identity.additional_certs)]
    certificates = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    try:
        with memory_file(certificates) as cert_name, memory_file(key) as key_name:
            context.load_cert_chain(cert_name, key_name, password=one_time_password)
    except (OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, ssl.SSLError):
            reason = f"the PKCS#12 identity cannot be used ({_openssl_reason(error)})"
        else:
            reason = (
                f"a PKCS#12 key cannot be handed to TLS in memory on this system ({error}); "
                "convert the file to a PEM certificate and a PEM key, and use those"
            )
        raise CredentialsError(path, reason) from error


@contextmanager
def memory_file(data: bytes, *, anonymous: bool = hasattr(os, "memfd_create")) -> Iterator[str]:
    """A name under which `data` can be opened and read once, in this process, without a file on any disk.

    Linux has anonymous memory files. Elsewhere (macOS, BSD) it is a pipe that is filled at once: a
    chain and a key are a few KiB, and the kernel keeps at least 16. Windows has neither, and raises
    NotImplementedError.
    """
    if anonymous:
        handle = os.memfd_create("identity")
        name = f"/proc/self/fd/{handle}"
        try:
            _write_all(handle, data)
            yield name
        finally:
            os.close(handle)
        return
    if os.name != "posix":
        raise NotImplementedError("it has no memory files")
    handle, writer = os.pipe()
    try:
        try:
            os.set_blocking(writer, False)  # more than fits is an error, not a deadlock
            _write_all(writer, data)
        finally:
            os.close(writer)
        yield f"/dev/fd/{handle}"
    finally:
        os.close(handle)


def credentials_warnings(
    *,
    ca_file: FilePath | None = None,
    cert_file: FilePath | None = None,
    key_file: FilePath | None = None,
    pfx_file: FilePath | None = None,
    pfx_password: str | None = None,
) -> list[str]:
    """Sentences on what works today and is still wrong with these files; [] when all is well.

    A private key that others may read; a certificate that has expired or is not valid yet. Files that
    cannot be used at all are not mentioned: making a context of them raises `CredentialsError`. ::

        for sentence in credentials_warnings(cert_file="guest.pem", key_file="guest-key.pem"):
            log.warning(sentence)
    """
    found = []
    key_holder = pfx_file or key_file or cert_file
    if key_holder is not None and (mode := _mode(key_holder)) & _READABLE_BY_OTHERS:
        found.append(
            f"{os.fspath(key_holder)}: the private key can be read by other users of this machine "
            f"(mode {stat.S_IMODE(mode):04o}); chmod 600 keeps it to its owner"
        )
    now = datetime.datetime.now(datetime.UTC)
    for path in (ca_file, cert_file, pfx_file):
        if path is not None and (trouble := _date_trouble(_leaf(path, path is pfx_file, pfx_password), now)):
            found.append(f"{os.fspath(path)}: {trouble}")
    return found


def _leaf(path: FilePath, is_pfx: bool, password: str | None) -> x509.Certificate | None:
    """The certificate that a file is about, or None when it cannot be read: that is another's error to tell."""
    try:
        data = _read(path)
        if is_pfx:
            holder = _open_pfx(os.fspath(path), data, password).cert
            return None if holder is None else holder.certificate
        return x509.load_pem_x509_certificate(data)
    except (CredentialsError, ValueError):
        return None


def _date_trouble(certificate: x509.Certificate | None, now: datetime.datetime) -> str:
    if certificate is None:
        return ""
    if certificate.not_valid_after_utc < now:
        return f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
    if certificate.not_valid_before_utc > now:
        since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return f"the certificate is not valid before {since}; is this machine's clock right?"
    return ""


def _mode(path: FilePath) -> int:
    """Mode bits of a regular file; 0 where they say nothing (Windows), or there is no such file."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return 0
    return mode if os.name == "posix" and stat.S_ISREG(mode) else 0


def _check_file(path: FilePath) -> None:
    """See that there is a file, without reading it: what comes through a pipe can be read once only."""
    try:
        if not stat.S_ISDIR(Path(path).stat().st_mode):
            return
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    raise CredentialsError(os.fspath(path), "is a directory; name the file in it")


def _read(path: FilePath) -> bytes:
    _check_file(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: FilePath, error: OSError | ValueError) -> CredentialsError:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            reason = "there is no such file"
            if not Path(path).is_absolute():
                reason += f" in {Path.cwd()}"
        case PermissionError():
            reason = "may not be read by the user that runs this process; change its owner or its mode"
        case OSError():
            reason = f"cannot be read ({error.strerror or error})"
        case _:
            reason = f"is not the name of a file ({error})"
    return CredentialsError(os.fspath(path), reason)


def _pem_error(
    cert_file: FilePath, key_file: FilePath, password: str | None, error: OSError | ValueError
) -> CredentialsError:
    """Why OpenSSL did not take this pair: looked for in the order in which it reads them."""
    certificate_data, key_data = _read(cert_file), _read(key_file)
    if trouble := _certificate_trouble(certificate_data):
        return CredentialsError(os.fspath(cert_file), trouble)
    if trouble := _key_trouble(key_data, password):
        return CredentialsError(os.fspath(key_file), trouble)
    if "MISMATCH" in (getattr(error, "reason", None) or ""):
        trouble = f"the private key does not match the certificate in {os.fspath(cert_file)}"
        return CredentialsError(os.fspath(key_file), trouble)
    reason = f"certificate and key cannot be used ({_openssl_reason(error)})"
    return CredentialsError(os.fspath(cert_file), reason)


def _certificate_trouble(data: bytes) -> str:
    if b"-----BEGIN" not in data:
        if data.startswith(_DER_SEQUENCE):
            return "is not PEM but binary (DER or PKCS#12); convert it with: openssl x509 -inform der …"
        return "is not PEM: there is no -----BEGIN CERTIFICATE----- in it"
    if b"CERTIFICATE-----" not in data:
        if b"PRIVATE KEY-----" in data:
            return "holds a private key and no certificate; are the names of certificate and key swapped?"
        return "holds no certificate"
    try:
        x509.load_pem_x509_certificates(data)
    except ValueError as error:
        return f"the certificate is damaged ({error})"
    return ""


def _key_trouble(data: bytes, password: str | None) -> str:
    if b"PRIVATE KEY-----" not in data:
        if b"CERTIFICATE-----" in data:
            return "holds a certificate and no private key; is the file of the key named?"
        return "is not PEM: there is no -----BEGIN PRIVATE KEY----- in it"
    encrypted = b"ENCRYPTED" in data  # in the label (RFC 7468 §11) or in a Proc-Type line (RFC 1421 §4.6.1.1)
    if encrypted and not password:
        return "the private key is encrypted, and no password was given for it"
    try:
        load_pem_private_key(data, password.encode() if encrypted and password else None)
    except UnsupportedAlgorithm:
        return ""  # OpenSSL may know better
    except (ValueError, TypeError) as error:
        if encrypted:
            return "the password does not open the private key"
        return f"the private key is damaged ({error})"
    return ""


def _open_pfx(path: str, data: bytes, password: str | None) -> PKCS12KeyAndCertificates:
    # Without a password some tools write none and others the empty one, which is not the same (RFC 7292 B.1).
    candidates = [password.encode()] if password else [None, b""]
    for candidate in candidates:
        try:
            return load_pkcs12(data, candidate)
        except UnsupportedAlgorithm as error:
            reason = f"the PKCS#12 file is encrypted in a way that is not supported ({error}); export it anew"
            raise CredentialsError(path, reason) from error
        except ValueError:
            continue
    if not data.startswith(_DER_SEQUENCE) or _PKCS12_VERSION not in data[:_DER_HEADER_BYTES]:
        hint = "; a PEM file goes with its key as certificate and key file" if b"-----BEGIN" in data else ""
        raise CredentialsError(path, f"is not a PKCS#12 file{hint}")
    if password:
        raise CredentialsError(path, "the password does not open the PKCS#12 file, or the file is damaged")
    raise CredentialsError(path, "the PKCS#12 file is protected by a password, and none was given")


def _public_bytes(holder: object) -> bytes:
    key = holder.public_key()  # type: ignore[attr-defined]  # every key and certificate has one
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _openssl_reason(error: OSError | ValueError) -> str:
    reason = getattr(error, "reason", None)
    return f"OpenSSL: {reason.replace('_', ' ').lower()}" if reason else str(error)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]

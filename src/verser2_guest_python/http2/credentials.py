"""Certificates and private keys: from files into an `ssl.SSLContext`, with errors that people understand.

Apart from `contexts.py`, which decides what a TLS session must be like: here is only the question whether
the files hold an identity. OpenSSL's own answers ("PEM lib", without the name of a file) help nobody, so
when it refuses a file, `inspection.py` looks into it to find out why.
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
from typing import Final

from verser2_guest_python.http2.errors import CredentialsError

FilePath = str | os.PathLike[str]

_ONE_TIME_PASSWORD_BYTES: Final = 32
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


def load_authorities(context: ssl.SSLContext, ca_file: FilePath) -> None:
    """Trust the certificates in a PEM file, and no others; raises `CredentialsError`."""
    _check_file(ca_file)
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        from verser2_guest_python.http2.inspection import certificate_trouble

        trouble = (
            certificate_trouble(_read(ca_file)) or f"cannot be used as CA file ({_openssl_reason(error)})"
        )
        raise CredentialsError(os.fspath(ca_file), trouble) from error


def load_pem_identity(
    context: ssl.SSLContext, cert_file: FilePath, key_file: FilePath | None, password: str | None
) -> None:
    """Use a PEM certificate chain and its key; without `key_file` the key is in `cert_file` too.

    Raises `CredentialsError`. Never asks on the terminal for the password of an encrypted key.
    """
    key_file = cert_file if key_file is None else key_file
    _check_file(cert_file)
    _check_file(key_file)
    try:
        # Without a password OpenSSL would ask on the terminal; with a wrong or an empty one it just fails.
        context.load_cert_chain(cert_file, key_file, password=password or "")
    except (OSError, ValueError) as error:
        raise _pem_error(cert_file, key_file, password, error) from error


def load_pfx_identity(context: ssl.SSLContext, pfx_file: FilePath, password: str | None) -> None:
    """Use the certificate, chain and key of a PKCS#12 file; raises `CredentialsError`.

    `ssl` takes keys from files only. The key gets there through anonymous memory, encrypted with a
    password that is made for this one call: it never touches a disk.
    """
    from verser2_guest_python.http2.inspection import Unusable, pkcs12_as_pem

    path = os.fspath(pfx_file)
    one_time_password = secrets.token_urlsafe(_ONE_TIME_PASSWORD_BYTES).encode()
    try:
        certificates, key = pkcs12_as_pem(_read(pfx_file), password, one_time_password)
        with memory_file(certificates) as cert_name, memory_file(key) as key_name:
            context.load_cert_chain(cert_name, key_name, password=one_time_password)
    except Unusable as error:
        raise CredentialsError(path, str(error)) from error
    except ssl.SSLError as error:
        reason = f"the PKCS#12 identity cannot be used ({_openssl_reason(error)})"
        raise CredentialsError(path, reason) from error
    except (OSError, NotImplementedError) as error:
        reason = f"a PKCS#12 key cannot be handed to TLS in memory on this system ({error})"
        raise CredentialsError(path, f"{reason}; convert it to a PEM certificate and a PEM key") from error


@contextmanager
def memory_file(data: bytes, *, anonymous: bool = hasattr(os, "memfd_create")) -> Iterator[str]:
    """A name under which this process can read `data` once, without a file on any disk.

    Linux has anonymous memory files. Elsewhere (macOS, BSD) it is a pipe that is filled at once: a
    chain and a key are a few KiB, and the kernel keeps at least 16. Windows has neither, and raises
    NotImplementedError.
    """
    if os.name != "posix":
        raise NotImplementedError("it has no memory files")
    handle = _anonymous_file(data) if anonymous else _filled_pipe(data)
    try:
        yield f"/proc/self/fd/{handle}" if anonymous else f"/dev/fd/{handle}"
    finally:
        os.close(handle)


def _anonymous_file(data: bytes) -> int:
    handle = os.memfd_create("identity")
    try:
        _write_all(handle, data)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _filled_pipe(data: bytes) -> int:
    handle, writer = os.pipe()
    try:
        os.set_blocking(writer, False)  # more than fits is an error, not a deadlock
        _write_all(writer, data)
    except BaseException:
        os.close(handle)
        raise
    finally:
        os.close(writer)
    return handle


def credentials_warnings(
    *,
    ca_file: FilePath | None = None,
    cert_file: FilePath | None = None,
    key_file: FilePath | None = None,
    pfx_file: FilePath | None = None,
    pfx_password: str | None = None,
) -> list[str]:
    """Sentences on what works, and is wrong with these files all the same; [] when all is well.

    A private key that others may read; a certificate that has expired or is not valid yet. Files that
    cannot be used at all are not mentioned: making a context of them raises `CredentialsError`. ::

        for sentence in credentials_warnings(cert_file="guest.pem", key_file="guest-key.pem"):
            log.warning(sentence)
    """
    from verser2_guest_python.http2.inspection import date_trouble, pkcs12_date_trouble

    found: list[tuple[FilePath, str]] = []
    key_holder = pfx_file or key_file or cert_file
    if key_holder is not None and (mode := _exposing_mode(key_holder)):
        reason = f"the private key can be read by other users of this machine (mode {mode:04o})"
        found.append((key_holder, f"{reason}; chmod 600 keeps it to its owner"))
    now = datetime.datetime.now(datetime.UTC)
    for pem_file in (ca_file, cert_file):
        if pem_file is not None and (data := _read_if_regular(pem_file)):
            found.append((pem_file, date_trouble(data, now)))
    if pfx_file is not None and (data := _read_if_regular(pfx_file)):
        found.append((pfx_file, pkcs12_date_trouble(data, pfx_password, now)))
    return [f"{os.fspath(path)}: {trouble}" for path, trouble in found if trouble]


def _pem_error(
    cert_file: FilePath, key_file: FilePath, password: str | None, error: OSError | ValueError
) -> CredentialsError:
    """Why OpenSSL did not take this pair: looked for in the order in which it reads them."""
    from verser2_guest_python.http2.inspection import certificate_trouble, key_trouble

    if trouble := certificate_trouble(_read(cert_file)):
        return CredentialsError(os.fspath(cert_file), trouble)
    if trouble := key_trouble(_read(key_file), password):
        return CredentialsError(os.fspath(key_file), trouble)
    reason = getattr(error, "reason", None) or ""
    if "MISMATCH" in reason or reason == "NO_CERTIFICATE_ASSIGNED":  # the latter of two kinds, RSA and EC
        trouble = f"the private key does not match the certificate in {os.fspath(cert_file)}"
        return CredentialsError(os.fspath(key_file), trouble)
    reason = f"certificate and key cannot be used ({_openssl_reason(error)})"
    return CredentialsError(os.fspath(cert_file), reason)


def _check_file(path: FilePath) -> None:
    """See that there is a file, without reading it: what comes through a pipe can be read once only."""
    try:
        is_directory = stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if is_directory:
        raise CredentialsError(os.fspath(path), "is a directory; name the file in it")


def _read(path: FilePath) -> bytes:
    _check_file(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_if_regular(path: FilePath) -> bytes:
    """The bytes of a file that can be read again by another; b"" for anything else."""
    try:
        return Path(path).read_bytes() if Path(path).is_file() else b""
    except (OSError, ValueError):
        return b""


def _exposing_mode(path: FilePath) -> int:
    """Permission bits of a regular file that others may read; 0 where nothing is wrong, or can be told.

    A file of somebody else's that we may read as one of its group, as a Secret of Kubernetes is, is meant so.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return 0
    if os.name != "posix" or not stat.S_ISREG(found.st_mode):
        return 0
    is_lent = found.st_uid != os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}
    mode = stat.S_IMODE(found.st_mode)
    return mode if mode & (stat.S_IROTH if is_lent else _READABLE_BY_OTHERS) else 0


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


def _openssl_reason(error: OSError | ValueError) -> str:
    reason = getattr(error, "reason", None)
    return f"OpenSSL: {reason.replace('_', ' ').lower()}" if reason else str(error)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]

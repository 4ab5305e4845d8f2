"""TLS contexts of both ends of a session: what protocol.md §1 and RFC 9113 §9.2 ask of them, in one place.

Made anew for every connect, so that renewed files count. Reading is synchronous: a few small local files.
"""

from __future__ import annotations

import ssl
from typing import Final

from verser2_guest_python.http2.credentials import (
    FilePath,
    load_authorities,
    load_pem_identity,
    load_pfx_identity,
)
from verser2_guest_python.http2.errors import CredentialsError

ALPN_PROTOCOL: Final = "h2"

# For TLS 1.2 only what RFC 9113 §9.2.2 leaves: ephemeral keys and AEAD. TLS 1.3 has nothing else.
_TLS_1_2_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def client_context(
    ca_file: FilePath | None = None,
    cert_file: FilePath | None = None,
    key_file: FilePath | None = None,
    key_password: str | None = None,
    pfx_file: FilePath | None = None,
    pfx_password: str | None = None,
) -> ssl.SSLContext:
    """The context of a peer that dials a Host. The Host's certificate and name are always verified.

    `ca_file` (PEM) holds the only authorities that are trusted; without it, those of the system are.
    An identity for mutual TLS is optional: a PEM pair (`key_file` may be left out when the key is in
    `cert_file`) or a PKCS#12 file. Raises `CredentialsError` that names the file and what to do. ::

        tls = client_context(ca_file="ca.pem", cert_file="guest.pem", key_file="guest-key.pem")
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.hostname_checks_common_name = False  # names are in the SAN (RFC 9525 §2)
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        # What the file holds is trusted as it is, so it may also be the Host's own certificate.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        load_authorities(context, ca_file)
    _load_identity(context, cert_file, key_file, key_password, pfx_file, pfx_password)
    return context


def server_context(
    cert_file: FilePath | None = None,
    key_file: FilePath | None = None,
    key_password: str | None = None,
    pfx_file: FilePath | None = None,
    pfx_password: str | None = None,
    client_ca_file: FilePath | None = None,
    require_client_certificate: bool = False,
) -> ssl.SSLContext:
    """The context of a Host: its own certificate as a PEM pair or a PKCS#12 file, one of which is needed.

    With `client_ca_file` (PEM) peers are asked for a certificate, and one that these authorities did not
    sign is refused; with `require_client_certificate` none is refused too. Raises `CredentialsError`. ::

        tls = server_context("host.pem", "host-key.pem", client_ca_file="ca.pem")
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = 0  # peers keep one long session; nobody would take one up again
    if cert_file is None and pfx_file is None:
        raise CredentialsError("", "A Host needs a certificate with its key: a PEM pair or a PKCS#12 file")
    _load_identity(context, cert_file, key_file, key_password, pfx_file, pfx_password)
    if client_ca_file is not None:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        load_authorities(context, client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if require_client_certificate else ssl.CERT_OPTIONAL
    elif require_client_certificate:
        raise CredentialsError("", "To require client certificates, name the CA file that signed them")
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    # RFC 9113 §9.2.1: neither compression nor renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN_PROTOCOL])


def _load_identity(
    context: ssl.SSLContext,
    cert_file: FilePath | None,
    key_file: FilePath | None,
    key_password: str | None,
    pfx_file: FilePath | None,
    pfx_password: str | None,
) -> None:
    if pfx_file is not None:
        if cert_file is not None or key_file is not None:
            raise CredentialsError("", "Both a PKCS#12 file and PEM files are given: leave one of them out")
        load_pfx_identity(context, pfx_file, pfx_password)
    elif cert_file is not None:
        load_pem_identity(context, cert_file, key_file, key_password)
    elif key_file is not None:
        raise CredentialsError(str(key_file), "a key without its certificate: name the certificate file too")

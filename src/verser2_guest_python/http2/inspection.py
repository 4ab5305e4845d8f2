"""Looks into the bytes of certificates, keys and PKCS#12 files, and says in words what is wrong with them.

Pure functions, apart from `credentials.py` because they need `cryptography`, whose import takes longer than
a connect: it is made only when a PEM file was refused, for PKCS#12, and for warnings.
"""

from __future__ import annotations

import datetime

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

# PFX ::= SEQUENCE { version INTEGER {v3(3)}, … } (RFC 7292 §4)
_PKCS12_VERSION = b"\x02\x01\x03"
_DER_SEQUENCE = b"\x30"
_DER_HEADER_BYTES = 8


class Unusable(Exception):
    """The bytes cannot be used; `str()` says why, to be said behind the name of the file."""


def certificate_trouble(data: bytes) -> str:
    """Why these bytes are no PEM certificate; "" when they are one."""
    if b"-----BEGIN" not in data:
        if not data.strip():
            return "is empty; it must hold a certificate in PEM"
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


def key_trouble(data: bytes, password: str | None) -> str:
    """Why these bytes are no PEM private key that `password` opens; "" when they are one."""
    if b"PRIVATE KEY-----" not in data:
        if not data.strip():
            return "is empty; it must hold a private key in PEM"
        if b"CERTIFICATE-----" in data:
            return "holds a certificate and no private key; name the file that holds the key"
        return "is not PEM: there is no -----BEGIN PRIVATE KEY----- in it"
    # In the label (RFC 7468 §11), or in a Proc-Type line (RFC 1421 §4.6.1.1)
    encrypted = b"ENCRYPTED" in data
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


def pkcs12_as_pem(data: bytes, password: str | None, key_password: bytes) -> tuple[bytes, bytes]:
    """Certificate chain and key of a PKCS#12 file in PEM, the key encrypted with `key_password`.

    Raises `Unusable`.
    """
    identity = _open_pkcs12(data, password)
    if identity.key is None:
        raise Unusable("the PKCS#12 file holds no private key; export it together with its key")
    if identity.cert is None:
        raise Unusable("the PKCS#12 file holds no certificate that belongs to its key")
    if _public_bytes(identity.key) != _public_bytes(identity.cert.certificate):
        raise Unusable("the private key in the PKCS#12 file does not match its certificate")
    chain = [identity.cert.certificate, *(other.certificate for other in identity.additional_certs)]
    certificates = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    encryption = BestAvailableEncryption(key_password)
    return certificates, identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def date_trouble(data: bytes, now: datetime.datetime) -> str:
    """What is wrong with the dates of the first certificate in PEM bytes; "" when nothing is."""
    try:
        return _date_trouble(x509.load_pem_x509_certificate(data), now)
    except ValueError:
        return ""  # not readable at all, which is not about dates


def pkcs12_date_trouble(data: bytes, password: str | None, now: datetime.datetime) -> str:
    """What is wrong with the dates of the certificate in PKCS#12 bytes; "" when nothing is."""
    try:
        holder = _open_pkcs12(data, password).cert
    except Unusable:
        return ""  # not readable at all, which is not about dates
    return _date_trouble(holder.certificate, now) if holder else ""


def _date_trouble(certificate: x509.Certificate, now: datetime.datetime) -> str:
    if certificate.not_valid_after_utc < now:
        return f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
    if certificate.not_valid_before_utc > now:
        since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return f"the certificate is not valid before {since}; is the clock of this machine right?"
    return ""


def _open_pkcs12(data: bytes, password: str | None) -> PKCS12KeyAndCertificates:
    # Without a password some tools write none and others the empty one, which differ (RFC 7292 B.1).
    candidates = [password.encode()] if password else [None, b""]
    for candidate in candidates:
        try:
            return load_pkcs12(data, candidate)
        except UnsupportedAlgorithm as error:
            reason = f"the PKCS#12 file is encrypted in a way that is not supported ({error}); export it anew"
            raise Unusable(reason) from error
        except ValueError:
            continue
    if not data.startswith(_DER_SEQUENCE) or _PKCS12_VERSION not in data[:_DER_HEADER_BYTES]:
        hint = "; it is PEM: name it as certificate and key file instead" if b"-----BEGIN" in data else ""
        raise Unusable(f"is not a PKCS#12 file{hint}")
    if password:
        raise Unusable("the password does not open the PKCS#12 file, or the file is damaged")
    raise Unusable("the PKCS#12 file is protected by a password, and none was given")


def _public_bytes(holder: object) -> bytes:
    key = holder.public_key()  # type: ignore[attr-defined]  # every key and certificate has one
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded

"""Certificates for development: a private CA and, signed by it, one each for Host, Guest and Broker.

Apart because nobody else makes certificates. A set is a directory that is made whole, under another
name, and then renamed: two `dev` that start at once make two sets, and both hold. The CA's key is
thrown away after its third signature, so nobody can make a certificate that a set would trust.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.process.state_directory import state_directory, write_private

VALID_DAYS: Final = 365
RENEW_DAYS_BEFORE: Final = 30
_CLOCK_SKEW: Final = timedelta(minutes=5)
_PREFIX: Final = "set-"
_DRAFT_PREFIX: Final = ".draft-"
_DRAFT_LIFETIME: Final = timedelta(hours=1)
_ROLES: Final = ("host", "guest", "broker")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class CertificateSet:
    """Files of one set; all of them are there, and readable by their owner only."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        """The CA that signed the others, and that all of them trust."""
        return self.directory / "ca.pem"

    @property
    def host(self) -> Identity:
        """For `localhost`, 127.0.0.1 and ::1."""
        return self._identity("host")

    @property
    def guest(self) -> Identity:
        """For a Guest whose id is `guest`."""
        return self._identity("guest")

    @property
    def broker(self) -> Identity:
        """For Brokers whose id is `broker` or begins with `broker-`."""
        return self._identity("broker")

    def _identity(self, name: str) -> Identity:
        return Identity(self.directory / f"{name}.pem", self.directory / f"{name}-key.pem")


def development_certificates(directory: Path | None = None, *, now: datetime | None = None) -> CertificateSet:
    """A set that is valid for at least 30 days more; made if there is none.

    `directory` is this user's state directory unless given. Raises `VerserConfigurationError` when
    it cannot be used.
    """
    directory = state_directory("certificates") if directory is None else directory
    now = now or datetime.now(UTC)
    try:
        best: tuple[datetime, CertificateSet] | None = None
        for path in sorted(directory.iterdir()):
            if path.name.startswith(_DRAFT_PREFIX):
                _remove_abandoned(path, now)
            elif path.name.startswith(_PREFIX):
                candidate = CertificateSet(path)
                end = _end_of(candidate, now)
                if end is not None and end <= now:
                    shutil.rmtree(path, ignore_errors=True)
                elif end is not None and (best is None or end > best[0]):
                    best = (end, candidate)
        if best is not None and best[0] - now >= timedelta(days=RENEW_DAYS_BEFORE):
            return best[1]
        return _make_set(directory, now)
    except OSError as error:
        raise VerserConfigurationError(
            f"Certificates cannot be kept in {directory} ({error.strerror})."
        ) from error


def _make_set(directory: Path, now: datetime) -> CertificateSet:
    draft = CertificateSet(Path(tempfile.mkdtemp(prefix=_DRAFT_PREFIX, dir=directory)))
    try:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("Verser development CA")
        ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, now, None)
        write_private(draft.ca_file, ca.public_bytes(Encoding.PEM))
        for role in _ROLES:
            key = ec.generate_private_key(ec.SECP256R1())
            common_name = "localhost" if role == "host" else role
            certificate = _certificate(_name(common_name), ca_name, key.public_key(), ca_key, now, role)
            identity = draft._identity(role)
            write_private(identity.cert_file, certificate.public_bytes(Encoding.PEM))
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_private(identity.key_file, pem)
        final = directory / draft.directory.name.replace(_DRAFT_PREFIX, _PREFIX, 1)
        draft.directory.rename(final)
    except BaseException:
        shutil.rmtree(draft.directory, ignore_errors=True)
        raise
    return CertificateSet(final)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    role: str | None,
) -> x509.Certificate:
    """A certificate for `role`, or for the CA where `role` is None."""
    is_ca = role is None
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if role is not None:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if role == "host" else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(_names_of(role)), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _names_of(role: str) -> list[x509.GeneralName]:
    if role != "host":
        return [x509.UniformResourceIdentifier(f"urn:verser:{role}")]
    return [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _end_of(candidate: CertificateSet, now: datetime) -> datetime | None:
    """Until when all of the set is valid; None when it is not a set that can be used."""
    with suppress(ValueError, TypeError, FileNotFoundError):
        ca = _load(candidate.ca_file)
        if ca.not_valid_before_utc > now:  # made while the clock was wrong
            return None
        ends = [ca.not_valid_after_utc]
        for role in _ROLES:
            identity = candidate._identity(role)
            certificate = _load(identity.cert_file)
            key = load_pem_private_key(identity.key_file.read_bytes(), None)
            if key.public_key() != certificate.public_key():
                return None
            ends.append(certificate.not_valid_after_utc)
        return min(ends)
    return None


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _remove_abandoned(draft: Path, now: datetime) -> None:
    """A draft of a process that was killed; a young one may belong to one that is at work."""
    with suppress(FileNotFoundError):
        if now - datetime.fromtimestamp(draft.stat().st_mtime, UTC) > _DRAFT_LIFETIME:
            shutil.rmtree(draft, ignore_errors=True)

"""Certificates for tests: every kind that a peer may meet, made in a directory within milliseconds."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
LOCAL_NAMES: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in memory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: str | None = None) -> bytes:
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def pkcs12(self, password: str | None, *chain: Identity) -> bytes:
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = BestAvailableEncryption(password.encode())
        others = [one.certificate for one in chain]
        return serialize_key_and_certificates(b"identity", self.key, self.certificate, others, encryption)


def make_identity(
    common_name: str,
    issuer: Identity | None = None,
    *,
    names: tuple[x509.GeneralName, ...] = (),
    authority: bool = False,
    expired: bool = False,
) -> Identity:
    """A new key with its certificate: signed by `issuer`, or by itself without one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    issuer_key = issuer.key if issuer else key
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(now - DAY if expired else now + 30 * DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not authority:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Identity(builder.sign(issuer_key, hashes.SHA256()), key)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Certificates:
    """Paths of the files in `directory`; keys have mode 0600. `X` goes with `X_key`."""

    directory: Path
    ca: Path  # signed all below but `untrusted`
    host: Path  # localhost, 127.0.0.1, ::1
    host_key: Path
    guest: Path  # CN guest-a, URI urn:verser:guest-a
    guest_key: Path
    broker: Path  # CN broker-a, URI urn:verser:broker-a
    broker_key: Path
    untrusted_ca: Path
    untrusted: Path  # localhost as well, but of another authority
    untrusted_key: Path
    expired: Path  # localhost, until yesterday
    expired_key: Path
    other_name: Path  # for other.example.test alone
    other_name_key: Path
    guest_encrypted_key: Path  # the key of `guest`, with `password`
    guest_pfx: Path  # `guest`, its key and `ca` as PKCS#12, with `password`
    guest_pfx_no_password: Path  # the same without a password
    host_pfx: Path  # `host`, its key and `ca` as PKCS#12, with `password`
    password: str = "verser-test"
    wrong_password: str = "something else"

    @classmethod
    def make(
        cls, directory: Path, *, guest_name: str = "guest-a", broker_name: str = "broker-a"
    ) -> Certificates:
        """Make all of them anew; for Guest and Broker under these names."""
        ca = make_identity("Verser test CA", authority=True)
        untrusted_ca = make_identity("Another CA", authority=True)
        host = make_identity("localhost", ca, names=LOCAL_NAMES)
        guest = make_identity(guest_name, ca, names=(_uri(guest_name),))
        identities = {
            "host": host,
            "guest": guest,
            "broker": make_identity(broker_name, ca, names=(_uri(broker_name),)),
            "untrusted": make_identity("stranger", untrusted_ca, names=(*LOCAL_NAMES, _uri("stranger"))),
            "expired": make_identity("localhost", ca, names=LOCAL_NAMES, expired=True),
            "other_name": make_identity("other", ca, names=(x509.DNSName("other.example.test"),)),
        }
        files = {
            "ca": _write(directory / "ca.pem", ca.certificate_pem),
            "untrusted_ca": _write(directory / "untrusted-ca.pem", untrusted_ca.certificate_pem),
            "guest_encrypted_key": _write(
                directory / "guest-encrypted-key.pem", guest.key_pem(cls.password), secret=True
            ),
            "guest_pfx": _write(directory / "guest.p12", guest.pkcs12(cls.password, ca), secret=True),
            "guest_pfx_no_password": _write(
                directory / "guest-no-password.p12", guest.pkcs12(None, ca), secret=True
            ),
            "host_pfx": _write(directory / "host.p12", host.pkcs12(cls.password, ca), secret=True),
        }
        for name, identity in identities.items():
            stem = name.replace("_", "-")
            files[name] = _write(directory / f"{stem}.pem", identity.certificate_pem)
            files[f"{name}_key"] = _write(directory / f"{stem}-key.pem", identity.key_pem(), secret=True)
        return cls(directory=directory, **files)


def _uri(peer_id: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(f"urn:verser:{peer_id}")


def _write(path: Path, data: bytes, *, secret: bool = False) -> Path:
    path.touch(mode=0o600 if secret else 0o644)
    path.write_bytes(data)
    return path

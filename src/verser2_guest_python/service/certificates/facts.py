"""What a certificate says of itself, for people: names, dates, what it is good for.

Apart from `http2/inspection.py`, which says why a file cannot be used at all; and because it needs
`cryptography`, whose import takes its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

RENEW_DAYS_BEFORE: Final = 14
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate. `names` are those of its subjectAltName, `common_name` is for people only."""

    common_name: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    purposes: frozenset[ObjectIdentifier] | None

    @property
    def sentence(self) -> str:
        """Whose it is and how long it holds: `guest-a (DNS:a.test), until 2027-01-31`."""
        names = f" ({', '.join(self.names)})" if self.names else ""
        return f"{self.common_name or 'without a name'}{names}, until {self.not_after:%Y-%m-%d}"

    def date_trouble(self, now: datetime | None = None) -> str:
        """Why it does not hold today; "" if it does."""
        now = now or datetime.now(UTC)
        if self.not_after < now:
            return f"the certificate expired on {self.not_after:%Y-%m-%d %H:%M} UTC; renew it"
        if self.not_before > now:
            since = f"{self.not_before:%Y-%m-%d %H:%M} UTC"
            return f"the certificate is not valid before {since}; is the clock of this machine right?"
        return ""

    def trouble(self, *, client: bool, now: datetime | None = None) -> str:
        """Why nobody will accept it, as of a client or of a Host; "" if somebody may."""
        if trouble := self.date_trouble(now):
            return trouble
        wanted = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        accepted = {wanted, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
        if self.purposes is not None and not accepted & self.purposes:
            role = "clients" if client else "servers"
            return f"the certificate is not for {role} (extended key usage); have one made that is"
        if not client and not any(name.startswith(("DNS:", "IP:")) for name in self.names):
            return "the certificate names no host in its subjectAltName, so that no peer accepts it"
        return ""

    @property
    def peer_names(self) -> tuple[str, ...]:
        """The names of its subjectAltName that a peer may go by, without their kinds."""
        return tuple(name.partition(":")[2] for name in self.names if name.startswith(("DNS:", "URI:")))

    def serves(self, host: str) -> bool:
        """Whether a client that asks for this name takes it: `*.a.test` is for one label more (RFC 6125)."""
        asked = host.lower().rstrip(".")
        above = asked.partition(".")[2]
        return any(
            name.lower() in (f"dns:{asked}", f"ip:{asked}") or (above and name.lower() == f"dns:*.{above}")
            for name in self.names
        )

    def warning(self, *, now: datetime | None = None) -> str:
        """That it has to be renewed soon; "" if not."""
        left = self.not_after - (now or datetime.now(UTC))
        if left > RENEW_DAYS_BEFORE * _DAY or left < timedelta():
            return ""
        return f"the certificate expires in {left // _DAY} days, on {self.not_after:%Y-%m-%d}; renew it"


def certificate_facts(path: Path, *, pfx_password: str | None = None) -> list[CertificateFacts]:
    """The certificates of a PEM file, or the one of a PKCS#12 file; [] for what cannot be read."""
    try:
        data = path.read_bytes()
        if b"-----BEGIN" in data:
            return [_facts(certificate) for certificate in x509.load_pem_x509_certificates(data)]
        holder = load_pkcs12(data, pfx_password.encode() if pfx_password else None).cert
        return [_facts(holder.certificate)] if holder else []
    except (OSError, ValueError):
        return []


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateFacts(
        common_name=str(common_names[0].value) if common_names else "",
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        purposes=_purposes(certificate),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (
        *(f"DNS:{name}" for name in names.get_values_for_type(x509.DNSName)),
        *(f"IP:{address}" for address in names.get_values_for_type(x509.IPAddress)),
        *(f"URI:{uri}" for uri in names.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def _purposes(certificate: x509.Certificate) -> frozenset[ObjectIdentifier] | None:
    """What it may be used for; None where it does not say, which is anything."""
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        return None

"""Who a peer has proven to be: the names and the fingerprint of its certificate, and its token.

Apart from the policy because this is fact, and the policy is opinion. OpenSSL has verified the
certificate before; this only reads it. What cannot be read leaves the fingerprint, which names the
peer all the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from verser2_guest_python.wire.excerpt import readable


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a peer beyond its own word. The default is a peer of which nothing is known.

    Attributes:
        common_names: CN of the certificate's subject.
        dns_names, uris: Of its subjectAltName.
        fingerprint: SHA-256 of the certificate, in lower-case hex; "" without a certificate.
        token_digest: SHA-256 of the registration token; b"" without one. The token itself is not kept.
    """

    common_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    fingerprint: str = ""
    token_digest: bytes = field(default=b"", repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the certificate."""
        return (*self.common_names, *self.dns_names, *self.uris)

    def is_same(self, other: Identity) -> bool:
        """Whether this is the same peer: by certificate (or a renewed one of the same names), or by token."""
        if self.fingerprint or other.fingerprint:
            if self.fingerprint == other.fingerprint:
                return True
            return bool(self.names and self.fingerprint and other.fingerprint) and self.names == other.names
        return self.token_digest == other.token_digest

    def __str__(self) -> str:
        """As a log line names it; names are made safe for one line."""
        for kind, names in (("CN", self.common_names), ("DNS", self.dns_names), ("URI", self.uris)):
            if names:
                return f"{kind}={readable(names[0])}"
        if self.fingerprint:
            return f"sha256:{self.fingerprint}"
        return "a registration token" if self.token_digest else "nobody known"


def digest(token: str) -> bytes:
    """What is kept of a token, and compared: it has the same length for all, and tells nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def load_parser() -> None:
    """Loads what reads certificates, which takes a moment, before the first peer waits for it."""
    from cryptography import x509  # noqa: F401


def read_identity(certificate: bytes | None, token: str | None = None) -> Identity:
    """The identity in a certificate (DER) and a registration token, either of which may be missing."""
    token_digest = digest(token) if token is not None else b""
    if certificate is None:
        return Identity(token_digest=token_digest)
    fingerprint = hashlib.sha256(certificate).hexdigest()
    from cryptography import x509  # takes long to load, and a Host without client certificates needs none

    try:
        parsed = x509.load_der_x509_certificate(certificate)
        common_names = tuple(
            str(attribute.value)
            for attribute in parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            if attribute.value
        )
        try:
            alternative = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return Identity(common_names, (), (), fingerprint, token_digest)
        return Identity(
            common_names,
            tuple(name for name in alternative.get_values_for_type(x509.DNSName) if name),
            tuple(name for name in alternative.get_values_for_type(x509.UniformResourceIdentifier) if name),
            fingerprint,
            token_digest,
        )
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return Identity(fingerprint=fingerprint, token_digest=token_digest)

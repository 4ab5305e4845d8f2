"""A policy: which peers there are, and what each may do.

Apart from `authorization.py`, which decides by it, and from `policy_entries.py`, which reads it from a
file: this is what both mean. An entry names peers by their certificate or token, and says what they may
do. Several entries for one peer add up.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Final

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.host.globs import globs
from verser2_guest_python.host.identity import Identity, digest
from verser2_guest_python.wire.domains import normalize_domain
from verser2_guest_python.wire.registration import BROKER, GUEST

if TYPE_CHECKING:
    from verser2_guest_python.host.authorization import Applicant

ANY: Final = ("*",)
MIN_TOKEN_CHARS: Final = 16

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

Names = str | Iterable[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a peer may do. Every name may be a pattern, in which `*` stands for any characters.

    Attributes:
        name: What the log calls it.
        roles: `guest`, `broker` or both; by default those that the other permissions are for.
        peer_ids: Ids that it may have. By default a name of its certificate, or one that begins with
            such a name and `-` or `~`.
        domains: Domains that it may serve as a Guest.
        call_domains: Domains that it may call as a Broker, and sees.
        call_methods: Methods that it may call them with; `WEBSOCKET` stands for WebSockets.

    Raises:
        VerserConfigurationError: it permits nothing, or contradicts itself.
    """

    name: str = ""
    roles: str | Iterable[str] = ()
    peer_ids: str | Iterable[str] = ()
    domains: str | Iterable[str] = ()
    call_domains: str | Iterable[str] = ()
    call_methods: str | Iterable[str] = ANY

    def __post_init__(self) -> None:
        domains = tuple(normalize_domain(domain) for domain in _texts(self.domains))
        call_domains = tuple(normalize_domain(domain) for domain in _texts(self.call_domains))
        given = tuple(role.lower() for role in _texts(self.roles))
        roles = given or ((GUEST,) if domains else ()) + ((BROKER,) if call_domains else ())
        for name, value in (
            ("domains", domains),
            ("call_domains", call_domains),
            ("roles", roles),
            ("peer_ids", _texts(self.peer_ids)),
            ("call_methods", tuple(method.upper() for method in _texts(self.call_methods))),
        ):
            object.__setattr__(self, name, value)
            self._check_texts(name, value)
        if wrong := set(roles) - {GUEST, BROKER}:
            raise self._wrong(f"has the role {min(wrong)!r}: there are 'guest' and 'broker'")
        if not roles:
            raise self._wrong("permits nothing: say which domains its Guests may serve, or call_domains")
        for role, key, values in ((GUEST, "domains", domains), (BROKER, "call_domains", call_domains)):
            if role in roles and not values:
                raise self._wrong(f"has the role {role}, but no {key}")
            if values and role not in roles:
                raise self._wrong(f"has {key}, which are for the role {role}, and its roles leave that out")
        if not self.call_methods:
            raise self._wrong("has an empty call_methods: leave it out to permit every method")

    def _check_texts(self, name: str, values: tuple[str, ...]) -> None:
        if "" in values:
            raise self._wrong(f"has an empty text in {name}")

    def _wrong(self, what: str) -> VerserConfigurationError:
        return VerserConfigurationError(
            f"[[host.policy]] {self.name} {what}." if self.name else f"A policy entry {what}."
        )

    def lets_in(self, identity: Identity, role: str, peer_id: str) -> bool:
        """Whether such a peer may register in this role, under this id."""
        if role not in self.roles:
            return False
        if self.peer_ids:
            return globs(_texts(self.peer_ids)).match(peer_id)
        return own_name(identity, peer_id) is not None

    def lets_serve(self, domain: str) -> bool:
        """Whether it may register this domain, which is normalised."""
        return globs(_texts(self.domains)).match(domain)

    def lets_see(self, domain: str) -> bool:
        """Whether it may call this domain, which is normalised, with some method."""
        return globs(_texts(self.call_domains)).match(domain)

    def lets_call(self, domain: str, method: str) -> bool:
        """Whether it may call this domain with this method."""
        return globs(_texts(self.call_methods)).match(method) and self.lets_see(domain)

    @property
    def lets_call_everything(self) -> bool:
        """Whether it may call every domain with every method."""
        return globs(_texts(self.call_domains)).everything and globs(_texts(self.call_methods)).everything


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntry(Permissions):
    """Peers, and what they may do. All that is given of `cn` … `registration_token` has to fit.

    Attributes:
        cn: CN of the certificate, a pattern or several, one of which has to match.
        dns, uri: The same for names in subjectAltName.
        fingerprint: SHA-256 of the certificate as hex, or several; colons and `sha256:` may be there.
        registration_token: A secret that the peer shows when it registers, of 16 characters or more;
            only its digest is kept.
        token_digest: That digest, instead.

    Example:
        PolicyEntry(cn="shop-*", domains=["shop.test", "*.shop.test"])
        PolicyEntry(cn="dashboard", call_domains="*.shop.test", call_methods=["GET", "WEBSOCKET"])
        PolicyEntry(registration_token=secret, peer_ids="lab-*", domains="lab.test")
    """

    cn: str | Iterable[str] = ()
    dns: str | Iterable[str] = ()
    uri: str | Iterable[str] = ()
    fingerprint: str | Iterable[str] = ()
    registration_token: InitVar[str | None] = None
    token_digest: bytes = field(default=b"", repr=False)

    def __post_init__(self, registration_token: str | None) -> None:
        Permissions.__post_init__(self)
        values = {
            "cn": _texts(self.cn),
            "dns": tuple(name.lower() for name in _texts(self.dns)),
            "uri": _texts(self.uri),
            "fingerprint": tuple(self._fingerprint(text) for text in _texts(self.fingerprint)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
            self._check_texts(name, value)
        if registration_token is not None:
            if len(registration_token) < MIN_TOKEN_CHARS:
                raise self._wrong(
                    f"has a registration token of fewer than {MIN_TOKEN_CHARS} characters, which can be "
                    "guessed: make one with `openssl rand -hex 32`"
                )
            object.__setattr__(self, "token_digest", digest(registration_token))
        if not self.token_digest and not any(values.values()):
            raise self._wrong("names nobody: give cn, dns, uri, fingerprint or a registration token")
        if not self.needs_certificate and not self.peer_ids:
            raise self._wrong("needs peer_ids: without a certificate nothing says what the peer is called")

    @property
    def needs_certificate(self) -> bool:
        """Whether only a peer with a certificate can match."""
        return bool(self.cn or self.dns or self.uri or self.fingerprint)

    def is_for(self, identity: Identity) -> bool:
        """Whether this peer is meant. Takes the same time for every token."""
        token = not self.token_digest or hmac.compare_digest(self.token_digest, identity.token_digest)
        return token and self._is_for_certificate(identity)

    def _is_for_certificate(self, identity: Identity) -> bool:
        wanted = (
            (self.cn, identity.common_names),
            (self.dns, tuple(name.lower() for name in identity.dns_names)),
            (self.uri, identity.uris),
        )
        return all(not names or globs(_texts(names)).match_any(shown) for names, shown in wanted) and (
            not self.fingerprint or identity.fingerprint in self.fingerprint
        )

    def _fingerprint(self, text: str) -> str:
        plain = text.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
        if _SHA256.fullmatch(plain) is None:
            raise self._wrong(
                f"has the fingerprint {text!r}, which is not the SHA-256 of a certificate in hex: "
                "`openssl x509 -noout -fingerprint -sha256 -in FILE` shows it"
            )
        return plain


class Policy:
    """A list of entries, as a function: from who wants in to what it may do."""

    def __init__(self, entries: Iterable[PolicyEntry]) -> None:
        self.entries = tuple(entries)

    @property
    def needs_certificate(self) -> bool:
        """Whether nobody can come in without a certificate."""
        return all(entry.needs_certificate for entry in self.entries)

    @property
    def has_tokens(self) -> bool:
        """Whether a registration token is of use here."""
        return any(entry.token_digest for entry in self.entries)

    def __call__(self, applicant: Applicant) -> tuple[Permissions, ...]:
        """What the peer may do: all entries that are for it. Every entry is looked at, whatever was found."""
        return tuple([entry for entry in self.entries if entry.is_for(applicant.identity)])


PolicyFunction = Callable[["Applicant"], Permissions | Iterable[Permissions] | None]
"""The same in code: called once for each registration; None or nothing refuses the peer."""


def own_name(identity: Identity, peer_id: str) -> str | None:
    """The longest name of the certificate that the id is, or begins with before `-` or `~`; or None."""
    fitting = [
        name for name in identity.names if peer_id == name or peer_id.startswith((f"{name}-", f"{name}~"))
    ]
    return max(fitting, key=len, default=None)


def _texts(value: Names) -> tuple[str, ...]:
    """One text or several, as a tuple."""
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else tuple(value)

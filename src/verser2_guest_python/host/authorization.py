"""Who may do what on a Host: every decision is made here, and nowhere else.

    Authorization     everybody everything; programs override its methods
    ├── LocalOnly     nothing is known of anybody: only peers on this machine
    ├── OwnNames      certificates, and no policy: a peer is called as its certificate says
    └── ByPolicy      what a policy permits

A peer is judged once when it registers (`admit`), and gets a `Grant`: by that each of its requests is
judged, and which routes it sees. The code that registers, forwards and announces only asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from typing import Final

from verser2_guest_python.errors import AuthorizationDeniedError, VerserUsageError
from verser2_guest_python.host.identity import Identity
from verser2_guest_python.host.policy import Permissions, Policy, PolicyEntry, PolicyFunction, own_name
from verser2_guest_python.wire.registration import GUEST

MAX_DOMAINS_OF_A_NAME: Final = 10_000
"""How many domains one certificate's name can own on a Host without a policy."""

IDENTITY_KEY: Final = "identity"
"""In the context of a refusal, for the log alone: who was refused, and by which entries."""

_MAX_JUDGEMENTS: Final = 1_024
_SHOWN_DOMAINS: Final = 5


@dataclass(frozen=True, slots=True)
class Applicant:
    """A peer that wants to register.

    `certificate` is DER, None without client certificate; `identity` is what it says, in parts.
    """

    peer_id: str
    role: str
    domains: tuple[str, ...]
    address: str
    certificate: bytes | None = None
    token: str | None = field(default=None, repr=False)
    identity: Identity = field(default_factory=Identity)


class Grant:
    """What one registered peer may do. This one is asked for by `Authorization`, and asks it back.

    Attributes:
        applicant: Who it was given to; without the token, which nobody needs any more.
        who: The same in words, for the log.
    """

    __slots__ = ("_authorization", "_peer_id", "applicant", "who")

    def __init__(self, authorization: Authorization, applicant: Applicant) -> None:
        self.applicant: Applicant = replace(applicant, token=None)
        self.who: str = str(applicant.identity)
        self._authorization = authorization
        self._peer_id = applicant.peer_id

    @property
    def identity(self) -> Identity:
        """Who the peer has proven to be."""
        return self.applicant.identity

    def refuse_request(self, target_id: str, domain: str, method: str) -> str | None:
        """Why this Broker may not send this request, or None. Called for every request."""
        return self._authorization.refuse_request(self._peer_id, target_id, domain, method)

    def shows_route(self, target_id: str, domain: str) -> bool:
        """Whether this peer sees this route."""
        return self._authorization.shows_route(self._peer_id, target_id, domain)

    @property
    def shows_all_routes(self) -> bool:
        """Whether it sees the whole table: that is then encoded once for all such peers."""
        return self._authorization.shows_all_routes


class Authorization:
    """Allows everything. A method that refuses returns the reason, which the peer is told.

    Example:
        class GuestsOfTheShop(Authorization):
            def refuse_registration(self, applicant):
                return None if applicant.peer_id.startswith("shop-") else "This Host is the shop's."
    """

    __slots__ = ()

    def refuse_registration(self, applicant: Applicant) -> str | None:
        """Why this peer may not register, or None."""
        return None

    def refuse_request(self, broker_id: str, target_id: str, domain: str, method: str) -> str | None:
        """Why this Broker may not send this request, or None. Called for every request.

        `domain` need not be one that is served. `method` is `WEBSOCKET` for a WebSocket.
        """
        return None

    def shows_route(self, broker_id: str, target_id: str, domain: str) -> bool:
        """Whether this Broker sees this route in its table."""
        return True

    @property
    def shows_all_routes(self) -> bool:
        """Whether every Broker sees the whole table: it is then encoded once for all."""
        return True

    @property
    def needs_certificate(self) -> bool:
        """Whether nobody can come in without a client certificate, on a Host that asks for them."""
        return True

    def admit(self, applicant: Applicant) -> Grant:
        """What the peer may do once it is registered; raises `AuthorizationDeniedError` if it may not be."""
        reason = self.refuse_registration(applicant)
        if reason is not None:
            raise AuthorizationDeniedError(reason)
        return Grant(self, applicant)

    def registered(self, applicant: Applicant) -> None:
        """The peer that was admitted has registered."""


class LocalOnly(Authorization):
    """For a Host that asks for no certificate and has no policy: whoever is on this machine may do all."""

    __slots__ = ()

    def refuse_registration(self, applicant: Applicant) -> str | None:
        if is_loopback(applicant.address):
            return None
        return (
            "This Host knows no client certificates and has no policy: only peers on its own machine may "
            "register."
        )


class OwnNames(Authorization):
    """For a Host that asks for certificates and has no policy.

    A peer id has to be a name of the certificate, or begin with one and `-` or `~`. A domain belongs to the
    name that registered it first, as long as the Host runs.
    """

    __slots__ = ("_counts", "_owners")

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def refuse_registration(self, applicant: Applicant) -> str | None:
        names = applicant.identity.names
        own = own_name(applicant.identity, applicant.peer_id)
        if own is None:
            if not names:
                return "The certificate has no name that a peer id could be."
            return (
                f"The certificate is for {_listed(names)}: the peer id has to be such a name, or to begin "
                f"with one and - or ~, and is {applicant.peer_id}."
            )
        taken = [domain for domain in applicant.domains if self._owners.get(domain, own) not in names]
        if taken:
            return f"Another certificate has registered {_listed(taken)} first."
        new = sum(domain not in self._owners for domain in applicant.domains)
        if self._counts.get(own, 0) + new > MAX_DOMAINS_OF_A_NAME:
            return f"{own} has registered {MAX_DOMAINS_OF_A_NAME:,} domains, and may not register more."
        return None

    def registered(self, applicant: Applicant) -> None:
        own = own_name(applicant.identity, applicant.peer_id)
        if own is None:
            return
        for domain in applicant.domains:
            if domain not in self._owners:
                self._owners[domain] = own
                self._counts[own] = self._counts.get(own, 0) + 1


class ByPolicy(Authorization):
    """Asks a policy once for each registration; what that permits is what the peer may do until it leaves."""

    __slots__ = ("_policy",)

    def __init__(self, policy: PolicyFunction) -> None:
        self._policy = policy

    @property
    def needs_certificate(self) -> bool:
        """A function can say so by an attribute of this name."""
        return bool(getattr(self._policy, "needs_certificate", True))

    def admit(self, applicant: Applicant) -> Grant:
        permissions = _as_tuple(self._policy(applicant))
        role, peer_id = applicant.role, applicant.peer_id
        if not permissions:
            raise AuthorizationDeniedError(_unknown(applicant))
        of_role = [one for one in permissions if role in one.roles]
        if not of_role:
            raise _not_let(applicant, permissions, f"register as a {role}")
        fitting = [one for one in of_role if one.lets_in(applicant.identity, role, peer_id)]
        if not fitting:
            raise _not_let(applicant, of_role, f"register under the id {peer_id}")
        wrong = [domain for domain in applicant.domains if not any(one.lets_serve(domain) for one in fitting)]
        if wrong:
            raise _not_let(applicant, fitting, f"register {_listed(wrong)}")
        return PolicyGrant(applicant, tuple(fitting))


class PolicyGrant(Grant):
    """What a policy permits one peer: for a Broker which requests, for a Guest none."""

    __slots__ = ("_judgements", "_permissions")

    def __init__(self, applicant: Applicant, permissions: tuple[Permissions, ...]) -> None:
        self.applicant = replace(applicant, token=None)
        self.who = _named(applicant.identity, permissions)
        self._peer_id = applicant.peer_id
        self._permissions = () if applicant.role == GUEST else permissions
        self._judgements: dict[tuple[str, str], bool] = {}

    def refuse_request(self, target_id: str, domain: str, method: str) -> str | None:
        allowed = self._judgements.get((domain, method))
        if allowed is None:
            allowed = any(one.lets_call(domain, method) for one in self._permissions)
            if len(self._judgements) >= _MAX_JUDGEMENTS:
                self._judgements.clear()
            self._judgements[domain, method] = allowed
        return None if allowed else f"The policy does not let {self._peer_id} call {domain} with {method}."

    def shows_route(self, target_id: str, domain: str) -> bool:
        return target_id == self._peer_id or any(one.lets_see(domain) for one in self._permissions)

    @property
    def shows_all_routes(self) -> bool:
        return any(one.lets_call_everything for one in self._permissions)


def choose_authorization(
    policy: Iterable[PolicyEntry] | PolicyFunction | None,
    authorization: Authorization | None,
    *,
    allow_anonymous: bool,
    has_ca: bool,
) -> Authorization:
    """Who decides, of the ways to say it; raises `VerserUsageError` where they contradict each other."""
    if sum((policy is not None, authorization is not None, allow_anonymous)) > 1:
        raise VerserUsageError("Give one of policy, authorization and allow_anonymous, not several.")
    if authorization is not None:
        return authorization
    if policy is not None:
        decide = policy if callable(policy) else Policy(policy)
        if isinstance(decide, Policy) and not has_ca and decide.needs_certificate:
            raise VerserUsageError(
                "The policy is for peers with certificates only, and no client_ca_file says which of them to "
                "trust: give it, or entries with a registration token."
            )
        return ByPolicy(decide)
    if allow_anonymous:
        if has_ca:
            raise VerserUsageError("With a client_ca_file nobody is anonymous: leave allow_anonymous out.")
        return Authorization()
    return OwnNames() if has_ca else LocalOnly()


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own, also in the IPv6 form of an IPv4 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


def _named(identity: Identity, permissions: Iterable[Permissions]) -> str:
    """A peer for the log, with the entries that are for it."""
    names = ", ".join(dict.fromkeys(one.name for one in permissions if one.name))
    return f"{identity} ({names})" if names else str(identity)


def _not_let(applicant: Applicant, by: Iterable[Permissions], what: str) -> AuthorizationDeniedError:
    """The peer is told in its own terms; `context`, for the log, also says which entries were asked."""
    error = AuthorizationDeniedError(f"The policy does not let {applicant.identity} {what}.")
    error.context[IDENTITY_KEY] = _named(applicant.identity, by)
    return error


def _unknown(applicant: Applicant) -> str:
    identity = applicant.identity
    if identity.fingerprint:
        also = " with this registration token" if identity.token_digest else ""
        return f"The policy has no entry for {identity}{also}."
    if identity.token_digest:
        return "The policy has no entry with this registration token."
    return (
        "It has shown neither a client certificate nor a registration token, one of which the policy wants."
    )


def _as_tuple(found: Permissions | Iterable[Permissions] | None) -> tuple[Permissions, ...]:
    if found is None:
        return ()
    return (found,) if isinstance(found, Permissions) else tuple(found)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN_DOMAINS} more" if len(shown) > _SHOWN_DOMAINS else ""
    return f"{', '.join(shown[:_SHOWN_DOMAINS])}{more}"

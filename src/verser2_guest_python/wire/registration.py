"""Registration: how a peer introduces itself, and what the Host answers (protocol.md §2).

It stands apart because it comes first: everything else on a session waits for its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from verser2_guest_python.errors import InvalidRegistrationError, VerserError, VerserProtocolError

from .domains import is_domain, normalize_domain
from .errors_wire import refusal_of
from .excerpt import excerpt
from .json_fields import sendable_text
from .json_text import dump, parse_object
from .limits import MAX_PEER_ID_CHARS
from .routes import Registered, Route, read_registered, routes_json

GUEST: Final = "guest"
BROKER: Final = "broker"

_HOST_STATUSES: Final = frozenset({200, 403, 502})
_PEER_ID: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Registration:
    """Who a peer is: `role` is `guest` or `broker`; domains are normalised and for Guests only."""

    peer_id: str
    role: str
    routed_domains: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)


def encode_registration(registration: Registration) -> bytes:
    """The body of a registration request.

    Raises:
        InvalidRegistrationError: the peer id, the role, a domain or the token cannot be registered.
    """
    body: dict[str, Any] = {
        "peerId": _checked_peer_id(registration.peer_id),
        "role": _checked_role(registration.role),
    }
    if registration.role == GUEST:
        body["routedDomains"] = list(_checked_domains(registration.routed_domains))
    if registration.token is not None:
        body["registrationToken"] = registration.token
    return dump(body)


def parse_registration(body: bytes) -> Registration:
    """The registration in a request body.

    Raises:
        VerserProtocolError: it is not a JSON object.
        InvalidRegistrationError: the peer id, the role, the domains or the token cannot be registered.
    """
    values = parse_object(body, "The registration")
    peer_id = _checked_peer_id(values.get("peerId"))
    role = _checked_role(values.get("role"))
    token = values.get("registrationToken")
    if token is not None and (not isinstance(token, str) or not token):
        raise InvalidRegistrationError("The registrationToken is not a text.")
    domains = values.get("routedDomains")
    if role == BROKER or domains is None:
        return Registration(peer_id, role, (), token)
    if not isinstance(domains, list):
        raise InvalidRegistrationError(f"routedDomains is {excerpt(domains)}, where an array is due.")
    return Registration(peer_id, role, _checked_domains(domains), token)


def encode_registered(routes: Iterable[Route], extensions: Iterable[str] = ()) -> bytes:
    """The answer to a registration that was taken; for a Broker the caller adds a newline."""
    body: dict[str, Any] = {"status": "registered", "routes": routes_json(routes)}
    announced = list(extensions)
    if announced:
        body["extensions"] = announced
    return dump(body)


def encode_refusal(error: VerserError) -> bytes:
    """The body of a refusal by policy, HTTP 403: `closed`, the reason, and the error object (§14)."""
    message = sendable_text(error.message)
    return dump({"status": "closed", "reason": message, "error": {"code": error.code, "message": message}})


def parse_registration_answer(status: int, body: bytes) -> Registered:
    """The answer to a registration.

    Args:
        status: of HTTP.
        body: of the answer: the whole of it for a Guest, the first line for a Broker.

    Raises:
        AuthorizationDeniedError: the Host's policy refused it.
        InvalidRegistrationError: the Host refused it; `taken` tells whether the peer id is in use.
        VerserError: the Host refused it with another code.
        VerserProtocolError: the answer makes no sense.
    """
    what = f"The answer to the registration (HTTP {status})"
    try:
        values = parse_object(body, what)
    except VerserProtocolError as error:
        if body.lstrip().startswith(b"{"):
            raise
        raise _no_host(status) from error
    if status not in _HOST_STATUSES and values.keys().isdisjoint(("status", "error")):
        raise _no_host(status)
    if status == 200 and values.get("status") == "registered":
        return read_registered(values, what)
    raise refusal_of(status, values)


def _no_host(status: int) -> VerserProtocolError:
    """Any web site that speaks HTTP/2 lets a peer in so far."""
    return VerserProtocolError(
        f"This is not a Verser Host: it answered the registration with HTTP {status}, as some other site "
        "would. Check the name and the port in the Host's URL."
    )


def is_peer_id(text: str) -> bool:
    """Whether a text can be a peer id, and something put behind it too."""
    return len(text) <= MAX_PEER_ID_CHARS // 2 and _PEER_ID.fullmatch(text) is not None


def _checked_peer_id(value: object) -> str:
    peer_id = value.strip() if isinstance(value, str) else value
    if peer_id is None or peer_id == "":
        raise InvalidRegistrationError("The peer id is missing or empty.")
    if not isinstance(peer_id, str):
        raise InvalidRegistrationError(f"The peer id is {excerpt(peer_id)}, where a text is due.")
    if len(peer_id) > MAX_PEER_ID_CHARS:
        raise InvalidRegistrationError(
            f"The peer id has {len(peer_id):,} characters; at most {MAX_PEER_ID_CHARS} are possible."
        )
    if _PEER_ID.fullmatch(peer_id) is None:
        # Each lease carries it in a header field, where nothing else is safe (protocol.md §13).
        raise InvalidRegistrationError(f"The peer id {excerpt(peer_id)} is not printable ASCII.")
    return peer_id


def _checked_role(value: object) -> str:
    if value in (GUEST, BROKER):
        return str(value)
    raise InvalidRegistrationError(f"The role is {excerpt(value)}; it can be 'guest' or 'broker'.")


def _checked_domains(values: Iterable[object]) -> tuple[str, ...]:
    domains: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str):
            raise InvalidRegistrationError(f"A routed domain is {excerpt(value)}, where a text is due.")
        domain = normalize_domain(value)
        if not is_domain(domain):
            raise InvalidRegistrationError(
                f"The routed domain {excerpt(value)} is not an exact hostname (without wildcard; names "
                "beyond ASCII in their xn-- form)."
            )
        domains[domain] = None
    return tuple(domains)

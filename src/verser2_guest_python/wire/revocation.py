"""Revocation: a Guest takes routes back, and the Host says which are gone (protocol.md §9).

It stands apart because its answers are shaped unlike all others: a status of its own, not an error object.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from verser2_guest_python.errors import RevocationFailedError, VerserProtocolError

from .errors_wire import error_of
from .excerpt import excerpt, readable
from .json_fields import sendable_text
from .json_text import dump, parse_object

ACK: Final = "ack"
PARTIAL: Final = "partial"
ERROR: Final = "error"


@dataclass(frozen=True, slots=True)
class RevocationAnswer:
    """What became of a revocation: `status` is `ack`, `partial` or `error`.

    `failed` maps each domain that is not revoked to the reason.
    """

    status: str
    message: str = ""
    failed: dict[str, str] = field(default_factory=dict)


def encode_revocation(domains: Iterable[str]) -> bytes:
    """The body of a revocation request."""
    return dump({"domains": list(domains)})


def parse_revocation(body: bytes) -> tuple[str, ...]:
    """The domains to revoke, as they were given, each once.

    Raises:
        VerserProtocolError: it is not a JSON object.
        RevocationFailedError: the list is missing, empty or not one of texts. A Host answers 400.
    """
    domains = parse_object(body, "The revocation").get("domains")
    if not isinstance(domains, list) or not domains:
        raise RevocationFailedError("The revocation names no domains.")
    for domain in domains:
        if not isinstance(domain, str) or not domain.strip():
            raise RevocationFailedError(f"The revocation names {excerpt(domain)}, which is not a domain.")
    return tuple(dict.fromkeys(domain.strip() for domain in domains))


def encode_revocation_answer(answer: RevocationAnswer) -> bytes:
    """The body of the answer; `message` and `failedDomains` only where they say something."""
    said: dict[str, Any] = {"status": answer.status}
    if answer.message:
        said["message"] = sendable_text(answer.message)
    if answer.failed:
        said["failedDomains"] = [
            {"domain": domain, "error": sendable_text(reason)} for domain, reason in answer.failed.items()
        ]
    return dump(said)


def parse_revocation_answer(status: int, body: bytes) -> RevocationAnswer:
    """The answer to a revocation, refusals included: their `status` is `error`.

    Args:
        status: of HTTP.
        body: the whole body.

    Raises:
        RevocationFailedError: the answer is malformed.
        VerserError: the Host answered with an error object.
    """
    try:
        values = parse_object(body, f"The answer to the revocation (HTTP {status})")
    except VerserProtocolError as malformed:
        raise RevocationFailedError(malformed.message) from None
    error = error_of(values)
    if error is not None:
        raise error
    said = values.get("status")
    if not isinstance(said, str) or said not in ((ACK, PARTIAL, ERROR) if status == 200 else (ERROR,)):
        raise RevocationFailedError(
            f"The Host answered the revocation with HTTP {status} and status {excerpt(said)}."
        )
    message = values.get("message")
    failed = values.get("failedDomains")
    return RevocationAnswer(
        said,
        readable(message) if isinstance(message, str) else "",
        _read_failed(failed) if isinstance(failed, list) else {},
    )


def _read_failed(items: list[Any]) -> dict[str, str]:
    failed = {}
    for item in items:
        domain = item.get("domain") if isinstance(item, dict) else None
        if not isinstance(domain, str):
            raise RevocationFailedError(
                f"The answer to the revocation has {excerpt(item)} among failedDomains, not a domain."
            )
        reason = item.get("error")
        failed[domain] = readable(reason) if isinstance(reason, str) else ""
    return failed

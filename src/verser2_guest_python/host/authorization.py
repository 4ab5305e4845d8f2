"""Who may do what on a Host: every decision is asked for here, and nowhere else.

The default lets everybody do everything that the protocol allows; a Host that knows more about its
peers (certificates, tokens, a policy) subclasses `Authorization`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Applicant:
    """A peer that wants to register. `certificate` is DER, None without client certificate."""

    peer_id: str
    role: str
    domains: tuple[str, ...]
    address: str
    certificate: bytes | None = None
    token: str | None = field(default=None, repr=False)


class Authorization:
    """Allows everything. A method that refuses returns the reason, which the peer is told."""

    __slots__ = ()

    def refuse_registration(self, applicant: Applicant) -> str | None:
        """Why this peer may not register, or None."""
        return None

    def refuse_request(self, broker_id: str, target_id: str, domain: str, method: str) -> str | None:
        """Why this Broker may not send this request, or None. Called for every request.

        `method` is `WEBSOCKET` for a WebSocket.
        """
        return None

    def shows_route(self, broker_id: str, target_id: str, domain: str) -> bool:
        """Whether this Broker sees this route in its table."""
        return True

    @property
    def shows_all_routes(self) -> bool:
        """Whether every Broker sees the whole table: it is then encoded once for all."""
        return True

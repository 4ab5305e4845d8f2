"""What all requests of one gateway share: the Broker, the names, whom to trust, the limits.

Apart from the app because the cycles need it, and the app needs the cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.broker.queue import Queue

from .forwarding import Forwarding
from .limits import GatewayLimits
from .refusal import Refusal, host_away, unknown_name
from .routing import Names


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """See `create_gateway`."""

    broker: VerserBroker
    names: Names
    forwarding: Forwarding
    limits: GatewayLimits
    route_wait: float
    list_routes: bool
    queue: Queue = field(default_factory=Queue)
    """Who waits for a route that is away."""

    def find(self, authority: str) -> str:
        """The domain that a `host` header leads to; raises a `Refusal` when there is none."""
        domain = self.names.find(authority)
        if domain is None:
            raise unknown_name(authority) if self.broker.connected else host_away(authority)
        return domain

    def listed_names(self, refusal: Refusal) -> list[str] | None:
        """The names that the page of a refusal lists; None where it lists none."""
        if not self.list_routes or refusal.status != 404:
            return None
        return self.names.shown(route.domain for route in self.broker.get_routes())

"""The door of a listener: which connections may begin a TLS handshake.

Apart from the listener because it decides before anything has been spent on a connection, and must not
itself grow with the number of those who knock: it remembers so many addresses, and no more.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from .ration import Ration

if TYPE_CHECKING:
    from .tls import TlsTransport

MAX_ADDRESSES = 10_000
_NETWORK_BITS_IPV6 = 64  # what one customer has: addresses in it cost nothing (RFC 6177)


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Connections that a listener takes."""

    connection_burst: int
    """Connections that one address (of IPv6, one /64) may open at once …"""

    connections_per_second: float
    """… and a second after that."""

    handshakes: int
    """TLS handshakes at a time; one more ends the one that has taken longest."""


class Door:
    """Lets connections in, or not. `on_refused` is told the address and which limit it was."""

    def __init__(
        self, limits: DoorLimits, clock: Callable[[], float], on_refused: Callable[[str, str], None] | None
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._on_refused = on_refused
        self._rations: OrderedDict[str, Ration] = OrderedDict()
        self._handshakes: OrderedDict[TlsTransport, None] = OrderedDict()

    def admits(self, transport: TlsTransport, address: str) -> bool:
        """Whether this connection may begin its handshake; `left` says when that is over."""
        now = self._clock()
        if not self._ration(network_of(address), now).take(now):
            self._refused(address, "connections")
            return False
        self._handshakes[transport] = None
        if len(self._handshakes) > self._limits.handshakes:
            # The oldest: who means it is through within moments.
            oldest, _ = self._handshakes.popitem(last=False)
            self._refused(oldest.peer_address[0], "handshakes")
            oldest.turn_away()
        return True

    def left(self, transport: TlsTransport) -> None:
        """Its handshake is over, one way or the other."""
        self._handshakes.pop(transport, None)

    def _ration(self, network: str, now: float) -> Ration:
        ration = self._rations.get(network)
        if ration is None:
            if len(self._rations) >= MAX_ADDRESSES:
                self._rations.popitem(last=False)  # the one that has not been seen for longest
            limits = self._limits
            ration = Ration(limits.connection_burst, limits.connections_per_second, now)
            self._rations[network] = ration
        else:
            self._rations.move_to_end(network)
        return ration

    def _refused(self, address: str, limit: str) -> None:
        if self._on_refused is not None:
            self._on_refused(address, limit)


@lru_cache(maxsize=1_024)
def network_of(address: str) -> str:
    """Whom an address counts for: itself, or its /64 where it is of IPv6."""
    try:
        given = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(given, ipaddress.IPv6Address):
        if given.ipv4_mapped is not None:
            return str(given.ipv4_mapped)
        return str(ipaddress.ip_network((given, _NETWORK_BITS_IPV6), strict=False))
    return address

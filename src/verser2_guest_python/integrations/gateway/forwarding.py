"""Request headers on their way through: what the client may say, and what the gateway says about it.

Apart because it is a question of trust. Who the client is, which scheme and which host it used, only the
gateway knows; a proxy before it knows better, where the gateway is told to trust its address.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.wire.headers import HOP_BY_HOP

Pairs = list[tuple[str, str]]

_FOR: Final = "x-forwarded-for"
_PROTO: Final = "x-forwarded-proto"
_HOST: Final = "x-forwarded-host"
_FORWARDED: Final = "x-forwarded-"
_OURS: Final = "x-verser-"  # words of the wire, which no client has to say
_STANDARD: Final = frozenset({"forwarded", "x-real-ip"})
# `host` goes with the URL; an expectation ends here, as the gateway answers it
_NEVER: Final = HOP_BY_HOP | {"host", "expect"}
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Forwarding:
    """Makes the headers of a request as they go to the app.

    Args:
        trusted: Networks (`10.0.0.0/8`, `::1`) of proxies whose headers are believed.

    Raises:
        VerserUsageError: one of them is no network.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = tuple(_network(text) for text in trusted)

    def trusts(self, peer: str) -> bool:
        """Whether `peer`, an address, is a proxy to be believed."""
        if not self._trusted:
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)

    def headers(self, scope: Any, host: str) -> tuple[Pairs, str]:
        """The headers for the app, and the address of the client.

        Of a trusted proxy, what it says is passed on: its own address is not added, so that the last
        entry is the client, which is the one that apps behind a Guest believe.
        """
        peer = scope.get("client")
        address = str(peer[0]) if peer else ""
        trusted = self.trusts(address)
        kept: Pairs = []
        said: dict[str, str] = {}
        listed: set[str] = set()
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in _NEVER:
                if name == "connection":
                    listed.update(item.strip().lower() for item in value.split(","))
                continue
            if name.startswith(_OURS) or (not trusted and _is_forged(name)):
                continue
            if name in (_FOR, _PROTO, _HOST):
                said[name] = f"{said[name]}, {value}" if name in said else value
                continue
            kept.append((name, value))
        if listed:
            kept = [pair for pair in kept if pair[0] not in listed]
        if address:
            said.setdefault(_FOR, address)
        said.setdefault(_PROTO, _SCHEMES.get(scope.get("scheme", "http"), "http"))
        said.setdefault(_HOST, host)
        kept.extend(said.items())
        return kept, said.get(_FOR, address).rpartition(",")[2].strip()


def _is_forged(name: str) -> bool:
    """Names that only a proxy may say, and names that some apps take for one of them (`x_forwarded_for`)."""
    return name.startswith(_FORWARDED) or name in _STANDARD or "_" in name


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise VerserUsageError(f"{text!r} is not a network such as 10.0.0.0/8: {error}.") from None

"""A WebSocket before it is opened: everything the caller said, checked.

Apart from its opening, as `request.py` is from `delivery.py`: nothing here waits, and the same wish can be
put to one Guest after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from verser2_guest_python.broker.options import check_seconds
from verser2_guest_python.broker.request import RequestHeaders, header_pairs
from verser2_guest_python.broker.target import WEBSOCKET_SCHEMES, Target, parse_target
from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.wire.headers import is_token, join_request_headers

_OWN_HEADERS = "sec-websocket-"


@dataclass(frozen=True, slots=True)
class WebSocketWish:
    """A checked WebSocket. `offer` are the subprotocols that are offered, in one string; times are seconds.

    `headers` are the caller's: a Host that passes none on drops them, and a warning says so. `context` goes
    beside them where the Host takes headers; where not, nobody has asked for it, and nobody is warned.
    """

    url: str
    target: Target
    offer: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float | None
    lease_timeout: float | None
    context: Mapping[str, str] = field(default_factory=dict, repr=False)


def websocket_wish(
    url: str,
    *,
    protocol: str | None,
    subprotocols: Iterable[str] | None,
    headers: RequestHeaders | None,
    route_domain: str | None,
    timeout: float | None,
    lease_timeout: float | None,
) -> WebSocketWish:
    """A WebSocket from what the caller said.

    Raises `VerserUsageError` or `VerserProtocolError`, which say what cannot be said and why.
    """
    check_seconds("timeout", timeout)
    check_seconds("lease_timeout", lease_timeout)
    target = parse_target(url, route_domain, WEBSOCKET_SCHEMES)
    given = {} if headers is None else join_request_headers(header_pairs(headers))
    offer = _offer(protocol, subprotocols) or given.get("sec-websocket-protocol", "")
    kept = {name: value for name, value in given.items() if not name.startswith(_OWN_HEADERS)}
    return WebSocketWish(url, target, offer, kept, timeout, lease_timeout)


def _offer(protocol: str | None, subprotocols: Iterable[str] | None) -> str:
    """What is offered, as one string."""
    if protocol is not None and subprotocols is not None:
        raise VerserUsageError("Only one of protocol and subprotocols can be offered.")
    if protocol is not None:
        return protocol.strip()
    if isinstance(subprotocols, str):
        raise VerserUsageError("subprotocols is a list of names, not one string: give that as protocol.")
    offered = list(subprotocols or ())
    for name in offered:
        if not is_token(name):
            raise VerserUsageError(f"{name!r} is not the name of a subprotocol.")
    return ", ".join(offered)

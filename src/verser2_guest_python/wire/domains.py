"""How two domain names are compared: lower case, no port, no trailing dot (protocol.md §7).

It stands apart because the route tables of Host and Broker and a Guest's own list must agree.
"""

from __future__ import annotations

import re
from typing import Final

MAX_DOMAIN_CHARS: Final = 253
"""RFC 1035 §2.3.4, without the trailing dot."""

_DOMAIN: Final = re.compile(
    r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
    r"|\[[0-9a-f:.]{2,45}\]"
)


def normalize_domain(authority: str) -> str:
    """A domain as route tables compare it, from a domain or from `host:port`.

    Total: a text that is no authority comes back in lower case, and no route will match it.

    Example:
        normalize_domain("A.Local.Test.:8443")  # "a.local.test"
        normalize_domain("[::1]:8443")          # "[::1]"
    """
    text = authority.strip().lower()
    if text.startswith("["):
        end = text.find("]")
        return text if end < 0 else text[: end + 1]
    host, _, port = text.partition(":")
    if ":" in port:
        return text  # more than one colon: an IPv6 address without brackets, or no authority at all
    return host.removesuffix(".")


def is_domain(domain: str) -> bool:
    """Whether a normalised text can be a routed domain: an exact hostname or a bracketed address.

    Names beyond ASCII are registered in their `xn--` form; there are no wildcards (protocol.md §2).
    """
    return len(domain) <= MAX_DOMAIN_CHARS and _DOMAIN.fullmatch(domain) is not None

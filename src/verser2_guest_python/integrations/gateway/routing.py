"""From the name that a client asks for to the domain of a route.

Apart because it is the whole of who is reached from outside: names of maps first, then routes by their own
name unless only maps count, then, for names that can only mean this machine, one default.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.wire.domains import is_domain, normalize_domain

_REMEMBERED_DOMAINS: Final = 1_000
_IPV4: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*))(?::[0-9]{0,5})?")
_LOCALHOST: Final = "localhost"


def is_authority(text: str) -> bool:
    """Whether a `host` header can be one: a name or an address, and perhaps a port."""
    return _AUTHORITY.fullmatch(text) is not None


class Names:
    """The names of one gateway.

    Args:
        maps: Public names, and the domains that they stand for.
        only_mapped: Whether names that no map has are unknown, also where a route has them.
        default_domain: What answers `localhost`, unknown names under it and plain addresses: no other
            name, or a page from anywhere could reach it by pointing a name of its own here.
        has_route: Whether there is a route for a domain, a degraded one too.
    """

    def __init__(
        self,
        maps: Mapping[str, str],
        *,
        only_mapped: bool,
        default_domain: str | None,
        has_route: Callable[[str], bool],
    ) -> None:
        self._maps = {_checked(name, "name"): _checked(domain, "domain") for name, domain in maps.items()}
        self._only_mapped = only_mapped
        self._default = None if default_domain is None else _checked(default_domain, "domain")
        self._has_route = has_route
        self._seen: OrderedDict[str, None] = OrderedDict()  # domains that had a route once

    def find(self, authority: str) -> str | None:
        """The domain for a `host` header; None when nothing has that name, and never had."""
        name = normalize_domain(authority)
        domain = self._maps.get(name)
        if domain is not None:
            return domain
        if not self._only_mapped:
            if self._has_route(name):
                self._remember(name)
                return name
            if name in self._seen:
                return name
        return self._default if _is_local(name) else None

    def shown(self, domains: Iterable[str]) -> list[str]:
        """The names under which somebody may ask, given the domains that have routes."""
        served = set(domains)
        names = {name for name, domain in self._maps.items() if domain in served}
        return sorted(names if self._only_mapped else names | served)

    def _remember(self, domain: str) -> None:
        self._seen[domain] = None
        self._seen.move_to_end(domain)
        if len(self._seen) > _REMEMBERED_DOMAINS:
            self._seen.popitem(last=False)


def _is_local(name: str) -> bool:
    return (
        name == _LOCALHOST
        or name.endswith(f".{_LOCALHOST}")
        or name.startswith("[")
        or _IPV4.fullmatch(name) is not None
    )


def _checked(text: str, what: str) -> str:
    domain = normalize_domain(text)
    if not (is_authority(text.strip()) and is_domain(domain)):
        raise VerserUsageError(f"{text!r} is not a {what}: write it like app.local.test.")
    return domain

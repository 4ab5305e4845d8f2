"""Who may look: loopback, a name of this machine, the token of the printed URL, and no other page.

Apart because each line of it is a rule that stands for an attack: a neighbour on the network, a name
that is made to point here (DNS rebinding), a page of another site that sends requests from the user's
browser, another user of this machine.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from typing import Final

from verser2_guest_python.asgi.types import Scope

TOKEN_PARAMETER: Final = "token"  # noqa: S105 - the name of a parameter
_TOKEN_BYTES: Final = 16  # as strong as AES-128, and the URL fits into a line of 80 columns
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDED: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})
_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443


class Refused(Exception):
    """This request is not answered; `status` and a sentence for people."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Access:
    """The rules, and the secrets that they need.

    Args:
        token: What the printed URL says; None makes one up (128 bits).
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token if token is not None else secrets.token_urlsafe(_TOKEN_BYTES)
        self._session = secrets.token_urlsafe(_TOKEN_BYTES)

    # --- What does not depend on who asks -------------------------------------------------

    def check_place(self, scope: Scope) -> None:
        """It comes from this machine, and was meant for it; raises `Refused`."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        client = scope.get("client")
        if not client or not is_loopback(str(client[0])):
            raise Refused(403, "The inspector answers to this machine only.")
        if any(name in _FORWARDED for name, _ in headers):
            raise Refused(403, "The inspector answers to this machine only, and not through a proxy.")
        hosts = [value for name, value in headers if name == b"host"]
        server = scope.get("server")
        port = server[1] if server else None
        if len(hosts) != 1 or not is_own_name(hosts[0].decode("latin-1"), port, _scheme(scope)):
            raise Refused(421, f"The inspector is called localhost:{port}: open the URL that was printed.")

    def check_source(self, scope: Scope) -> None:
        """It comes from a page of our own, where it could do or tell something; raises `Refused`."""
        headers = dict(scope["headers"])
        unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        origin = headers.get(b"origin")
        own = f"{_scheme(scope)}://".encode() + headers[b"host"]
        if (origin is None and unsafe) or (origin is not None and origin != own):
            raise Refused(403, "This request comes from another page than the inspector.")
        if headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
            raise Refused(403, "This request comes from another page than the inspector.")

    # --- Who asks -------------------------------------------------------------------------

    def knows_token(self, given: str) -> bool:
        """Whether this is the token of the printed URL; takes as long whatever is wrong with it."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def check_cookie(self, scope: Scope) -> None:
        """It has shown the token before; raises `Refused`."""
        name = self._cookie_name(scope)
        for field, value in scope["headers"]:
            if field != b"cookie":
                continue
            for pair in value.decode("latin-1").split(";"):
                key, _, given = pair.strip().partition("=")
                if key == name and hmac.compare_digest(given.encode("utf-8"), self._session.encode()):
                    return
        raise Refused(401, "Open the URL that was printed at the start: the token in it opens the inspector.")

    def cookie(self, scope: Scope, path: str) -> str:
        """The `set-cookie` value that stands for the token from now on."""
        secure = "; Secure" if _scheme(scope) == "https" else ""
        name = self._cookie_name(scope)
        return f"{name}={self._session}; Path={path}; HttpOnly; SameSite=Strict{secure}"

    def _cookie_name(self, scope: Scope) -> str:
        """With the port in it: cookies of one name are shared by all ports."""
        server = scope.get("server")
        return f"verser_inspector_{server[1] if server else 0}"


def is_loopback(address: str) -> bool:
    """Whether a peer's address is of this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def is_own_name(host: str, port: int | None, scheme: str = "http") -> bool:
    """Whether a `host` field names this machine as the inspector is reached: with its port."""
    name, colon, given = host.rpartition(":")
    if not colon or given.endswith("]"):
        name, given = host, str(_HTTPS_PORT if scheme in ("https", "wss") else _HTTP_PORT)
    if port is None or given != str(port):
        return False
    name = name.lower()
    return name in _NAMES or (name.endswith(".localhost") and not name.startswith("."))


def _scheme(scope: Scope) -> str:
    scheme = str(scope.get("scheme", "http"))
    return {"ws": "http", "wss": "https"}.get(scheme, scheme)

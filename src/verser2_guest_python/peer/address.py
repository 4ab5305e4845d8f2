"""The address of a Host: what `host_url` says, checked once.

Apart because a mistake in it is a mistake of the caller (exit code 2, never retried), and has
to be told as one sentence before anything is dialled.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from verser2_guest_python.errors import VerserUsageError

_DEFAULT_PORT = 443
_EXAMPLE = "write it as https://host.example or https://host.example:8443"


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where a Host listens.

    `host` is a name (ASCII, lower case) or an IP address without brackets; `authority` is the
    `:authority` of every stream to it, always with the port (protocol.md §1).
    """

    host: str
    port: int
    authority: bytes
    url: str

    def __str__(self) -> str:
        return self.authority.decode("ascii")


def parse_host_url(url: str) -> HostAddress:
    """The address in `url`, such as `https://localhost:8443`; port 443 when it names none.

    Raises `VerserUsageError` with a sentence that says what is wrong with it.
    """
    text = url.strip()
    if not text:
        raise VerserUsageError(f"The Host URL is empty: {_EXAMPLE}.")
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise VerserUsageError(f"The Host URL {url!r} has no scheme: {_EXAMPLE}.")
    if scheme.lower() != "https":
        raise VerserUsageError(
            f"The Host URL {url!r} begins with {scheme}://, but a Host is reached by https only."
        )
    try:
        parts = urlsplit(text)
        name, port = parts.hostname, parts.port
    except ValueError as error:
        raise VerserUsageError(f"The Host URL {url!r} is not a URL ({error}): {_EXAMPLE}.") from None
    if not name:
        raise VerserUsageError(f"The Host URL {url!r} names no host: {_EXAMPLE}.")
    if parts.username is not None or parts.password is not None:
        raise VerserUsageError(
            "The Host URL holds a user name or a password, which a Host does not know: leave them out."
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise VerserUsageError(f"The Host URL {url!r} goes on after the port: {_EXAMPLE}.")
    if port == 0:
        raise VerserUsageError(f"The Host URL {url!r} has port 0: name the port that the Host listens on.")
    host = _ascii_host(name, url)
    port = _DEFAULT_PORT if port is None else port
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return HostAddress(host, port, authority.encode("ascii"), f"https://{authority}")


def _ascii_host(name: str, url: str) -> str:
    """The name as DNS and TLS know it: international names become their `xn--` form."""
    try:
        host = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise VerserUsageError(f"The Host URL {url!r} holds a name that DNS cannot say: {name!r}.") from None
    if any(character <= " " or character == "\x7f" for character in host):
        raise VerserUsageError(f"The Host URL {url!r} has a blank or control character in its name.")
    return host

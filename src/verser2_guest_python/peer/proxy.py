"""The proxy on the way to a Host: which one, from an option or the environment, and a socket through it.

Apart because out of many networks there is no other way, and because a proxy's URL holds credentials:
they live in a `Proxy` and leave it only towards the proxy, never in a message, a log or a `repr`.

HTTP proxies are asked by CONNECT right here, because what answers in two packets, or asks for a
password, has to be understood; SOCKS5 is python-socks' business (extra `proxy`).
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from verser2_guest_python.errors import VerserConfigurationError, VerserError, VerserUsageError
from verser2_guest_python.http2 import HostUnreachable
from verser2_guest_python.http2.dialing import interleave, open_tcp
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.wire.excerpt import readable

HTTP: Final = "http"
SOCKS5: Final = "socks5"
SOCKS5_REMOTE_NAMES: Final = "socks5h"

_SCHEMES: Final = (HTTP, SOCKS5, SOCKS5_REMOTE_NAMES)
_DEFAULT_PORT: Final = 1080  # curl's, for every kind of proxy
_MAX_HEAD_BYTES: Final = 65_536
_MAX_SOCKS_CREDENTIAL_BYTES: Final = 255  # RFC 1929 §2
_UNLIMITED_SECONDS: Final = 86_400.0  # python-socks wants a number; `http2.connect` has the real limit
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")

# The first that is set and not empty counts, as for curl and an https URL.
_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_EXCEPTIONS: Final = ("no_proxy", "NO_PROXY")


class ProxyFailed(HostUnreachable):
    """The proxy did not lead to the Host; `hint` says what to do about it."""

    def __init__(self, address: str, reason: str, hint: str) -> None:
        super().__init__(address, reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, as its URL describes it; `str()` is that URL without credentials.

    With `socks5` this machine looks up the Host's name, with `socks5h` the proxy does (as for curl);
    an `http` proxy always does. `source` is the variable of the environment that it came from, if any.
    """

    scheme: str
    host: str
    port: int
    source: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{_authority(self.host, self.port)}"

    async def open_socket(self, host: str, port: int) -> socket.socket:
        """A connected socket to `host`, through the proxy; the `open_socket` of `http2.connect`.

        Raises:
            ProxyFailed: the proxy cannot be reached, or does not connect.
            VerserConfigurationError: python-socks is needed, and is not installed.
        """
        if self.scheme == HTTP:
            return await self._open_http(host, port)
        return await self._open_socks(host, port)

    def _failed(self, host: str, port: int, what: str, hint: str) -> ProxyFailed:
        if self.source:
            hint = f"{hint} It comes from {self.source} in the environment."
        return ProxyFailed(_authority(host, port), f"the proxy {self} {what}", hint)

    def _unreachable(self, host: str, port: int, error: OSError) -> ProxyFailed:
        reason = _reason(error)
        hint = "Is the proxy running, and is its address right?"
        return self._failed(host, port, f"cannot be reached: {reason}", hint)

    # --- HTTP CONNECT (RFC 9110 §9.3.6) ---------------------------------------------------

    async def _open_http(self, host: str, port: int) -> socket.socket:
        try:
            sock = await open_tcp(self.host, self.port)
        except OSError as error:
            raise self._unreachable(host, port, error) from error
        try:
            await asyncio.get_running_loop().sock_sendall(sock, self._connect_request(host, port))
            head = await _read_head(sock)
        except OSError as error:
            sock.close()
            raise self._failed(host, port, f"broke off: {_reason(error)}", "Is it an HTTP proxy?") from error
        except BaseException:
            sock.close()
            raise
        status = _STATUS_LINE.match(head)
        complete = _HEAD_END.search(head) is not None
        granted = status is not None and status[1].startswith(b"2")
        if granted and complete:
            return sock
        sock.close()
        if status is None or granted:
            what = (
                "closed the connection before it answered"
                if not head
                else "did not answer as HTTP proxies do"
            )
            raise self._failed(host, port, what, "Is it an HTTP proxy, and is its port right?")
        raise self._refused(host, port, int(status[1]), (status[2] or b"").decode("utf-8", "replace"))

    def _connect_request(self, host: str, port: int) -> bytes:
        target = _authority(host, port)
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.username is not None:
            token = base64.b64encode(f"{self.username}:{self.password or ''}".encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {token}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def _refused(self, host: str, port: int, status: int, reason: str) -> ProxyFailed:
        if status == 407:
            if self.username is None:
                what = "wants a user name and a password (407)"
                hint = "Write them into its URL, percent-encoded: http://NAME:PASSWORD@…"
            else:
                what, hint = "does not accept the user name and the password (407)", "Check them in its URL."
            return self._failed(host, port, what, hint)
        what = f"did not connect: it answered {status} {readable(reason.strip())}".rstrip()
        return self._failed(host, port, what, "Ask whoever runs the proxy to let this address through.")

    # --- SOCKS5 (RFC 1928) ----------------------------------------------------------------

    async def _open_socks(self, host: str, port: int) -> socket.socket:
        try:
            from python_socks import ProxyConnectionError, ProxyError, ProxyType
            from python_socks.async_.asyncio import Proxy as SocksProxy
        except ImportError:
            where = f" (from {self.source})" if self.source else ""
            raise VerserConfigurationError(
                f"The proxy {self}{where} speaks SOCKS5, which needs python-socks: "
                "pip install 'verser2-guest-python[proxy]'."
            ) from None
        unreachable: OSError = OSError("there is no address to connect to")
        for address in await self._addresses(host, port):
            proxy = SocksProxy(
                ProxyType.SOCKS5,
                address,
                self.port,
                self.username,
                self.password,
                rdns=self.scheme == SOCKS5_REMOTE_NAMES,
            )
            try:
                return await proxy.connect(host, port, timeout=_UNLIMITED_SECONDS)
            except ProxyConnectionError as error:
                unreachable = error
            except ProxyError as error:
                hint = (
                    "Check its URL, the user name and the password, and whether it lets this address through."
                )
                reason = _lowered(readable(str(error)))
                raise self._failed(host, port, f"did not connect: {reason}", hint) from error
            except socket.gaierror as error:
                what = f"was not asked, because this machine cannot look up the name: {_reason(error)}"
                hint = "Write socks5h:// to have the proxy look it up."
                raise self._failed(host, port, what, hint) from error
            except OSError as error:
                hint = "Is it a SOCKS5 proxy, and is its port right?"
                raise self._failed(host, port, f"broke off: {_reason(error)}", hint) from error
        cause = unreachable.__cause__ if isinstance(unreachable.__cause__, OSError) else unreachable
        raise self._unreachable(host, port, cause) from unreachable

    async def _addresses(self, host: str, port: int) -> list[str]:
        """The proxy's own addresses; python-socks would try the first one only."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._unreachable(host, port, error) from error
        return [str(address[0]) for _, address in interleave([(item[0], item[4]) for item in found])]


async def _read_head(sock: socket.socket) -> bytes:
    """The answer to CONNECT up to its empty line. Nothing comes behind it: in TLS the client begins."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    while _HEAD_END.search(head) is None and len(head) < _MAX_HEAD_BYTES:
        data = await loop.sock_recv(sock, _MAX_HEAD_BYTES - len(head))
        if not data:
            break
        head += data
    return bytes(head)


# --- Which proxy ----------------------------------------------------------------------------


def find_proxy(
    address: HostAddress, proxy: str | None = None, environ: Mapping[str, str] | None = None
) -> Proxy | None:
    """The proxy on the way to `address`; None dials directly. Does no I/O.

    `proxy` is a URL (`http://`, `socks5://`, `socks5h://`, with `NAME:PASSWORD@` where it asks for
    them; port 1080 without one), and an empty one switches proxies off. Without it the environment
    counts, as for curl: `HTTPS_PROXY`, then `ALL_PROXY`, each also in lower case, which goes first, and
    not for what `NO_PROXY` lists.

    Raises:
        VerserUsageError: `proxy` cannot be used.
        VerserConfigurationError: what the environment says cannot be used.

    Example:
        session = await dial(address, tls, proxy=find_proxy(address))
    """
    if proxy is not None:
        return _parse(proxy.strip(), "", VerserUsageError) if proxy.strip() else None
    environ = os.environ if environ is None else environ
    for name in _VARIABLES:
        value = environ.get(name, "").strip()
        if value:
            if is_excepted(address.host, next((environ[key] for key in _EXCEPTIONS if environ.get(key)), "")):
                return None
            return _parse(value, name, VerserConfigurationError)
    return None


def is_excepted(host: str, no_proxy: str) -> bool:
    """Whether `NO_PROXY` lists a host, as curl reads it.

    Entries are parted by commas or blanks: `*` for all, a domain with all below it (with or without a
    dot in front), an IP address, or a network such as `10.0.0.0/8`.
    """
    name = host.rstrip(".").lower()
    try:
        address = ip_address(name)
    except ValueError:
        address = None
    for entry in no_proxy.replace(",", " ").split():
        if entry == "*":
            return True
        if address is None:
            domain = entry.strip(".").lower()
            if domain and (name == domain or name.endswith(f".{domain}")):
                return True
            continue
        try:
            if address in ip_network(entry.strip("[]"), strict=False):
                return True
        except ValueError:
            continue  # a name, and the host is none
    return False


def _parse(url: str, source: str, error: type[VerserError]) -> Proxy:
    """The proxy in a URL. No message shows the URL: it may hold a password."""
    text = url if "://" in url else f"{HTTP}://{url}"  # as curl reads it

    def bad(what: str) -> VerserError:
        where = f" in {source}" if source else ""
        return error(
            f"The proxy URL{where} {what}. Write it as http://proxy.example:3128 or "
            "socks5h://proxy.example:1080, special characters of a user name or a password percent-encoded."
        )

    scheme = text.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise bad("is of a kind that is not known here")
    try:
        parts = urlsplit(text)
        name, port = parts.hostname, parts.port
        host = (name or "").encode("idna").decode("ascii") if name and not name.isascii() else name
    except (ValueError, UnicodeError):
        raise bad("is not a URL") from None  # its text may show a part of the password
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise bad("goes on after its port")
    if not host or any(character <= " " or character == "\x7f" for character in host):
        raise bad("has no usable host name")
    if port == 0:
        raise bad("has port 0")
    username, password = _credentials(parts)
    fault = _credential_fault(scheme, username, password)
    if fault:
        raise bad(fault)
    return Proxy(scheme, host, _DEFAULT_PORT if port is None else port, source, username, password)


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    """User name and password, decoded; none at all for an empty user name."""
    if not parts.username:
        return None, None
    return unquote(parts.username), unquote(parts.password or "")


def _credential_fault(scheme: str, username: str | None, password: str | None) -> str | None:
    if username is None or password is None:
        return None
    both = username + password
    if any(character < " " or character == "\x7f" for character in both):
        return "has a control character in its user name or password"
    if scheme == HTTP:
        return "has a colon in its user name, which HTTP cannot say" if ":" in username else None
    if not both.isascii():
        return "has other characters than ASCII in its user name or password, which SOCKS5 cannot say"
    if not all(0 < len(part) <= _MAX_SOCKS_CREDENTIAL_BYTES for part in (username, password)):
        return "has a user name or a password that SOCKS5 cannot say: both are due, of at most 255 characters"
    return None


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    return _lowered(error.strerror or str(error) or type(error).__name__)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]

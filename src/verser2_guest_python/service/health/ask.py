"""Asks a running process how it is, as `verser2-guest health` does: for containers without curl.

Apart from the server because it must start fast: it loads neither asyncio nor the settings model.
"""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.service.settings.environment import shown_variable
from verser2_guest_python.service.settings.sources import Sources

_MAX_ANSWER_BYTES: Final = 65_536
_DEFAULT_PORT: Final = 80
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked for, not listened on


class _SocketConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask_health(sources: Sources, url: str | None, *, path: str, timeout: float) -> tuple[bool, str]:
    """Whether the answer is yes, and the sentence that says why; no answer is a no.

    `url` names who is asked, else the health settings do, the socket first. Raises `VerserUsageError` when
    nothing says whom to ask.
    """
    connection, where = _connection(sources, url, timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else _reason(error)
        return False, f"not reachable at {where}: {reason}"
    finally:
        connection.close()
    text = " ".join(body.decode("utf-8", "replace").split())
    sentence = "".join(character for character in text if character.isprintable())
    return response.status == http.client.OK, sentence or f"{where} answered {response.status}"


def _connection(sources: Sources, url: str | None, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    if url is not None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme != "http" or not host or parts.path not in {"", "/"}:
            raise VerserUsageError(f"{url!r} does not fit: give http://HOST:PORT, or HOST:PORT.")
        return http.client.HTTPConnection(host, port or _DEFAULT_PORT, timeout=timeout), url
    if found := sources.find("health.socket"):
        name = str(Path(str(found.value)))
        return _SocketConnection(name, timeout), name
    if found := sources.find("health.listen"):
        from verser2_guest_python.service.settings.health_address import parse_listen

        address = parse_listen(str(found.value))
        host = _ANY_ADDRESS.get(address.host, address.host)
        return http.client.HTTPConnection(host, address.port, timeout=timeout), str(address)
    raise VerserUsageError(
        "Nothing says whom to ask: give --health-socket or --health-listen as the Guest has it, or set "
        f"{shown_variable('health.socket')} or {shown_variable('health.listen')}, or give a URL."
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]

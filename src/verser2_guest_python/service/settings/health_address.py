"""Where health checks are answered: a TCP address or the path of a socket.

Apart from the server because whoever asks needs it too, and nothing else of that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from verser2_guest_python.errors import VerserUsageError


@dataclass(frozen=True, slots=True)
class HealthAddress:
    """Where to listen, or to ask: a TCP address, or the path of a socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> HealthAddress:
    """`127.0.0.1:9464` or `[::1]:9464`; raises `VerserUsageError`."""
    host, colon, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) != (bare is not host) or not re.fullmatch(r"\d{1,5}", port):
        raise VerserUsageError(
            f"The health address {text!r} does not fit: write HOST:PORT, such as 127.0.0.1:9464."
        )
    if int(port) > 65_535:
        raise VerserUsageError(f"The health address {text!r} does not fit: a port is at most 65535.")
    return HealthAddress(bare, int(port))

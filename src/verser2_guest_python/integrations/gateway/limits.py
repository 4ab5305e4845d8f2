"""What a gateway takes from clients, and how long it waits: every number with its unit and its reason.

Apart because the command line, the ASGI app and the server's protocol all keep to the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from verser2_guest_python.errors import VerserUsageError

DEFAULT_MAX_BODY_BYTES: Final = 1 << 30
DEFAULT_MAX_HEADER_BYTES: Final = 16_384
"""A request head travels in one piece of 16,375 bytes (protocol.md §12.1): more would only fail later."""
DEFAULT_LIMIT_CONCURRENCY: Final = 1_000
DEFAULT_TIMEOUT_SECONDS: Final = 60.0
DEFAULT_HEAD_TIMEOUT_SECONDS: Final = 20.0
DEFAULT_READ_TIMEOUT_SECONDS: Final = 60.0
DEFAULT_WRITE_TIMEOUT_SECONDS: Final = 60.0

_ABOVE_ZERO: Final = (
    "max_header_bytes",
    "limit_concurrency",
    "timeout",
    "head_timeout",
    "read_timeout",
    "write_timeout",
)


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """The limits of a gateway.

    Attributes:
        max_body_bytes: The longest request body; more is answered with 413.
        max_header_bytes: The longest head of a request, its line included; more is answered with 431.
        limit_concurrency: Requests and WebSockets at a time; one more is answered with 503.
        timeout: Seconds for the head of the answer, from the last piece of the request that was sent on;
            then 504. A body that has begun may pause for as long as it likes.
        head_timeout: Seconds for the head of a request to come; then 408.
        read_timeout: Seconds for the next piece of a request body to come from the client; then 408.
        write_timeout: Seconds in which a client must read something of what waits for it; then it is cut off.

    Raises:
        VerserUsageError: a number is not above 0.
    """

    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    max_header_bytes: int = DEFAULT_MAX_HEADER_BYTES
    limit_concurrency: int = DEFAULT_LIMIT_CONCURRENCY
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    head_timeout: float = DEFAULT_HEAD_TIMEOUT_SECONDS
    read_timeout: float = DEFAULT_READ_TIMEOUT_SECONDS
    write_timeout: float = DEFAULT_WRITE_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if not value > 0 or math.isnan(value):
                raise VerserUsageError(f"{name} is {value}: give a number above 0.")
        if self.max_body_bytes < 0:
            raise VerserUsageError(f"max_body_bytes is {self.max_body_bytes}: give 0 or more.")

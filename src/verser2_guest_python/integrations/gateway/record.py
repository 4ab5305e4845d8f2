"""What is known of one request or WebSocket when it is over: for access logs and those who watch.

Apart because the cycles fill it in and know nothing of who reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

CLIENT_LEFT = "client-left"
CLIENT_STALLED = "client-stalled"
MESSAGE_TOO_LARGE = "message-too-large"
CLIENT_GONE = 499
"""The status of a request whose client left before it was answered, as nginx writes it."""


@dataclass(slots=True)
class GatewayRecord:
    """One request or WebSocket.

    Attributes:
        client: Address of the client, as a trusted proxy tells it or as it connected.
        method, name, path: What it asked for: `GET`, the host of its `host` header, path and query.
        websocket: Whether it is a WebSocket; then `status` 101 means that it was open.
        domain: The route's domain; empty where there was none.
        target_id: The Guest that answered; empty where none did.
        request_id: What the request is called in the logs of Host and Guest.
        status: What the client was told; 499 when it left before that.
        first_byte_ms: Time until the head of the answer was there, waiting for a lease included.
        lease_wait_ms: How long it waited for a lease of that time, where the Host says (`server_timing`).
        bytes_in, bytes_out: Of the bodies, or of the messages.
        messages_in, messages_out: Of a WebSocket, from the client and to it.
        close_code: How a WebSocket ended.
        reason: Why it did not end well; empty when it did.
        code: The same in a word: a code of protocol.md §8, or one of the gateway's own.
    """

    client: str
    method: str
    name: str
    path: str
    websocket: bool = False
    domain: str = ""
    target_id: str = ""
    request_id: str = ""
    status: int = 0
    first_byte_ms: float | None = None
    lease_wait_ms: float | None = None
    duration_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    close_code: int | None = None
    reason: str = ""
    code: str = ""
    _started: float = field(default_factory=perf_counter, repr=False)

    def answered(self, status: int) -> None:
        """The head of an answer is there."""
        self.status = status
        self.first_byte_ms = (perf_counter() - self._started) * 1000

    def end(self) -> None:
        self.duration_ms = (perf_counter() - self._started) * 1000

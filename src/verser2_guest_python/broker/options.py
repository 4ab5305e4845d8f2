"""What a Broker was created with, checked and in one object.

Apart because it outlives every session: each new one is dialled from the same options.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from verser2_guest_python.errors import InvalidRegistrationError, VerserUsageError
from verser2_guest_python.http2 import SessionOptions
from verser2_guest_python.peer import DEFAULT_CONNECT_TIMEOUT_SECONDS, HostAddress, TlsFiles, find_proxy
from verser2_guest_python.wire.registration import BROKER, Registration, encode_registration

DEFAULT_CLOSE_SECONDS = 30.0
"""What is under way has so long when a Broker is closed."""

DEFAULT_PING_INTERVAL_SECONDS = 15.0
DEFAULT_PING_TIMEOUT_SECONDS = 10.0
DEFAULT_RECONNECT_MAX_DELAY_SECONDS = 30.0
DEFAULT_MAX_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Options of a `VerserBroker`; times are in seconds."""

    addresses: tuple[HostAddress, ...]
    broker_id: str
    tls: TlsFiles
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS
    timeout: float | None = None
    total_timeout: float | None = None
    lease_timeout: float | None = None
    retries: int = 0
    max_redirects: int = DEFAULT_MAX_REDIRECTS
    ping_interval: float = DEFAULT_PING_INTERVAL_SECONDS
    ping_timeout: float = DEFAULT_PING_TIMEOUT_SECONDS
    reconnect: bool = True
    reconnect_max_delay: float = DEFAULT_RECONNECT_MAX_DELAY_SECONDS
    proxy: str | None = field(default=None, repr=False)
    registration_token: str | None = field(default=None, repr=False)
    session: SessionOptions = field(default_factory=SessionOptions)

    def __post_init__(self) -> None:
        if not self.addresses:
            raise VerserUsageError("host_url names no Host: give the URL of one, or of several.")
        for name in (
            "connect_timeout",
            "timeout",
            "total_timeout",
            "lease_timeout",
            "ping_interval",
            "ping_timeout",
            "reconnect_max_delay",
        ):
            check_seconds(name, getattr(self, name))
        check_count("retries", self.retries)
        check_count("max_redirects", self.max_redirects)
        if self.registration_token == "":
            raise VerserUsageError("registration_token is empty: leave it out where the Host asks for none.")
        if self.proxy is not None:
            find_proxy(self.addresses[0], self.proxy)
        try:
            encode_registration(self.registration(self.broker_id))
        except InvalidRegistrationError as error:
            raise VerserUsageError(
                f"The broker_id {self.broker_id!r} cannot be used. {error.message}"
            ) from None

    @property
    def address(self) -> HostAddress:
        """The Host, or the first of several."""
        return self.addresses[0]

    def registration(self, peer_id: str) -> Registration:
        return Registration(peer_id, BROKER, (), self.registration_token)


def check_seconds(name: str, seconds: float | None) -> None:
    """Raises `VerserUsageError` unless it is a time above 0, or None."""
    if seconds is not None and not seconds > 0:
        raise VerserUsageError(f"{name} is {seconds}: give a number of seconds above 0.")


def check_count(name: str, count: int) -> None:
    """Raises `VerserUsageError` unless it is a whole number from 0 up."""
    if type(count) is not int or count < 0:
        raise VerserUsageError(f"{name} is {count!r}: give a whole number, 0 for none.")

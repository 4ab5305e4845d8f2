"""What a Broker was created with, checked and in one object.

Apart because it outlives every session: each new one is dialled from the same options.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from verser2_guest_python.errors import InvalidRegistrationError, VerserUsageError
from verser2_guest_python.http2 import SessionOptions
from verser2_guest_python.peer import DEFAULT_CONNECT_TIMEOUT_SECONDS, HostAddress, TlsFiles
from verser2_guest_python.wire.registration import BROKER, Registration, encode_registration

DEFAULT_PING_INTERVAL_SECONDS = 15.0
DEFAULT_PING_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Options of a `VerserBroker`; times are in seconds."""

    address: HostAddress
    broker_id: str
    tls: TlsFiles
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS
    timeout: float | None = None
    lease_timeout: float | None = None
    ping_interval: float = DEFAULT_PING_INTERVAL_SECONDS
    ping_timeout: float = DEFAULT_PING_TIMEOUT_SECONDS
    registration_token: str | None = field(default=None, repr=False)
    session: SessionOptions = field(default_factory=SessionOptions)

    def __post_init__(self) -> None:
        times = {
            "connect_timeout": self.connect_timeout,
            "timeout": self.timeout,
            "lease_timeout": self.lease_timeout,
            "ping_interval": self.ping_interval,
            "ping_timeout": self.ping_timeout,
        }
        for name, seconds in times.items():
            if seconds is not None and not seconds > 0:
                raise VerserUsageError(f"{name} is {seconds}: give a number of seconds above 0.")
        try:
            encode_registration(self.registration)
        except InvalidRegistrationError as error:
            raise VerserUsageError(
                f"The broker_id {self.broker_id!r} cannot be used. {error.message}"
            ) from None

    @property
    def registration(self) -> Registration:
        return Registration(self.broker_id, BROKER, (), self.registration_token)

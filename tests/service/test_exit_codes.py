"""Which error ends with which code: the table of `interface.md`."""

from __future__ import annotations

import pytest

from verser2_guest_python import errors
from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
from verser2_guest_python.asgi.loading import AppLoadError
from verser2_guest_python.errors import ConnectFailure, VerserConnectionError, VerserError
from verser2_guest_python.service.process.exit_codes import exit_code, exit_code_of_signal

CODES: list[tuple[type[VerserError], int]] = [
    (errors.VerserUsageError, 2),
    (errors.MissingGuestError, 6),
    (errors.LeaseTimeoutError, 28),
    (errors.RequestTimeoutError, 28),
    (errors.StreamFailureError, 56),
    (errors.DisconnectedTargetError, 56),
    (errors.CertificateVerificationError, 60),
    (errors.InvalidRegistrationError, 77),
    (errors.AuthorizationDeniedError, 77),
    (errors.VerserConfigurationError, 78),
    (AppLoadError, 78),
    (LifespanStartupFailed, 1),
    (errors.LocalHandlerFailureError, 1),
    (errors.VerserProtocolError, 1),
    (errors.UpstreamUnavailableError, 1),
    (VerserError, 1),
]


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_an_error_has_a_code(kind: type[VerserError], code: int) -> None:
    assert exit_code(kind("…")) == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (ConnectFailure.UNREACHABLE, 7),
        (ConnectFailure.TIMEOUT, 28),
        (ConnectFailure.ALPN, 35),
        (ConnectFailure.TRUST, 60),
        (ConnectFailure.CERTIFICATE_REFUSED, 60),
    ],
)
def test_a_host_that_was_not_reached_has_a_code_for_each_reason(reason: ConnectFailure, code: int) -> None:
    assert exit_code(VerserConnectionError("…", reason=reason)) == code


def test_every_reason_is_in_the_table() -> None:
    assert len(ConnectFailure) == 5


def test_signals() -> None:
    assert (exit_code_of_signal(2), exit_code_of_signal(15)) == (130, 143)

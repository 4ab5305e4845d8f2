"""Exit codes of every command, and which error ends with which: the one table that scripts rely on.

Apart because daemon and commands must agree on it. The numbers follow curl where curl has one, and
sysexits.h for what is refused (77) or configured wrongly (78).
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import Final

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    CertificateVerificationError,
    ConnectFailure,
    DisconnectedTargetError,
    InvalidRegistrationError,
    MissingGuestError,
    StreamFailureError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserTimeoutError,
    VerserUsageError,
)


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_ROUTE = 6
    UNREACHABLE = 7
    HTTP_ERROR = 22
    OUTPUT = 23
    TIMEOUT = 28
    ALPN = 35
    CUT_OFF = 56
    TRUST = 60
    REFUSED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


class WorkerFailedError(VerserError):
    """What a worker failed with, told by its supervisor: the same sentence, and the same exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_OF_CONNECT_FAILURE: Final = MappingProxyType(
    {
        ConnectFailure.UNREACHABLE: ExitCode.UNREACHABLE,
        ConnectFailure.TRUST: ExitCode.TRUST,
        ConnectFailure.CERTIFICATE_REFUSED: ExitCode.TRUST,
        ConnectFailure.ALPN: ExitCode.ALPN,
        ConnectFailure.TIMEOUT: ExitCode.TIMEOUT,
    }
)

# The first class that fits decides; what is not named here ends with 1.
_OF_ERROR: Final[tuple[tuple[type[VerserError], ExitCode], ...]] = (
    (VerserUsageError, ExitCode.USAGE),
    (VerserConfigurationError, ExitCode.CONFIGURATION),
    (MissingGuestError, ExitCode.NO_ROUTE),
    (VerserTimeoutError, ExitCode.TIMEOUT),
    (StreamFailureError, ExitCode.CUT_OFF),
    (DisconnectedTargetError, ExitCode.CUT_OFF),
    (CertificateVerificationError, ExitCode.TRUST),
    (InvalidRegistrationError, ExitCode.REFUSED),
    (AuthorizationDeniedError, ExitCode.REFUSED),
)


def exit_code(error: VerserError) -> int:
    """The code that a command ends with after `error`."""
    if isinstance(error, WorkerFailedError):
        return error.exit_code
    if isinstance(error, VerserConnectionError):
        return _OF_CONNECT_FAILURE.get(error.reason, ExitCode.UNREACHABLE)
    for kind, code in _OF_ERROR:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def exit_code_of_signal(number: int) -> int:
    """128 and the number, as shells say it: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number

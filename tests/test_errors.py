"""The tree of errors: codes, classes, and what survives on the way (protocol.md §8)."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from verser2_guest_python import LifespanStartupFailed, errors
from verser2_guest_python.errors import (
    WIRE_CODES,
    CertificateVerificationError,
    ConnectFailure,
    InvalidRegistrationError,
    LeaseTimeoutError,
    MissingGuestError,
    RequestHeadTooLargeError,
    RequestTimeoutError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserProtocolError,
    VerserTimeoutError,
    VerserUsageError,
    VerserWebSocketError,
    error_for,
)
from verser2_guest_python.integrations.client_errors import ClientTimeout

# protocol.md §8
CODES = [
    "missing-guest",
    "disconnected-target",
    "timeout",
    "stream-failure",
    "protocol-error",
    "local-handler-failure",
    "invalid-registration",
    "certificate-verification-failure",
    "upstream-unavailable",
    "route-loop",
    "authorization-denied",
    "unsafe-retry",
    "revocation-failed",
    "websocket-negotiation-failed",
]

CLASSES = [
    thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, VerserError)
]


def test_8_the_codes_are_those_of_the_contract() -> None:
    assert frozenset(CODES) == WIRE_CODES


@pytest.mark.parametrize("code", CODES)
def test_8_each_code_has_a_class_of_its_own(code: str) -> None:
    error = error_for(code, "It failed.", {"targetId": "guest-a"})
    assert type(error) is not VerserError
    assert (error.code, error.message, str(error)) == (code, "It failed.", "It failed.")
    assert error.context == {"targetId": "guest-a"}
    assert type(error).default_code == code


def test_an_unknown_code_is_a_plain_error_that_carries_it() -> None:
    error = error_for("from-the-future", "It failed.")
    assert type(error) is VerserError
    assert (error.code, error.context) == ("from-the-future", {})


def test_the_code_is_the_class_s_own_unless_it_is_given() -> None:
    assert MissingGuestError("x").code == "missing-guest"
    assert VerserConfigurationError("x").code == "configuration-error"
    assert VerserUsageError("x").code == "usage-error"
    assert VerserError("x", code="timeout").code == "timeout"
    assert VerserError("x").code not in WIRE_CODES


def test_everything_is_one_tree() -> None:
    for error_class in CLASSES:
        assert issubclass(error_class, RuntimeError)
    assert issubclass(LeaseTimeoutError, VerserTimeoutError)
    assert issubclass(RequestTimeoutError, VerserTimeoutError)
    assert issubclass(RequestHeadTooLargeError, VerserProtocolError)
    assert LeaseTimeoutError("x").code == RequestTimeoutError("x").code == "timeout"
    assert type(error_for("timeout", "x")) is LeaseTimeoutError


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: list[tuple[str, str]] = []
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([ │├└─]*)([A-Z]\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        ancestors[depth:] = [match[2]]
        drawn.append((match[2], ancestors[depth - 1] if depth else ""))
    real = [(cls.__name__, next(base.__name__ for base in cls.__bases__)) for cls in CLASSES]
    assert sorted(drawn[1:]) == sorted(real)
    assert drawn[0] == ("RuntimeError", "")


@pytest.mark.parametrize("error_class", CLASSES)
def test_each_class_says_when_it_is_seen(error_class: type[VerserError]) -> None:
    assert error_class.__doc__
    if error_class not in (VerserError, VerserTimeoutError):
        assert "een " in error_class.__doc__  # "Seen by …", "Seen when …"
    if error_class.default_code in WIRE_CODES and error_class.__bases__[0] is VerserError:
        assert f"`{error_class.default_code}`" in error_class.__doc__


def test_a_connection_error_says_why() -> None:
    assert VerserConnectionError("x").reason is ConnectFailure.UNREACHABLE
    codes = {reason: VerserConnectionError("x", reason=reason).code for reason in ConnectFailure}
    assert codes == {
        ConnectFailure.UNREACHABLE: "disconnected-target",
        ConnectFailure.TRUST: "certificate-verification-failure",
        ConnectFailure.CERTIFICATE_REFUSED: "certificate-verification-failure",
        ConnectFailure.ALPN: "disconnected-target",
        ConnectFailure.TIMEOUT: "disconnected-target",
    }
    assert type(error_for("certificate-verification-failure", "x")) is CertificateVerificationError


def test_a_websocket_error_has_a_status_where_somebody_said_one() -> None:
    assert VerserWebSocketError("x", code="missing-guest", status=404).status == 404
    assert VerserWebSocketError("x").status is None
    for context, status in (
        ({"status": 403}, 403),
        ({"status": True}, None),
        ({"status": "403"}, None),
        ({}, None),
    ):
        error = error_for("websocket-negotiation-failed", "x", context)
        assert isinstance(error, VerserWebSocketError)
        assert error.status == status


def test_a_taken_peer_id_can_be_told() -> None:
    assert InvalidRegistrationError("Peer is already registered").taken
    assert InvalidRegistrationError("[invalid-registration] Peer is already registered (peerId=g").taken
    assert not InvalidRegistrationError("The peer id is missing or empty.").taken


def test_the_context_is_the_error_s_own() -> None:
    given: dict[str, str | int | float | bool] = {"a": 1}
    error = VerserError("x", context=given)
    given["a"] = 2
    assert error.context == {"a": 1}


@pytest.mark.parametrize(
    "error",
    [
        MissingGuestError("No Guest.", context={"domain": "a.test"}),
        error_for("from-the-future", "x", {"a": True}),
        VerserConnectionError("x", reason=ConnectFailure.TRUST),
        VerserWebSocketError("x", code="missing-guest", status=404),
    ],
)
def test_an_error_survives_pickle_and_copy(error: VerserError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(again) is type(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


def test_one_that_is_made_from_something_else_survives_too() -> None:
    error = LifespanStartupFailed("The app did not start.", app_message="no database")
    restored = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (restored.message, restored.app_message) == (error.message, "no database")
    late = pickle.loads(pickle.dumps(ClientTimeout("Too late.", "read")))  # noqa: S301 - our own
    assert (late.code, late.phase) == ("timeout", "read")


def test_repr_shows_all() -> None:
    error = MissingGuestError("No Guest.", context={"domain": "a.test"})
    assert repr(error) == "MissingGuestError('No Guest.', code='missing-guest', context={'domain': 'a.test'})"

"""Why a request is not answered by an app: a status, a code, a sentence for whoever asked.

Apart from the pages that show it, and from the errors of the Broker that are its usual reason: those name
routes and Guests, which are nobody's business out there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from verser2_guest_python.errors import (
    AuthorizationDeniedError,
    DisconnectedTargetError,
    LeaseTimeoutError,
    LocalHandlerFailureError,
    MissingGuestError,
    RequestHeadTooLargeError,
    VerserError,
    VerserTimeoutError,
    VerserWebSocketError,
)
from verser2_guest_python.wire.names import STAGE_KEY, STAGE_QUEUED

RETRY_AFTER: Final = "retry-after"
_BUSY_SECONDS: Final = 1
_AWAY_SECONDS: Final = 5


class Refusal(Exception):
    """A request is answered here, with `status`.

    Attributes:
        code: A code of protocol.md §8, or one of the gateway's own.
        sentence: What the page says.
        detail: What only the log says.
        headers: Further headers of the answer.
        close: Whether the connection cannot be used any more.
    """

    def __init__(
        self,
        status: int,
        code: str,
        sentence: str,
        *,
        detail: str = "",
        request_id: str = "",
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.detail = detail
        self.request_id = request_id or f"gateway-{secrets.token_hex(6)}"
        self.headers = dict(headers or {})
        self.close = close


class ClientGone(Exception):
    """The client has left: there is nobody to answer."""


class AnswerCutOff(Exception):
    """The answer had begun and cannot be finished: the server must close the connection."""


def malformed(what: str) -> Refusal:
    """400: a request that could be read in two ways, or in none."""
    return Refusal(400, "bad-request", f"The request is malformed: {what}.", close=True)


def unknown_name(name: str) -> Refusal:
    """404: no app has that name."""
    return Refusal(404, MissingGuestError.default_code, f"There is no app here by the name of {name}.")


def host_away(name: str) -> Refusal:
    """502: which apps there are, nobody can tell just now."""
    return Refusal(
        502,
        DisconnectedTargetError.default_code,
        f"Whether there is an app by the name of {name} cannot be told.",
    )


def too_busy() -> Refusal:
    """503: the limit of this gateway."""
    return Refusal(
        503,
        "gateway-busy",
        "Too many requests are under way here. Try again in a moment.",
        headers={RETRY_AFTER: str(_BUSY_SECONDS)},
    )


def body_too_large(limit: int) -> Refusal:
    """413: the limit of this gateway."""
    return Refusal(
        413, "body-too-large", f"The body of the request is longer than {limit:,} bytes.", close=True
    )


def head_too_large(detail: str = "") -> Refusal:
    """431: the limit of this gateway, or what the wire can carry."""
    return Refusal(
        431,
        RequestHeadTooLargeError.default_code,
        "The headers of the request are too large: fewer cookies, or a shorter address, may help.",
        detail=detail,
    )


def body_too_slow(seconds: float) -> Refusal:
    """408: the client stopped in the middle of its body."""
    return Refusal(
        408, "request-timeout", f"Nothing of the request's body came for {seconds:g} s.", close=True
    )


def head_slow(seconds: float) -> Refusal:
    """408: a request that was begun and never came."""
    return Refusal(408, "request-timeout", f"The request did not come within {seconds:g} s.", close=True)


def too_late(name: str, seconds: float) -> Refusal:
    """504: the app's time is up."""
    return Refusal(
        504, VerserTimeoutError.default_code, f"The app behind {name} did not answer within {seconds:g} s."
    )


def stopped() -> Refusal:
    """502: the gateway ends, and does not wait for the app any longer."""
    return Refusal(502, "gateway-stopped", "The gateway was stopped before the app had answered.", close=True)


def refusal_for(error: VerserError, name: str, waited: float = 0.0) -> Refusal:
    """What the client is told when the Broker raised `error` for a name that is known.

    `waited`: for how many seconds its route was waited for.
    """
    status, sentence = 502, f"The app behind {name} could not be reached."
    headers: dict[str, str] = {}
    match error:
        case MissingGuestError():
            return _away(error, name, waited)
        case LeaseTimeoutError():
            status, sentence = 503, f"The app behind {name} is busy. Try again in a moment."
            headers = {RETRY_AFTER: str(_BUSY_SECONDS)}
        case VerserTimeoutError():
            status, sentence = 504, f"The app behind {name} did not answer in time."
        case AuthorizationDeniedError():
            status, sentence = 403, f"The app behind {name} may not be called so from here."
        case RequestHeadTooLargeError():
            return head_too_large(error.message)
        case LocalHandlerFailureError():
            sentence = f"The app behind {name} failed before it answered."
    return Refusal(
        status,
        error.code,
        sentence,
        detail=error.message,
        request_id=str(error.context.get("requestId", "")),
        headers=headers,
    )


def _away(error: VerserError, name: str, waited: float) -> Refusal:
    """503: the app is known, and not there; perhaps it was waited for."""
    sentence, detail = f"The app behind {name} is away just now.", error.message
    if waited > 0:
        seconds = f"{round(waited, 2):.3g} s"
        sentence = f"The app behind {name} is away: waited {seconds} for it to come back."
        detail = f"Waited {seconds} for a route to come back. {detail}"
    return Refusal(
        503,
        error.code,
        f"{sentence} Try again in a moment.",
        detail=detail,
        request_id=str(error.context.get("requestId", "")),
        headers={RETRY_AFTER: str(_AWAY_SECONDS)},
    )


def socket_refusal(
    error: VerserWebSocketError, name: str, *, has_route: bool, waited: float = 0.0
) -> Refusal:
    """The same for a WebSocket that did not open; `has_route`: some Guest serves the domain.

    Deployed Hosts say `missing-guest` of an app that refuses as well (protocol.md §11).
    """
    status, sentence = 502, f"The app behind {name} did not open the WebSocket."
    headers: dict[str, str] = {}
    code, queued = error.code, error.context.get(STAGE_KEY) == STAGE_QUEUED
    if error.status is not None and 400 <= error.status < 600 and not queued:
        status, sentence = error.status, f"The app behind {name} refused the WebSocket."
    elif code == AuthorizationDeniedError.default_code:
        status, sentence = 403, f"The app behind {name} may not be called so from here."
    elif code == MissingGuestError.default_code and has_route and not queued:
        status, sentence = 404, f"The app behind {name} refused the WebSocket."
    elif code == MissingGuestError.default_code:
        return _away(error, name, waited)
    elif code == VerserTimeoutError.default_code:
        status, sentence = 504, f"The app behind {name} did not answer in time."
    elif queued:
        status, sentence = 503, f"The app behind {name} is busy. Try again in a moment."
        headers = {RETRY_AFTER: str(_BUSY_SECONDS)}
    return Refusal(status, code, sentence, detail=error.message, headers=headers)

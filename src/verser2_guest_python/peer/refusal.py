"""A refused registration in words for people, and in one word for metrics.

Apart because Hosts say only why (`Peer is already registered`), and because Guest and Broker tell it alike.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from verser2_guest_python.errors import AuthorizationDeniedError, InvalidRegistrationError, VerserError
from verser2_guest_python.http2 import ErrorCode, Session
from verser2_guest_python.peer.address import HostAddress

FailureCause: TypeAlias = Literal["connect-failed", "refused", "busy"]
_BUSY_KEY: Final = "busy"

_TAKEN_HINT = (
    " Another peer has that id, or one that vanished is not given up yet: take another id, or try later."
)


def refused(error: VerserError, address: HostAddress, peer_id: str) -> VerserError:
    """The same refusal with a message that names the Host and the id; other errors as they are."""
    if not isinstance(error, (InvalidRegistrationError, AuthorizationDeniedError)):
        return error
    hint = _TAKEN_HINT if isinstance(error, InvalidRegistrationError) and error.taken else ""
    return type(error)(
        f"{address} did not register {peer_id!r}: {error.message.rstrip('.')}.{hint}",
        code=error.code,
        context=error.context,
    )


def note_busy(error: VerserError, session: Session) -> None:
    """Keeps in `error` whether the Host has ended `session` because it has too much to do."""
    farewell = session.farewell
    if farewell is not None and farewell.code == ErrorCode.ENHANCE_YOUR_CALM:
        error.context[_BUSY_KEY] = True


def cause_of(error: VerserError | None) -> FailureCause:
    """Why an attempt has failed, in a word."""
    if isinstance(error, (InvalidRegistrationError, AuthorizationDeniedError)):
        return "refused"
    return "busy" if error is not None and error.context.get(_BUSY_KEY) is True else "connect-failed"

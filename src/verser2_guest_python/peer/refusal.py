"""A refused registration in words for people: who was refused where, and what to do next.

Apart because Hosts say only why (`Peer is already registered`), and because Guest and Broker tell it alike.
"""

from __future__ import annotations

from verser2_guest_python.errors import AuthorizationDeniedError, InvalidRegistrationError, VerserError
from verser2_guest_python.peer.address import HostAddress

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

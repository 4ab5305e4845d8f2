"""A Guest takes routes back: one exchange, and exactly the answers of protocol.md §9.

Apart because these answers have a table of their own: they are not the error objects of §8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verser2_guest_python.errors import VerserError
from verser2_guest_python.host.bodies import read_body
from verser2_guest_python.http2 import ErrorCode, Http2Error, Stream
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.wire.revocation import (
    ACK,
    ERROR,
    PARTIAL,
    RevocationAnswer,
    encode_revocation_answer,
    parse_revocation,
)

if TYPE_CHECKING:
    from verser2_guest_python.host.session import PeerSession

_NOT_OURS = "Not a route of this Guest"


async def revoke(caller: PeerSession, stream: Stream, fields: dict[bytes, bytes]) -> None:
    """Reads and answers one revocation."""
    core = caller.core
    domains: tuple[str, ...] = ()
    message = ""
    try:
        async with within(core.limits.exchange_seconds):
            body = await read_body(stream, core.limits.registration_bytes, "The revocation")
            domains = parse_revocation(body)
    except Http2Error:
        return
    except TimeoutError:
        stream.reset(ErrorCode.CANCEL)
        return
    except VerserError as error:
        message = error.message
    guest = caller.registered_guest(fields)
    if guest is None:
        _answer(
            caller,
            stream,
            403,
            RevocationAnswer(ERROR, "No Guest of this id has registered on this session."),
        )
        return
    if not domains:
        _answer(caller, stream, 400, RevocationAnswer(ERROR, message))
        return
    failed = dict.fromkeys(core.registry.revoke(guest, domains), _NOT_OURS)
    revoked = [domain for domain in domains if domain not in failed]
    if revoked:
        core.tell("revoked", peer=guest.id, domains=revoked)
    if not failed:
        answer = RevocationAnswer(ACK)
    elif revoked:
        answer = RevocationAnswer(PARTIAL, "Some of the domains are not routes of this Guest.", failed)
    else:
        _answer(
            caller,
            stream,
            404,
            RevocationAnswer(ERROR, "None of the domains is a route of this Guest.", failed),
        )
        return
    _answer(caller, stream, 200, answer)


def _answer(caller: PeerSession, stream: Stream, status: int, answer: RevocationAnswer) -> None:
    caller.core.answers.send_json(stream, status, encode_revocation_answer(answer))

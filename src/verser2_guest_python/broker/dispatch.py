"""One request put to one Guest: the stream, the body, and the answer or the error.

Apart from `delivery` because it is the order of a request's life, from its route to its response;
and a request may be put to several Guests, one after the other.
"""

from __future__ import annotations

from verser2_guest_python.broker.answer import host_error
from verser2_guest_python.broker.exchange import Exchange
from verser2_guest_python.broker.link import Link
from verser2_guest_python.broker.request import Request
from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.broker.routes import RouteEntry
from verser2_guest_python.broker.upload import Upload
from verser2_guest_python.errors import LeaseTimeoutError, MissingGuestError, VerserError
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Http2Error, SessionClosing, StreamReset
from verser2_guest_python.peer import status_of
from verser2_guest_python.wire.names import STAGE_KEY, STAGE_QUEUED


class NotSent(Exception):
    """The link took nothing of the request: another one may. `error` is what to say if there is none."""

    def __init__(self, error: VerserError) -> None:
        super().__init__(error.message)
        self.error = error


async def dispatch(
    link: Link,
    request: Request,
    entry: RouteEntry,
    request_id: str,
    timeout: float | None,
    deadline: float | None,
) -> VerserBrokerResponse:
    """Sends a request and returns the app's answer once its headers are there.

    Raises the Host's error, what ended the stream before the answer, and `NotSent`. Whatever it raises,
    also when its task is cancelled, the stream is reset unless it is closed.
    """
    exchange = await _begin(link, request, entry, request_id)
    try:
        stream = exchange.stream
        fields = await stream.wait_fields()
        status = status_of(fields)
        error, prefix = await host_error(stream, status, fields, marked=link.marks_errors)
        if error is None:
            exchange.rest()
            return VerserBrokerResponse(
                exchange, status, fields, prefix=prefix, timeout=timeout, deadline=deadline
            )
    except Http2Error as failure:
        exchange.end()
        raise exchange.error(failure) from failure
    except BaseException:
        exchange.end()
        raise
    exchange.end()
    await exchange.settle()
    for key, value in exchange.context.items():
        error.context.setdefault(key, value)
    raise error


def never_reached_an_app(error: VerserError, link: Link) -> bool:
    """Whether no app has seen the request that failed so, so that it may go to another (protocol.md §14)."""
    if isinstance(error, MissingGuestError | LeaseTimeoutError) or refused_unseen(error):
        return True
    return link.tells_stage and error.context.get(STAGE_KEY) == STAGE_QUEUED


def refused_unseen(error: VerserError) -> bool:
    """Whether the Host refused the stream before it looked at it (RFC 9113 §8.7), as behind its GOAWAY."""
    cause = error.__cause__
    return isinstance(cause, StreamReset) and cause.remote and cause.code == ErrorCode.REFUSED_STREAM


async def _begin(link: Link, request: Request, entry: RouteEntry, request_id: str) -> Exchange:
    """Opens the stream and sets the body going: at once if it fits, else in a task."""
    guest = entry.guest
    extra, secret = request.fields(request_id, guest.target_id, entry.domain)
    try:
        stream = await link.open_stream(link.requests, extra, secret, end=request.body is None)
    except Http2Error as failure:
        error = link.error(failure, {"requestId": request_id, "domain": entry.domain})
        if isinstance(failure, ConnectionLost | SessionClosing):
            error.__cause__ = failure
            raise NotSent(error) from failure
        raise error from failure
    exchange = Exchange(link, stream, entry, request.method, request.target, request_id)
    body = request.body
    if body is not None and (body.data is None or not stream.write_now(body.data, end=True)):
        exchange.upload = Upload(stream, body, request.declared, link.room)
        link.own(exchange.upload.task)
    return exchange

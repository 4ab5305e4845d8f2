"""Opening a WebSocket: which Guest, and why there is none (protocol.md §11).

Apart from requests because a WebSocket has neither body nor status, and because a refusal by an app
and a Host that knows no such Guest look alike: only a Host that tells the stage (§14) lets it move on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from typing import Protocol

from verser2_guest_python.broker.directory import Directory
from verser2_guest_python.broker.dispatch import NotSent, refused_unseen
from verser2_guest_python.broker.headers import response_headers
from verser2_guest_python.broker.keeper import Keeper
from verser2_guest_python.broker.link import Link
from verser2_guest_python.broker.routes import RouteEntry
from verser2_guest_python.broker.websocket import VerserBrokerWebSocket
from verser2_guest_python.broker.websocket_wish import WebSocketWish
from verser2_guest_python.errors import (
    RequestTimeoutError,
    VerserError,
    VerserUsageError,
    VerserWebSocketError,
)
from verser2_guest_python.http2 import (
    ConnectionLost,
    ErrorCode,
    Fields,
    Http2Error,
    SessionClosing,
    Stream,
)
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.peer import status_of
from verser2_guest_python.peer.websocket import WebSocketChannel
from verser2_guest_python.wire.errors_wire import parse_error_object
from verser2_guest_python.wire.limits import MAX_ERROR_OBJECT_BYTES
from verser2_guest_python.wire.names import (
    HEADERS_FIELD,
    OWN_FIELD_PREFIX,
    SOURCE_ID_FIELD,
    STAGE_KEY,
    STAGE_QUEUED,
    WEBSOCKET_PROTOCOL_FIELD,
)
from verser2_guest_python.wire.websocket_request import WebSocketRequest, encode_websocket_request

DEFAULT_LEASE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.05
_HOST_ERROR_STATUS = 502

_LOGGER = logging.getLogger("verser2_guest_python.broker")


class OpenWebSocket(Protocol):
    """What opens a WebSocket: a `WebSocketOpener`, or what was put in front of it."""

    async def open(self, wish: WebSocketWish) -> VerserBrokerWebSocket:
        """See `WebSocketOpener.open`."""


class WebSocketOpener:
    """Opens the WebSockets of one Broker."""

    def __init__(self, keeper: Keeper, directory: Directory) -> None:
        self._keeper = keeper
        self._directory = directory
        self._random = random.Random()  # noqa: S311 - jitter needs no secrecy
        self._warned = False

    async def open(self, wish: WebSocketWish) -> VerserBrokerWebSocket:
        """See `VerserBroker.websocket`."""
        timeout = wish.timeout
        try:
            async with within(None if timeout == math.inf else timeout):
                return await self._open(wish)
        except TimeoutError:
            raise VerserWebSocketError(
                f"The WebSocket {wish.url} did not open within {timeout:g} s.",
                code=RequestTimeoutError.default_code,
                context={"domain": wish.target.domain},
            ) from None
        except (VerserWebSocketError, VerserUsageError):
            raise
        except VerserError as error:
            raise _as_websocket_error(error) from error

    async def _open(self, wish: WebSocketWish) -> VerserBrokerWebSocket:
        """Tries one Guest after another, and waits for a lease, where that is known to be the trouble."""
        loop = asyncio.get_running_loop()
        keeper, table = self._keeper, self._directory.table
        until = loop.time() + (wish.lease_timeout or DEFAULT_LEASE_SECONDS)
        domain = wish.target.domain
        pause = _FIRST_PAUSE_SECONDS
        avoid: set[str] = set()
        link = keeper.link or await keeper.next_link()
        while True:
            entry = table.choose_for_socket(domain, avoid)
            if entry is None:
                entry = await self._directory.route_for(domain, keeper.check)
                link = keeper.link or await keeper.next_link()
            try:
                return await self._attempt(link, entry, wish)
            except NotSent as failure:
                link = await keeper.next_link(link, failure.error)
            except VerserError as error:
                if refused_unseen(error) and link.session.closing:
                    link = await keeper.next_link(link, error)
                    continue
                if not (link.tells_stage and error.context.get(STAGE_KEY) == STAGE_QUEUED):
                    raise
                avoid.add(entry.guest.target_id)
                if table.choose_for_socket(domain, avoid) is None:
                    busy = error.code == VerserWebSocketError.default_code
                    if not busy or loop.time() >= until:
                        raise
                    with self._directory.queue:
                        await asyncio.sleep(self._random.uniform(pause / 2, pause))
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                    avoid.clear()
                link = keeper.link or await keeper.next_link()

    async def _attempt(self, link: Link, entry: RouteEntry, wish: WebSocketWish) -> VerserBrokerWebSocket:
        guest = entry.guest
        context: dict[str, str | int | float | bool] = {"targetId": guest.target_id, "domain": entry.domain}
        request = WebSocketRequest(
            link.peer_id, guest.target_id, entry.domain, wish.target.path, wish.offer, self._said(link, wish)
        )
        fields = encode_websocket_request(request)
        extra = [field for field in fields if field[0] not in (SOURCE_ID_FIELD, HEADERS_FIELD)]
        secret = [field for field in fields if field[0] == HEADERS_FIELD]
        try:
            stream = await link.open_stream(link.websockets, extra, secret)
        except Http2Error as failure:
            error = link.error(failure, context)
            if isinstance(failure, ConnectionLost | SessionClosing):
                raise NotSent(error) from failure
            raise error from failure
        hold = _Hold(link, entry)
        try:
            answer = await stream.wait_fields()
            status = status_of(answer)
            if status == 200:
                return _opened(stream, answer, hold, wish.offer)
            refusal = await _refusal(stream, status)
        except Http2Error as failure:
            hold.give_back()
            raise link.error(failure, context) from failure
        except BaseException:
            hold.give_back()
            stream.reset(ErrorCode.CANCEL)
            raise
        hold.give_back()
        for key, value in context.items():
            refusal.context.setdefault(key, value)
        raise refusal

    def _said(self, link: Link, wish: WebSocketWish) -> dict[str, str] | None:
        """The headers that this Host passes on."""
        headers, target = wish.headers, wish.target
        if not link.takes_headers:
            if headers and not self._warned:
                self._warned = True
                _LOGGER.warning(
                    "%s passes on no headers of a WebSocket: %s dropped. Put credentials into the query, "
                    "or into the subprotocol",
                    link.address.url,
                    "they are" if len(headers) > 1 else f"{next(iter(headers))} is",
                )
            return None
        if not (headers or wish.context) and target.authority == target.domain:
            return None
        return {"host": target.authority, **headers, **wish.context}


class _Hold:
    """The place of a WebSocket in every count, given back once."""

    def __init__(self, link: Link, entry: RouteEntry) -> None:
        self.link = link
        self.guest = entry.guest
        self._held = True
        link.room.take()
        entry.guest.sockets += 1

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self.guest.sockets -= 1
            self.link.room.give_back()


def _opened(stream: Stream, answer: Fields, hold: _Hold, offer: str) -> VerserBrokerWebSocket:
    protocol = ""
    for name, value in answer:
        if name == WEBSOCKET_PROTOCOL_FIELD:
            protocol = value.decode("latin-1")
    if protocol and protocol != offer and protocol not in [one.strip() for one in offer.split(",")]:
        raise VerserWebSocketError(f"The app chose the subprotocol {protocol!r}, which was not offered.")
    channel = WebSocketChannel(stream, pongs=True)
    sockets = hold.link.sockets
    sockets.add(channel)

    def over() -> None:
        sockets.discard(channel)
        hold.give_back()

    channel.when_over(over)
    channel.start()
    headers = response_headers([field for field in answer if not field[0].startswith(OWN_FIELD_PREFIX)])
    return VerserBrokerWebSocket(channel, protocol=protocol, headers=headers, target_id=hold.guest.target_id)


async def _refusal(stream: Stream, status: int) -> VerserWebSocketError:
    """What the Host answered instead of 200. Raises what reading the stream raises."""
    body = bytearray()
    while chunk := await stream.read():
        body += chunk
        if len(body) > MAX_ERROR_OBJECT_BYTES:
            break
    if stream.at_end and stream.write_error is None and not stream.write_ended:
        stream.write_now(b"", end=True)  # both sides have ended then, and no reset is needed
    stream.discard()
    stream.reset(ErrorCode.CANCEL)
    said = None if status == _HOST_ERROR_STATUS else status
    error = parse_error_object(bytes(body))
    if error is None:
        return VerserWebSocketError(f"The Host answered {status} instead of a WebSocket.", status=said)
    return _as_websocket_error(error, said)


def _as_websocket_error(error: VerserError, status: int | None = None) -> VerserWebSocketError:
    told = error.context.get("status")
    if isinstance(told, int) and not isinstance(told, bool):
        status = told
    return VerserWebSocketError(error.message, code=error.code, context=error.context, status=status)

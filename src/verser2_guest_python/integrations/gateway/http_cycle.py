"""One HTTP request through the gateway: asked, found, sent on, answered piece by piece.

Apart from the app, which only counts: this is the order of a request's life. Whatever ends it early (the
client leaves, a limit, an error of the Broker) cancels the request in the Guest.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Final

from verser2_guest_python.broker.response import VerserBrokerResponse
from verser2_guest_python.errors import MissingGuestError, VerserError
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.wire.headers import HOP_BY_HOP

from .checks import Asked, check_request
from .client import WHOLE_BODY_BYTES, Client, Clock
from .cycle import Cycle
from .pages import Headers
from .record import CLIENT_GONE, CLIENT_LEFT
from .refusal import AnswerCutOff, ClientGone, Refusal, refusal_for, stopped, too_late

CHUNK_BYTES: Final = 65_536
_OURS: Final = "x-verser-"
_WITHOUT_BODY: Final = frozenset({204, 304})
# A server adds its own; two of them help nobody
_NOT_PASSED_ON: Final = HOP_BY_HOP | {"date"}


class HttpCycle(Cycle):
    """One request."""

    async def run(self, refusal: Refusal | None = None) -> None:
        """Answers, whatever happens: with `refusal`, if there is one already.

        Raises `AnswerCutOff` when the client must not take the answer for whole.
        """
        record = self._record
        try:
            if refusal is not None:
                raise refusal
            await self._serve()
        except ClientGone:
            record.status = record.status or CLIENT_GONE
            record.reason, record.code = "the client left", CLIENT_LEFT
        except Refusal as reason:
            await self._refuse(reason)
        except asyncio.CancelledError:  # the time of the drain is over
            with suppress(AnswerCutOff):
                await self._refuse(stopped())
            raise

    async def _serve(self) -> None:
        config, record = self._config, self._record
        asked = check_request(self._scope, config.limits)
        domain, headers = self._look_up(asked)
        async with Client(self._receive, config.limits, has_body=asked.length != 0) as client:
            try:
                response = await self._fetch(asked, domain, headers, client)
                try:
                    await self._answer(response, client)
                finally:
                    await response.aclose()
            except VerserError as error:
                raise refusal_for(error, asked.authority, self._waited) from error
            finally:
                record.bytes_in = client.received

    # --- The request ----------------------------------------------------------------------

    async def _fetch(
        self, asked: Asked, domain: str, headers: list[tuple[str, str]], client: Client
    ) -> VerserBrokerResponse:
        """The head of the answer."""
        config = self._config
        await self._await_route(domain)
        body: bytes | None = None
        if asked.length != 0:
            client.start()
            if asked.length is None or asked.length <= WHOLE_BODY_BYTES:
                body = await client.whole()
        streams = asked.length != 0 and body is None
        url = "*" if asked.path == "*" else f"http://{asked.authority}{asked.path}"
        seconds = config.limits.timeout
        while True:
            limit = within(seconds)
            try:
                async with limit:
                    return await config.broker.request(
                        self._scope["method"],
                        url,
                        headers=headers,
                        body=client.pieces(Clock(limit, seconds)) if streams else body,
                        route_domain=domain,
                        timeout=math.inf,
                        max_redirects=0,
                    )
            except TimeoutError:
                raise too_late(asked.authority, seconds) from None
            except MissingGuestError:
                if streams or not await self._route_returns(domain):
                    raise

    # --- The answer -----------------------------------------------------------------------

    async def _answer(self, response: VerserBrokerResponse, client: Client) -> None:
        record = self._record
        record.request_id, record.target_id = response.request_id, response.target_id
        record.answered(response.status)
        if response.lease_wait is not None:
            record.lease_wait_ms = response.lease_wait * 1000
        headers = _answer_headers(response)
        if response.status >= 400 and not client.complete:
            headers.append((b"connection", b"close"))  # nobody wants the rest of the body
        whole = await response.read() if response.arrived else None
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        if whole is not None:
            client.served()
            record.bytes_out = len(whole)
            await self._say(start, {"type": "http.response.body", "body": whole})
            return
        await self._say(start)
        try:
            async for chunk in response.aiter_bytes(CHUNK_BYTES):
                record.bytes_out += len(chunk)
                await self._say({"type": "http.response.body", "body": chunk, "more_body": True})
        except (VerserError, Refusal) as error:
            record.reason = error.message if isinstance(error, VerserError) else error.sentence
            record.code = error.code
            raise AnswerCutOff(record.reason) from error
        client.served()
        await self._say({"type": "http.response.body", "body": b""})

    async def _refuse(self, refusal: Refusal) -> None:
        record = self._record
        self._note(refusal)
        if self._begun:
            raise AnswerCutOff(refusal.sentence)
        record.answered(refusal.status)
        headers, body = self._page(refusal)
        record.bytes_out = 0 if self._scope["method"] == "HEAD" else len(body)  # the server leaves it out
        await self._say(
            {"type": "http.response.start", "status": refusal.status, "headers": headers},
            {"type": "http.response.body", "body": body},
        )


def _answer_headers(response: VerserBrokerResponse) -> Headers:
    """The headers of an app's answer as the client gets them."""
    dropped = _NOT_PASSED_ON
    if response.status in _WITHOUT_BODY:
        dropped |= {"content-length"}
    return [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in response.headers.multi_items()
        if name not in dropped and not name.startswith(_OURS)
    ]

"""What a request and a WebSocket through the gateway have in common: how they begin, wait, and are refused.

Apart from both because they differ only in what comes between: the name is looked up, a route that is away
is waited for, a client has to read, and a refusal is told alike.
"""

from __future__ import annotations

import asyncio
from typing import Any

from verser2_guest_python.asgi.types import Message, Receive, Send
from verser2_guest_python.errors import RequestTimeoutError
from verser2_guest_python.http2.deadline import within

from .checks import Asked
from .config import GatewayConfig
from .forwarding import Pairs
from .pages import Headers, page
from .record import CLIENT_STALLED, GatewayRecord
from .refusal import AnswerCutOff, Refusal


class Cycle:
    """One request or WebSocket."""

    def __init__(
        self, config: GatewayConfig, scope: Any, receive: Receive, send: Send, record: GatewayRecord
    ) -> None:
        self._config = config
        self._scope = scope
        self._receive = receive
        self._send = send
        self._record = record
        self._begun = False  # whether anything has gone out to the client
        self._deadline = 0.0  # until when it waits for a route that is away, as the loop counts
        self._waited = 0.0  # how long it has, in seconds

    def _look_up(self, asked: Asked) -> tuple[str, Pairs]:
        """The domain that serves it, and the headers for the app; raises a `Refusal` when there is none."""
        config, record = self._config, self._record
        domain = record.domain = config.find(asked.authority)
        headers, record.client = config.forwarding.headers(self._scope, asked.authority)
        return domain, headers

    async def _await_route(self, domain: str) -> None:
        """Waits for a route that is away, as long as it may."""
        config = self._config
        if config.route_wait > 0:
            self._deadline = asyncio.get_running_loop().time() + config.route_wait
            if not config.broker.has_route(domain, degraded=False):
                await self._route_returns(domain)

    async def _route_returns(self, domain: str) -> bool:
        """Whether there is a route for `domain` while it may still wait; waits for it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        if began >= self._deadline:
            return False
        try:
            with self._config.queue:
                await self._config.broker.wait_for_route(domain, timeout=self._deadline - began)
        except RequestTimeoutError:
            return False
        finally:
            self._waited += clock() - began
        return True

    async def _say(self, *messages: Message) -> None:
        """Sends to the client, which has to read."""
        self._begun = True
        try:
            async with within(self._config.limits.write_timeout):
                for message in messages:
                    await self._send(message)
        except TimeoutError:
            self._record.reason, self._record.code = "the client did not read", CLIENT_STALLED
            raise AnswerCutOff(self._record.reason) from None

    def _note(self, refusal: Refusal) -> None:
        """The record says why it was refused, by the id that the client is told."""
        record = self._record
        record.request_id = refusal.request_id = record.request_id or refusal.request_id
        record.reason, record.code = refusal.detail or refusal.sentence, refusal.code

    def _page(self, refusal: Refusal) -> tuple[Headers, bytes]:
        """The answer that tells the client of it, in the kind that the client likes."""
        accept = b",".join(value for name, value in self._scope["headers"] if name.lower() == b"accept")
        return page(refusal, accept, self._config.listed_names(refusal))

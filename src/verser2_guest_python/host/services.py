"""What all requests of a Host share: answers, tasks, limits, and who wants a record of each.

Apart from the exchange because there is one of these, and there are thousands of exchanges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from verser2_guest_python.errors import VerserError
from verser2_guest_python.host.answers import Answers
from verser2_guest_python.host.events import NOTHING, Listeners, RequestRecord
from verser2_guest_python.host.limits import HostLimits
from verser2_guest_python.host.observing import Observation
from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.http2 import FieldBlock
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.names import STAGE_KEY

if TYPE_CHECKING:
    from verser2_guest_python.host.bridge import Bridge


class ExchangeServices:
    """One object for all exchanges and WebSockets; it also knows how many are under way."""

    def __init__(
        self,
        answers: Answers,
        tasks: Tasks,
        limits: HostLimits,
        records: Listeners[RequestRecord],
        observation: Observation | None = None,
        *,
        server_timing: bool = False,
    ) -> None:
        self.answers = answers
        self.tasks = tasks
        self.limits = limits
        self.records = records
        self.observation = observation if observation is not None else Observation()
        self.server_timing = server_timing
        self.loop = asyncio.get_running_loop()
        self.active = 0
        self.bridges: set[Bridge] = set()
        self._messages = (0, 0)  # of WebSockets that are over
        self._idle = asyncio.Event()
        self._idle.set()
        self._status_blocks: dict[int, FieldBlock] = {}

    def opened(self) -> None:
        """One more exchange is under way."""
        self.active += 1
        if self.active == 1:
            self._idle.clear()

    def closed(self) -> None:
        """One is over."""
        self.active -= 1
        if not self.active:
            self._idle.set()

    def bridge_closed(self, bridge: Bridge) -> None:
        """A WebSocket is over; what passed through it stays counted."""
        self.bridges.discard(bridge)
        to_guest, to_broker = bridge.messages
        self._messages = self._messages[0] + to_guest, self._messages[1] + to_broker

    @property
    def messages_to_guests(self) -> int:
        """Text and binary messages of all WebSockets."""
        return self._messages[0] + sum(bridge.messages[0] for bridge in self.bridges)

    @property
    def messages_to_brokers(self) -> int:
        """The same of the other direction."""
        return self._messages[1] + sum(bridge.messages[1] for bridge in self.bridges)

    async def wait_idle(self) -> None:
        """Until none is under way."""
        await self._idle.wait()

    def status_block(self, status: int) -> FieldBlock:
        """The constant part of the response fields; one block for each status (at most 400)."""
        block = self._status_blocks.get(status)
        if block is None:
            block = self._status_blocks[status] = FieldBlock([(b":status", b"%d" % status)])
        return block

    def record(
        self,
        request: BrokerRequest,
        *,
        domain: str | None,
        status: int | None,
        error: str | None,
        bytes_in: int = 0,
        bytes_out: int = 0,
        queued_seconds: float = 0.0,
        seconds: float = 0.0,
        first_byte_seconds: float | None = None,
        noted: Mapping[str, str] = NOTHING,
    ) -> None:
        """Tells whoever wants to know that a request is over."""
        self.records.tell(
            RequestRecord(
                request_id=request.request_id,
                source_id=request.source_id,
                target_id=request.target_id,
                domain=domain,
                method=request.method,
                path=request.path,
                status=status,
                error=error,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                queued_seconds=queued_seconds,
                seconds=seconds,
                first_byte_seconds=first_byte_seconds,
                noted=noted,
            )
        )


def staged(error: VerserError, stage: str, request_id: str) -> VerserError:
    """The error with what a Broker wants to know: whether an app may have seen the request (§14)."""
    error.context[STAGE_KEY] = stage
    error.context.setdefault("requestId", request_id)
    return error

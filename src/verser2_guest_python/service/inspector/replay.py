"""A kept request, sent again through the Broker.

Apart because it is the one thing that the inspector does rather than shows. It is sent as it was; what
it was not kept whole of is never sent.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.errors import VerserError
from verser2_guest_python.service.inspector.record import Record
from verser2_guest_python.service.inspector.recorder import Recorder

TIMEOUT_SECONDS: Final = 60.0
MAX_REPLAYS: Final = 8
"""How many may be under way at a time."""

_NOT_SENT: Final = frozenset({"connection", "keep-alive", "upgrade", "transfer-encoding", "expect"})


class TooManyReplays(Exception):
    """No further one just now."""


def why_not(record: Record) -> str | None:
    """Why a request cannot be sent again; None where it can."""
    start = record.start
    if start.websocket:
        return "A WebSocket cannot be replayed."
    if not start.path.startswith("/") or not start.domain or not start.method:
        return "The Host could not read this request."
    if record.whole:
        return None
    if record.request.cut:
        return "Only the first 64 KiB of its body are kept."
    if record.end is None:
        return "Its body is still on its way."
    if record.leased_at is None and start.headers.get("content-length", "0") == "0":
        return None  # it never came to its body, and has none
    return "Its body did not arrive whole."


class Replayer:
    """Sends kept requests again."""

    def __init__(self, recorder: Recorder, broker: VerserBroker) -> None:
        self._recorder = recorder
        self._broker = broker
        self._active = 0

    async def replay(self, record: Record) -> Record | None:
        """Sends a request again, and reads its answer to the end; returns its own record, where it is kept.

        Raises:
            TooManyReplays: wait for another one first.
            VerserError: it cannot be said again.
        """
        reason = why_not(record)
        if reason is not None:
            raise VerserError(reason)
        if self._active >= MAX_REPLAYS:
            raise TooManyReplays
        self._active += 1
        try:
            return await self._send(record)
        finally:
            self._active -= 1

    async def _send(self, record: Record) -> Record | None:
        start = record.start
        headers = {name: value for name, value in start.headers.items() if name not in _NOT_SENT}
        domain = start.domain or ""
        begun: list[Record] = []
        try:
            response = await self._broker.request(
                start.method,
                f"http://{domain}{start.path}",
                headers=headers,
                body=bytes(record.request.kept) or None,
                route_domain=domain,
                total_timeout=TIMEOUT_SECONDS,
                max_redirects=0,
            )
            begun += self._mark(record, response.request_id)
            async with response:
                async for _ in response.aiter_bytes():
                    pass
        except VerserError as error:
            request_id = error.context.get("requestId")
            if not begun and isinstance(request_id, str):
                begun += self._mark(record, request_id)
            if not begun:
                raise
        return begun[0] if begun else None

    def _mark(self, record: Record, request_id: str) -> list[Record]:
        replayed = self._recorder.find(self._broker.broker_id, request_id)
        if replayed is None:
            return []
        replayed.replay_of = record.number
        self._recorder.changed(replayed)
        return [replayed]

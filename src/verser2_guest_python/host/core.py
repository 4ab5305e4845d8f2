"""What the sessions of a Host share: the registry, the forwarder, limits, tasks, who listens.

Apart from the public `VerserHost` because that one starts and stops things; this is what runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from verser2_guest_python.host.answers import Answers
from verser2_guest_python.host.authorization import Authorization
from verser2_guest_python.host.events import EventValue, HostEvent, Listeners, RequestRecord
from verser2_guest_python.host.forwarding import Forwarder
from verser2_guest_python.host.leases import QueueBudget
from verser2_guest_python.host.limits import HostLimits
from verser2_guest_python.host.observing import Observation
from verser2_guest_python.host.peers import Broker
from verser2_guest_python.host.registry import Registry
from verser2_guest_python.host.rejudging import judge_anew
from verser2_guest_python.host.services import ExchangeServices
from verser2_guest_python.host.session import PeerSession
from verser2_guest_python.host.takeover import Takeover
from verser2_guest_python.host.tasks import Tasks
from verser2_guest_python.host.websockets import WebSocketForwarder
from verser2_guest_python.http2 import ConnectionLost, ErrorCode, Session
from verser2_guest_python.wire.broker_request import BrokerRequest
from verser2_guest_python.wire.routes import LifecycleEvent

_logger = logging.getLogger("verser2_guest_python.host")

_TOLD_EVERY_SECONDS = 1.0
_TURNED_AWAY = {
    "connections": "its address opens too many connections",
    "handshakes": "too many TLS handshakes are under way",
    "sessions": "the Host has too many sessions",
}


class HostCore:
    """A running Host without its port."""

    def __init__(
        self,
        *,
        limits: HostLimits,
        authorization: Authorization,
        lease_seconds: float,
        degraded_seconds: float,
        server_timing: bool,
        events: Listeners[HostEvent],
        records: Listeners[RequestRecord],
        observation: Observation,
    ) -> None:
        self.limits = limits
        self.authorization = authorization
        self.tasks = Tasks(self._on_crash)
        self.answers = Answers(self.tasks, limits.exchange_seconds)
        self.queue_budget = QueueBudget(limits.queued_requests, limits.queued_bytes)
        self.registry = Registry(degraded_seconds, self._on_route)
        self.takeover = Takeover(self.registry.peer, self.tasks, limits.takeover_seconds)
        self.exchanges = ExchangeServices(
            self.answers, self.tasks, limits, records, observation, server_timing=server_timing
        )
        self.forwarder = Forwarder(self.registry, self.exchanges, lease_seconds, self._on_denied)
        self.websockets = WebSocketForwarder(self.forwarder, self.exchanges)
        self.closing = False
        self._close_by: asyncio.Timeout | None = None
        self._at_most = float("inf")
        self._events = events
        self._sessions: set[PeerSession] = set()
        self._limits_hit: Counter[str] = Counter()
        self._turned_away = 0
        self._turned_away_told = float("-inf")

    @property
    def sessions(self) -> int:
        """Sessions that are open, registered or not."""
        return len(self._sessions)

    @property
    def limits_hit(self) -> dict[str, int]:
        """How often somebody met a limit, by its name."""
        queued = self.queue_budget.refused
        return {**self._limits_hit, **({"queued-requests": queued} if queued else {})}

    def tell(self, name: str, **fields: EventValue) -> None:
        """An event for those who watch."""
        if self._events:
            self._events.tell(HostEvent(name, fields))

    def accept(self, session: Session) -> None:
        """A new session; its peer is unknown yet."""
        if self.closing or len(self._sessions) >= self.limits.sessions:
            reason = "the Host is closing" if self.closing else "the Host has too many sessions"
            if not self.closing:
                self.turned_away(session.peer_address[0], "sessions")
            code = ErrorCode.NO_ERROR if self.closing else ErrorCode.ENHANCE_YOUR_CALM
            work = session.close(code, reason, tell=True)
            self.tasks.spawn(work, "verser host: refusing a session")
            return
        self._sessions.add(PeerSession(self, session))

    def turned_away(self, address: str, limit: str) -> None:
        """A connection that was closed before it was a session. Told at most once a second."""
        self._turned_away += 1
        self._limits_hit[limit] += 1
        now = self.exchanges.loop.time()
        if now - self._turned_away_told < _TOLD_EVERY_SECONDS:
            return
        self.tell(
            "turned-away",
            address=address,
            limit=limit,
            connections=self._turned_away,
            reason=_TURNED_AWAY[limit],
        )
        self._turned_away = 0
        self._turned_away_told = now

    def forget(self, caller: PeerSession, error: ConnectionLost) -> None:
        """A session is lost."""
        self._sessions.discard(caller)
        if error.limit:
            self._limits_hit[error.limit] += 1
        self.tell(
            "disconnected",
            address=caller.address,
            peer=caller.peer.id if caller.peer is not None else None,
            role=caller.peer.role if caller.peer is not None else None,
            identity=caller.peer.grant.who if caller.peer is not None else None,
            reason=error.reason,
            limit=error.limit or None,
        )

    async def close(self, reason: str, timeout: float) -> None:
        """Takes no new streams, lets what is under way finish, and closes all sessions.

        `timeout` is how long that may take, in seconds; what is not finished by then is cut off.
        """
        self.closing = True
        for caller in self._sessions:
            caller.session.goaway()
        for bridge in list(self.exchanges.bridges):
            bridge.go_away()
        try:
            await self._drain(timeout)
        finally:
            await self._end_sessions(reason)

    async def _drain(self, timeout: float) -> None:
        """Until nothing is under way, or the time is up."""
        if self.exchanges.active and min(timeout, self._at_most) > 0:
            started = self.exchanges.loop.time()
            try:
                async with asyncio.timeout(min(timeout, self._at_most)) as self._close_by:
                    await self.exchanges.wait_idle()
            except TimeoutError:
                seconds = self.exchanges.loop.time() - started
                self.tell(
                    "cut-off", requests=self.exchanges.active, reason=f"not finished within {seconds:.3g} s"
                )
            finally:
                self._close_by = None

    async def _end_sessions(self, reason: str) -> None:
        self.registry.close()
        closings = [asyncio.ensure_future(caller.session.close(reason=reason)) for caller in self._sessions]
        try:
            if closings:
                await asyncio.wait(closings)
        finally:
            for closing in closings:
                closing.cancel()
            await asyncio.gather(*closings, return_exceptions=True)
            for caller in tuple(self._sessions):
                if caller.session.lost is None:  # its closing was cancelled before it began
                    caller.session.abort(reason)
            await self.tasks.close()

    def authorize_by(self, authorization: Authorization) -> None:
        """From now on this decides, also for those who are registered already."""
        self.authorization = authorization
        judge_anew(self, self._sessions)

    def hurry(self, timeout: float) -> None:
        """The Host closes, and what is under way gets so many seconds from now, if it had more."""
        self._at_most = min(self._at_most, timeout)
        by = self._close_by
        if by is not None and (when := by.when()) is not None and not by.expired():
            by.reschedule(min(when, self.exchanges.loop.time() + timeout))

    def _on_route(self, event: LifecycleEvent) -> None:
        self.tell("route", change=event.type, peer=event.target_id, domain=event.domain, reason=event.reason)

    def _on_denied(self, broker: Broker, request: BrokerRequest, reason: str) -> None:
        self.tell(
            "denied",
            peer=broker.id,
            identity=broker.grant.who,
            target=request.target_id,
            domain=request.route_domain,
            method=request.method,
            request_id=request.request_id,
            reason=reason,
        )

    def _on_crash(self, name: str, error: BaseException) -> None:
        _logger.error("%s failed", name, exc_info=error)
        self.tell("internal-error", task=name, reason=str(error))

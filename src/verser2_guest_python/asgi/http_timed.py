"""An HTTP cycle that tells when its response begins: for metrics.

Apart from `http.py` because hardly any process asks for it, and those that do not pay nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter

from .http import HttpCycle, HttpExchange, Phase
from .types import ASGIApp, Message, Scope

_STARTED = Phase.STARTED


class TimedHttpCycle(HttpCycle):
    """An `HttpCycle` that calls `on_first_byte` with method and seconds when its head is on its way."""

    __slots__ = ("_began", "_on_first_byte")

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        exchange: HttpExchange,
        on_first_byte: Callable[[str, float], None],
    ) -> None:
        super().__init__(app, scope, exchange)
        self._on_first_byte = on_first_byte
        self._began = perf_counter()

    def _body(self, message: Message, phase: Phase) -> Awaitable[None] | None:
        waiting = super()._body(message, phase)
        if phase is _STARTED:
            self._on_first_byte(self.scope["method"], perf_counter() - self._began)
        return waiting

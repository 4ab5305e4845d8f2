"""The apps of a Guest: one for each domain or one for all, each with its lifespan."""

from __future__ import annotations

import asyncio
from typing import Any

from verser2_guest_python.asgi.lifespan import Lifespan, LifespanPhase
from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.wire.domains import normalize_domain

_UNDO_SECONDS = 10.0  # for an app that has started and is not needed, because another one has not


class MountedApp:
    """An app that serves, and the state that its lifespan has filled."""

    __slots__ = ("_mode", "app", "lifespan", "state")

    def __init__(self, app: ASGIApp, mode: str) -> None:
        self.app = app
        self._mode = mode
        self._begin()

    def _begin(self) -> None:
        self.lifespan = Lifespan(self.app, self._mode)
        self.state: dict[str, Any] = self.lifespan.state

    async def startup(self) -> None:
        """Starts the app, also one that has failed to start, or was stopped, before."""
        if self.lifespan.phase is not LifespanPhase.NEW:
            self._begin()
        await self.lifespan.startup()


class Apps:
    """Finds the app of a domain. An app that serves several domains has one lifespan."""

    def __init__(self, lifespan_mode: str) -> None:
        self._mode = lifespan_mode
        self._default: MountedApp | None = None
        self._by_domain: dict[str, MountedApp] = {}
        self._started: list[MountedApp] = []
        self._starting = asyncio.Lock()

    def attach(self, app: ASGIApp, domain: str | None) -> None:
        """Serves `domain` with `app`; without a domain, all that have none of their own."""
        mounted = next((one for one in self._all() if one.app is app), None) or MountedApp(app, self._mode)
        if domain is None:
            self._default = mounted
        else:
            self._by_domain[normalize_domain(domain)] = mounted

    def find(self, domain: str) -> MountedApp | None:
        """The app of a domain; None when nothing is attached that could serve it."""
        if self._by_domain:
            return self._by_domain.get(normalize_domain(domain), self._default)
        return self._default

    def _all(self) -> list[MountedApp]:
        mounted = [*self._by_domain.values(), *((self._default,) if self._default else ())]
        return list(dict.fromkeys(mounted))

    async def startup(self) -> None:
        """Starts every app that was not started yet.

        Raises LifespanStartupFailed, and has stopped those then that had started.
        """
        async with self._starting:
            try:
                for mounted in self._all():
                    if mounted not in self._started:
                        await mounted.startup()
                        self._started.append(mounted)
            except BaseException:
                await self.shutdown(_UNDO_SECONDS)
                raise

    async def shutdown(self, timeout: float | None) -> None:
        """Stops what was started, the last one first, within `timeout` seconds each; cancelled, at once."""
        cancelled: asyncio.CancelledError | None = None
        while self._started:
            try:
                await self._started.pop().lifespan.shutdown(timeout)
            except asyncio.CancelledError as error:
                cancelled, timeout = error, 0.0
        if cancelled is not None:
            raise cancelled

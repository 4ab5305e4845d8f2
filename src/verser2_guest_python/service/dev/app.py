"""The app of `dev` in this very process, as with `--no-reload`, or where nothing can tell of changes.

Apart from `reload.py`, which can do without what is here; both look the same to `run.py`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
from verser2_guest_python.errors import VerserError
from verser2_guest_python.guest.guest import VerserGuest
from verser2_guest_python.service.daemons.guest import load_app_of
from verser2_guest_python.service.dev.stack import DevStack
from verser2_guest_python.service.dev.tracing import DevTracing
from verser2_guest_python.service.settings.model import Settings


class AppHere:
    """The app as a Guest in this event loop."""

    def __init__(self, settings: Settings, tracing: DevTracing) -> None:
        self._settings = settings
        self._tracing = tracing
        self._guest: VerserGuest | None = None
        self._closing: asyncio.Task[None] | None = None

    async def run(self, stack: DevStack, on_settled: Callable[[], None]) -> None:
        """Serves until `stop`; `on_settled` is called once it serves.

        Raises `VerserError` when the app cannot be loaded, or does not start.
        """
        loaded = load_app_of(self._settings.model_copy(update={"debug": True}))
        self._tracing.start(stack.domains[0])
        app = self._tracing.app(loaded.app)
        guest = self._guest = stack.guest(app, lifespan=self._settings.lifespan)
        try:
            await guest.connect()
            on_settled()
            await guest.serve_forever()
        except LifespanStartupFailed as error:
            if error.app_message:
                print(error.app_message, file=sys.stderr)  # noqa: T201 - as that of an app that cannot be loaded
            raise
        except VerserError:
            if self._closing is None:
                raise
        finally:
            await (guest.close(timeout=0.0) if self._closing is None else self._closing)

    def stop(self, seconds: float) -> None:
        """Ends the app; requests under way get so much time."""
        if self._guest is not None and self._closing is None:
            closing = self._guest.close("dev ends", seconds)
            self._closing = asyncio.get_running_loop().create_task(closing, name="dev: closing")

"""Startup and shutdown of an app (ASGI Lifespan 2.0), as a small state machine.

Apart because it has a life of its own: one task that begins before the first registration and ends
after the last request, while everything else comes and goes in between.

    NEW ──startup()──> STARTING ──startup.complete──> STARTED ──shutdown()──> STOPPING ──> STOPPED
     │                  │  └─startup.failed──> FAILED     └─the app's task ended by itself──> STOPPED
     │                  └─ended without an answer──> UNSUPPORTED (auto) or FAILED (on)
     └─mode "off"──> UNSUPPORTED
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import Any, Final

from verser2_guest_python.asgi.exceptions import AsgiRuleError, describe
from verser2_guest_python.asgi.places import place_in
from verser2_guest_python.asgi.types import ASGIApp, Message
from verser2_guest_python.errors import VerserConfigurationError, VerserError

LIFESPAN_MODES: Final = ("auto", "on", "off")

_SPECIFICATION: Final = "ASGI Lifespan 2.0"
_RETURN_SECONDS: Final = 5.0
"""How long an app may clean up after it has sent `lifespan.shutdown.complete`."""
_CANCEL_SECONDS: Final = 5.0
"""How long an app that was cancelled may take to end."""

_logger = logging.getLogger("verser2_guest_python")


class LifespanPhase(Enum):
    """Where the app's lifespan stands."""

    NEW = "new"
    STARTING = "starting"
    STARTED = "started"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class LifespanStartupFailed(VerserError):
    """The app refused to start, or could not.

    `message` is one sentence; `app_message` is what the app sent with `lifespan.startup.failed`,
    often a whole traceback, and empty if it sent nothing.
    """

    default_code = "lifespan-startup-failed"

    def __init__(self, message: str, *, app_message: str = "") -> None:
        super().__init__(message)
        self.app_message: str = app_message


class Lifespan:
    """Starts an app and stops it again.

    `mode` is `auto` (an app that knows no lifespan is served without), `on` (that is an error) or
    `off` (the app is never asked). `state` is filled by the app during startup; whoever builds a
    scope puts a shallow copy of it there.

    Example::

        lifespan = Lifespan(app)
        await lifespan.startup()
        try:
            ...  # serve; each scope gets "state": lifespan.state.copy()
        finally:
            await lifespan.shutdown(timeout=10)
    """

    state: dict[str, Any]

    def __init__(self, app: ASGIApp, mode: str = "auto") -> None:
        if mode not in LIFESPAN_MODES:
            raise VerserConfigurationError(
                f"There is no lifespan mode {mode!r}; it is one of {', '.join(LIFESPAN_MODES)}."
            )
        self.state = {}
        self._app = app
        self._mode = mode
        self._phase = LifespanPhase.NEW
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None  # what the app's task ended with
        self._cancelled = False  # by us
        self._startup_received = False
        self._shutdown_received = False
        self._failure: str | None = None  # the text of a …failed message
        self._startup_over = asyncio.Event()  # answered, or the app's task has ended
        self._shutdown_asked = asyncio.Event()
        self._shutdown_over = asyncio.Event()  # answered, or the app's task has ended
        self._stopped = asyncio.Event()

    @property
    def phase(self) -> LifespanPhase:
        return self._phase

    async def startup(self) -> None:
        """Start the app and wait until it has started, for as long as that takes.

        Cancelling this cancels the app's startup. Raises `LifespanStartupFailed` with the app's
        reason, and `RuntimeError` when called twice.
        """
        if self._phase is not LifespanPhase.NEW:
            raise RuntimeError("Lifespan.startup() can be called only once.")
        if self._mode == "off":
            self._phase = LifespanPhase.UNSUPPORTED
            return
        self._phase = LifespanPhase.STARTING
        self._task = asyncio.create_task(self._run(), name="lifespan")
        try:
            await self._startup_over.wait()
        except asyncio.CancelledError:
            self._phase = LifespanPhase.FAILED
            await self._end_task(self._task)
            raise
        if self._phase is LifespanPhase.STARTING:
            self._phase = self._judge_unanswered()
        if self._phase is LifespanPhase.FAILED:
            await self._let_return(self._task, _RETURN_SECONDS)
            raise self._startup_failure() from (self._error if self._failure is None else None)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Stop the app and wait until it has stopped.

        `timeout` is in seconds; without one the app may take as long as it needs. An app that takes
        longer is cancelled. What goes wrong is logged and never raised: the process is about to end.
        An app that was not started, or has ended already, needs nothing. Cancelling this cancels
        the app's shutdown.
        """
        if self._phase is LifespanPhase.STOPPING:
            await self._stopped.wait()
        elif self._phase is LifespanPhase.STARTING and self._task is not None:
            await self._end_task(self._task)  # startup(), waiting elsewhere, learns of it
        elif self._phase is LifespanPhase.STARTED and self._task is not None:
            self._phase = LifespanPhase.STOPPING
            self._shutdown_asked.set()
            try:
                await self._wait_for_shutdown(self._task, timeout)
            finally:
                self._phase = LifespanPhase.STOPPED
                self._stopped.set()

    async def _wait_for_shutdown(self, task: asyncio.Task[None], timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout):
                await self._shutdown_over.wait()
        except TimeoutError:
            _logger.error("The app did not finish its lifespan shutdown within %g s: cancelling it.", timeout)
            await self._end_task(task)
        except asyncio.CancelledError:
            await self._end_task(task)
            raise
        else:
            left = _RETURN_SECONDS if timeout is None else timeout - (loop.time() - began)
            await self._let_return(task, min(left, _RETURN_SECONDS))

    async def _let_return(self, task: asyncio.Task[None], seconds: float) -> None:
        """Let an app that has given its last answer return: middleware around it may still clean up."""
        try:
            await asyncio.wait({task}, timeout=max(seconds, 0.0))
        finally:
            await self._end_task(task)

    async def _end_task(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            self._cancelled = True
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            if not task.done():
                _logger.error("The app's lifespan goes on although it was cancelled: leaving it.")
        # A task that is cancelled before its first step never comes to say so itself
        self._startup_over.set()
        self._shutdown_over.set()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 - kept for startup() and shutdown(), which own this task
            self._error = exc
        finally:
            self._ended()

    def _ended(self) -> None:
        """Note that the app's task is over, and log what nobody else would tell."""
        if self._cancelled:
            pass
        elif self._phase is LifespanPhase.STARTED:
            self._phase = LifespanPhase.STOPPED
            if self._error is None:
                _logger.info("The app left its lifespan after the startup: it will not be told to shut down.")
            else:
                self._log_error("The app's lifespan ended after the startup, its shutdown will not run")
        elif self._phase is LifespanPhase.STOPPING and not self._told():
            self._log_error("The app failed in its lifespan shutdown")
        self._startup_over.set()
        self._shutdown_over.set()

    def _told(self) -> bool:
        # Frameworks raise once more what they have said with a …failed message; and an app that asks for
        # a message after its last answer has done all that it had to do
        if self._failure is not None:
            return True
        return self._shutdown_over.is_set() and isinstance(self._error, AsgiRuleError)

    def _log_error(self, what: str) -> None:
        if self._error is not None:
            _logger.error("%s: %s", what, describe(self._error), exc_info=self._error)

    def _judge_unanswered(self) -> LifespanPhase:
        """Decide what an app is that ended before it said whether it has started."""
        if self._mode == "on" or self._cancelled or isinstance(self._error, SystemExit):
            return LifespanPhase.FAILED
        if isinstance(self._error, AsgiRuleError):
            _logger.warning("The app is served without lifespan: %s", self._error)
        else:
            _logger.debug("The app does not support lifespan and is served without.", exc_info=self._error)
        return LifespanPhase.UNSUPPORTED

    def _startup_failure(self) -> LifespanStartupFailed:
        if self._failure is not None:
            place = place_in(self._failure)
            why = (_gist(self._failure) or "it gave no reason") + (f" ({place})" if place else "")
        elif self._cancelled:
            why = "it was cancelled"
        elif self._error is not None:
            why = describe(self._error)
        else:
            why = "it returned without lifespan.startup.complete, and lifespan is set to on"
        return LifespanStartupFailed(
            f"The app's lifespan startup failed: {why.rstrip('.')}.", app_message=self._failure or ""
        )

    async def _receive(self) -> Message:
        if not self._startup_received:
            self._startup_received = True
            return {"type": "lifespan.startup"}
        if self._phase is LifespanPhase.FAILED:
            raise self._nothing_follows("lifespan.startup.failed")
        await self._shutdown_asked.wait()
        if self._shutdown_received:
            raise self._nothing_follows("lifespan.shutdown")
        self._shutdown_received = True
        return {"type": "lifespan.shutdown"}

    def _nothing_follows(self, last: str) -> AsgiRuleError:
        # An error where waiting would do too, so that an app that loops over receive() ends by itself
        return AsgiRuleError(f"receive() after {last}: no message follows it ({_SPECIFICATION}).")

    async def _send(self, message: Message) -> None:
        kind = message.get("type")
        if self._cancelled:
            return  # whatever it says now comes too late
        if kind in {"lifespan.startup.complete", "lifespan.startup.failed"}:
            if not self._startup_received:
                raise AsgiRuleError(f"{kind} before lifespan.startup was received ({_SPECIFICATION}).")
            if self._phase is not LifespanPhase.STARTING:
                raise AsgiRuleError(f"{kind} a second time: a startup is answered once ({_SPECIFICATION}).")
            if kind == "lifespan.startup.failed":
                self._failure = _text(message)
                self._phase = LifespanPhase.FAILED
            else:
                self._phase = LifespanPhase.STARTED
            self._startup_over.set()
        elif kind in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
            if not self._shutdown_received:
                raise AsgiRuleError(f"{kind} before lifespan.shutdown was received ({_SPECIFICATION}).")
            if self._shutdown_over.is_set():
                raise AsgiRuleError(f"{kind} a second time: a shutdown is answered once ({_SPECIFICATION}).")
            if kind == "lifespan.shutdown.failed":
                self._failure = _text(message)
                _logger.error("The app's lifespan shutdown failed: %s", self._failure or "it gave no reason")
            self._shutdown_over.set()
        else:
            raise AsgiRuleError(f"{kind!r} is not a message that an app may send here ({_SPECIFICATION}).")


def _text(message: Message) -> str:
    text = message.get("message", "")
    if not isinstance(text, str):
        raise AsgiRuleError(f"The message of {message['type']} is a str ({_SPECIFICATION}).")
    return text


def _gist(text: str) -> str:
    """Take one line out of an app's reason; of a traceback, which frameworks send, that is the last."""
    lines = [line.strip(" \t|+-") for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return ""
    return lines[-1] if "Traceback (most recent call last)" in text else lines[0]

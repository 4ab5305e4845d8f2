"""`verser2-guest dev`: a Host, an app behind it and a gateway before it, on this machine, until Ctrl-C.

    this process          Host, Broker, gateway, access log
    the app's process     loads and serves the app (`child.py`); here as well with `--no-reload`

Apart from its parts, each of which knows nothing of the others: here they are put together, and taken down.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from verser2_guest_python.service.daemons.workers import watched_source
from verser2_guest_python.service.dev.app import AppHere
from verser2_guest_python.service.dev.browser import open_in_browser
from verser2_guest_python.service.dev.child import Place, run_dev_child
from verser2_guest_python.service.dev.gateway import DevGateway, missing_for_gateway
from verser2_guest_python.service.dev.log import DevLog
from verser2_guest_python.service.dev.page import PAGE_GUEST_ID, FailurePage
from verser2_guest_python.service.dev.reload import ReloadingApp
from verser2_guest_python.service.dev.stack import DRAIN_SECONDS, DevStack, domain_of
from verser2_guest_python.service.dev.terminal import terminal_kept
from verser2_guest_python.service.dev.tracing import SERVICE_NAME, DevTracing
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.process.event_loop import run_in_loop
from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.process.reload import SourceFilter
from verser2_guest_python.service.process.signals import STOP_SIGNALS, StopSignals
from verser2_guest_python.service.process.worker import Worker
from verser2_guest_python.service.process.worker_process import WORKER_ID_VARIABLE
from verser2_guest_python.service.settings.model import Settings

_STOP_SIGNALS: Final = (*STOP_SIGNALS, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What only `dev` can be told. `port` None is 8080, or the next one that is free."""

    port: int | None = None
    reload: bool = True
    open_browser: bool = False


@dataclass(frozen=True, slots=True)
class DevView:
    """What there is to show once the app serves, or is known to fail.

    Attributes:
        url: Where a browser finds the app; empty without a gateway.
        inspector_url: Where its requests can be looked at; empty without a gateway.
        port_taken: The port that would have been taken first, if somebody else has it.
        watched: The directories whose changes reload the app; none if nothing does.
        missing: The extras that would add something.
    """

    app: str
    stack: DevStack
    url: str
    inspector_url: str
    port_taken: int | None
    watched: tuple[Path, ...]
    missing: tuple[str, ...]


def run_dev(
    settings: Settings, options: DevOptions, arguments: Sequence[str], show: Callable[[DevView], None]
) -> int:
    """Serves the app with a Host of its own until a signal says otherwise; returns the exit code.

    `arguments` are those of this command: the app's process is started with them once more. `show` is
    called once, when requests can come.
    """
    if os.environ.get(WORKER_ID_VARIABLE) and (worker := Worker.of_this_process()) is not None:
        return run_dev_child(settings, worker)
    dev = _Dev(settings, options, arguments, show, DevTracing(wanted=settings.otel))
    with terminal_kept(), dev.logs_flushed():
        if dev.source is None:
            return run_in_loop(dev.run())
        return asyncio.run(dev.run())  # asyncio's own loop starts processes with the signals that we block


class _Dev:
    """One run."""

    def __init__(
        self,
        settings: Settings,
        options: DevOptions,
        arguments: Sequence[str],
        show: Callable[[DevView], None],
        tracing: DevTracing,
    ) -> None:
        self._settings = settings
        self._options = options
        self._command = (sys.executable, "-P", "-m", "verser2_guest_python", *arguments)
        self._show = show
        self._domains = settings.routed_domains or (domain_of(settings.app),)
        missing = []
        if missing_for_gateway():
            missing.append("gateway")
        can_reload = options.reload and sys.platform != "win32"
        if can_reload and find_spec("watchfiles") is None:
            missing.append("reload")
        self._missing = tuple(missing)
        self.source: SourceFilter | None = None
        if can_reload and "reload" not in missing:
            self.source = watched_source(settings)
        self._logs: Logs = set_up_logs(settings.log, traced=settings.otel)
        self._tracing = tracing
        self._stop = asyncio.Event()

    @contextmanager
    def logs_flushed(self) -> Iterator[None]:
        """What the log has to say is said behind the block, before what is said without it."""
        try:
            yield
        finally:
            self._logs.flush()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._work(), name="dev")

        def on_second(_reason: str) -> None:
            work.cancel()

        signals = StopSignals(
            loop, self._on_first, on_second, _STOP_SIGNALS, last_words=self._logs.last_words
        )
        signals.install()
        try:
            await asyncio.wait((work,))
            if (code := signals.exit_code()) is not None:
                return code
            work.result()
        finally:
            if len(signals.received) > 1:
                logging.disable()  # what is torn out by the roots has nothing to say that helps
            self._logs.flush()
        return ExitCode.DONE

    def _on_first(self, _reason: str) -> None:
        self._stop.set()

    async def _work(self) -> None:
        tracing = self._tracing
        async with AsyncExitStack() as ends:
            ends.callback(tracing.end)
            app: AppHere | ReloadingApp
            if self.source is None:
                app = AppHere(self._settings, tracing)
            else:
                tracing.start(SERVICE_NAME)
                app = ReloadingApp(self._command, self.source, self._logs)
                ends.push_async_callback(app.aclose)
                await app.prepare()  # it starts while all else does
            stack = await ends.enter_async_context(DevStack(self._domains))
            tracing.host(stack.host)
            log = DevLog(self._logs, self._settings.log)
            log.watch(stack.host)
            gateway: DevGateway | None = None
            if "gateway" not in self._missing:
                gateway = DevGateway(stack, self._options.port, log.gateway, tracing)
                await ends.enter_async_context(gateway)
            settled = partial(self._settled, stack, gateway)
            work = app.run(stack, settled) if isinstance(app, AppHere) else app.run(*_place(stack), settled)
            running = asyncio.create_task(work, name="dev: app")
            stopping = asyncio.create_task(self._stop.wait(), name="dev: stop")
            try:
                await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    app.stop(DRAIN_SECONDS)
                    if gateway is not None:
                        await gateway.aclose()  # while the app drains
                await running
            finally:
                for task in (stopping, running):
                    task.cancel()
                    await asyncio.wait((task,))

    def _settled(self, stack: DevStack, gateway: DevGateway | None) -> None:
        stack.announce()
        self._show(
            DevView(
                app=self._settings.app,
                stack=stack,
                url=gateway.url if gateway is not None else "",
                inspector_url=gateway.inspector_url if gateway is not None else "",
                port_taken=gateway.port_taken if gateway is not None else None,
                watched=self.source.directories if self.source is not None else (),
                missing=self._missing,
            )
        )
        if self._options.open_browser and gateway is not None:
            open_in_browser(gateway.url, self._opened)

    def _opened(self, opened: bool) -> None:
        if opened:
            self._logs.events.info("browser opened")
        else:
            self._logs.events.warning("no browser opened", reason="there is none that could be: open the URL")


def _place(stack: DevStack) -> tuple[Place, FailurePage]:
    """Where a process of the app serves, and what stands in for it."""
    identity = stack.certificates.guest
    place = Place(
        host_url=stack.host.url,
        domains=stack.domains,
        ca_file=str(stack.certificates.ca_file),
        cert_file=str(identity.cert_file),
        key_file=str(identity.key_file),
    )
    return place, FailurePage(lambda app: stack.guest(app, guest_id=PAGE_GUEST_ID, lifespan="off"))

"""The process of the app in `dev`: loads it when told to, serves it, and ends when told to, or left alone.

`reload.py` is the other side. It starts this process before there is anything to load, so that what
takes long (the interpreter, this package) is done when the source changes; then it says, a line each:

    warm NAMES     import these modules of frameworks, which the app has imported the last time
    load JSON      import the app; JSON is what `Place` holds
    serve          start it and register: nobody uses any more what it may need for itself
    stop SECONDS   finish what is under way, and end

Orders are read by a thread: an app that blocks the event loop, or never finishes its import, ends too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
from verser2_guest_python.asgi.loading import AppLoadError, load_app
from verser2_guest_python.errors import VerserError
from verser2_guest_python.guest.guest import VerserGuest
from verser2_guest_python.service.dev.stack import dev_guest
from verser2_guest_python.service.dev.tracing import DevTracing
from verser2_guest_python.service.logs.setup import set_up_logs
from verser2_guest_python.service.process.event_loop import run_in_loop
from verser2_guest_python.service.process.exit_codes import ExitCode, exit_code
from verser2_guest_python.service.process.serving import Serving
from verser2_guest_python.service.process.tracing import warm_up_tracing
from verser2_guest_python.service.process.worker import Worker
from verser2_guest_python.service.settings.model import Settings

WARM: Final = b"warm"
LOAD: Final = b"load"
SERVE: Final = b"serve"
STOP: Final = b"stop"
_ALONE_SECONDS: Final = 2.0
"""For an orderly end once nobody is there any more."""
_FRAMEWORKS: Final = (
    "aiohttp",
    "anyio",
    "django",
    "fastapi",
    "flask",
    "httpx",
    "jinja2",
    "litestar",
    "pydantic",
    "quart",
    "sqlalchemy",
    "starlette",
)
"""Slow to import, and the same whatever the app has done before: that is known of these, and not of all."""
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an app is to serve: the Host, and the files of a peer that may register there."""

    host_url: str
    domains: tuple[str, ...]
    ca_file: str
    cert_file: str
    key_file: str

    def encode(self) -> bytes:
        """As it goes over the socket."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, text: bytes) -> Place:
        """The same again."""
        values = json.loads(text)
        return cls(**{**values, "domains": tuple(values["domains"])})


class Orders:
    """What this process is told. Until there is something to finish, being told to stop ends it at once."""

    def __init__(self, worker: Worker) -> None:
        self._orders: SimpleQueue[tuple[bytes, bytes]] = SimpleQueue()
        self._lock = threading.Lock()
        self._may_serve = False
        self._on_serve: Callable[[], object] | None = None
        self._on_stop: Callable[[float], object] | None = None
        threading.Thread(target=self._listen, args=(worker,), name="orders", daemon=True).start()

    def wait_to_load(self) -> Place:
        """Blocks until there is something to load; imports meanwhile what is known already."""
        while (order := self._orders.get())[0] != LOAD:
            for name in order[1].decode().split():
                with suppress(Exception):  # where it matters, the app will meet it again
                    import_module(name)
        return Place.decode(order[1])

    def attach(self, on_serve: Callable[[], object], on_stop: Callable[[float], object]) -> None:
        """Calls these, in the running loop, from now on; also `on_serve` for an order that came before."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._on_serve = lambda: loop.call_soon_threadsafe(on_serve)
            self._on_stop = lambda seconds: loop.call_soon_threadsafe(on_stop, seconds)
            if self._may_serve:
                self._on_serve()

    def _listen(self, worker: Worker) -> None:
        for line in worker.lines():
            word, _, rest = line.partition(b" ")
            if word in (WARM, LOAD):
                self._orders.put((word, rest))
            elif word == SERVE:
                self._serve()
            elif word == STOP:
                self._stop(float(rest))
        self._stop(0.0)
        time.sleep(_ALONE_SECONDS)
        os._exit(ExitCode.FAILED)

    def _serve(self) -> None:
        with self._lock:
            self._may_serve = True
            if self._on_serve is not None:
                self._on_serve()

    def _stop(self, seconds: float) -> None:
        with self._lock:
            if self._on_stop is None:
                os._exit(ExitCode.DONE)
            try:
                self._on_stop(seconds)
            except RuntimeError:  # the loop has been closed: the process is at its end already
                return


def run_dev_child(settings: Settings, worker: Worker) -> int:
    """Does what it is told until the end; returns the exit code.

    That is 1 for what is wrong with the app, which may be mended, and what `exit_code` says of the rest.
    """
    orders = Orders(worker)
    if settings.otel:
        warm_up_tracing()
    place = orders.wait_to_load()
    set_up_logs(settings.log, traced=settings.otel)
    try:
        return run_in_loop(_run(settings, worker, orders, place))
    except AppLoadError as error:
        code = ExitCode.FAILED if error.details else ExitCode.CONFIGURATION
        worker.say_details(error.details)
        worker.say_failed(error.message)
        return code
    except LifespanStartupFailed as error:
        worker.say_details(error.app_message)
        worker.say_failed(error.message)
        return ExitCode.FAILED
    except VerserError as error:
        worker.say_failed(error.message)
        return exit_code(error)


async def _run(settings: Settings, worker: Worker, orders: Orders, place: Place) -> int:
    loaded = load_app(
        settings.app,
        app_dir=settings.app_dir,
        factory=settings.factory,
        interface=settings.interface,
    )
    worker.say_imported(name for name in _FRAMEWORKS if _is_installed(name))
    tracing = DevTracing(wanted=settings.otel)
    tracing.start(place.domains[0])
    guest = dev_guest(
        tracing.app(loaded.app),
        lifespan=settings.lifespan,
        guest_id=worker.peer_id,
        host_url=place.host_url,
        domains=place.domains,
        ca_file=place.ca_file,
        cert_file=place.cert_file,
        key_file=place.key_file,
    )
    guest.on_lifecycle(worker)
    serving = Serving(guest, stop_signals=(signal.SIGTERM,))
    may_serve = asyncio.Event()
    orders.attach(may_serve.set, lambda seconds: serving.stop("dev said so", seconds))
    try:
        return await serving.run(_serve(guest, may_serve))
    finally:
        tracing.end()


def _is_installed(name: str) -> bool:
    """Whether it has been imported, and is not a file of the app's own that has such a name."""
    origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
    return origin is not None and not _INSTALLED.isdisjoint(Path(origin).parts)


async def _serve(guest: VerserGuest, may_serve: asyncio.Event) -> None:
    await may_serve.wait()
    await guest.connect()
    await guest.serve_forever()

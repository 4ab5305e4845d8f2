"""The Guest daemon: settings in, exit code out.

Apart from `cli/`, which only parses, because containers and unit files start it too, and because the
order matters: what can never work is told before anything is dialled.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
from verser2_guest_python.asgi.loading import AppLoadError, LoadedApp, load_app
from verser2_guest_python.errors import InvalidRegistrationError, VerserError
from verser2_guest_python.guest.guest import VerserGuest, create_verser_guest
from verser2_guest_python.service.certificates.expiry import CertificateExpiry
from verser2_guest_python.service.certificates.watch import watched_certificates
from verser2_guest_python.service.daemons.checks import warn_of_credentials, warn_of_variables
from verser2_guest_python.service.daemons.guest_notes import GuestNotes
from verser2_guest_python.service.health.checks import answering
from verser2_guest_python.service.health.guest import DISTRIBUTION, GuestHealth
from verser2_guest_python.service.logs.guest import GuestLog, watch
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.process.event_loop import run_in_loop
from verser2_guest_python.service.process.exit_codes import exit_code
from verser2_guest_python.service.process.garbage import look_seldom, pass_over_what_is_there
from verser2_guest_python.service.process.request_limit import RequestLimit
from verser2_guest_python.service.process.serving import Serving
from verser2_guest_python.service.process.signals import STOP_SIGNALS
from verser2_guest_python.service.process.systemd import Notifier
from verser2_guest_python.service.process.tracing import set_up_tracing
from verser2_guest_python.service.settings.model import Settings, WorkerSettings, plain

if TYPE_CHECKING:
    from verser2_guest_python.service.process.worker import Worker

_DEBUG_HINT: Final = " With --debug its traceback is shown."


def run_guest(settings: Settings, worker: Worker | None = None) -> int:
    """Serves until a signal says otherwise; returns the exit code. `worker` is what this process is, if any.

    Raises `VerserError` for what failed before the first line of the log, or while the log goes to a
    terminal: there a sentence is worth more than a line. A worker tells its supervisor instead.
    """
    logs = set_up_logs(settings.log, worker=worker.peer_id if worker else "", traced=settings.otel)
    look_seldom()
    try:
        return run_in_loop(_run(settings, logs, worker))
    except VerserError as error:
        if worker is None:
            raise
        worker.say_failed(error.message)
        return exit_code(error)
    finally:
        logs.flush()  # before what is said without the log


async def _run(settings: Settings, logs: Logs, worker: Worker | None) -> int:
    loaded = load_app_of(settings)
    end_tracing = None
    if settings.otel:
        end_tracing = set_up_tracing(settings.guest_id)
        from verser2_guest_python.integrations.otel import traced_app

        loaded = replace(loaded, app=traced_app(loaded.app))
    guest = make_guest(settings, loaded, worker.peer_id if worker else settings.guest_id)
    access = logs.access(guest.guest_id) if settings.log.access_log else None
    log = GuestLog(logs, access)
    watch(guest, log)
    stop_signals = STOP_SIGNALS if worker is None else (signal.SIGTERM,)
    serving = Serving(guest, stop_signals=stop_signals, last_words=logs.last_words)
    _limit_requests(guest, serving, settings.workers, worker)
    reports = settings.health.wanted or (worker is not None and worker.reports)
    expiry = CertificateExpiry(settings.tls)
    health = GuestHealth(guest, lambda: logs.sink.dropped, expiry) if reports else None
    notifier = Notifier.of_process()
    notes = GuestNotes(guest, notifier) if notifier is not None else None
    renew = guest.renew if notes is None else notes.renew
    if worker is not None:
        guest.on_lifecycle(worker)
        worker.listen(lambda: serving.stop("the supervisor is gone"), partial(_report, worker, health))
    else:
        warn_of_credentials(settings.tls, logs)
        warn_of_variables(logs)
        serving.on_hang_up(partial(renew, "SIGHUP received"))
    logs.events.info(
        "starting",
        app=settings.app,
        guest_id=guest.guest_id,
        host=", ".join(settings.host_url),
        domains=", ".join(guest.routed_domains),
        version=version(DISTRIBUTION),
        pid=os.getpid(),
    )
    try:
        async with AsyncExitStack() as stack:
            if end_tracing is not None:
                stack.callback(end_tracing)
            if health is not None:
                stack.callback(health.stop)
                if worker is None:
                    await stack.enter_async_context(answering(settings.health, health, logs.events))
                else:
                    stack.callback(_report, worker, health)  # what it has counted outlives it
            if notes is not None and notifier is not None:
                guest.on_lifecycle(notes)
                await stack.enter_async_context(notifier.watched(notes.describe))
            if worker is None:
                changed = partial(renew, "certificates changed")
                await stack.enter_async_context(watched_certificates(settings.tls, logs.events, changed))
            pass_over_what_is_there()
            code = await serving.run(_serve(guest, settings))
    except VerserError as error:
        if isinstance(error, LifespanStartupFailed) and "\n" in error.app_message:
            if settings.debug:
                print(error.app_message, file=sys.stderr)  # noqa: T201 - what --debug asks for
            else:
                error = LifespanStartupFailed(f"{error.message}{_DEBUG_HINT}")
        if worker is not None or not logs.is_json:
            raise error
        code = exit_code(error)
        logs.events.error("stopped", reason=error.message, code=error.code, exit_code=int(code))
        return code
    logs.events.info("stopped", exit_code=int(code), **log.totals.fields())
    return code


def _report(worker: Worker, health: GuestHealth | None) -> None:
    if health is not None:
        worker.say_report({"metrics": health.report(), "status": health.facts()})


def _limit_requests(
    guest: VerserGuest, serving: Serving, settings: WorkerSettings, worker: Worker | None
) -> None:
    if not (limit := settings.limit_max_requests):
        return

    def stop() -> None:
        serving.stop(f"served {limit} requests or more, as --limit-max-requests says")

    on_reached = worker.say_worn_out if worker else stop
    guest.on_lifecycle(RequestLimit(limit, settings.limit_max_requests_jitter, on_reached))


async def _serve(guest: VerserGuest, settings: Settings) -> None:
    if settings.session.exit_on_connect_failure:
        try:
            await guest.connect()
        except VerserError as error:
            # The Host was reached if it refuses; a name that is taken often comes free by itself
            if settings.session.fail_if_registered or not isinstance(error, InvalidRegistrationError):
                await guest.close(error.message)  # the app has been started: it is stopped as well
                raise
    await guest.serve_forever()


def load_app_of(settings: Settings) -> LoadedApp:
    """The app that the settings name; with --debug a failure shows the app's own traceback."""
    try:
        return load_app(
            settings.app,
            app_dir=settings.app_dir,
            factory=settings.factory,
            interface=settings.interface,
        )
    except AppLoadError as error:
        if not error.details:
            raise
        if settings.debug:
            print(error.details, file=sys.stderr)  # noqa: T201 - what --debug asks for
            raise
        raise AppLoadError(f"{error.message}{_DEBUG_HINT}") from error


def make_guest(settings: Settings, loaded: LoadedApp, guest_id: str) -> VerserGuest:
    """The Guest that the settings describe."""
    tls, leases, session = settings.tls, settings.leases, settings.session
    return create_verser_guest(
        host_url=settings.host_url,
        guest_id=guest_id,
        routed_domains=settings.routed_domains,
        app=loaded.app,
        tls_ca_file=tls.ca_file,
        tls_cert_file=tls.cert_file,
        tls_key_file=tls.key_file,
        tls_key_password=plain(tls.key_password),
        tls_pfx_file=tls.pfx_file,
        tls_pfx_password=plain(tls.pfx_password),
        min_waiting_streams=min(leases.min_waiting_streams, leases.limit_concurrency),
        limit_concurrency=leases.limit_concurrency,
        min_waiting_websocket_streams=leases.min_waiting_websocket_streams,
        max_websocket_streams=leases.max_websocket_streams,
        max_unread_bytes=session.max_unread_bytes,
        connect_timeout=session.connect_timeout,
        ping_interval=session.ping_interval,
        ping_timeout=session.ping_timeout,
        timeout_graceful_shutdown=session.timeout_graceful_shutdown,
        reconnect_max_delay=session.reconnect_max_delay,
        fail_if_registered=session.fail_if_registered,
        handover=session.handover,
        proxy=plain(session.proxy),
        registration_token=plain(settings.registration_token),
        all_hosts=session.all_hosts,
        lifespan=settings.lifespan,
        root_path=settings.root_path,
        proxy_headers=settings.proxy_headers,
        forwarded_allow_brokers=settings.forwarded_allow_brokers,
        debug=settings.debug,
    )

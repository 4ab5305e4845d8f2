"""The Guest daemon: settings in, exit code out.

Apart from `cli/`, which only parses, because containers and unit files start it too, and because the
order matters: what can never work is told before anything is dialled.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Final

from pydantic import SecretStr

from verser2_guest_python.asgi.lifespan import LifespanStartupFailed
from verser2_guest_python.asgi.loading import AppLoadError, LoadedApp, load_app
from verser2_guest_python.errors import InvalidRegistrationError, VerserError, VerserUsageError
from verser2_guest_python.guest.guest import VerserGuest, create_verser_guest
from verser2_guest_python.peer.address import parse_host_url
from verser2_guest_python.service.event_loop import run_in_loop
from verser2_guest_python.service.exit_codes import exit_code
from verser2_guest_python.service.guest_log import GuestLog, watch
from verser2_guest_python.service.logs import Logs, set_up_logs
from verser2_guest_python.service.serving import serve_until_stopped
from verser2_guest_python.service.settings import Settings, missing

DISTRIBUTION: Final = "verser2-guest-python"


def run_guest(settings: Settings) -> int:
    """Serves until a signal says otherwise; returns the exit code.

    Raises `VerserError` for what failed before the first line of the log, or while the log goes to a
    terminal: there a sentence is worth more than a line.
    """
    if not settings.app:
        raise VerserUsageError("APP is missing: name the app as module:attribute, such as myapp:app.")
    for key in ("host_url", "guest_id", "routed_domains"):
        if not getattr(settings, key):
            raise missing(key)
    parse_host_url(settings.host_url)
    logs = set_up_logs(settings.log)
    return run_in_loop(_run(settings, logs))


async def _run(settings: Settings, logs: Logs) -> int:
    loaded = load_app_of(settings)
    guest = make_guest(settings, loaded)
    access = logs.access(settings.guest_id) if settings.log.access_log else None
    watch(guest, GuestLog(logs, access))
    logs.events.info(
        "starting",
        app=settings.app,
        guest_id=settings.guest_id,
        host=settings.host_url,
        domains=", ".join(guest.routed_domains),
        version=version(DISTRIBUTION),
        pid=os.getpid(),
    )
    try:
        code = await serve_until_stopped(guest, _serve(guest, settings))
    except VerserError as error:
        if settings.debug and isinstance(error, LifespanStartupFailed) and error.app_message:
            print(error.app_message, file=sys.stderr)  # noqa: T201 - what --debug asks for
        if not logs.is_json:
            raise
        code = exit_code(error)
        logs.events.error("stopped", reason=error.message, code=error.code, exit_code=int(code))
        return code
    logs.events.info("stopped", exit_code=int(code))
    return code


async def _serve(guest: VerserGuest, settings: Settings) -> None:
    if settings.session.exit_on_connect_failure:
        try:
            await guest.connect()
        except InvalidRegistrationError:
            # The Host was reached; a name that is taken often comes free by itself
            if settings.session.fail_if_registered:
                raise
    await guest.serve_forever()


def load_app_of(settings: Settings) -> LoadedApp:
    """The app that the settings name; with --debug a failure shows the app's own traceback."""
    try:
        return load_app(settings.app, app_dir=settings.app_dir, factory=settings.factory)
    except AppLoadError as error:
        if settings.debug and error.details:
            print(error.details, file=sys.stderr)  # noqa: T201 - what --debug asks for
        raise


def make_guest(settings: Settings, loaded: LoadedApp) -> VerserGuest:
    """The Guest that the settings describe."""
    tls, leases, session = settings.tls, settings.leases, settings.session
    return create_verser_guest(
        host_url=settings.host_url,
        guest_id=settings.guest_id,
        routed_domains=settings.routed_domains,
        app=loaded.app,
        tls_ca_file=tls.ca_file,
        tls_cert_file=tls.cert_file,
        tls_key_file=tls.key_file,
        tls_key_password=_secret(tls.key_password),
        tls_pfx_file=tls.pfx_file,
        tls_pfx_password=_secret(tls.pfx_password),
        min_waiting_streams=leases.min_waiting_streams,
        limit_concurrency=leases.limit_concurrency,
        connect_timeout=session.connect_timeout,
        timeout_graceful_shutdown=session.timeout_graceful_shutdown,
        fail_if_registered=session.fail_if_registered,
        lifespan=settings.lifespan,
        debug=settings.debug,
    )


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()

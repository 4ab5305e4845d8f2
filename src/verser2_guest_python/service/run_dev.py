"""`verser2-guest dev`: an app through the real path, on this machine, in one process."""

from __future__ import annotations

from collections.abc import Callable

from verser2_guest_python.service.dev_stack import GUEST_ID, DevStack, domain_of
from verser2_guest_python.service.event_loop import run_in_loop
from verser2_guest_python.service.guest_log import GuestLog, watch
from verser2_guest_python.service.logs import Logs, set_up_logs
from verser2_guest_python.service.run_guest import load_app_of
from verser2_guest_python.service.serving import serve_until_stopped
from verser2_guest_python.service.settings import Settings


def run_dev(settings: Settings, on_ready: Callable[[DevStack], None]) -> int:
    """Serves the app with a Host of its own until a signal says otherwise; returns the exit code.

    `on_ready` is called once requests can come.
    """
    logs = set_up_logs(settings.log)
    return run_in_loop(_run(settings, logs, on_ready))


async def _run(settings: Settings, logs: Logs, on_ready: Callable[[DevStack], None]) -> int:
    loaded = load_app_of(settings)
    domains = settings.routed_domains or (domain_of(settings.app),)
    async with DevStack(loaded.app, domains, lifespan=settings.lifespan) as stack:
        access = logs.access(GUEST_ID, query=True) if settings.log.access_log else None
        watch(stack.guest, GuestLog(logs, access))

        async def serve() -> None:
            await stack.connect()
            on_ready(stack)
            await stack.guest.serve_forever()

        return await serve_until_stopped(stack.guest, serve())

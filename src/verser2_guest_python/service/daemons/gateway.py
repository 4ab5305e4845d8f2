"""The gateway daemon: settings in, exit code out.

Apart from `cli/`, which only parses. It listens before the Host is reached, so that clients are told what is
the matter; what can never work is told before anything is listened on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.broker.broker import VerserBroker, create_verser_broker
from verser2_guest_python.errors import (
    ConnectFailure,
    DisconnectedTargetError,
    InvalidRegistrationError,
    RequestTimeoutError,
    StreamFailureError,
    VerserConnectionError,
    VerserError,
    VerserUsageError,
)
from verser2_guest_python.integrations.gateway import Gateway, GatewayLimits, GatewayRecord, create_gateway
from verser2_guest_python.peer.address import parse_host_url
from verser2_guest_python.peer.backoff import Backoff
from verser2_guest_python.service.calls.peer import made_up_id
from verser2_guest_python.service.certificates.expiry import CertificateExpiry
from verser2_guest_python.service.certificates.watch import CertificateWatch, files_of, watched_certificates
from verser2_guest_python.service.daemons.checks import check_credentials, warn_of_credentials
from verser2_guest_python.service.gateway_server.server import GatewayServer, check_extra
from verser2_guest_python.service.gateway_server.tls import PublicTls
from verser2_guest_python.service.health.checks import answering
from verser2_guest_python.service.health.gateway import GatewayHealth
from verser2_guest_python.service.logs.gateway import GatewayAccessLog
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.metrics.totals import Totals
from verser2_guest_python.service.process.event_loop import run_in_loop
from verser2_guest_python.service.process.exit_codes import ExitCode, exit_code
from verser2_guest_python.service.process.garbage import look_seldom, pass_over_what_is_there
from verser2_guest_python.service.process.hang_up import HangUp
from verser2_guest_python.service.process.signals import StopSignals
from verser2_guest_python.service.process.systemd import Notifier, counted
from verser2_guest_python.service.process.tracing import set_up_tracing
from verser2_guest_python.service.settings.model import GatewaySettings, Settings, TlsSettings, missing, plain

OnDone: TypeAlias = Callable[[GatewayRecord], None]
DISTRIBUTION: Final = "verser2-guest-python"
_PASSING: Final = frozenset({ConnectFailure.UNREACHABLE, ConnectFailure.TIMEOUT})


def run_gateway(settings: Settings) -> int:
    """Serves until a signal says otherwise; returns the exit code.

    Raises `VerserError` for what failed before the first line of the log, or while the log goes to a
    terminal: there a sentence is worth more than a line.
    """
    check_extra()
    if not settings.host_url:
        raise missing("host_url")
    for url in settings.host_url:
        parse_host_url(url)
    maps = parse_maps(settings.gateway.map)
    check_credentials(settings.tls)
    logs = set_up_logs(settings.log, traced=settings.otel)
    look_seldom()
    try:
        return run_in_loop(_Running(settings, logs).run(maps))
    finally:
        logs.flush()  # before what is said without the log


def parse_maps(entries: tuple[str, ...]) -> dict[str, str]:
    """Names and domains of `--map`; raises `VerserUsageError`."""
    maps: dict[str, str] = {}
    for entry in entries:
        name, equals, domain = (part.strip() for part in entry.partition("="))
        if not (name and equals and domain):
            raise VerserUsageError(f"{entry!r} is no --map: write it like public.example.com=app.local.test.")
        if maps.setdefault(name, domain) != domain:
            raise VerserUsageError(f"--map gives {name} two domains: {maps[name]} and {domain}.")
    return maps


class _Running:
    """One run, from its start to the end of the process."""

    def __init__(self, settings: Settings, logs: Logs) -> None:
        self._settings = settings
        self._logs = logs
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._notifier = Notifier.of_process()
        self._health: GatewayHealth | None = None

    async def run(self, maps: dict[str, str]) -> int:
        settings, logs = self._settings, self._logs
        loop = asyncio.get_running_loop()
        signals = StopSignals(loop, self._stop, lambda _reason: self._hurry.set(), last_words=logs.last_words)
        hang_up = HangUp(loop, signals)
        broker = make_broker(settings)
        access = GatewayAccessLog(logs) if settings.log.access_log else None
        health = None
        if settings.health.wanted:
            expiry = CertificateExpiry(settings.tls, settings.gateway.ssl_certfile)
            health = self._health = GatewayHealth(broker, lambda: logs.sink.dropped, expiry)
        totals = Totals()
        on_done = _all_of(lambda record: totals.add(failed=bool(record.code)), access, health)
        gateway = make_gateway(settings.gateway, maps, broker, on_done)
        if health is not None:
            health.gateway = gateway
        app: ASGIApp = gateway
        end_tracing = None
        if settings.otel:
            end_tracing = set_up_tracing(settings.broker_id or "verser2-gateway")
            from verser2_guest_python.integrations.otel import trace_broker, traced_app

            trace_broker(broker)
            app = traced_app(gateway)
        server = make_server(settings.gateway, app, on_done)
        warn_of_credentials(settings.tls, logs)
        warn_of_credentials(_public(settings.gateway), logs)
        work = asyncio.create_task(self._serve(server, broker, gateway, hang_up), name="gateway")
        signals.install()
        hurry = asyncio.create_task(self._hurry.wait(), name="hurry")
        try:
            await asyncio.wait([work, hurry], return_when=asyncio.FIRST_COMPLETED)
            if (code := signals.exit_code()) is not None:
                work.cancel()  # clients that wait are told, and counted
                await asyncio.wait([work])
                logs.events.info("stopped", exit_code=code, **totals.fields())
                return code
            work.result()
        except VerserError as error:
            if not logs.is_json:
                raise
            number = exit_code(error)
            logs.events.error("stopped", reason=error.message, code=error.code, exit_code=int(number))
            return number
        finally:
            hurry.cancel()
            if health is not None:
                health.stop()
            if end_tracing is not None:
                end_tracing()
        logs.events.info("stopped", exit_code=0, **totals.fields())
        return ExitCode.DONE

    def _stop(self, reason: str) -> None:
        self._logs.events.info("stopping", reason=reason)
        self._stopping.set()
        if self._health is not None:
            self._health.draining = True
        if self._notifier is not None:
            self._notifier.stopping()

    async def _serve(
        self, server: GatewayServer, broker: VerserBroker, gateway: Gateway, hang_up: HangUp
    ) -> None:
        settings, logs = self._settings, self._logs
        public = settings.gateway
        watch = CertificateWatch(files_of(settings.tls, public.ssl_certfile, public.ssl_keyfile))
        try:
            async with AsyncExitStack() as stack:
                if self._health is not None:
                    await stack.enter_async_context(answering(settings.health, self._health, logs.events))
                await stack.enter_async_context(server)
                reload = partial(self._reload, server)
                hang_up.install(reload)
                watched = watched_certificates(settings.tls, logs.events, reload, watch)
                await stack.enter_async_context(watched)
                pass_over_what_is_there()
                logs.events.info(
                    "listening",
                    url=server.url,
                    host=", ".join(settings.host_url),
                    version=version(DISTRIBUTION),
                    pid=os.getpid(),
                )
                if self._notifier is not None:
                    self._notifier.ready()
                    described = partial(_described, broker, gateway)
                    await stack.enter_async_context(self._notifier.watched(described))
                ended = asyncio.ensure_future(server.wait_ended())
                stopping = asyncio.ensure_future(self._stopping.wait())
                connecting = asyncio.ensure_future(self._connect(broker, gateway))
                try:
                    await _first(connecting, ended, stopping)
                    await _first(ended, stopping)
                finally:
                    for task in (ended, stopping, connecting):
                        task.cancel()
                    await asyncio.wait([ended, stopping, connecting])
        finally:
            await broker.close("the gateway stops", timeout=0.0)

    def _reload(self, server: GatewayServer) -> None:
        """The certificate that clients see, anew. Those for the Host are read for every session anyway."""
        notifier, events = self._notifier, self._logs.events
        if notifier is not None:
            notifier.reloading()
        for load in (server.reload_certificate, partial(check_credentials, self._settings.tls)):
            try:
                load()
            except VerserError as error:
                events.error("certificates not reloaded", reason=error.message)
                break
        else:
            events.info("certificates reloaded")
        if notifier is not None:
            notifier.ready()

    async def _connect(self, broker: VerserBroker, gateway: Gateway) -> None:
        """The first session. Later ones are the Broker's own business."""
        session, events = self._settings.session, self._logs.events
        loop = asyncio.get_running_loop()
        backoff = Backoff(session.reconnect_max_delay)
        backoff.lost(loop.time())
        said = ""
        while True:
            try:
                await broker.connect()
            except VerserError as error:
                if session.exit_on_connect_failure or not _passes(error):
                    raise
                if error.message != said:
                    said = error.message
                    events.warning("connecting", reason=said)
            else:
                routes = sorted({route.domain for route in broker.get_routes()})
                events.info("registered", broker_id=broker.broker_id, domains=", ".join(routes))
                if self._notifier is not None:
                    self._notifier.status(describe(broker, gateway))
                return
            await asyncio.sleep(backoff.next_delay(loop.time()))


async def _described(broker: VerserBroker, gateway: Gateway) -> tuple[bool, str]:
    """For systemd: that this runs is the sign of life."""
    return True, describe(broker, gateway)


def describe(broker: VerserBroker, gateway: Gateway) -> str:
    """How it is, in one line."""
    session = broker.facts().session
    if session is None:
        return f"Not registered at any Host; {gateway.active:,} in flight"
    domains = len({route.domain for route in broker.get_routes()})
    return (
        f"Registered at {session.host} as {session.peer_id}; {counted(domains, 'domain')}, "
        f"{gateway.active:,} in flight, {counted(gateway.websockets, 'WebSocket')}"
    )


def _all_of(*listeners: OnDone | None) -> OnDone | None:
    """One listener for all of them that are there."""
    found = [listener for listener in listeners if listener is not None]
    if len(found) < 2:
        return found[0] if found else None

    def tell(record: GatewayRecord) -> None:
        for listener in found:
            listener(record)

    return tell


async def _first(*tasks: asyncio.Future[Any]) -> None:
    """Until the first of them is done; raises what that one raised."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()


def _passes(error: VerserError) -> bool:
    """Whether what kept us from the Host may pass by itself."""
    if isinstance(error, VerserConnectionError):
        return error.reason in _PASSING
    if isinstance(error, InvalidRegistrationError):
        return error.taken
    # The last two: a session that ended before it was registered, at a Host that is full or about to stop
    return isinstance(error, (RequestTimeoutError, DisconnectedTargetError, StreamFailureError))


def make_broker(settings: Settings) -> VerserBroker:
    """The Broker that the settings describe."""
    tls, session = settings.tls, settings.session
    cert_file, pfx_file = (None if path is None else str(path) for path in (tls.cert_file, tls.pfx_file))
    return create_verser_broker(
        host_url=settings.host_url,
        broker_id=settings.broker_id or made_up_id(cert_file, pfx_file, plain(tls.pfx_password)),
        tls_ca_file=tls.ca_file,
        tls_cert_file=tls.cert_file,
        tls_key_file=tls.key_file,
        tls_key_password=plain(tls.key_password),
        tls_pfx_file=tls.pfx_file,
        tls_pfx_password=plain(tls.pfx_password),
        connect_timeout=session.connect_timeout,
        ping_interval=session.ping_interval,
        ping_timeout=session.ping_timeout,
        reconnect_max_delay=session.reconnect_max_delay,
        lease_timeout=settings.broker.lease_timeout,
        proxy=plain(session.proxy),
        registration_token=plain(settings.registration_token),
    )


def limits_of(settings: GatewaySettings) -> GatewayLimits:
    """The limits that the settings describe."""
    return GatewayLimits(
        max_body_bytes=settings.max_body_bytes,
        max_header_bytes=settings.max_header_bytes,
        limit_concurrency=settings.limit_concurrency,
        timeout=settings.timeout,
        head_timeout=settings.head_timeout,
        read_timeout=settings.read_timeout,
        write_timeout=settings.write_timeout,
    )


def make_gateway(
    settings: GatewaySettings, maps: dict[str, str], broker: VerserBroker, on_done: OnDone | None
) -> Gateway:
    """The app that the settings describe."""
    return create_gateway(
        broker,
        maps=maps,
        only_mapped=settings.only_mapped,
        default_domain=settings.default_domain,
        list_routes=settings.list_routes,
        route_wait=settings.route_wait,
        trust_forwarded=settings.trust_forwarded,
        limits=limits_of(settings),
        on_done=on_done,
    )


def _public(settings: GatewaySettings) -> TlsSettings:
    """The certificate that clients see, as those are looked at that Hosts see."""
    return TlsSettings(cert_file=settings.ssl_certfile, key_file=settings.ssl_keyfile)


def public_tls(settings: GatewaySettings) -> PublicTls | None:
    """What clients see; None without https. Raises `VerserUsageError` for a key without a certificate."""
    if settings.ssl_certfile is not None:
        return PublicTls(settings.ssl_certfile, settings.ssl_keyfile, plain(settings.ssl_keyfile_password))
    if settings.ssl_keyfile is not None:
        raise VerserUsageError("--ssl-keyfile needs --ssl-certfile, which it is the key of.")
    return None


def make_server(settings: GatewaySettings, gateway: ASGIApp, on_done: OnDone | None) -> GatewayServer:
    """The server that the settings describe; raises what `public_tls` raises."""
    tls = public_tls(settings)
    return GatewayServer(
        gateway,
        listen=settings.listen,
        tls=tls,
        limits=limits_of(settings),
        keep_alive=settings.timeout_keep_alive,
        timeout_graceful_shutdown=settings.timeout_graceful_shutdown,
        on_refused=on_done,
    )

"""The Host daemon: settings in, exit code out.

Apart from `cli/`, which only parses. What can never work (certificates, the policy, the port) is told
before the first line of the log, as one sentence.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError, VerserError, VerserUsageError
from verser2_guest_python.host.host import VerserHost, create_verser_host
from verser2_guest_python.host.limits import HostLimits
from verser2_guest_python.host.policy import Policy, PolicyEntry
from verser2_guest_python.host.policy_entries import read_policy
from verser2_guest_python.http2.credentials import credentials_warnings
from verser2_guest_python.service.certificates.expiry import CertificateExpiry
from verser2_guest_python.service.certificates.watch import CertificateWatch, files_of, watched_certificates
from verser2_guest_python.service.health.checks import answering
from verser2_guest_python.service.health.host import HostHealth, HostState
from verser2_guest_python.service.logs.host import HostLog
from verser2_guest_python.service.logs.host_access import HostAccessLog
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.metrics.totals import Totals
from verser2_guest_python.service.output.errors import sentences_of
from verser2_guest_python.service.process.event_loop import run_in_loop
from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.process.garbage import look_seldom, pass_over_what_is_there
from verser2_guest_python.service.process.hang_up import HangUp
from verser2_guest_python.service.process.signals import StopSignals
from verser2_guest_python.service.process.systemd import Notifier, counted
from verser2_guest_python.service.process.tracing import set_up_tracing
from verser2_guest_python.service.settings.model import HostSettings, Settings, plain, settings_from
from verser2_guest_python.service.settings.options import OPTIONS
from verser2_guest_python.service.settings.sources import Sources

DISTRIBUTION: Final = "verser2-guest-python"
POLICY_KEY: Final = "host.policy"


def run_host(given: Mapping[str, Any]) -> int:
    """Runs the Host that the settings describe until a signal says otherwise; returns the exit code.

    `given` is what the command line says, by key: the file with the policy is read again on SIGHUP.
    Raises `VerserError` for what failed before the first line of the log.
    """
    settings, policy = _read(given)
    host = make_host(settings, policy)
    logs = set_up_logs(settings.log, traced=settings.otel)
    look_seldom()
    try:
        return run_in_loop(_run(host, given, settings, policy, logs))
    finally:
        logs.flush()  # before what is said without the log


def _read(given: Mapping[str, Any]) -> tuple[Settings, tuple[PolicyEntry, ...] | None]:
    sources = Sources.of_process(given)
    settings = settings_from(sources)
    return settings, policy_of(settings, sources)


def policy_of(settings: Settings, sources: Sources) -> tuple[PolicyEntry, ...] | None:
    """The policy in the file of settings; raises `VerserConfigurationError` that names the line."""
    if not settings.host.policy:
        return None
    file = sources.config_file
    if file is None:
        raise VerserConfigurationError("A policy can be in a file of settings only: name it with --config.")
    return read_policy(
        settings.host.policy,
        directory=file.path.parent,
        place=lambda number: file.place(POLICY_KEY, number - 1),
    )


def make_host(settings: Settings, policy: Sequence[PolicyEntry] | None) -> VerserHost:
    """The Host that the settings describe; raises `VerserUsageError` for what is missing."""
    tls, host = settings.tls, settings.host
    if tls.cert_file is None and tls.pfx_file is None:
        flags = [OPTIONS[f"tls.{name}_file"].flag for name in ("cert", "key", "pfx")]
        raise VerserUsageError(
            f"A Host needs a certificate: give {flags[0]} and {flags[1]}, or {flags[2]}. "
            "`verser2-guest dev` makes one by itself."
        )
    if host.allow_anonymous and policy is not None:
        raise VerserUsageError("--allow-anonymous and a policy contradict each other: leave one out.")
    if host.allow_anonymous and host.client_ca_file is not None:
        raise VerserUsageError("--allow-anonymous and --client-ca-file contradict each other: leave one out.")
    if policy is not None and host.client_ca_file is None and Policy(policy).needs_certificate:
        raise VerserUsageError(
            "Every entry of the policy is for peers with a certificate, and nothing says whose certificates "
            "count: give --client-ca-file, or an entry for a registration token."
        )
    return create_verser_host(
        address=host.address,
        port=host.port,
        tls_cert_file=tls.cert_file,
        tls_key_file=tls.key_file,
        tls_key_password=plain(tls.key_password),
        tls_pfx_file=tls.pfx_file,
        tls_pfx_password=plain(tls.pfx_password),
        client_ca_file=host.client_ca_file,
        lease_timeout=host.lease_timeout,
        degraded_timeout=host.degraded_timeout,
        server_timing=host.server_timing,
        limits=limits_of(host),
        policy=policy,
        allow_anonymous=host.allow_anonymous,
    )


def limits_of(settings: HostSettings) -> HostLimits:
    """What peers may cost the Host that the settings describe."""
    return HostLimits(
        sessions=settings.max_sessions,
        connections_per_address=settings.max_connections_per_address,
        connections_per_address_and_second=settings.max_connections_per_second,
        idle_leases_per_guest=settings.max_idle_leases,
        queued_requests_per_guest=settings.max_queued_requests_per_guest,
        queued_requests=settings.max_queued_requests,
        queued_bytes=settings.max_queued_bytes,
    )


async def _run(
    host: VerserHost,
    given: Mapping[str, Any],
    settings: Settings,
    policy: Sequence[PolicyEntry] | None,
    logs: Logs,
) -> int:
    host.on_lifecycle(HostLog(logs))
    if settings.log.access_log:
        host.on_request(HostAccessLog(logs))
    async with AsyncExitStack() as stack:
        if settings.otel:
            stack.callback(set_up_tracing("verser2-host"))
            from verser2_guest_python.integrations.otel import trace_host

            trace_host(host)
        health = None
        if settings.health.wanted:
            health = HostHealth(host, lambda: logs.sink.dropped, CertificateExpiry(settings.tls))
            stack.callback(health.stop)
            await stack.enter_async_context(answering(settings.health, health, logs.events))
        totals = None
        if (
            settings.log.access_log or health is not None
        ):  # else nobody is told of requests, and nothing is paid
            totals = Totals()
            host.on_request(lambda record: totals.add(failed=record.error is not None))
        return await _serve(host, given, settings, policy, logs, health, totals)


async def _serve(
    host: VerserHost,
    given: Mapping[str, Any],
    settings: Settings,
    policy: Sequence[PolicyEntry] | None,
    logs: Logs,
    health: HostHealth | None,
    totals: Totals | None,
) -> int:
    loop = asyncio.get_running_loop()
    told_to_stop: asyncio.Future[str] = loop.create_future()
    hurry = asyncio.Event()
    signals = StopSignals(
        loop, told_to_stop.set_result, lambda _reason: hurry.set(), last_words=logs.last_words
    )
    hang_up = HangUp(loop, signals)
    watch = CertificateWatch(files_of(settings.tls, settings.host.client_ca_file))  # before they are read
    await host.start()
    pass_over_what_is_there()
    signals.install()
    notifier = Notifier.of_process()
    reload = partial(_reload, host, given, logs, has_policy=policy is not None, notifier=notifier)
    hang_up.install(reload)
    _say_listening(host, settings, policy, logs)
    if health is not None:
        health.state = HostState.LISTENING
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watched_certificates(settings.tls, logs.events, reload, watch))
        if notifier is not None:
            notifier.ready()
            await stack.enter_async_context(notifier.watched(partial(_describe, host)))
        reason = await told_to_stop
    if notifier is not None:
        notifier.stopping()
    if health is not None:
        health.state = HostState.DRAINING
    logs.events.info("draining", reason=reason, requests=host.get_stats().active_requests)
    closing = loop.create_task(
        host.close(reason, settings.session.timeout_graceful_shutdown), name="closing the host"
    )
    hurrying = loop.create_task(hurry.wait(), name="hurry")
    await asyncio.wait((closing, hurrying), return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    code = signals.exit_code()
    if code is None:
        await closing
    else:
        await host.close(timeout=0.0)  # cuts off what is under way, in good order
    counted_in_all = {} if totals is None else totals.fields()
    logs.events.info("stopped", exit_code=code or int(ExitCode.DONE), **counted_in_all)
    if code is None:
        return ExitCode.DONE
    logging.disable()
    return code


def who_may_register(settings: Settings, policy: Sequence[PolicyEntry] | None) -> str:
    """In words, for whoever starts a Host."""
    client_ca = settings.host.client_ca_file
    if policy is not None:
        return f"whom the policy names ({len(policy)} {'entry' if len(policy) == 1 else 'entries'})"
    if client_ca is not None:
        return f"peers with a certificate of {client_ca.name}, under its name"
    if settings.host.allow_anonymous:
        return "whoever reaches the port, for any domain"
    return "any user of this machine, for any domain"


def _say_listening(
    host: VerserHost, settings: Settings, policy: Sequence[PolicyEntry] | None, logs: Logs
) -> None:
    """The start-up line, which says who may come in; where nobody is asked who he is, it is a warning."""
    tls, client_ca = settings.tls, settings.host.client_ca_file
    for sentence in credentials_warnings(
        ca_file=client_ca,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        pfx_file=tls.pfx_file,
        pfx_password=plain(tls.pfx_password),
    ):
        logs.events.warning("credentials", reason=sentence)
    asks = policy is not None or client_ca is not None
    say = logs.events.info if asks else logs.events.warning
    say(
        "listening",
        url=host.url,
        address=settings.host.address,
        port=host.port,
        may_register=who_may_register(settings, policy),
        version=version(DISTRIBUTION),
        pid=os.getpid(),
    )


async def _describe(host: VerserHost) -> tuple[bool, str]:
    """For systemd: one line; that this runs is the sign of life."""
    stats = host.get_stats()
    routes = sum(len(guest.domains) for guest in host.get_guests())
    return True, (
        f"{counted(stats.guests, 'Guest')}, {counted(routes, 'route')}; "
        f"{counted(stats.sessions, 'session')}, {stats.active_requests} in flight, "
        f"{stats.queued_requests} queued"
    )


def _reload(
    host: VerserHost, given: Mapping[str, Any], logs: Logs, *, has_policy: bool, notifier: Notifier | None
) -> None:
    """Certificates and the policy anew; each stays as it was where the new one cannot be used."""
    if notifier is not None:
        notifier.reloading()
    try:
        host.reload_certificates()
    except VerserError as error:
        logs.events.error("certificates not reloaded", reason=error.message)
    try:
        policy = _read(given)[1]
        if policy is not None:
            host.replace_policy(policy)
        elif has_policy:
            raise VerserConfigurationError("The policy is gone: a Host without one has to be started anew.")
    except VerserError as error:
        logs.events.error("policy not replaced", reason=" ".join(sentences_of(error)))
    if notifier is not None:
        notifier.ready()

"""`config check`: all that can be found wrong without connecting, every problem at once.

Apart from `checks.py`, which ends a start at the first problem: here somebody wants to see all of them,
and what is right as well.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, Final

from verser2_guest_python.service.config.report import Report, check_authorities, check_identity, check_way
from verser2_guest_python.service.config.roles import (
    check_broker,
    check_gateway,
    check_peer_id,
    check_surroundings,
)
from verser2_guest_python.service.daemons.checks import check_credentials, missing_app
from verser2_guest_python.service.process.tracing import check_tracing
from verser2_guest_python.service.settings.model import (
    Settings,
    TlsSettings,
    fitting_settings,
    plain,
    setting_keys,
)
from verser2_guest_python.service.settings.sources import Sources, misspelt_variables


def check(sources: Sources, *, role: str | None = None, with_app: bool = True) -> Report:
    """Looks at everything that `sources` say. `with_app` imports the app, which runs its module.

    `role` is "guest", "host", "gateway" or "broker"; without it the settings tell whose they are.
    """
    report = Report()
    report.warnings += misspelt_variables({**sources.environ, **sources.env_file})
    if sources.config_file is not None:
        report.facts.append(f"{sources.config_file.path} is read")
    settings, misfits = fitting_settings(sources)
    report.add_misfits(misfits)
    roles = {role} if role else _roles(settings, sources, misfits)
    if "guest" in roles:
        _check_guest(settings, report, with_app=with_app)
    if "host" in roles:
        _check_host(settings, sources, report)
    if "gateway" in roles:
        check_gateway(settings, report)
    elif "broker" in roles:
        check_broker(settings, report)
    _check_tls(settings.tls, report, client=roles != {"host"})
    if "guest" in roles:
        check_peer_id(settings, settings.guest_id, report)
    if roles & {"broker", "gateway"}:
        check_peer_id(settings, settings.broker_id, report)
    check_surroundings(settings, report)
    report.attempt(_check_extras, settings)
    return report


# How the keys of the settings of one role alone begin
_OWN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "guest": ("app", "guest_id", "routed_domains"),
        "host": ("host.",),
        "gateway": ("gateway.",),
        "broker": ("broker.", "broker_id"),
    }
)


def _roles(settings: Settings, sources: Sources, misfits: Container[str]) -> set[str]:
    """Whom this is about: a Guest also when nothing is said at all, so that all of it is missing."""
    said = [key for key in setting_keys(Settings) if key in misfits or sources.find(key)]
    found = {role for role, own in _OWN.items() for key in said if key.startswith(own)}
    if not (settings.app or settings.guest_id or settings.routed_domains):
        found.discard("guest")
    return found or {"guest"}


def _check_guest(settings: Settings, report: Report, *, with_app: bool) -> None:
    if not settings.app and "app" not in report.misfits:
        report.problems.append(missing_app().message)
    for key in ("host_url", "guest_id", "routed_domains"):
        if not getattr(settings, key):
            report.miss(key)
    for url in settings.host_url:
        report.attempt(check_way, url, settings)
    if settings.guest_id and settings.routed_domains:
        report.attempt(_check_registration, settings, report)
    if with_app and settings.app:
        from verser2_guest_python.service.daemons.guest import load_app_of

        if (loaded := report.attempt(load_app_of, settings)) is not None:
            report.facts.append(f"{settings.app} is imported: {loaded.interface}")


def _check_host(settings: Settings, sources: Sources, report: Report) -> None:
    """The policy, and the files of a Host, as the Host itself looks at them."""
    from verser2_guest_python.service.daemons.host import make_host, policy_of, who_may_register

    problems = len(report.problems)
    policy = report.attempt(policy_of, settings, sources)
    if len(report.problems) > problems:
        return
    host = report.attempt(make_host, settings, policy)
    if host is None:
        return
    report.attempt(host.reload_certificates)
    if not report.misfits:  # the policy may be one
        who = who_may_register(settings, policy)
        report.facts.append(f"a Host on {settings.host.address}, port {settings.host.port}, lets in {who}")


def _check_registration(settings: Settings, report: Report) -> None:
    """Id and domains, as the Guest itself looks at them."""
    from verser2_guest_python.asgi.loading import LoadedApp
    from verser2_guest_python.service.daemons.guest import make_guest
    from verser2_guest_python.wire.registration import GUEST, Registration, encode_registration

    problems = len(report.problems)
    report.attempt(encode_registration, Registration(settings.guest_id, GUEST))
    for domain in settings.routed_domains:
        one = settings.model_copy(update={"routed_domains": (domain,), "host_url": ("https://localhost",)})
        report.attempt(make_guest, one, LoadedApp(_no_app, "asgi3"), settings.guest_id)
    if len(report.problems) > problems:
        return
    domains = ", ".join(settings.routed_domains)
    report.facts.append(f"{settings.guest_id} will serve {domains} through {', '.join(settings.host_url)}")


async def _no_app(_scope: Any, _receive: Any, _send: Any) -> None:
    """Stands for the app where only the Guest around it is looked at."""


def _check_tls(tls: TlsSettings, report: Report, *, client: bool) -> None:
    """Files, whether the key matches, dates, names."""
    if all(path is None for path in (tls.ca_file, tls.cert_file, tls.key_file, tls.pfx_file)):
        return
    before = len(report.problems)
    report.attempt(check_credentials, tls)
    if len(report.problems) > before:
        return
    if tls.ca_file is not None:
        check_authorities(tls.ca_file, report)
    if (path := tls.pfx_file or tls.cert_file) is not None:
        key = None if tls.pfx_file else tls.key_file
        check_identity(path, key, report, client=client, pfx_password=plain(tls.pfx_password))


def _check_extras(settings: Settings) -> None:
    if settings.otel:
        check_tracing()
    if settings.workers.reload:
        from verser2_guest_python.service.daemons.workers import watched_source

        watched_source(settings)

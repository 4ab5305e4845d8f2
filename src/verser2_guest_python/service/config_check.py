"""`config check`: all that can be found wrong without connecting, every problem at once.

Apart from `checks.py`, which ends a start at the first problem: here somebody wants to see all of them,
and what is right as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from verser2_guest_python.errors import VerserError
from verser2_guest_python.http2.credentials import credentials_warnings
from verser2_guest_python.service.certificate_facts import certificate_facts
from verser2_guest_python.service.checks import check_credentials, missing_app, plain
from verser2_guest_python.service.reload import require_watchfiles
from verser2_guest_python.service.settings import Settings, TlsSettings, misfits, missing, setting_keys
from verser2_guest_python.service.sources import Sources, misspelt_variables


@dataclass(slots=True)
class Report:
    """What was found: problems keep the program from working, warnings do not, facts are well."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def attempt(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` returns; None when it raises, which is a problem then."""
        try:
            return call(*arguments)
        except VerserError as error:
            if error.message not in self.problems:
                self.problems.append(error.message)
            return None


def check(sources: Sources, *, with_app: bool = True) -> Report:
    """Looks at everything that `sources` say. `with_app` imports the app, which runs its module."""
    report = Report()
    report.warnings += misspelt_variables({**sources.environ, **sources.env_file})
    if sources.config_file is not None:
        report.facts.append(f"{sources.config_file.path} is read")
    try:
        settings = report.attempt(lambda: Settings(**sources.values(setting_keys(Settings))))
    except ValidationError as error:
        report.problems += [one.message for one in misfits(error, sources)]
        return report
    if settings is not None:
        if is_guest := _is_guest(settings, sources):
            _check_guest(settings, report, with_app=with_app)
        if any(sources.find(key) for key in setting_keys(Settings) if key.startswith("host.")):
            _check_host(settings, sources, report)
        _check_tls(settings.tls, report, client=is_guest)
        report.attempt(_check_extras, settings)
    return report


def _is_guest(settings: Settings, sources: Sources) -> bool:
    """Whether this is about a Guest: also when nothing is said at all, so that all of it is missing."""
    if settings.app or settings.guest_id or settings.routed_domains:
        return True
    return not any(
        sources.find(key) for key in setting_keys(Settings) if key.startswith(("host.", "gateway."))
    )


def _check_guest(settings: Settings, report: Report, *, with_app: bool) -> None:
    if not settings.app:
        report.problems.append(missing_app().message)
    report.problems += [
        missing(key).message
        for key in ("host_url", "guest_id", "routed_domains")
        if not getattr(settings, key)
    ]
    for url in settings.host_url:
        report.attempt(_check_way, url, settings)
    if settings.guest_id and settings.routed_domains:
        report.attempt(_check_registration, settings, report)
    if with_app and settings.app:
        from verser2_guest_python.service.run_guest import load_app_of

        if (loaded := report.attempt(load_app_of, settings)) is not None:
            report.facts.append(f"{settings.app} is imported: {loaded.interface}")


def _check_host(settings: Settings, sources: Sources, report: Report) -> None:
    """The policy, and the files of a Host, as the Host itself looks at them."""
    from verser2_guest_python.service.run_host import make_host, policy_of, who_may_register

    problems = len(report.problems)
    policy = report.attempt(policy_of, settings, sources)
    if len(report.problems) > problems:
        return
    host = report.attempt(make_host, settings, policy)
    if host is not None:
        report.attempt(host.reload_certificates)
        who = who_may_register(settings, policy)
        report.facts.append(f"a Host on {settings.host.address}, port {settings.host.port}, lets in {who}")


def _check_way(url: str, settings: Settings) -> None:
    """To the Host: its address, and the proxy on the way."""
    from verser2_guest_python.peer import find_proxy, parse_host_url

    find_proxy(parse_host_url(url), plain(settings.session.proxy))


def _check_registration(settings: Settings, report: Report) -> None:
    """Id and domains, as the Guest itself looks at them."""
    from verser2_guest_python.asgi.loading import LoadedApp
    from verser2_guest_python.service.run_guest import make_guest
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


def check_authorities(path: Path, report: Report) -> None:
    """The dates of the certificates in a CA file: one that holds is enough."""
    certificates = certificate_facts(path)
    troubles = [one.date_trouble() for one in certificates]
    if certificates and all(troubles):
        report.problems.append(f"{path}: {troubles[0]}")
        return
    report.warnings += [f"{path}: {trouble}" for trouble in troubles if trouble]
    report.warnings += [f"{path}: {one.warning()}" for one in certificates if one.warning()]
    more = f" and {len(certificates) - 1} more" if len(certificates) > 1 else ""
    report.facts += [f"{path} is trusted: {one.sentence}{more}" for one in certificates[:1]]


def check_identity(
    path: Path, key_file: Path | None, report: Report, *, client: bool, pfx_password: str | None = None
) -> None:
    """A certificate whose key is known to match: its dates, names and use, and who may read the key."""
    key_holder = key_file or path
    report.warnings += credentials_warnings(key_file=key_holder)
    for one in certificate_facts(path, pfx_password=pfx_password)[:1]:  # the others are its chain
        if trouble := one.trouble(client=client):
            report.problems.append(f"{path}: {trouble}")
        else:
            report.facts.append(f"{path} is ours: {one.sentence}; its key matches")
            report.warnings += [f"{path}: {warning}"] if (warning := one.warning()) else []


def _check_extras(settings: Settings) -> None:
    if settings.workers.reload:
        require_watchfiles()

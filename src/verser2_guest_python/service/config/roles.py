"""`config check` of a Broker and a gateway, and of what every role has: where it answers, what it logs.

Apart from `check.py`, which knows what a Guest and a Host are, and puts the report together.
"""

from __future__ import annotations

import os
from pathlib import Path

from verser2_guest_python.host.identity import Identity
from verser2_guest_python.host.policy import own_name
from verser2_guest_python.service.certificates.facts import certificate_facts
from verser2_guest_python.service.config.report import Report, check_identity, check_way
from verser2_guest_python.service.logs.config import check_logging
from verser2_guest_python.service.settings.health_address import parse_listen
from verser2_guest_python.service.settings.model import HealthSettings, Settings, plain


def check_broker(settings: Settings, report: Report) -> None:
    """Calls of the command line: the way to the Host."""
    for url in settings.host_url:
        report.attempt(check_way, url, settings)
    if settings.host_url and not report.problems:
        name = settings.broker_id or "a Broker"
        report.facts.append(f"{name} calls through {', '.join(settings.host_url)}")


def check_gateway(settings: Settings, report: Report) -> None:
    """The way to the Host, and all that clients see, as the gateway itself looks at it."""
    from verser2_guest_python.service.daemons.gateway import make_broker, make_gateway, parse_maps
    from verser2_guest_python.service.gateway_server.server import check_extra, parse_listen

    report.attempt(check_extra)
    if not settings.host_url:
        report.miss("host_url")
    for url in settings.host_url:
        report.attempt(check_way, url, settings)
    public = settings.gateway
    before = len(report.problems)
    report.attempt(parse_listen, public.listen)
    maps = report.attempt(parse_maps, public.map)
    if maps is not None and len(report.problems) == before:
        anywhere = settings.model_copy(update={"host_url": ("https://localhost",)})
        report.attempt(lambda: make_gateway(public, maps, make_broker(anywhere), None))
    _check_public_certificate(settings, list(maps or ()), report)
    if not report.problems:
        scheme = "https" if public.ssl_certfile else "http"
        report.facts.append(f"a gateway listens for {scheme} on {public.listen}")


def _check_public_certificate(settings: Settings, names: list[str], report: Report) -> None:
    from verser2_guest_python.service.daemons.gateway import public_tls

    public = settings.gateway
    before = len(report.problems)
    tls = report.attempt(public_tls, public)
    if tls is None or report.attempt(tls.context) is None or len(report.problems) > before:
        return
    check_identity(tls.certfile, tls.keyfile, report, client=False)
    for facts in certificate_facts(tls.certfile)[:1]:
        if others := [name for name in names if not facts.serves(name)]:
            report.warnings.append(
                f"{tls.certfile}: the certificate is not for {', '.join(others)}, which --map names: "
                "browsers will not go there"
            )


def check_peer_id(settings: Settings, peer_id: str, report: Report) -> None:
    """Whether a Host that goes by certificates alone lets this peer register."""
    tls = settings.tls
    path = tls.pfx_file or tls.cert_file
    if path is None or not peer_id or report.problems or settings.registration_token is not None:
        return
    for facts in certificate_facts(path, pfx_password=plain(tls.pfx_password))[:1]:
        names = tuple(filter(None, (facts.common_name, *facts.peer_names)))
        if own_name(Identity(common_names=names), peer_id) is None:
            has = ", ".join(names) or "none"
            report.warnings.append(
                f"{path}: {peer_id} is no name of the certificate ({has}), and does not begin with one and - "
                "or ~: a Host with --client-ca-file and without a policy will refuse it"
            )


def check_surroundings(settings: Settings, report: Report) -> None:
    """Health checks and the log."""
    if settings.log.config is not None:
        report.attempt(check_logging, settings.log.config)
    _check_health(settings.health, report)


def _check_health(health: HealthSettings, report: Report) -> None:
    if health.listen is not None:
        report.attempt(parse_listen, health.listen)
    if health.socket is not None and (trouble := _trouble_with_socket(health.socket)):
        report.warnings.append(f"--health-socket {health.socket}: {trouble}")


def _trouble_with_socket(path: Path) -> str:
    """Why no socket can be made there now, by this user; "" if one can."""
    directory = path.parent
    if not directory.is_dir():
        return f"there is no directory {directory} (under systemd, RuntimeDirectory= makes one)"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"this user cannot write to {directory}"
    return "it is a directory" if path.is_dir() else ""

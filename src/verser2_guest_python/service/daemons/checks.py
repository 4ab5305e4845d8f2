"""What can be found wrong with settings before anything is imported, dialled or started.

Apart because a Guest and the supervisor of several both look first: one sentence from the process that
was started is worth more than one from each of its workers.
"""

from __future__ import annotations

import os

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.http2.credentials import credentials_warnings
from verser2_guest_python.peer.address import parse_host_url
from verser2_guest_python.peer.tls import TlsFiles
from verser2_guest_python.service.logs.setup import Logs
from verser2_guest_python.service.settings.health_address import parse_listen
from verser2_guest_python.service.settings.model import Settings, TlsSettings, missing, plain
from verser2_guest_python.service.settings.sources import misspelt_variables


def check_settings(settings: Settings) -> None:
    """Raises `VerserUsageError` for what is missing, and for a URL that is none."""
    if not settings.app:
        raise missing_app()
    if absent := [key for key in ("host_url", "guest_id", "routed_domains") if not getattr(settings, key)]:
        raise missing(*absent)
    for url in settings.host_url:
        parse_host_url(url)
    if settings.health.listen is not None:
        parse_listen(settings.health.listen)


def missing_app() -> VerserUsageError:
    """The error for a start without an app."""
    return VerserUsageError("APP is missing: name the app as module:attribute, such as myapp:app.")


def check_credentials(tls: TlsSettings) -> None:
    """Raises `VerserConfigurationError` for TLS files that cannot be used."""
    TlsFiles(
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        key_password=plain(tls.key_password),
        pfx_file=tls.pfx_file,
        pfx_password=plain(tls.pfx_password),
    ).context()


def warn_of_credentials(tls: TlsSettings, logs: Logs) -> None:
    """Logs what works, and is wrong with the TLS files all the same."""
    for sentence in credentials_warnings(
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        pfx_file=tls.pfx_file,
        pfx_password=plain(tls.pfx_password),
    ):
        logs.events.warning("credentials", reason=sentence)


def warn_of_variables(logs: Logs) -> None:
    """Logs which variables look like settings, and are none."""
    for sentence in misspelt_variables(os.environ):
        logs.events.warning("unknown variable", reason=sentence)

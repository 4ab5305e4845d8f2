"""Where a Broker of the command line connects to, and as whom: what `Sources` say, or a running `dev`.

Apart from what is done over the session because every `broker` command begins like this; and without
the settings model, because a one-shot command must start fast.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.peer import DEFAULT_CONNECT_TIMEOUT_SECONDS
from verser2_guest_python.peer.common_name import common_name, common_name_in
from verser2_guest_python.service.calls.limits import seconds_of, switch_of
from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.settings.environment import Found, split_list
from verser2_guest_python.service.settings.options import OTEL_KEY
from verser2_guest_python.service.settings.sources import Sources
from verser2_guest_python.wire.registration import is_peer_id

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker
    from verser2_guest_python.service.process.dev_runs import DevRun

DEV_ROUTE_WAIT_SECONDS: Final = 30.0
_NAMED_DOMAINS: Final = 20


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a Broker connects to (the first Host that answers), and as whom; no password in `repr`."""

    host_urls: tuple[str, ...]
    broker_id: str
    connect_timeout: float
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    pfx_file: str | None = None
    pfx_password: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    registration_token: str | None = field(default=None, repr=False)
    route_wait: float | None = None
    """How long a route is waited for unless the caller says otherwise: `dev` takes it away for a reload."""
    otel: bool = False
    """Whether calls are to be part of a trace: `spans.py` sees to that, and then sets `traced`."""
    traced: bool = False

    def broker(self, *, reconnect: bool) -> VerserBroker:
        """A Broker that is not connected yet."""
        from verser2_guest_python.broker.broker import create_verser_broker

        broker = create_verser_broker(
            host_url=self.host_urls,
            broker_id=self.broker_id,
            connect_timeout=self.connect_timeout,
            tls_ca_file=self.ca_file,
            tls_cert_file=self.cert_file,
            tls_key_file=self.key_file,
            tls_key_password=self.key_password,
            tls_pfx_file=self.pfx_file,
            tls_pfx_password=self.pfx_password,
            proxy=self.proxy,
            registration_token=self.registration_token,
            reconnect=reconnect,
        )
        if self.traced:
            from verser2_guest_python.integrations.otel import trace_broker

            trace_broker(broker)
        return broker


@asynccontextmanager
async def connected(peer: Peer, notes: Notes, *, reconnect: bool = False) -> AsyncIterator[VerserBroker]:
    """A Broker that is registered, and closed behind the block. Raises what `connect` raises."""
    broker = peer.broker(reconnect=reconnect)
    try:
        tell_before(notes, peer)
        await broker.connect()
        tell_connected(notes, broker)
        yield broker
    finally:
        await broker.close(timeout=0.0)


def tell_before(notes: Notes, peer: Peer) -> None:
    """What `-v` says before there is a session."""
    notes.detail("*", f"Connecting to {', '.join(peer.host_urls)} as {peer.broker_id}")


def tell_connected(notes: Notes, broker: VerserBroker) -> None:
    """What `-v` says of a session: how long it took, and where it leads."""
    if not notes.verbose:
        return
    dialling, registering = broker.connect_times
    domains = sorted({route.domain for route in broker.get_routes()})
    more = f" and {len(domains) - _NAMED_DOMAINS} more" if len(domains) > _NAMED_DOMAINS else ""
    notes.detail("*", f"Connected in {dialling * 1000:.1f} ms, registered in {registering * 1000:.1f} ms")
    notes.detail("*", f"Routes: {', '.join(domains[:_NAMED_DOMAINS]) or 'none'}{more}")


def resolve_peer(sources: Sources, domain: str | None = None) -> Peer:
    """The peer that the settings describe, or else a running `dev` Host.

    Of several of those it is the newest that serves `domain`, else the newest. Raises `VerserUsageError`
    when nothing names a Host.
    """

    def value(key: str) -> str | None:
        found = sources.find(key)
        return str(found.value) if found else None

    hosts = _list(sources.find("host_url"))
    files = {name: value(f"tls.{name}") for name in ("ca_file", "cert_file", "key_file", "pfx_file")}
    proxy = value("session.proxy")
    route_wait = None
    if not hosts:
        run = _running_dev(domain)
        hosts, proxy = (run.host_url,), ""  # it is on this machine
        if files["cert_file"] is None and files["pfx_file"] is None:
            files = {**files, "cert_file": run.cert_file, "key_file": run.key_file}
        files = {**files, "ca_file": files["ca_file"] or run.ca_file}
        route_wait = DEV_ROUTE_WAIT_SECONDS if domain in run.domains else None
    broker_id, pfx_password = value("broker_id"), value("tls.pfx_password")
    return Peer(
        host_urls=hosts,
        broker_id=broker_id or made_up_id(files["cert_file"], files["pfx_file"], pfx_password),
        connect_timeout=seconds_of(sources, "session.connect_timeout") or DEFAULT_CONNECT_TIMEOUT_SECONDS,
        key_password=value("tls.key_password"),
        pfx_password=pfx_password,
        proxy=proxy,
        registration_token=value("registration_token") or None,
        route_wait=route_wait,
        otel=switch_of(sources, OTEL_KEY),
        traced=False,
        **files,
    )


def made_up_id(cert_file: str | None, pfx_file: str | None, pfx_password: str | None) -> str:
    """An id of its own, which begins like the certificate's name: many a Host wants that."""
    name = _certificate_name(cert_file, pfx_file, pfx_password)
    return f"{name if name and is_peer_id(name) else 'broker'}-{secrets.token_hex(4)}"


def _certificate_name(cert_file: str | None, pfx_file: str | None, pfx_password: str | None) -> str | None:
    """The CN of our own certificate; None where it cannot be read, which connecting will tell better."""
    if cert_file:
        return common_name(cert_file)
    if not pfx_file:
        return None
    from verser2_guest_python.http2.inspection import Unusable, pkcs12_as_pem

    try:
        certificates, _ = pkcs12_as_pem(
            Path(pfx_file).read_bytes(), pfx_password, secrets.token_urlsafe().encode()
        )
    except (Unusable, OSError):
        return None
    return common_name_in(certificates)


def _list(found: Found | None) -> tuple[str, ...]:
    if found is None:
        return ()
    values = (found.value,) if isinstance(found.value, str) else found.value
    return tuple(entry for value in values for entry in split_list(str(value)))


def _running_dev(domain: str | None) -> DevRun:
    from verser2_guest_python.service.process.dev_runs import newest_run

    run = newest_run(domain)
    if run is None:
        raise VerserUsageError(
            "No Host is named and no `verser2-guest dev` is running: give --host-url, or set VERSER_HOST_URL."
        )
    return run

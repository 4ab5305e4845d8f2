"""Where a Broker of the command line connects to, and as whom: options, environment, or a running `dev`.

Apart from what is done over the session because every `broker` command begins like this; and without
the settings model, because a one-shot command must start fast.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.service.broker_notes import Notes
from verser2_guest_python.service.environment import look_up, split_list
from verser2_guest_python.service.options import OPTIONS

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker

_MAX_SECONDS: Final = 86_400.0
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

    def broker(self, *, reconnect: bool) -> VerserBroker:
        """A Broker that is not connected yet."""
        from verser2_guest_python.broker.broker import create_verser_broker

        return create_verser_broker(
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
            reconnect=reconnect,
        )


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
        await broker.close()


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


def resolve_peer(given: Mapping[str, Any], environ: Mapping[str, str]) -> Peer:
    """The peer that options (`given`, by key) and environment describe, or else a running `dev` Host.

    Raises `VerserUsageError` when nothing names a Host.
    """

    def value(key: str) -> str | None:
        if key in given:
            return str(given[key])
        found = look_up(key, environ)
        return found.value if found else None

    hosts = tuple(given.get("host_url") or split_list(value("host_url") or ""))
    files = {name: value(f"tls.{name}") for name in ("ca_file", "cert_file", "key_file", "pfx_file")}
    proxy = value("session.proxy")
    if not hosts:
        host, files = _running_dev(files)
        hosts, proxy = (host,), ""  # it is on this machine
    return Peer(
        host_urls=hosts,
        broker_id=value("broker_id") or f"broker-{secrets.token_hex(4)}",
        connect_timeout=_seconds(value("session.connect_timeout"), "session.connect_timeout"),
        key_password=value("tls.key_password"),
        pfx_password=value("tls.pfx_password"),
        proxy=proxy,
        **files,
    )


def _running_dev(files: dict[str, str | None]) -> tuple[str, dict[str, str | None]]:
    from verser2_guest_python.service.dev_runs import newest_run

    run = newest_run()
    if run is None:
        raise VerserUsageError(
            "No Host is named and no `verser2-guest dev` is running: give --host-url, or set VERSER_HOST_URL."
        )
    if files["cert_file"] is None and files["pfx_file"] is None:
        files = {**files, "cert_file": run.cert_file, "key_file": run.key_file}
    return run.host_url, {**files, "ca_file": files["ca_file"] or run.ca_file}


def _seconds(text: str | None, key: str) -> float:
    option = OPTIONS[key]
    if text is None:
        return float(option.default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise VerserUsageError(
            f"The value {text!r} of {option.flag} does not fit: it should be seconds above 0."
        )
    return seconds

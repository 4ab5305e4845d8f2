"""`create_verser_guest`: the options of a Guest, each with its default, checked and put where they belong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from os import PathLike

from verser2_guest_python.asgi.adapters import adapt
from verser2_guest_python.asgi.forwarded import ProxyHeaders
from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.http2 import SessionOptions
from verser2_guest_python.peer.hosts import Hosts, parse_host_urls
from verser2_guest_python.peer.tls import TlsFiles
from verser2_guest_python.wire.domains import is_domain, normalize_domain

from .apps import Apps
from .dispatch import Dispatcher
from .keeper import KeeperOptions
from .lifecycle import Listeners
from .session import LeaseLimits
from .verser_guest import GuestState, VerserGuest

__all__ = ["GuestState", "VerserGuest", "create_verser_guest"]

MAX_WEBSOCKET_IDLE_STREAMS = 4  # deployed Hosts refuse the fifth (protocol.md §11)


def create_verser_guest(
    *,
    host_url: str | Iterable[str],
    guest_id: str,
    routed_domains: Iterable[str],
    app: ASGIApp | None = None,
    tls_ca_file: str | PathLike[str] | None = None,
    tls_cert_file: str | PathLike[str] | None = None,
    tls_key_file: str | PathLike[str] | None = None,
    tls_key_password: str | None = None,
    tls_pfx_file: str | PathLike[str] | None = None,
    tls_pfx_password: str | None = None,
    min_waiting_streams: int = 8,
    limit_concurrency: int = 1_000,
    min_waiting_websocket_streams: int = 2,
    max_websocket_streams: int = 256,
    max_response_bytes: int = 10 * 1024 * 1024,
    max_unread_bytes: int = 64 * 1024 * 1024,
    connect_timeout: float = 10.0,
    ping_interval: float = 15.0,
    ping_timeout: float = 10.0,
    timeout_graceful_shutdown: float = 30.0,
    reconnect_max_delay: float = 30.0,
    fail_if_registered: bool = False,
    handover: bool = True,
    proxy: str | None = None,
    registration_token: str | None = None,
    all_hosts: bool = False,
    session_options: SessionOptions | None = None,
    lifespan: str = "auto",
    root_path: str = "",
    proxy_headers: bool = False,
    forwarded_allow_brokers: Iterable[str] = (),
    debug: bool = False,
) -> VerserGuest:
    """A Guest that is not connected yet; does no I/O. Times are in seconds, sizes in bytes.

    Args:
        host_url: where the Host listens, for example `https://host.example:8443`; of several the first
            that answers is used, and a lost one is replaced by the next.
        guest_id: the peer id; unique on the Host.
        routed_domains: exact names that this Guest serves; not derived from the id.
        app: the ASGI app for all domains; others can be attached with `attach`.
        tls_ca_file: CA certificates in PEM; without it the system's trust store is used.
        tls_cert_file, tls_key_file, tls_key_password, tls_pfx_file, tls_pfx_password: a client
            identity, as a PEM pair or as PKCS#12.
        min_waiting_streams: idle leases kept at rest.
        limit_concurrency: app calls that run at a time, at most; the rest waits at the Host.
        min_waiting_websocket_streams: idle WebSocket leases, at most 4.
        max_websocket_streams: open WebSockets, at most.
        max_response_bytes: bounds `dispatch_routed_request` only.
        max_unread_bytes: request bodies that apps have not read yet, before senders slow down.
        connect_timeout: for name, TCP, TLS and registration, each.
        ping_interval, ping_timeout: a Host that does not answer a PING in time is lost.
        timeout_graceful_shutdown: how long a drain may take.
        reconnect_max_delay: the longest pause between attempts.
        fail_if_registered: give up when the peer id is taken, instead of trying on.
        handover: after GOAWAY, `renew()`, and before stream ids run out, register anew, as `guest_id~2`
            (the next time as `guest_id` again), before the old session drains; else drain first.
        proxy: URL of the proxy on the way to the Hosts (`http://`, `socks5://`, `socks5h://`), empty for
            none; without it the environment counts: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.
        registration_token: what Hosts may ask for instead of a client certificate, or beside it.
        all_hosts: register at each of several Hosts, so that Brokers of any of them reach the Guest.
        session_options: windows and limits of the HTTP/2 sessions.
        lifespan: `auto`, `on` or `off`.
        root_path: the path under which the app is mounted (ASGI `root_path`).
        proxy_headers: let `x-forwarded-proto`, `-for`, `-host` and `forwarded` fill the scheme, the client
            and the `host` header of the scope; of a list the last entry counts. Any Broker may send them.
        forwarded_allow_brokers: ids of the Brokers whose proxy headers are believed; without any, or with
            `*`, everybody's. Hosts without the extensions of this project do not check who a Broker is,
            and no Host says who opened a WebSocket: with such a list nothing is believed there.
        debug: let error texts of the app reach the Broker.

    Raises:
        VerserUsageError: an argument that cannot be right; the message names it.
    """
    addresses = parse_host_urls(host_url)
    hosts = [Hosts([one], proxy) for one in addresses] if all_hosts else [Hosts(addresses, proxy)]
    if not guest_id.strip():
        raise VerserUsageError("guest_id is empty: give the Guest a name that is unique on its Host.")
    if registration_token == "":
        raise VerserUsageError("registration_token is empty: leave it out where the Host asks for none.")
    if not 0 < min_waiting_streams <= limit_concurrency:
        raise VerserUsageError("min_waiting_streams must be at least 1 and at most limit_concurrency.")
    if not 0 <= min_waiting_websocket_streams <= MAX_WEBSOCKET_IDLE_STREAMS:
        raise VerserUsageError(
            f"min_waiting_websocket_streams must be from 0 to {MAX_WEBSOCKET_IDLE_STREAMS}."
        )
    if isinstance(routed_domains, str):
        raise VerserUsageError("routed_domains is a list of names, not one string.")
    routed_domains = tuple(routed_domains)
    for domain in routed_domains:
        if "/" in domain or not is_domain(normalize_domain(domain)):
            raise VerserUsageError(
                f"The domain {domain!r} in routed_domains (--domain) is no exact hostname: write it without "
                "scheme and wildcard, and names beyond ASCII in their xn-- form."
            )
    if isinstance(forwarded_allow_brokers, str):
        raise VerserUsageError("forwarded_allow_brokers is a list of ids, not one string.")
    apps = Apps(lifespan)
    dispatcher = Dispatcher(
        apps,
        Listeners(),
        guest_id=guest_id.strip(),
        root_path=root_path,
        debug=debug,
        proxy_headers=ProxyHeaders(forwarded_allow_brokers) if proxy_headers else None,
    )
    if app is not None:
        apps.attach(adapt(app)[0], None)
    options = KeeperOptions(
        tls=TlsFiles(
            ca_file=tls_ca_file,
            cert_file=tls_cert_file,
            key_file=tls_key_file,
            key_password=tls_key_password,
            pfx_file=tls_pfx_file,
            pfx_password=tls_pfx_password,
        ),
        guest_id=guest_id.strip(),
        session=replace(session_options or SessionOptions(), max_unread_bytes=max_unread_bytes),
        connect_timeout=connect_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        drain_timeout=timeout_graceful_shutdown,
        reconnect_max_delay=reconnect_max_delay,
        fail_if_registered=fail_if_registered,
        handover=handover,
        registration_token=registration_token,
    )
    return VerserGuest(
        options,
        hosts,
        dispatcher,
        routed_domains,
        LeaseLimits(
            min_waiting_streams, limit_concurrency, min_waiting_websocket_streams, max_websocket_streams
        ),
        max_response_bytes,
    )

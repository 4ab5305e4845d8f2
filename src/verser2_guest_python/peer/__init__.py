"""What a Guest and a Broker share: addresses of Hosts, proxies, TLS files, dialling, one JSON exchange.

A floor of its own between the roles and `http2/`: both roles dial, none of them imports the other.
"""

from __future__ import annotations

from verser2_guest_python.peer.address import HostAddress, parse_host_url
from verser2_guest_python.peer.dial import (
    DEFAULT_CONNECT_TIMEOUT_SECONDS,
    dial,
    exchange,
    peer_block,
    status_of,
    verser_error,
)
from verser2_guest_python.peer.hosts import Hosts, parse_host_urls
from verser2_guest_python.peer.proxy import Proxy, find_proxy
from verser2_guest_python.peer.refusal import refused
from verser2_guest_python.peer.tls import FilePath, TlsFiles

__all__ = [
    "DEFAULT_CONNECT_TIMEOUT_SECONDS",
    "FilePath",
    "HostAddress",
    "Hosts",
    "Proxy",
    "TlsFiles",
    "dial",
    "exchange",
    "find_proxy",
    "parse_host_url",
    "parse_host_urls",
    "peer_block",
    "refused",
    "status_of",
    "verser_error",
]

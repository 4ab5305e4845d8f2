"""A Guest of ours for tests that take either kind: ours, or the Node.js one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from examples.bench_app import app
from tests.support.brokers import DOMAIN
from tests.support.certificates import Certificates
from verser2_guest_python import create_verser_guest


def our_guest(host_url: str, certs: Certificates) -> AbstractAsyncContextManager[Any]:
    return create_verser_guest(
        host_url=host_url,
        guest_id="guest-a",
        app=app,
        routed_domains=[DOMAIN],
        tls_ca_file=certs.ca,
        timeout_graceful_shutdown=0.5,
    )

"""The settings by their keys, and which command knows which of them.

Apart from `model.py`, whose model takes its defaults from here, because `--help` and one-shot
commands must not wait for a validation library; and apart from `cli/`, because files and the
environment know the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from verser2_guest_python.service.settings.broker_options import BROKER_OPTIONS
from verser2_guest_python.service.settings.gateway_options import GATEWAY_OPTIONS
from verser2_guest_python.service.settings.health_options import HEALTH_OPTIONS
from verser2_guest_python.service.settings.host_options import HOST_OPTIONS
from verser2_guest_python.service.settings.log_options import LOG_OPTIONS
from verser2_guest_python.service.settings.option import Option
from verser2_guest_python.service.settings.option_table import OPTION_TABLE
from verser2_guest_python.service.settings.source_options import SOURCE_OPTIONS

OPTIONS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        option.key: option
        for option in (
            *OPTION_TABLE,
            *LOG_OPTIONS,
            *HEALTH_OPTIONS,
            *HOST_OPTIONS,
            *GATEWAY_OPTIONS,
            *BROKER_OPTIONS,
            *SOURCE_OPTIONS,
        )
    }
)

SOURCE_KEYS: Final = tuple(option.key for option in SOURCE_OPTIONS)
"""Where settings come from: no settings themselves."""
_NEVER_OPTIONS: Final = (
    "app",
    "tls.key_password",
    "tls.pfx_password",
    "gateway.ssl_keyfile_password",
    "host.policy",
)
SETTING_KEYS: Final = (*(key for key in OPTIONS if key not in SOURCE_KEYS), *_NEVER_OPTIONS)
"""All settings by their path, as files know them; the fields of the model, for those who do not load it."""

APP_KEYS: Final = ("app_dir", "factory", "interface", "lifespan", "debug")
TLS_KEYS: Final = ("tls.ca_file", "tls.cert_file", "tls.key_file", "tls.pfx_file")
LOG_KEYS: Final = (
    "log.level",
    "log.format",
    "log.access_log",
    "log.access_log_sample",
    "log.access_log_query",
    "log.config",
)
HEALTH_KEYS: Final = ("health.listen", "health.socket")
OTEL_KEY: Final = "otel"

SERVE_KEYS: Final = (
    "host_url",
    "guest_id",
    "routed_domains",
    "registration_token",
    *TLS_KEYS,
    "tls.reload_interval",
    *APP_KEYS,
    "root_path",
    "proxy_headers",
    "forwarded_allow_brokers",
    "leases.min_waiting_streams",
    "leases.limit_concurrency",
    "leases.min_waiting_websocket_streams",
    "leases.max_websocket_streams",
    "session.connect_timeout",
    "session.reconnect_max_delay",
    "session.ping_interval",
    "session.ping_timeout",
    "session.proxy",
    "session.all_hosts",
    "session.handover",
    "session.max_unread_bytes",
    "session.timeout_graceful_shutdown",
    "session.exit_on_connect_failure",
    "session.fail_if_registered",
    "workers.workers",
    "workers.limit_max_requests",
    "workers.limit_max_requests_jitter",
    "workers.reload",
    "workers.reload_dir",
    "workers.reload_include",
    "workers.reload_exclude",
    *LOG_KEYS,
    *HEALTH_KEYS,
    OTEL_KEY,
    *SOURCE_KEYS,
)
DEV_KEYS: Final = (
    "routed_domains",
    *APP_KEYS,
    "workers.reload_dir",
    "workers.reload_include",
    "workers.reload_exclude",
    *LOG_KEYS,
    OTEL_KEY,
    *SOURCE_KEYS,
)
HOST_KEYS: Final = (
    "host.address",
    "host.port",
    "tls.cert_file",
    "tls.key_file",
    "tls.pfx_file",
    "tls.reload_interval",
    "host.client_ca_file",
    "host.allow_anonymous",
    "host.lease_timeout",
    "host.degraded_timeout",
    "host.server_timing",
    "host.max_sessions",
    "host.max_connections_per_address",
    "host.max_connections_per_second",
    "host.max_idle_leases",
    "host.max_queued_requests_per_guest",
    "host.max_queued_requests",
    "host.max_queued_bytes",
    "session.timeout_graceful_shutdown",
    *LOG_KEYS,
    *HEALTH_KEYS,
    OTEL_KEY,
    *SOURCE_KEYS,
)
ASK_HEALTH_KEYS: Final = (*HEALTH_KEYS, *SOURCE_KEYS)
CALL_KEYS: Final = (*(option.key for option in BROKER_OPTIONS), OTEL_KEY)
"""How a request through a Broker is limited, and whether it is traced."""
OPENING_KEYS: Final = ("broker.wait", "broker.timeout", "broker.lease_timeout", OTEL_KEY)
"""The same for a WebSocket."""
BROKER_KEYS: Final = (
    "host_url",
    "broker_id",
    "registration_token",
    *TLS_KEYS,
    "session.connect_timeout",
    "session.proxy",
    *SOURCE_KEYS,
)

GATEWAY_KEYS: Final = (
    "host_url",
    "broker_id",
    "registration_token",
    *(option.key for option in GATEWAY_OPTIONS),
    "broker.lease_timeout",
    *TLS_KEYS,
    "tls.reload_interval",
    "session.connect_timeout",
    "session.reconnect_max_delay",
    "session.ping_interval",
    "session.ping_timeout",
    "session.proxy",
    "session.exit_on_connect_failure",
    *LOG_KEYS,
    *HEALTH_KEYS,
    OTEL_KEY,
    *SOURCE_KEYS,
)

ROLE_KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "guest": SERVE_KEYS,
        "host": HOST_KEYS,
        "gateway": GATEWAY_KEYS,
        "broker": (*BROKER_KEYS, *CALL_KEYS),
    }
)
"""What a process of each role can be told on its command line."""


def options(keys: Iterable[str]) -> tuple[Option, ...]:
    """The options with these keys, in this order."""
    return tuple(OPTIONS[key] for key in keys)

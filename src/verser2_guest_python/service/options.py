"""Every setting as a user meets it: its flag, its sentence, its default, the group it is shown in.

Apart from `settings.py`, whose model takes its defaults from here, because `--help` and one-shot
commands must not wait for a validation library; and apart from `cli/`, because files and the
environment know the same settings. Only settings whose feature exists are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final


class Kind(Enum):
    """How a value is written, and how `--help` names it."""

    TEXT = "TEXT"
    URL = "URL"
    FILE = "FILE"
    DIRECTORY = "DIR"
    COUNT = "N"
    SECONDS = "SECONDS"
    SWITCH = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    `key` is its path in the settings (`leases.limit_concurrency`); `default` is what holds when
    nobody says anything; `off_flag` is the second name of a switch that can be on by default.
    """

    key: str
    flag: str
    sentence: str
    group: str
    kind: Kind = Kind.TEXT
    default: Any = None
    metavar: str = ""
    off_flag: str = ""
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    required: bool = False

    @property
    def parameter(self) -> str:
        """The name of the Python argument that carries it."""
        return self.key.replace(".", "__")


GROUP_APP: Final = "The app"
GROUP_HOST: Final = "The Host"
GROUP_TLS: Final = "TLS"
GROUP_LEASES: Final = "Leases"
GROUP_SESSION: Final = "Session"
GROUP_LOG: Final = "Log"

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS: Final = ("auto", "console", "json")
LIFESPAN_MODES: Final = ("auto", "on", "off")

_ALL: Final = (
    Option(
        "app_dir",
        "--app-dir",
        "Directory that APP is imported from.",
        GROUP_APP,
        Kind.DIRECTORY,
        default=".",
    ),
    Option(
        "factory",
        "--factory",
        "APP names a function that makes the app.",
        GROUP_APP,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "lifespan",
        "--lifespan",
        "ASGI lifespan: use it if the app knows it, insist on it, or leave it out.",
        GROUP_APP,
        default="auto",
        choices=LIFESPAN_MODES,
    ),
    Option(
        "debug",
        "--debug",
        "Show tracebacks here, and pass the app's error texts on to the caller.",
        GROUP_APP,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "host_url",
        "--host-url",
        "The Host to dial out to, such as https://host.example:8443.",
        GROUP_HOST,
        Kind.URL,
        required=True,
    ),
    Option(
        "guest_id",
        "--guest-id",
        "Name of this Guest, unique on the Host.",
        GROUP_HOST,
        metavar="ID",
        required=True,
    ),
    Option(
        "broker_id",
        "--broker-id",
        "Name of this Broker, unique on the Host; one of its own if not given.",
        GROUP_HOST,
        metavar="ID",
    ),
    Option(
        "routed_domains",
        "--domain",
        "Domain whose requests come here; repeat it for more.",
        GROUP_HOST,
        metavar="DOMAIN",
        default=(),
        repeatable=True,
        required=True,
    ),
    Option(
        "tls.ca_file",
        "--tls-ca-file",
        "PEM file with the CA that signed the Host's certificate; the system's trust if not given.",
        GROUP_TLS,
        Kind.FILE,
    ),
    Option(
        "tls.cert_file",
        "--tls-cert-file",
        "PEM file with our own certificate, for Hosts that ask for one.",
        GROUP_TLS,
        Kind.FILE,
    ),
    Option(
        "tls.key_file",
        "--tls-key-file",
        "PEM file with the key of our certificate.",
        GROUP_TLS,
        Kind.FILE,
    ),
    Option(
        "tls.pfx_file",
        "--tls-pfx-file",
        "PKCS#12 file with certificate and key, instead of the two PEM files.",
        GROUP_TLS,
        Kind.FILE,
    ),
    Option(
        "leases.min_waiting_streams",
        "--min-waiting-streams",
        "Idle leases kept open for the next requests.",
        GROUP_LEASES,
        Kind.COUNT,
        default=8,
    ),
    Option(
        "leases.limit_concurrency",
        "--limit-concurrency",
        "Requests that the app serves at once; the others wait at the Host.",
        GROUP_LEASES,
        Kind.COUNT,
        default=1000,
    ),
    Option(
        "session.connect_timeout",
        "--connect-timeout",
        "Time for connecting to the Host.",
        GROUP_SESSION,
        Kind.SECONDS,
        default=10.0,
    ),
    Option(
        "session.timeout_graceful_shutdown",
        "--timeout-graceful-shutdown",
        "Time for requests under way when told to stop.",
        GROUP_SESSION,
        Kind.SECONDS,
        default=30.0,
    ),
    Option(
        "session.exit_on_connect_failure",
        "--exit-on-connect-failure",
        "End when the Host cannot be reached at the start, instead of trying again.",
        GROUP_SESSION,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "session.fail_if_registered",
        "--fail-if-registered",
        "End when the Guest's name is taken on the Host, instead of trying again.",
        GROUP_SESSION,
        Kind.SWITCH,
        default=False,
    ),
    Option(
        "log.level",
        "--log-level",
        "How much is logged.",
        GROUP_LOG,
        default="info",
        choices=LOG_LEVELS,
    ),
    Option(
        "log.format",
        "--log-format",
        "auto is console on a terminal, else json: one object a line.",
        GROUP_LOG,
        default="auto",
        choices=LOG_FORMATS,
    ),
    Option(
        "log.access_log",
        "--access-log",
        "One line for each request.",
        GROUP_LOG,
        Kind.SWITCH,
        default=True,
        off_flag="--no-access-log",
    ),
)

OPTIONS: Final[Mapping[str, Option]] = MappingProxyType({option.key: option for option in _ALL})

APP_KEYS: Final = ("app_dir", "factory", "lifespan", "debug")
TLS_KEYS: Final = ("tls.ca_file", "tls.cert_file", "tls.key_file", "tls.pfx_file")
LOG_KEYS: Final = ("log.level", "log.format", "log.access_log")

SERVE_KEYS: Final = (
    "host_url",
    "guest_id",
    "routed_domains",
    *TLS_KEYS,
    *APP_KEYS,
    "leases.min_waiting_streams",
    "leases.limit_concurrency",
    "session.connect_timeout",
    "session.timeout_graceful_shutdown",
    "session.exit_on_connect_failure",
    "session.fail_if_registered",
    *LOG_KEYS,
)
DEV_KEYS: Final = ("routed_domains", *APP_KEYS, *LOG_KEYS)
BROKER_KEYS: Final = ("host_url", "broker_id", *TLS_KEYS, "session.connect_timeout")


def options(keys: Iterable[str]) -> tuple[Option, ...]:
    """The options with these keys, in this order."""
    return tuple(OPTIONS[key] for key in keys)

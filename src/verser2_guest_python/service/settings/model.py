"""All settings of a process as one typed value, in small groups.

Apart from `options.py` (how users meet a setting) and `sources.py` (where it was said) because this is
what the rest of the program gets, checked. pydantic-settings could read some of the places itself, but
not say which one a value came from, nor see that two names of a setting contradict each other; and
one-shot commands need the same places without this model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from verser2_guest_python.errors import VerserConfigurationError, VerserError, VerserUsageError
from verser2_guest_python.service.settings.config_file import FILE_NAME
from verser2_guest_python.service.settings.environment import SECRETS, Found, shown_variable, split_list
from verser2_guest_python.service.settings.options import OPTIONS
from verser2_guest_python.service.settings.sources import Sources

Count = Annotated[int, Field(ge=1, le=100_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
# Where pydantic's own words help nobody
_A_SIZE: Final = "it should be a size such as 64MiB, 500KB or 67108864"
_WANTED: Final = MappingProxyType(
    {
        "string_too_short": "it should not be empty",
        "byte_size": _A_SIZE,
        "byte_size_unit": _A_SIZE,
        "float_parsing": "it should be a number, such as 2.5",
        "int_parsing": "it should be a whole number",
        "int_from_float": "it should be a whole number",
        "bool_parsing": "it should be true or false",
    }
)
MIN_UNREAD_BYTES: Final = 64 * 1024
MAX_IDLE_WEBSOCKET_LEASES: Final = 4  # deployed Hosts refuse the fifth (protocol.md §11)


def _split(value: object) -> object:
    """`a,b` is as clear as two values."""
    if isinstance(value, str):
        return split_list(value)
    if isinstance(value, tuple | list):
        return tuple(entry for item in value for entry in split_list(str(item)))
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_split, json_schema_input_type=str | tuple[str, ...])]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_split, json_schema_input_type=str | tuple[str, ...])]
Size = Annotated[ByteSize, WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]})]


def _default(key: str) -> Any:
    return Field(default=OPTIONS[key].default, description=OPTIONS[key].sentence)


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_switch(cls, value: object, info: ValidationInfo) -> object:
        """`retry = true` is a mistake, though Python counts with it."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("it should not be true or false")
        return value


class TlsSettings(_Group):
    """Whom to trust, and who we are."""

    ca_file: Path | None = _default("tls.ca_file")
    cert_file: Path | None = _default("tls.cert_file")
    key_file: Path | None = _default("tls.key_file")
    key_password: SecretStr | None = Field(default=None, description="Password of the key file.")
    pfx_file: Path | None = _default("tls.pfx_file")
    pfx_password: SecretStr | None = Field(default=None, description="Password of the PKCS#12 file.")
    reload_interval: Annotated[Seconds, Field(gt=0)] | None = _default("tls.reload_interval")


class LeaseSettings(_Group):
    """How many requests may come at once."""

    min_waiting_streams: Count = _default("leases.min_waiting_streams")
    limit_concurrency: Count = _default("leases.limit_concurrency")
    min_waiting_websocket_streams: Annotated[int, Field(ge=0, le=MAX_IDLE_WEBSOCKET_LEASES)] = _default(
        "leases.min_waiting_websocket_streams"
    )
    max_websocket_streams: Annotated[int, Field(ge=0, le=100_000)] = _default("leases.max_websocket_streams")


class SessionSettings(_Group):
    """Connecting to the Host and leaving it."""

    connect_timeout: Annotated[Seconds, Field(gt=0)] = _default("session.connect_timeout")
    reconnect_max_delay: Annotated[Seconds, Field(gt=0)] = _default("session.reconnect_max_delay")
    ping_interval: Annotated[Seconds, Field(gt=0)] = _default("session.ping_interval")
    ping_timeout: Annotated[Seconds, Field(gt=0)] = _default("session.ping_timeout")
    proxy: SecretStr | None = Field(default=None, description=OPTIONS["session.proxy"].sentence)
    all_hosts: bool = _default("session.all_hosts")
    handover: bool = _default("session.handover")
    max_unread_bytes: Annotated[Size, Field(ge=MIN_UNREAD_BYTES)] = _default("session.max_unread_bytes")
    timeout_graceful_shutdown: Seconds = _default("session.timeout_graceful_shutdown")
    exit_on_connect_failure: bool = _default("session.exit_on_connect_failure")
    fail_if_registered: bool = _default("session.fail_if_registered")


class WorkerSettings(_Group):
    """How many processes serve, and when they are replaced."""

    workers: Annotated[Count, Field(le=1_000)] = _default("workers.workers")
    limit_max_requests: Annotated[int, Field(ge=1)] | None = _default("workers.limit_max_requests")
    limit_max_requests_jitter: Annotated[int, Field(ge=0)] = _default("workers.limit_max_requests_jitter")
    reload: bool = _default("workers.reload")
    reload_dir: Paths = _default("workers.reload_dir")
    reload_include: Texts = _default("workers.reload_include")
    reload_exclude: Texts = _default("workers.reload_exclude")


class LogSettings(_Group):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error", "critical"] = _default("log.level")
    format: Literal["auto", "console", "json", "logfmt"] = _default("log.format")
    access_log: bool = _default("log.access_log")
    access_log_sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = _default(
        "log.access_log_sample"
    )
    access_log_query: bool = _default("log.access_log_query")
    config: Path | None = _default("log.config")

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class HealthSettings(_Group):
    """Where health checks and metrics are answered."""

    listen: str | None = _default("health.listen")
    socket: Path | None = _default("health.socket")

    @property
    def wanted(self) -> bool:
        """Whether anybody may ask."""
        return self.listen is not None or self.socket is not None


class BrokerSettings(_Group):
    """Single calls through a Broker; of a gateway, `lease_timeout`."""

    wait: Annotated[Seconds, Field(gt=0)] | None = _default("broker.wait")
    timeout: Annotated[Seconds, Field(gt=0)] | None = _default("broker.timeout")
    lease_timeout: Annotated[Seconds, Field(gt=0)] | None = _default("broker.lease_timeout")
    retry: Annotated[int, Field(ge=0, le=1_000_000)] = _default("broker.retry")
    max_redirects: Annotated[int, Field(ge=0, le=1_000_000)] = _default("broker.max_redirects")


class GatewaySettings(_Group):
    """The gateway: where it listens, which names it knows, what it takes from clients."""

    listen: str = _default("gateway.listen")
    map: Texts = _default("gateway.map")
    only_mapped: bool = _default("gateway.only_mapped")
    default_domain: str | None = _default("gateway.default_domain")
    list_routes: bool = _default("gateway.list_routes")
    route_wait: Seconds = _default("gateway.route_wait")
    trust_forwarded: Texts = _default("gateway.trust_forwarded")
    max_body_bytes: Annotated[Size, Field(ge=0)] = _default("gateway.max_body_bytes")
    max_header_bytes: Annotated[Size, Field(ge=256)] = _default("gateway.max_header_bytes")
    limit_concurrency: Count = _default("gateway.limit_concurrency")
    timeout: Annotated[Seconds, Field(gt=0)] = _default("gateway.timeout")
    head_timeout: Annotated[Seconds, Field(gt=0)] = _default("gateway.head_timeout")
    read_timeout: Annotated[Seconds, Field(gt=0)] = _default("gateway.read_timeout")
    write_timeout: Annotated[Seconds, Field(gt=0)] = _default("gateway.write_timeout")
    timeout_keep_alive: Annotated[Seconds, Field(gt=0)] = _default("gateway.timeout_keep_alive")
    timeout_graceful_shutdown: Seconds = _default("gateway.timeout_graceful_shutdown")
    ssl_certfile: Path | None = _default("gateway.ssl_certfile")
    ssl_keyfile: Path | None = _default("gateway.ssl_keyfile")
    ssl_keyfile_password: SecretStr | None = Field(default=None, description="Password of that key file.")


class HostSettings(_Group):
    """A Host of one's own."""

    address: Annotated[str, Field(min_length=1)] = _default("host.address")
    port: Annotated[int, Field(ge=0, le=65_535)] = _default("host.port")
    client_ca_file: Path | None = _default("host.client_ca_file")
    allow_anonymous: bool = _default("host.allow_anonymous")
    lease_timeout: Seconds = _default("host.lease_timeout")
    degraded_timeout: Seconds = _default("host.degraded_timeout")
    server_timing: bool = _default("host.server_timing")
    max_sessions: Count = _default("host.max_sessions")
    max_connections_per_address: Count = _default("host.max_connections_per_address")
    max_connections_per_second: Count = _default("host.max_connections_per_second")
    max_idle_leases: Count = _default("host.max_idle_leases")
    max_queued_requests_per_guest: Annotated[int, Field(ge=0, le=1_000_000)] = _default(
        "host.max_queued_requests_per_guest"
    )
    max_queued_requests: Annotated[int, Field(ge=0, le=1_000_000)] = _default("host.max_queued_requests")
    max_queued_bytes: Annotated[Size, Field(ge=0)] = _default("host.max_queued_bytes")
    policy: tuple[dict[str, Any], ...] = Field(
        default=(), description="Who may do what, an entry each: tables [[host.policy]] of a file."
    )


class Settings(BaseSettings):
    """Everything that a process can be told."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        hide_input_in_errors=True,
    )

    app: str = Field(default="", description="The app, as module:attribute.")
    app_dir: Path = _default("app_dir")
    factory: bool = _default("factory")
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"] = _default("interface")
    lifespan: Literal["auto", "on", "off"] = _default("lifespan")
    root_path: str = _default("root_path")
    proxy_headers: bool = _default("proxy_headers")
    forwarded_allow_brokers: Texts = _default("forwarded_allow_brokers")
    debug: bool = _default("debug")
    host_url: Texts = _default("host_url")
    guest_id: str = Field(default="", description=OPTIONS["guest_id"].sentence)
    broker_id: str = Field(default="", description=OPTIONS["broker_id"].sentence)
    routed_domains: Texts = _default("routed_domains")
    registration_token: SecretStr | None = Field(
        default=None, description=OPTIONS["registration_token"].sentence
    )
    otel: bool = _default("otel")
    tls: TlsSettings = TlsSettings()
    leases: LeaseSettings = LeaseSettings()
    session: SessionSettings = SessionSettings()
    workers: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    health: HealthSettings = HealthSettings()
    broker: BrokerSettings = BrokerSettings()
    gateway: GatewaySettings = GatewaySettings()
    host: HostSettings = HostSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What `Sources` found, and nothing beside it."""
        return (init_settings,)


def setting_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting of `model` by its path: `app`, `tls.ca_file`, …"""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def load_settings(given: Mapping[str, object]) -> Settings:
    """The settings of this process; `given` is what the command line says, by key (`tls.ca_file`).

    `None` and empty tuples in `given` count as not said. Raises `VerserUsageError` that names the
    flag or variable of a bad value, and `VerserConfigurationError` for a file with mistakes and for variables
    that contradict each other.
    """
    return settings_from(Sources.of_process(given))


def settings_from(sources: Sources) -> Settings:
    """The settings that `sources` say; raises as `load_settings` does.

    The error is about the first value that does not fit; sentences on the others are its notes.
    """
    settings, misfits = fitting_settings(sources)
    found = [error for errors in misfits.values() for error in errors]
    for other in found[1:]:
        found[0].add_note(other.message)
    if found:
        raise found[0]
    return settings


def fitting_settings(sources: Sources) -> tuple[Settings, dict[str, list[VerserError]]]:
    """The settings that fit, with defaults for those that do not, and what is wrong with these, by key."""
    misfits: dict[str, list[VerserError]] = {}
    values: dict[str, Any] = {}
    for key in setting_keys(Settings):
        try:
            values |= {key: found} if (found := sources.find(key)) else {}
        except VerserError as error:  # variables that contradict each other, a file that cannot be read
            misfits[key] = [error]
    try:
        return Settings(**_nested(values)), misfits
    except ValidationError as error:
        for key, one in _misfits(error, values):
            misfits.setdefault(key, []).append(one)
    return Settings(**_nested({key: found for key, found in values.items() if key not in misfits})), misfits


def _nested(found: Mapping[str, Found]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, one in found.items():
        group, _, name = key.rpartition(".")
        (values.setdefault(group, {}) if group else values)[name] = one.value
    return values


def _misfits(error: ValidationError, found: Mapping[str, Found]) -> Iterator[tuple[str, VerserError]]:
    """What is wrong with each value that does not fit: where it was said, and what it should be."""
    for one in error.errors(include_url=False, include_context=False):
        key = _key_of(one["loc"])
        source = found.get(key)
        place = source.place if source else shown_variable(key)
        value = "The value" if key in SECRETS else f"The value {str(one['input'])!r}"
        kind = VerserConfigurationError if source and source.file else VerserUsageError
        wanted = _WANTED.get(one["type"]) or _plain(one["msg"])
        yield key, kind(f"{value} of {place} does not fit: {wanted}.")


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of a TOML file with settings."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def missing(*keys: str) -> VerserUsageError:
    """The error for settings that must be given and are not."""
    if len(keys) > 1:
        flags, names = (_all([OPTIONS[key].flag for key in keys]), _all(keys))
        return VerserUsageError(
            f"{flags} are missing: give them, or set {_all([shown_variable(key) for key in keys])}, or "
            f"{names} in {FILE_NAME}."
        )
    (key,) = keys
    option = OPTIONS[key]
    return VerserUsageError(
        f"{option.flag} is missing: give it, or set {shown_variable(key)}, or {key} in {FILE_NAME} "
        f"({option.sentence.rstrip('.')})."
    )


def _all(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return f"{', '.join(words[:-1])} and {words[-1]}"


def plain(value: SecretStr | None) -> str | None:
    """A secret as text, for whoever needs it."""
    return None if value is None else value.get_secret_value()


def _key_of(location: tuple[int | str, ...]) -> str:
    """The setting at a place in the model."""
    kind = Settings.model_fields[str(location[0])].annotation
    is_group = isinstance(kind, type) and issubclass(kind, BaseModel)
    return ".".join(map(str, location[: 2 if is_group else 1]))


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".").replace("Input should", "it should", 1)
